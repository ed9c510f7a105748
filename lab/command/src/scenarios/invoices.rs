//! Invoices: `invoice_creation`, `invoice_payment`.

use serde_json::{Value, json};

use super::fixture::{Stage, amount, hash_of, holds, in_order, same, text};
use super::scenario::Scenario;
use cln_lab::{CHANNEL_SAT, Result};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "invoice_creation",
        &["invoice_creation"],
        2,
        "l1 makes an invoice, and one of any amount; l2 is told nothing",
        |stage| Box::pin(creation(stage)),
    )
    .embedded(),
    Scenario::new(
        "invoice_creation_bolt12",
        &["invoice_creation"],
        2,
        "l1 asks l2 for an invoice for its offer: l2 makes one",
        |stage| Box::pin(bolt12(stage)),
    )
    .options(&[("dev-allow-localhost", None)])
    .since(24, 11),
    Scenario::new(
        "invoice_payment",
        &["invoice_creation", "invoice_payment"],
        2,
        "l1 pays an invoice of l2's over a channel; only l2 is told",
        |stage| Box::pin(payment(stage)),
    ),
    Scenario::new(
        "invoice_payment_to_self",
        &["sendpay_success", "invoice_payment"],
        1,
        "l1 pays its own invoice, without any channel",
        |stage| Box::pin(to_self(stage)),
    )
    .since(24, 11),
    Scenario::new(
        "invoice_payment_on_chain",
        &["invoice_creation", "invoice_payment", "coin_movement"],
        1,
        "an invoice of l1's is paid to its fallback address, on chain",
        |stage| Box::pin(on_chain(stage)),
    )
    .options(&[("invoices-onchain-fallback", None)])
    .since(25, 9),
];

async fn creation(stage: &Stage) -> Result<()> {
    let (l1, l2) = stage.pair();
    let plain = l1.invoice("100000sat", "plain", "pizza").await?;
    let any = l1.invoice("any", "any", "as you like").await?;
    let told = stage.all(l1, "invoice_creation").await?;
    let [first, second] = &told[..] else {
        return holds(false, || format!("two were made, told were {told:?}"));
    };
    same(first, "label", "plain")?;
    amount(first, "msat", 100_000_000)?;
    same(second, "label", "any")?;
    holds(second.payload.get("msat").is_none(), || {
        format!("an amount where there is none: {}", second.line)
    })?;
    for (event, invoice) in [(first, &plain), (second, &any)] {
        let hash = hash_of(text(&event.payload, "preimage")?)?;
        holds(hash == invoice.payment_hash, || {
            format!("the preimage of {}: {}", invoice.payment_hash, event.line)
        })?;
        holds(event.payload.get("offer_id").is_none(), || {
            event.line.clone()
        })?;
    }
    // A label twice is refused, and nothing is told.
    holds(l1.invoice("1sat", "plain", "pizza").await.is_err(), || {
        "two invoices of one label".to_owned()
    })?;
    holds(stage.all(l1, "invoice_creation").await?.len() == 2, || {
        "told of an invoice that was refused".to_owned()
    })?;
    stage.none(l1, "invoice_payment").await?;
    stage.none(l2, "invoice_creation").await
}

async fn bolt12(stage: &Stage) -> Result<()> {
    let (l1, l2) = stage.pair();
    l1.connect(l2).await?;
    let offer: Value = l2
        .call("offer", json!({"amount": 5000, "description": "coffee"}))
        .await?;
    let answer: Value = l1
        .call("fetchinvoice", json!({"offer": text(&offer, "bolt12")?}))
        .await?;
    let invoice: Value = l1
        .call("decode", json!({"string": text(&answer, "invoice")?}))
        .await?;
    let made = stage.only(l2, "invoice_creation").await?;
    amount(&made, "msat", 5000)?;
    let offer_id = text(&offer, "offer_id")?;
    holds(text(&made.payload, "label")?.starts_with(offer_id), || {
        format!(
            "a label that begins with the offer's id {offer_id}: {}",
            made.line
        )
    })?;
    if stage.at_least(26, 6) {
        same(&made, "offer_id", offer_id)?;
    }
    let hash = hash_of(text(&made.payload, "preimage")?)?;
    holds(hash == text(&invoice, "invoice_payment_hash")?, || {
        format!("the preimage of {invoice}: {}", made.line)
    })?;
    stage.none(l1, "invoice_creation").await
}

