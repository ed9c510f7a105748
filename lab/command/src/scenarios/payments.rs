//! Payments, at the payer: `sendpay_success`, `sendpay_failure`, and the topics of
//! the plugins that find routes.

use serde_json::{Value, json};

use super::checks::{amount, holds, in_order, same, text, unexpected};
use super::fixture::Fixture;
use super::scenario::Scenario;
use cln_lab::{CHANNEL_SAT, Channel, Error, Invoice, Node, Result, msat};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "sendpay_success",
        &["sendpay_success"],
        2,
        "l1 sends a payment to l2 along a route it chose; only l1 is notified",
        |fixture| Box::pin(sendpay_success(fixture)),
    ),
    Scenario::new(
        "sendpay_failure",
        &["sendpay_failure"],
        2,
        "l1 pays an invoice that l2 has deleted: code 203, at l1 only; then \
         it sends a payment that l2 cannot forward: code 204",
        |fixture| Box::pin(sendpay_failure(fixture)),
    ),
    Scenario::new(
        "pay_part_start",
        &["pay_part_start", "sendpay_success", "pay_part_end"],
        2,
        "l1 pays l2 with `xpay`: a part starts, arrives, ends",
        |fixture| Box::pin(xpay(fixture)),
    ),
    Scenario::new(
        "pay_part_end",
        &["pay_part_start", "pay_part_end"],
        2,
        "l1 pays an invoice that l2 has deleted with `xpay`: the part ends in failure",
        |fixture| Box::pin(xpay_fails(fixture)),
    ),
    Scenario::new(
        "pay_success",
        &["pay_success"],
        2,
        "l1 pays l2 with the plugin `pay`",
        |fixture| Box::pin(pay_success(fixture)),
    ),
    Scenario::new(
        "pay_failure",
        &["pay_failure"],
        2,
        "l1 pays an invoice that l2 has deleted with the plugin `pay`",
        |fixture| Box::pin(pay_failure(fixture)),
    ),
    Scenario::new(
        "channel_hint_update",
        &["channel_hint_update"],
        2,
        "l1 pays with the plugin `pay`, which learns what its channel can carry",
        |fixture| Box::pin(channel_hint_update(fixture)),
    ),
];

/// Sends a payment over the one channel, and returns what `waitsendpay` answers.
async fn send(l1: &Node, l2: &Node, channel: &Channel, invoice: &Invoice) -> Result<Value> {
    send_along(l1, &[(l2.id(), &channel.short_channel_id)], invoice).await
}

/// Sends a payment over these hops, each a node and the channel to it.
async fn send_along(l1: &Node, hops: &[(&str, &str)], invoice: &Invoice) -> Result<Value> {
    const MSAT: u64 = 1_000_000;
    l1.wait_block().await?;
    let hop = |(left, (id, channel)): (usize, &(&str, &str))| {
        json!({
            "id": id,
            "channel": channel,
            "delay": 9 + 6 * left,
            "amount_msat": MSAT + 1_000 * left as u64,
        })
    };
    let mut route: Vec<Value> = hops.iter().rev().enumerate().map(hop).collect();
    route.reverse();
    let params = json!({
        "route": route,
        "payment_hash": invoice.payment_hash,
        "payment_secret": invoice.payment_secret,
        "amount_msat": MSAT,
        "bolt11": invoice.bolt11,
    });
    l1.call::<Value>("sendpay", params).await?;
    l1.call("waitsendpay", json!({"payment_hash": invoice.payment_hash}))
        .await
}

async fn sendpay_success(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    let channel = l1.open_channel(l2, CHANNEL_SAT).await?;
    let invoice = l2.invoice("1000sat", "inv", "pizza").await?;
    let answer = send(l1, l2, &channel, &invoice).await?;
    let event = fixture.only(l1, "sendpay_success").await?;
    same_members(&event.payload, &answer)?;
    same(&event, "payment_hash", invoice.payment_hash.as_str())?;
    same(&event, "status", "complete")?;
    same(&event, "destination", l2.id())?;
    amount(&event, "amount_msat", 1_000_000)?;
    amount(&event, "amount_sent_msat", 1_000_000)?;
    let invoices: Value = l2.call("listinvoices", json!({"label": "inv"})).await?;
    same(
        &event,
        "payment_preimage",
        text(&invoices, "invoices/0/payment_preimage")?,
    )?;
    fixture.none(l1, "sendpay_failure").await?;
    fixture.none(l2, "sendpay_success").await
}

