//! Blocks and balances: `block_added`, `balance_snapshot`,
//! `coin_movement`.

use std::time::Duration;

use serde_json::{Value, json};

use super::checks::{amount, holds, in_order, same, text, unexpected};
use super::fixture::Fixture;
use super::scenario::Scenario;
use cln_lab::{CHANNEL_SAT, Event, Node, OpenChannel, Probe, Result, eventually, msat};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "block_added",
        &["block_added"],
        2,
        "three blocks are mined; every node is notified of each",
        |fixture| Box::pin(block_added(fixture)),
    )
    .embedded(),
    Scenario::new(
        "balance_snapshot",
        &["balance_snapshot"],
        1,
        "l1 starts, receives coins, and starts again: one for each start",
        |fixture| Box::pin(balance_snapshot(fixture)),
    ),
    Scenario::new(
        "coin_movement_on_chain",
        &["coin_movement"],
        2,
        "l1 receives coins, opens a channel and closes it: deposit, withdrawal, \
         channel_open, channel_close",
        |fixture| Box::pin(on_chain(fixture)),
    ),
    Scenario::new(
        "coin_movement_in_channels",
        &["coin_movement"],
        3,
        "l1 opens a channel with an initial balance for l2, and pays l3 through it: pushed, \
         invoice, routed",
        |fixture| Box::pin(in_channels(fixture)),
    ),
    Scenario::new(
        "coin_movement_unilateral_close",
        &["coin_movement"],
        2,
        "l1 closes unilaterally and sweeps its output: channel_close, anchor, to_them, \
         delayed_to_us, to_wallet",
        |fixture| Box::pin(unilateral(fixture)),
    )
    .since(25, 9),
];

async fn block_added(fixture: &Fixture) -> Result<()> {
    let bitcoind = fixture.lab().bitcoind();
    let before = bitcoind.height().await?;
    let hashes = fixture.lab().mine(3).await?;
    for node in fixture.lab().nodes() {
        let height = |event: &Event| event.payload["height"].as_u64();
        fixture
            .first_where(node, "block_added", "of the last", |payload| {
                payload["height"] == before + 3
            })
            .await?;
        let mut events = fixture.all(node, "block_added").await?;
        // At its start a node catches up with the chain.
        events.retain(|event| height(event) > Some(before));
        holds(events.len() == 3, || format!("{}: {events:?}", node.name()))?;
        for (n, (event, hash)) in events.iter().zip(&hashes).enumerate() {
            same(event, "height", before + 1 + n as u64)?;
            same(event, "hash", hash.as_str())?;
        }
        in_order(&events.iter().collect::<Vec<_>>())?;
    }
    Ok(())
}

async fn balance_snapshot(fixture: &Fixture) -> Result<()> {
    const SAT: u64 = 1_234_567;
    let l1 = fixture.lab().l1();
    let first = fixture.only(l1, "balance_snapshot").await?;
    same(&first, "node_id", l1.id())?;
    same(&first, "blockheight", l1.height().await?)?;
    same(&first, "accounts/0/account_id", "wallet")?;
    amount(&first, "accounts/0/balance_msat", 0)?;

    l1.fund(SAT).await?;
    fixture.only(l1, "balance_snapshot").await?;
    l1.restart().await?;
    let second = fixture
        .first_where(l1, "balance_snapshot", "of the second start", |payload| {
            *payload != first.payload
        })
        .await?;
    same(&second, "blockheight", l1.height().await?)?;
    amount(&second, "accounts/0/balance_msat", SAT * 1000)?;
    holds(l1.balance().await? == SAT, || second.line.clone())?;
    let all = fixture.all(l1, "balance_snapshot").await?;
    holds(all.len() == 2, || format!("two starts: {all:?}"))
}

/// The kind of a movement: `tags` before v25.09, `primary_tag` since.
fn tag(payload: &Value) -> &str {
    let tag = payload.get("primary_tag").unwrap_or(&payload["tags"][0]);
    tag.as_str().unwrap_or_default()
}

/// A node's first movement of this kind for which `test` holds.
async fn moved(
    fixture: &Fixture,
    node: &Node,
    kind: &str,
    test: impl Fn(&Value) -> bool,
) -> Result<Event> {
    fixture
        .first_where(node, "coin_movement", &format!("of {kind}"), |payload| {
            tag(payload) == kind && test(payload)
        })
        .await
}

