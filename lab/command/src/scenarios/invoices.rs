//! Invoices: `invoice_creation`, `invoice_payment`.

use serde_json::{Value, json};

use super::checks::{amount, hash_of, holds, in_order, same, text};
use super::fixture::Fixture;
use super::scenario::Scenario;
use cln_lab::{CHANNEL_SAT, Result};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "invoice_creation",
        &["invoice_creation"],
        2,
        "l1 creates an invoice, and one for any amount; l2 is not notified",
        |fixture| Box::pin(creation(fixture)),
    )
    .embedded(),
    Scenario::new(
        "invoice_creation_bolt12",
        &["invoice_creation"],
        2,
        "l1 fetches an invoice for an offer from l2: l2 creates one",
        |fixture| Box::pin(bolt12(fixture)),
    )
    .options(&[("dev-allow-localhost", None)])
    .since(24, 11),
    Scenario::new(
        "invoice_payment",
        &["invoice_creation", "invoice_payment"],
        2,
        "l1 pays an invoice from l2 over a channel; only l2 is notified",
        |fixture| Box::pin(payment(fixture)),
    ),
    Scenario::new(
        "invoice_payment_to_self",
        &["sendpay_success", "invoice_payment"],
        1,
        "l1 pays its own invoice, without any channel",
        |fixture| Box::pin(to_self(fixture)),
    )
    .since(24, 11),
    Scenario::new(
        "invoice_payment_on_chain",
        &["invoice_creation", "invoice_payment", "coin_movement"],
        1,
        "an invoice from l1 is paid to its fallback address, on chain",
        |fixture| Box::pin(on_chain(fixture)),
    )
    .options(&[("invoices-onchain-fallback", None)])
    .since(25, 9),
];

async fn creation(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    let plain = l1.invoice("100000sat", "plain", "pizza").await?;
    let any = l1.invoice("any", "any", "as you like").await?;
    let events = fixture.all(l1, "invoice_creation").await?;
    let [first, second] = &events[..] else {
        return holds(false, || format!("expected two: {events:?}"));
    };
    same(first, "label", "plain")?;
    amount(first, "msat", 100_000_000)?;
    same(second, "label", "any")?;
    holds(second.payload.get("msat").is_none(), || {
        format!("expected no amount: {}", second.line)
    })?;
    for (event, invoice) in [(first, &plain), (second, &any)] {
        let hash = hash_of(text(&event.payload, "preimage")?)?;
        holds(hash == invoice.payment_hash, || {
            format!(
                "expected the preimage of {}: {}",
                invoice.payment_hash, event.line
            )
        })?;
        holds(event.payload.get("offer_id").is_none(), || {
            event.line.clone()
        })?;
    }
    // A label that exists is refused, and nothing is sent.
    holds(l1.invoice("1sat", "plain", "pizza").await.is_err(), || {
        "two invoices have one label".to_owned()
    })?;
    holds(
        fixture.all(l1, "invoice_creation").await?.len() == 2,
        || "a notification of an invoice that was refused".to_owned(),
    )?;
    fixture.none(l1, "invoice_payment").await?;
    fixture.none(l2, "invoice_creation").await
}

async fn bolt12(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
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
    let made = fixture.only(l2, "invoice_creation").await?;
    amount(&made, "msat", 5000)?;
    let offer_id = text(&offer, "offer_id")?;
    holds(text(&made.payload, "label")?.starts_with(offer_id), || {
        format!(
            "expected a label that starts with the offer's id {offer_id}: {}",
            made.line
        )
    })?;
    if fixture.at_least(26, 6) {
        same(&made, "offer_id", offer_id)?;
    }
    let hash = hash_of(text(&made.payload, "preimage")?)?;
    holds(hash == text(&invoice, "invoice_payment_hash")?, || {
        format!("expected the preimage of {invoice}: {}", made.line)
    })?;
    fixture.none(l1, "invoice_creation").await
}

async fn payment(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    l1.open_channel(l2, CHANNEL_SAT).await?;
    let invoice = l2.invoice("1000sat", "inv", "pizza").await?;
    let paid = l1.pay(&invoice.bolt11).await?;
    let event = fixture.only(l2, "invoice_payment").await?;
    same(&event, "label", "inv")?;
    amount(&event, "msat", paid.amount_msat)?;
    same(&event, "preimage", paid.preimage.as_str())?;
    let listed: Value = l2.call("listinvoices", json!({"label": "inv"})).await?;
    same(
        &event,
        "preimage",
        text(&listed, "invoices/0/payment_preimage")?,
    )?;
    in_order(&[&fixture.only(l2, "invoice_creation").await?, &event])?;
    fixture.none(l1, "invoice_payment").await
}

async fn to_self(fixture: &Fixture) -> Result<()> {
    let l1 = fixture.lab().l1();
    let invoice = l1.invoice("5sat", "self", "to myself").await?;
    let paid: Value = l1
        .call("xpay", json!({"invstring": invoice.bolt11}))
        .await?;
    let sent = fixture.only(l1, "sendpay_success").await?;
    let received = fixture.only(l1, "invoice_payment").await?;
    in_order(&[&sent, &received])?;
    same(&sent, "payment_hash", invoice.payment_hash.as_str())?;
    same(&received, "label", "self")?;
    amount(&received, "msat", 5000)?;
    for (event, field) in [(&sent, "payment_preimage"), (&received, "preimage")] {
        same(event, field, text(&paid, "payment_preimage")?)?;
    }
    // No money moved.
    fixture.none(l1, "coin_movement").await
}

async fn on_chain(fixture: &Fixture) -> Result<()> {
    const SAT: u64 = 50_000;
    let (l1, bitcoind) = (fixture.lab().l1(), fixture.lab().bitcoind());
    let invoice = l1.invoice(&format!("{SAT}sat"), "inv", "pizza").await?;
    let decoded: Value = l1.call("decode", json!({"string": invoice.bolt11})).await?;
    let address = text(&decoded, "fallbacks/0/addr")?;
    let txid = bitcoind.send_to(address, SAT).await?;
    fixture.none(l1, "invoice_payment").await?;
    bitcoind.mine_until_confirmed(&txid).await?;
    let event = fixture.only(l1, "invoice_payment").await?;
    same(&event, "label", "inv")?;
    amount(&event, "msat", SAT * 1000)?;
    let hash = hash_of(text(&event.payload, "preimage")?)?;
    holds(hash == invoice.payment_hash, || {
        format!(
            "expected the preimage of {}: {}",
            invoice.payment_hash, event.line
        )
    })?;
    // The outpoint, as `listinvoices` and the deposit have it.
    let outpoint = text(&event.payload, "outpoint")?;
    holds(outpoint.starts_with(&format!("{txid}:")), || {
        format!("expected an output of {txid}: {}", event.line)
    })?;
    let listed: Value = l1.call("listinvoices", json!({"label": "inv"})).await?;
    let paid = &listed["invoices"][0]["paid_outpoint"];
    holds(
        outpoint == format!("{txid}:{}", paid["outnum"]) && paid["txid"] == txid.as_str(),
        || format!("listinvoices has {paid}: {}", event.line),
    )?;
    let deposit = fixture.only(l1, "coin_movement").await?;
    same(&deposit, "utxo", outpoint)?;
    amount(&deposit, "credit_msat", SAT * 1000)
}
