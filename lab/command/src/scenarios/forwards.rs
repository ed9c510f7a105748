//! Payments forwarded by a node: `forward_event` in its four statuses.

use serde_json::{Value, json};

use super::checks::{amount, holds, in_order, same, unexpected};
use super::fixture::Fixture;
use super::scenario::Scenario;
use cln_lab::{Error, Event, Invoice, Node, Result, msat};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "forward_event_offered_and_settled",
        &["forward_event"],
        3,
        "l1 pays l3 through l2: offered, then settled, at l2 only",
        |fixture| Box::pin(settled(fixture)),
    ),
    Scenario::new(
        "forward_event_failed_and_local_failed",
        &["forward_event"],
        3,
        "l3 refuses a payment that l2 forwards: offered, then failed; \
         then l2 is asked to forward over a channel that does not exist: local_failed",
        |fixture| Box::pin(failed(fixture)),
    ),
];

/// The amount of a forwarded payment at l3, in millisatoshi.
const MSAT: u64 = 1_000_000;
/// The amount sent for it: more than the fee that l2 asks for.
const SENT: u64 = 1_010_000;

async fn settled(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    let l3 = fixture.lab().node("l3")?;
    let channels = fixture.lab().line_graph().await?;
    let invoice = l3.invoice("1000sat", "inv", "pizza").await?;
    let paid = l1.pay(&invoice.bolt11).await?;
    let [offered, settled] = &two(fixture, l2).await?;
    in_order(&[offered, settled])?;
    for (event, status) in [(offered, "offered"), (settled, "settled")] {
        same(event, "status", status)?;
        same(event, "payment_hash", invoice.payment_hash.as_str())?;
        same(event, "in_channel", channels[0].short_channel_id.as_str())?;
        same(event, "out_channel", channels[1].short_channel_id.as_str())?;
        amount(event, "in_msat", paid.amount_sent_msat)?;
        amount(event, "out_msat", paid.amount_msat)?;
        amount(event, "fee_msat", paid.amount_sent_msat - paid.amount_msat)?;
    }
    as_listed(l2, settled).await?;
    if fixture.at_least(26, 4) {
        same(settled, "preimage", paid.preimage.as_str())?;
    }
    for node in [l1, l3] {
        fixture.none(node, "forward_event").await?;
    }
    Ok(())
}

async fn failed(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    let l3 = fixture.lab().node("l3")?;
    let channels = fixture.lab().line_graph().await?;
    let invoice = l3.invoice("1000sat", "inv", "pizza").await?;
    let params = json!({"label": "inv", "status": "unpaid"});
    l3.call::<Value>("delinvoice", params).await?;

    send(
        fixture,
        [&channels[0].short_channel_id, &channels[1].short_channel_id],
        &invoice,
    )
    .await?;
    let [offered, failed] = two(fixture, l2).await?;
    for (event, status) in [(&offered, "offered"), (&failed, "failed")] {
        same(event, "status", status)?;
        same(event, "payment_hash", invoice.payment_hash.as_str())?;
        same(event, "out_channel", channels[1].short_channel_id.as_str())?;
        amount(event, "in_msat", SENT)?;
        amount(event, "out_msat", MSAT)?;
        amount(event, "fee_msat", SENT - MSAT)?;
    }
    as_listed(l2, &failed).await?;

    // No block has that height, so there is no such channel.
    send(
        fixture,
        [&channels[0].short_channel_id, "999999x9x9"],
        &invoice,
    )
    .await?;
    let local = fixture
        .first_where(l2, "forward_event", "with status local_failed", |payload| {
            payload["status"] == "local_failed"
        })
        .await?;
    in_order(&[&offered, &failed, &local])?;
    same(&local, "payment_hash", invoice.payment_hash.as_str())?;
    same(&local, "in_channel", channels[0].short_channel_id.as_str())?;
    amount(&local, "in_msat", SENT)?;
    // unknown_next_peer, BOLT 4: PERM|10.
    same(&local, "failcode", 0x400a)?;
    same(&local, "failreason", "WIRE_UNKNOWN_NEXT_PEER")?;
    let all = fixture.all(l2, "forward_event").await?;
    holds(all.len() == 3, || format!("expected three: {all:?}"))?;
    for node in [l1, l3] {
        fixture.none(node, "forward_event").await?;
    }
    Ok(())
}

/// The two notifications of one forward.
async fn two(fixture: &Fixture, node: &Node) -> Result<[Event; 2]> {
    fixture
        .first_where(
            node,
            "forward_event",
            "with another status than offered",
            |payload| payload["status"] != "offered",
        )
        .await?;
    let events = fixture.all(node, "forward_event").await?;
    <[Event; 2]>::try_from(events).map_err(|events| {
        unexpected(
            node.name(),
            format!("expected two of `forward_event`: {events:?}"),
        )
    })
}

/// The notification is the same as in `listforwards`.
async fn as_listed(node: &Node, event: &Event) -> Result<()> {
    let answer: Value = node.call("listforwards", json!({})).await?;
    let listed = &answer["forwards"][0];
    for name in ["in_channel", "out_channel", "status", "in_htlc_id", "style"] {
        same(event, name, listed[name].clone())?;
    }
    for name in ["in_msat", "out_msat", "fee_msat"] {
        let amount = msat(&listed[name]);
        holds(
            amount.is_some() && msat(&event.payload[name]) == amount,
            || format!("`{name}` differs from {listed}: {}", event.line),
        )?;
    }
    Ok(())
}

/// Sends a payment over these two channels, which must fail.
async fn send(fixture: &Fixture, scids: [&str; 2], invoice: &Invoice) -> Result<()> {
    let (l1, l2) = fixture.pair();
    let l3 = fixture.lab().node("l3")?;
    let hop = |node: &Node, scid: &str, msat: u64, delay: u32| json!({"id": node.id(), "channel": scid, "delay": delay, "amount_msat": msat});
    let params = json!({
        "route": [hop(l2, scids[0], SENT, 60), hop(l3, scids[1], MSAT, 9)],
        "payment_hash": invoice.payment_hash,
        "payment_secret": invoice.payment_secret,
    });
    l1.wait_block().await?;
    l1.call::<Value>("sendpay", params).await?;
    let over = json!({"payment_hash": invoice.payment_hash});
    match l1.call::<Value>("waitsendpay", over).await {
        Err(Error::Rpc { .. }) => Ok(()),
        Err(other) => Err(other),
        Ok(answer) => holds(false, || {
            format!("expected a failure, the payment arrived: {answer}")
        }),
    }
}
