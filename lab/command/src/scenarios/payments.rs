//! Payments, at the payer: `sendpay_success`, `sendpay_failure`, and what the
//! plugins that find routes tell.

use serde_json::{Value, json};

use super::fixture::{Stage, amount, holds, in_order, same, text};
use super::scenario::Scenario;
use cln_lab::{CHANNEL_SAT, Channel, Error, Invoice, Node, Result, msat};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "sendpay_success",
        &["sendpay_success"],
        2,
        "l1 sends a payment to l2 along a route of its own; only l1 is told",
        |stage| Box::pin(sendpay_success(stage)),
    ),
    Scenario::new(
        "sendpay_failure",
        &["sendpay_failure"],
        2,
        "l1 sends a payment for an invoice that l2 has deleted: code 203, at l1 alone; then \
         one that l2 cannot send on: code 204",
        |stage| Box::pin(sendpay_failure(stage)),
    ),
    Scenario::new(
        "pay_part_start",
        &["pay_part_start", "sendpay_success", "pay_part_end"],
        2,
        "l1 pays l2 with `xpay`: a part begins, arrives, ends",
        |stage| Box::pin(xpay(stage)),
    ),
    Scenario::new(
        "pay_part_end",
        &["pay_part_start", "pay_part_end"],
        2,
        "l1 pays an invoice that l2 has deleted with `xpay`: the part ends in failure",
        |stage| Box::pin(xpay_fails(stage)),
    ),
    Scenario::new(
        "pay_success",
        &["pay_success"],
        2,
        "l1 pays l2 with the plugin `pay`",
        |stage| Box::pin(pay_success(stage)),
    ),
    Scenario::new(
        "pay_failure",
        &["pay_failure"],
        2,
        "l1 pays an invoice that l2 has deleted with the plugin `pay`",
        |stage| Box::pin(pay_failure(stage)),
    ),
    Scenario::new(
        "channel_hint_update",
        &["channel_hint_update"],
        2,
        "l1 pays with the plugin `pay`, which learns what its channel can carry",
        |stage| Box::pin(channel_hint_update(stage)),
    ),
];

/// Sends a payment over the one channel; `waitsendpay` tells how it went.
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
            "msatoshi": MSAT + 1_000 * left as u64,
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

async fn sendpay_success(stage: &Stage) -> Result<()> {
    let (l1, l2) = stage.pair();
    let channel = l1.open_channel(l2, CHANNEL_SAT).await?;
    let invoice = l2.invoice("1000sat", "inv", "pizza").await?;
    let answer = send(l1, l2, &channel, &invoice).await?;
    let told = stage.only(l1, "sendpay_success").await?;
    same_members(&told.payload, &answer)?;
    same(&told, "payment_hash", invoice.payment_hash.as_str())?;
    same(&told, "status", "complete")?;
    same(&told, "destination", l2.id())?;
    amount(&told, "amount_msat", 1_000_000)?;
    amount(&told, "amount_sent_msat", 1_000_000)?;
    let invoices: Value = l2.call("listinvoices", json!({"label": "inv"})).await?;
    same(
        &told,
        "payment_preimage",
        text(&invoices, "invoices/0/payment_preimage")?,
    )?;
    stage.none(l1, "sendpay_failure").await?;
    stage.none(l2, "sendpay_success").await
}

/// What `waitsendpay` answers and what is told are the same object.
fn same_members(told: &Value, answer: &Value) -> Result<()> {
    let members = answer.as_object().into_iter().flatten();
    for (name, value) in members.filter(|(name, _)| !name.starts_with("warning")) {
        holds(&told[name] == value, || {
            format!("`{name}` was answered as {value}, told as {}", told[name])
        })?;
    }
    Ok(())
}

async fn sendpay_failure(stage: &Stage) -> Result<()> {
    let (l1, l2) = stage.pair();
    let channel = l1.open_channel(l2, CHANNEL_SAT).await?;
    let invoice = deleted(l2).await?;
    let answer = send(l1, l2, &channel, &invoice).await;
    let (code, message, data) = refused(answer)?;
    let told = stage.only(l1, "sendpay_failure").await?;
    same(&told, "code", code)?;
    same(&told, "code", 203)?;
    same(&told, "message", message)?;
    // The answer comes when the payment is over, the notification before.
    for name in [
        "payment_hash",
        "id",
        "erring_node",
        "failcodename",
        "raw_message",
    ] {
        same(&told, &format!("data/{name}"), data[name].clone())?;
    }
    same(&told, "data/payment_hash", invoice.payment_hash.as_str())?;
    same(&told, "data/erring_node", l2.id())?;
    same(
        &told,
        "data/failcodename",
        "WIRE_INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS",
    )?;
    amount(&told, "data/amount_msat", 1_000_000)?;

    // On its way this time: no channel of l2's has that number.
    let invoice = l2.invoice("1000sat", "beyond", "pizza").await?;
    let beyond = [(l2.id(), &channel.short_channel_id[..]), (l1.id(), "9x9x9")];
    let (code, message, data) = refused(send_along(l1, &beyond, &invoice).await)?;
    let hash = &invoice.payment_hash;
    let told = stage
        .first_where(l1, "sendpay_failure", "of the second", |payload| {
            payload["data"]["payment_hash"] == hash.as_str()
        })
        .await?;
    same(&told, "code", code)?;
    same(&told, "code", 204)?;
    same(&told, "message", message)?;
    same(&told, "data/erring_node", data["erring_node"].clone())?;
    same(&told, "data/erring_node", l2.id())?;
    same(&told, "data/erring_index", 1)?;
    same(&told, "data/failcodename", "WIRE_UNKNOWN_NEXT_PEER")?;
    let failures = stage.all(l1, "sendpay_failure").await?;
    holds(failures.len() == 2, || format!("{failures:?}"))?;
    stage.none(l1, "sendpay_success").await?;
    stage.none(l2, "sendpay_failure").await?;
    stage.none(l2, "invoice_payment").await
}