/// Checks that what moved is an output of this transaction.
fn of_transaction(event: &Event, txid: &str) -> Result<()> {
    holds(is_output_of(&event.payload, txid), || {
        format!("expected an output of {txid}: {}", event.line)
    })
}

fn is_output_of(payload: &Value, txid: &str) -> bool {
    let utxo = payload.get("utxo").unwrap_or(&payload["utxo_txid"]);
    utxo.as_str().is_some_and(|utxo| utxo.starts_with(txid))
}

/// Checks which transaction moved it, by the older name where there is no newer.
fn spent_by(event: &Event, txid: &str) -> Result<()> {
    let newer = event.payload.get("spending_txid").is_some();
    same(event, if newer { "spending_txid" } else { "txid" }, txid)
}

async fn on_chain(fixture: &Fixture) -> Result<()> {
    const SAT: u64 = CHANNEL_SAT + 200_000;
    let (l1, l2) = fixture.pair();
    let txid = l1.fund(SAT).await?;
    let deposit = moved(fixture, l1, "deposit", |_| true).await?;
    same(&deposit, "node_id", l1.id())?;
    same(&deposit, "type", "chain_mvt")?;
    same(&deposit, "account_id", "wallet")?;
    amount(&deposit, "credit_msat", SAT * 1000)?;
    amount(&deposit, "debit_msat", 0)?;
    amount(&deposit, "output_msat", SAT * 1000)?;
    let height = fixture.lab().bitcoind().height().await?;
    same(&deposit, "blockheight", height)?;
    of_transaction(&deposit, &txid)?;

    let channel = l1.open_channel(l2, CHANNEL_SAT).await?;
    let withdrawal = moved(fixture, l1, "withdrawal", |_| true).await?;
    same(&withdrawal, "account_id", "wallet")?;
    amount(&withdrawal, "debit_msat", SAT * 1000)?;
    of_transaction(&withdrawal, &txid)?;
    spent_by(&withdrawal, &channel.funding_txid)?;
    for (node, credit) in [(l1, channel.sat * 1000), (l2, 0)] {
        let open = moved(fixture, node, "channel_open", |_| true).await?;
        same(&open, "account_id", channel.channel_id.as_str())?;
        amount(&open, "credit_msat", credit)?;
        of_transaction(&open, &channel.funding_txid)?;
    }

    let txid = l1.close(l2).await?;
    let close = moved(fixture, l1, "channel_close", |_| true).await?;
    same(&close, "account_id", channel.channel_id.as_str())?;
    spent_by(&close, &txid)?;
    of_transaction(&close, &channel.funding_txid)?;
    let back = moved(fixture, l1, "deposit", |payload| {
        is_output_of(payload, &txid)
    })
    .await?;
    let debit = msat(&close.payload["debit_msat"]).unwrap_or(0);
    let credit = msat(&back.payload["credit_msat"]).unwrap_or(0);
    // The difference is the fee.
    holds(credit > 0 && credit < debit, || {
        format!("{} returned as {}", close.line, back.line)
    })?;
    holds(l1.balance().await? * 1000 > credit, || back.line.clone())?;
    // l2 had no balance in it, so its wallet receives nothing.
    let theirs = fixture.all(l2, "coin_movement").await?;
    holds(
        theirs.iter().all(|event| tag(&event.payload) != "deposit"),
        || format!("l2: {theirs:?}"),
    )
}