async fn payment(stage: &Stage) -> Result<()> {
    let (l1, l2) = stage.pair();
    l1.open_channel(l2, CHANNEL_SAT).await?;
    let invoice = l2.invoice("1000sat", "inv", "pizza").await?;
    let paid = l1.pay(&invoice.bolt11).await?;
    let told = stage.only(l2, "invoice_payment").await?;
    same(&told, "label", "inv")?;
    amount(&told, "msat", paid.amount_msat)?;
    same(&told, "preimage", paid.preimage.as_str())?;
    let listed: Value = l2.call("listinvoices", json!({"label": "inv"})).await?;
    same(
        &told,
        "preimage",
        text(&listed, "invoices/0/payment_preimage")?,
    )?;
    in_order(&[&stage.only(l2, "invoice_creation").await?, &told])?;
    stage.none(l1, "invoice_payment").await
}

async fn to_self(stage: &Stage) -> Result<()> {
    let l1 = stage.lab().l1();
    let invoice = l1.invoice("5sat", "self", "to myself").await?;
    let paid: Value = l1
        .call("xpay", json!({"invstring": invoice.bolt11}))
        .await?;
    let sent = stage.only(l1, "sendpay_success").await?;
    let received = stage.only(l1, "invoice_payment").await?;
    in_order(&[&sent, &received])?;
    same(&sent, "payment_hash", invoice.payment_hash.as_str())?;
    same(&received, "label", "self")?;
    amount(&received, "msat", 5000)?;
    for (event, field) in [(&sent, "payment_preimage"), (&received, "preimage")] {
        same(event, field, text(&paid, "payment_preimage")?)?;
    }
    // No money moved.
    stage.none(l1, "coin_movement").await
}

async fn on_chain(stage: &Stage) -> Result<()> {
    const SAT: u64 = 50_000;
    let (l1, bitcoind) = (stage.lab().l1(), stage.lab().bitcoind());
    let invoice = l1.invoice(&format!("{SAT}sat"), "inv", "pizza").await?;
    let decoded: Value = l1.call("decode", json!({"string": invoice.bolt11})).await?;
    let address = text(&decoded, "fallbacks/0/addr")?;
    let txid = bitcoind.send_to(address, SAT).await?;
    stage.none(l1, "invoice_payment").await?;
    bitcoind.mine_until_confirmed(&txid).await?;
    let told = stage.only(l1, "invoice_payment").await?;
    same(&told, "label", "inv")?;
    amount(&told, "msat", SAT * 1000)?;
    let hash = hash_of(text(&told.payload, "preimage")?)?;
    holds(hash == invoice.payment_hash, || {
        format!("the preimage of {}: {}", invoice.payment_hash, told.line)
    })?;
    // Where it lies, as both others have it.
    let outpoint = text(&told.payload, "outpoint")?;
    holds(outpoint.starts_with(&format!("{txid}:")), || {
        format!("an output of {txid}: {}", told.line)
    })?;
    let listed: Value = l1.call("listinvoices", json!({"label": "inv"})).await?;
    let paid = &listed["invoices"][0]["paid_outpoint"];
    holds(
        outpoint == format!("{txid}:{}", paid["outnum"]) && paid["txid"] == txid.as_str(),
        || format!("listinvoices has {paid}: {}", told.line),
    )?;
    let deposit = stage.only(l1, "coin_movement").await?;
    same(&deposit, "utxo", outpoint)?;
    amount(&deposit, "credit_msat", SAT * 1000)
}