/// The notification has every member of what `waitsendpay` answers.
fn same_members(payload: &Value, answer: &Value) -> Result<()> {
    let members = answer.as_object().into_iter().flatten();
    for (name, value) in members.filter(|(name, _)| !name.starts_with("warning")) {
        holds(&payload[name] == value, || {
            format!("`{name}`: answered {value}, notified {}", payload[name])
        })?;
    }
    Ok(())
}

async fn sendpay_failure(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    let channel = l1.open_channel(l2, CHANNEL_SAT).await?;
    let invoice = deleted(l2).await?;
    let answer = send(l1, l2, &channel, &invoice).await;
    let (code, message, data) = refused(answer)?;
    let event = fixture.only(l1, "sendpay_failure").await?;
    same(&event, "code", code)?;
    same(&event, "code", 203)?;
    same(&event, "message", message)?;
    // The answer comes when the payment has ended, the notification before.
    for name in [
        "payment_hash",
        "id",
        "erring_node",
        "failcodename",
        "raw_message",
    ] {
        same(&event, &format!("data/{name}"), data[name].clone())?;
    }
    same(&event, "data/payment_hash", invoice.payment_hash.as_str())?;
    same(&event, "data/erring_node", l2.id())?;
    same(
        &event,
        "data/failcodename",
        "WIRE_INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS",
    )?;
    amount(&event, "data/amount_msat", 1_000_000)?;

    // This time it fails on its way: l2 has no channel of that id.
    let invoice = l2.invoice("1000sat", "beyond", "pizza").await?;
    let beyond = [(l2.id(), &channel.short_channel_id[..]), (l1.id(), "9x9x9")];
    let (code, message, data) = refused(send_along(l1, &beyond, &invoice).await)?;
    let hash = &invoice.payment_hash;
    let event = fixture
        .first_where(l1, "sendpay_failure", "of the second", |payload| {
            payload["data"]["payment_hash"] == hash.as_str()
        })
        .await?;
    same(&event, "code", code)?;
    same(&event, "code", 204)?;
    same(&event, "message", message)?;
    same(&event, "data/erring_node", data["erring_node"].clone())?;
    same(&event, "data/erring_node", l2.id())?;
    same(&event, "data/erring_index", 1)?;
    same(&event, "data/failcodename", "WIRE_UNKNOWN_NEXT_PEER")?;
    let failures = fixture.all(l1, "sendpay_failure").await?;
    holds(failures.len() == 2, || format!("{failures:?}"))?;
    fixture.none(l1, "sendpay_success").await?;
    fixture.none(l2, "sendpay_failure").await?;
    fixture.none(l2, "invoice_payment").await
}

/// An invoice that l2 has deleted.
async fn deleted(l2: &Node) -> Result<Invoice> {
    let invoice = l2.invoice("1000sat", "deleted", "pizza").await?;
    let params = json!({"label": "deleted", "status": "unpaid"});
    l2.call::<Value>("delinvoice", params).await?;
    Ok(invoice)
}

/// The code, message and data of an answer that must be an error.
fn refused(answer: Result<Value>) -> Result<(i32, String, Value)> {
    match answer {
        Err(Error::Rpc {
            code: Some(code),
            message,
            data,
            ..
        }) => Ok((code, message, data.map_or(Value::Null, |data| *data))),
        Err(other) => Err(other),
        Ok(answer) => Err(unexpected("a payment that must fail", answer.to_string())),
    }
}

async fn xpay(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    let channel = l1.open_channel(l2, CHANNEL_SAT).await?;
    let invoice = l2.invoice("1000sat", "inv", "pizza").await?;
    let paid: Value = l1
        .call("xpay", json!({"invstring": invoice.bolt11}))
        .await?;
    let start = fixture.only(l1, "pay_part_start").await?;
    let sent = fixture.only(l1, "sendpay_success").await?;
    let end = fixture.only(l1, "pay_part_end").await?;
    in_order(&[&start, &sent, &end])?;
    for event in [&start, &sent, &end] {
        same(event, "payment_hash", invoice.payment_hash.as_str())?;
        same(event, "groupid", sent.payload["groupid"].clone())?;
        same(event, "partid", sent.payload["partid"].clone())?;
    }
    amount(&start, "total_payment_msat", 1_000_000)?;
    amount(&start, "attempt_msat", 1_000_000)?;
    let hops = start.payload["hops"].as_array().map(Vec::len);
    holds(hops == Some(1), || format!("one hop: {}", start.line))?;
    same(&start, "hops/0/next_node", l2.id())?;
    same(
        &start,
        "hops/0/short_channel_id",
        channel.short_channel_id.as_str(),
    )?;
    amount(&start, "hops/0/channel_in_msat", 1_000_000)?;
    amount(&start, "hops/0/channel_out_msat", 1_000_000)?;
    same(&sent, "payment_preimage", text(&paid, "payment_preimage")?)?;
    same(&end, "status", "success")?;
    for event in [&start, &end] {
        holds(event.origin.as_deref() == Some("cln-xpay"), || {
            format!("expected another origin: {}", event.line)
        })?;
    }
    for topic in ["pay_part_start", "pay_part_end"] {
        fixture.none(l2, topic).await?;
    }
    Ok(())
}