async fn in_channels(fixture: &Fixture) -> Result<()> {
    const GIFT: u64 = 50_000_000;
    let (l1, l2) = fixture.pair();
    let l3 = fixture.lab().node("l3")?;
    let channels = fixture
        .lab()
        .open_channels(&[
            OpenChannel::new(l1, l2).push_msat(GIFT),
            OpenChannel::new(l2, l3),
        ])
        .await?;
    let ids = [&channels[0].channel_id, &channels[1].channel_id];
    for (node, member) in [(l1, "debit_msat"), (l2, "credit_msat")] {
        let pushed = moved(fixture, node, "pushed", |_| true).await?;
        same(&pushed, "type", "channel_mvt")?;
        same(&pushed, "account_id", ids[0].as_str())?;
        amount(&pushed, member, GIFT)?;
    }

    let invoice = l3.invoice("1000sat", "inv", "pizza").await?;
    let paid = l1.pay(&invoice.bolt11).await?;
    let (sent, arrived) = (paid.amount_sent_msat, paid.amount_msat);
    let ours = |payload: &Value| payload["payment_hash"] == invoice.payment_hash.as_str();
    let movements = [
        (l1, "invoice", ids[0], "debit_msat", sent),
        (l2, "routed", ids[0], "credit_msat", sent),
        (l2, "routed", ids[1], "debit_msat", arrived),
        (l3, "invoice", ids[1], "credit_msat", arrived),
    ];
    let mut seen = Vec::new();
    for (node, kind, account, member, msat) in movements {
        let test = |payload: &Value| ours(payload) && payload["account_id"] == account.as_str();
        let event = moved(fixture, node, kind, test).await?;
        amount(&event, member, msat)?;
        seen.push(event);
    }
    for routed in &seen[..3] {
        amount(routed, "fees_msat", sent - arrived)?;
    }
    let [at_payer, _, _, at_payee] = &seen[..] else {
        return holds(false, || format!("{seen:?}"));
    };
    in_order(&[&fixture.only(l1, "sendpay_success").await?, at_payer])?;
    in_order(&[&fixture.only(l3, "invoice_payment").await?, at_payee])?;
    Ok(())
}

async fn unilateral(fixture: &Fixture) -> Result<()> {
    const GIFT: u64 = 100_000_000;
    const SWEEP: Duration = Duration::from_secs(60);
    let (l1, l2) = fixture.pair();
    let specs = [OpenChannel::new(l1, l2).push_msat(GIFT)];
    let channels = fixture.lab().open_channels(&specs).await?;
    let account = channels[0].channel_id.as_str();
    let listed = l1.channels_with(l2).await?;
    let delays = ["our_to_self_delay", "their_to_self_delay"];
    let delay = delays
        .iter()
        .filter_map(|name| listed.first()?[name].as_u64());
    let delay = delay.max().ok_or_else(|| {
        unexpected(
            "l1: listpeerchannels",
            format!("no {} in {listed:?}", delays[0]),
        )
    })?;
    l2.stop().await?;
    let closed: Value = l1
        .call("close", json!({"id": account, "unilateraltimeout": 1}))
        .await?;
    let txid = text(&closed, "txids/0")?;
    let bitcoind = fixture.lab().bitcoind();
    bitcoind.mine_until_confirmed(txid).await?;

    let close = moved(fixture, l1, "channel_close", |_| true).await?;
    same(&close, "account_id", account)?;
    amount(&close, "debit_msat", CHANNEL_SAT * 1000 - GIFT)?;
    spent_by(&close, txid)?;
    let theirs = moved(fixture, l1, "to_them", |_| true).await?;
    same(&theirs, "account_id", "external")?;
    same(&theirs, "originating_account", account)?;
    amount(&theirs, "credit_msat", GIFT)?;
    let anchor = moved(fixture, l1, "anchor", |_| true).await?;
    same(&anchor, "originating_account", account)?;
    for event in [&theirs, &anchor] {
        of_transaction(event, txid)?;
    }

    // Our own output can be spent after the delay that the peer asked for (BOLT 3).
    fixture.lab().mine(delay).await?;
    let sweep = eventually("l1 to sweep its output", SWEEP, async || {
        Ok(match bitcoind.mempool().await?.pop() {
            Some(sweep) => Probe::Ready(sweep),
            None => Probe::NotYet(format!("nothing in the mempool after {delay} blocks")),
        })
    })
    .await?;
    bitcoind.mine_until_confirmed(&sweep).await?;
    let delayed = moved(fixture, l1, "delayed_to_us", |_| true).await?;
    of_transaction(&delayed, txid)?;
    let swept = moved(fixture, l1, "to_wallet", |_| true).await?;
    of_transaction(&swept, txid)?;
    spent_by(&swept, &sweep)?;
    for event in [&delayed, &swept] {
        same(event, "account_id", account)?;
    }
    in_order(&[&close, &delayed, &swept])?;
    let back = msat(&delayed.payload["credit_msat"]);
    let swept_msat = msat(&swept.payload["debit_msat"]);
    holds(back.is_some() && swept_msat == back, || {
        format!("{} was swept as {}", delayed.line, swept.line)
    })
}