/// An invoice of l2's that it knows no more.
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
        Ok(answer) => Err(Error::Answer {
            from: "a payment that must fail".to_owned(),
            why: answer.to_string(),
        }),
    }
}

async fn xpay(stage: &Stage) -> Result<()> {
    let (l1, l2) = stage.pair();
    let channel = l1.open_channel(l2, CHANNEL_SAT).await?;
    let invoice = l2.invoice("1000sat", "inv", "pizza").await?;
    let paid: Value = l1
        .call("xpay", json!({"invstring": invoice.bolt11}))
        .await?;
    let start = stage.only(l1, "pay_part_start").await?;
    let sent = stage.only(l1, "sendpay_success").await?;
    let end = stage.only(l1, "pay_part_end").await?;
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
            format!("its origin: {}", event.line)
        })?;
    }
    for topic in ["pay_part_start", "pay_part_end"] {
        stage.none(l2, topic).await?;
    }
    Ok(())
}

async fn xpay_fails(stage: &Stage) -> Result<()> {
    let (l1, l2) = stage.pair();
    l1.open_channel(l2, CHANNEL_SAT).await?;
    let invoice = deleted(l2).await?;
    let answer = l1.call("xpay", json!({"invstring": invoice.bolt11})).await;
    let (code, ..) = refused(answer)?;
    holds(code == 203, || format!("the payee refused, code {code}"))?;
    let start = stage.only(l1, "pay_part_start").await?;
    let end = stage.only(l1, "pay_part_end").await?;
    in_order(&[&start, &end])?;
    for name in ["payment_hash", "groupid", "partid"] {
        same(&end, name, start.payload[name].clone())?;
    }
    same(&end, "payment_hash", invoice.payment_hash.as_str())?;
    same(&end, "status", "failure")?;
    same(&end, "failed_node_id", l2.id())?;
    // incorrect_or_unknown_payment_details, BOLT 4: PERM|15.
    same(&end, "error_code", 0x400f)?;
    stage.none(l1, "sendpay_success").await
}

/// Pays by the plugin `pay`, of which `xpay` takes the name otherwise.
async fn old_pay(stage: &Stage, invoice: &Invoice) -> Result<Value> {
    let l1 = stage.lab().l1();
    if stage.at_least(24, 11) {
        let params = json!({"config": "xpay-handle-pay", "val": false});
        l1.call::<Value>("setconfig", params).await?;
    }
    l1.wait_block().await?;
    l1.call("pay", json!({"bolt11": invoice.bolt11})).await
}

async fn pay_success(stage: &Stage) -> Result<()> {
    let (l1, l2) = stage.pair();
    l1.open_channel(l2, CHANNEL_SAT).await?;
    let invoice = l2.invoice("1000sat", "inv", "pizza").await?;
    let paid = old_pay(stage, &invoice).await?;
    let told = stage.only(l1, "pay_success").await?;
    same(&told, "payment_hash", text(&paid, "payment_hash")?)?;
    same(&told, "payment_hash", invoice.payment_hash.as_str())?;
    same(&told, "bolt11", invoice.bolt11.as_str())?;
    holds(told.origin.as_deref() == Some("pay"), || {
        format!("its origin: {}", told.line)
    })?;
    stage.none(l1, "pay_failure").await?;
    stage.none(l2, "pay_success").await
}

async fn pay_failure(stage: &Stage) -> Result<()> {
    let (l1, l2) = stage.pair();
    l1.open_channel(l2, CHANNEL_SAT).await?;
    let invoice = deleted(l2).await?;
    let (code, ..) = refused(old_pay(stage, &invoice).await)?;
    holds(code == 203, || format!("the payee refused, code {code}"))?;
    let told = stage.only(l1, "pay_failure").await?;
    same(&told, "payment_hash", invoice.payment_hash.as_str())?;
    same(&told, "bolt11", invoice.bolt11.as_str())?;
    let said = text(&told.payload, "error/message")?;
    holds(
        said.contains("WIRE_INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS"),
        || format!("what the payee said: {}", told.line),
    )?;
    stage.none(l1, "pay_success").await?;
    stage.none(l2, "pay_failure").await
}

async fn channel_hint_update(stage: &Stage) -> Result<()> {
    let (l1, l2) = stage.pair();
    let channel = l1.open_channel(l2, CHANNEL_SAT).await?;
    let mut channels = l1.channels_with(l2).await?;
    let spendable = channels.pop().and_then(|c| msat(&c["spendable_msat"]));
    let invoice = l2.invoice("1000sat", "inv", "pizza").await?;
    old_pay(stage, &invoice).await?;
    let told = stage.first(l1, "channel_hint_update").await?;
    let direction = if l1.id() < l2.id() { 0 } else { 1 };
    let scid = format!("{}/{direction}", channel.short_channel_id);
    same(&told, "scid", scid)?;
    same(&told, "enabled", true)?;
    amount(&told, "total_capacity_msat", channel.sat * 1000)?;
    let estimated = msat(&told.payload["estimated_capacity_msat"]);
    holds(estimated.is_some() && estimated == spendable, || {
        format!("the channel can carry {spendable:?} msat: {}", told.line)
    })?;
    stage.none(l2, "channel_hint_update").await
}