async fn xpay_fails(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    l1.open_channel(l2, CHANNEL_SAT).await?;
    let invoice = deleted(l2).await?;
    let answer = l1.call("xpay", json!({"invstring": invoice.bolt11})).await;
    let (code, ..) = refused(answer)?;
    holds(code == 203, || {
        format!("expected 203, the error from the payee, not {code}")
    })?;
    let start = fixture.only(l1, "pay_part_start").await?;
    let end = fixture.only(l1, "pay_part_end").await?;
    in_order(&[&start, &end])?;
    for name in ["payment_hash", "groupid", "partid"] {
        same(&end, name, start.payload[name].clone())?;
    }
    same(&end, "payment_hash", invoice.payment_hash.as_str())?;
    same(&end, "status", "failure")?;
    same(&end, "failed_node_id", l2.id())?;
    // incorrect_or_unknown_payment_details, BOLT 4: PERM|15.
    same(&end, "error_code", 0x400f)?;
    fixture.none(l1, "sendpay_success").await
}

/// Pays with the plugin `pay`; by default `xpay` handles the method of that name.
async fn old_pay(fixture: &Fixture, invoice: &Invoice) -> Result<Value> {
    let l1 = fixture.lab().l1();
    if fixture.at_least(24, 11) {
        let params = json!({"config": "xpay-handle-pay", "val": false});
        l1.call::<Value>("setconfig", params).await?;
    }
    l1.wait_block().await?;
    l1.call("pay", json!({"bolt11": invoice.bolt11})).await
}

async fn pay_success(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    l1.open_channel(l2, CHANNEL_SAT).await?;
    let invoice = l2.invoice("1000sat", "inv", "pizza").await?;
    let paid = old_pay(fixture, &invoice).await?;
    let event = fixture.only(l1, "pay_success").await?;
    same(&event, "payment_hash", text(&paid, "payment_hash")?)?;
    same(&event, "payment_hash", invoice.payment_hash.as_str())?;
    same(&event, "bolt11", invoice.bolt11.as_str())?;
    holds(event.origin.as_deref() == Some("pay"), || {
        format!("expected another origin: {}", event.line)
    })?;
    fixture.none(l1, "pay_failure").await?;
    fixture.none(l2, "pay_success").await
}

async fn pay_failure(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    l1.open_channel(l2, CHANNEL_SAT).await?;
    let invoice = deleted(l2).await?;
    let (code, ..) = refused(old_pay(fixture, &invoice).await)?;
    holds(code == 203, || {
        format!("expected 203, the error from the payee, not {code}")
    })?;
    let event = fixture.only(l1, "pay_failure").await?;
    same(&event, "payment_hash", invoice.payment_hash.as_str())?;
    same(&event, "bolt11", invoice.bolt11.as_str())?;
    let message = text(&event.payload, "error/message")?;
    holds(
        message.contains("WIRE_INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS"),
        || format!("expected the error from the payee: {}", event.line),
    )?;
    fixture.none(l1, "pay_success").await?;
    fixture.none(l2, "pay_failure").await
}

async fn channel_hint_update(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    let channel = l1.open_channel(l2, CHANNEL_SAT).await?;
    let mut channels = l1.channels_with(l2).await?;
    let spendable = channels.pop().and_then(|c| msat(&c["spendable_msat"]));
    let invoice = l2.invoice("1000sat", "inv", "pizza").await?;
    old_pay(fixture, &invoice).await?;
    let event = fixture.first(l1, "channel_hint_update").await?;
    let direction = if l1.id() < l2.id() { 0 } else { 1 };
    let scid = format!("{}/{direction}", channel.short_channel_id);
    same(&event, "scid", scid)?;
    same(&event, "enabled", true)?;
    amount(&event, "total_capacity_msat", channel.sat * 1000)?;
    let estimated = msat(&event.payload["estimated_capacity_msat"]);
    holds(estimated.is_some() && estimated == spendable, || {
        format!("the channel can carry {spendable:?} msat: {}", event.line)
    })?;
    fixture.none(l2, "channel_hint_update").await
}
