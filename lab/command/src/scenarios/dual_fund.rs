//! Channels that both sides may fund (`--experimental-dual-fund`):
//! `openchannel_peer_sigs`, `channel_open_failed`.

use serde_json::{Value, json};

use super::checks::{holds, in_order, same, text};
use super::fixture::Fixture;
use super::scenario::Scenario;
use cln_lab::{CHANNEL_SAT, Node, Result};

const DUAL_FUND: &[(&str, Option<&str>)] = &[("experimental-dual-fund", None)];

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "openchannel_peer_sigs",
        &[
            "openchannel_peer_sigs",
            "channel_state_changed",
            "channel_opened",
        ],
        2,
        "l1 opens a dual-funded channel to l2; both are notified of the signatures",
        |fixture| Box::pin(peer_sigs(fixture)),
    )
    .options(DUAL_FUND),
    Scenario::new(
        "channel_open_failed",
        &["channel_open_failed"],
        2,
        "l1 starts to open a dual-funded channel and aborts; both are notified",
        |fixture| Box::pin(open_failed(fixture)),
    )
    .options(DUAL_FUND),
];

async fn peer_sigs(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    let channel = l1.open_channel(l2, CHANNEL_SAT).await?;
    for node in [l1, l2] {
        let sigs = fixture.only(node, "openchannel_peer_sigs").await?;
        same(&sigs, "channel_id", channel.channel_id.as_str())?;
        // The signed transaction is the one that funds the channel.
        let psbt = text(&sigs.payload, "signed_psbt")?;
        signs(fixture, node, psbt, &channel.funding_txid).await?;
        let changes = fixture.all(node, "channel_state_changed").await?;
        let awaiting = changes
            .iter()
            .find(|c| c.payload["new_state"] == "DUALOPEND_AWAITING_LOCKIN");
        let Some(awaiting) = awaiting else {
            return holds(false, || {
                format!("no DUALOPEND_AWAITING_LOCKIN: {changes:?}")
            });
        };
        if node.name() == "l2" {
            let opened = fixture.only(node, "channel_opened").await?;
            in_order(&[awaiting, &opened, &sigs])?;
        } else {
            in_order(&[&sigs, awaiting])?;
        }
    }
    fixture.none(l1, "channel_opened").await?;
    for node in [l1, l2] {
        fixture.none(node, "channel_open_failed").await?;
    }
    Ok(())
}

/// Fails unless the PSBT is that of this transaction.
async fn signs(fixture: &Fixture, node: &Node, psbt: &str, txid: &str) -> Result<()> {
    // bitcoind reads only version 0 (BIP 174, BIP 370).
    let version_0 = if fixture.at_least(23, 8) {
        let params = json!({"psbt": psbt, "version": 0});
        let answer: Value = node.call("setpsbtversion", params).await?;
        text(&answer, "psbt")?.to_owned()
    } else if fixture.at_least(23, 5) {
        // Version 2, and nothing here reads that: only that it is a PSBT.
        return holds(psbt.starts_with("cHNidP8"), || format!("no PSBT: {psbt}"));
    } else {
        psbt.to_owned()
    };
    let bitcoind = fixture.lab().bitcoind();
    let decoded: Value = bitcoind.call("decodepsbt", vec![json!(version_0)]).await?;
    let signed = text(&decoded, "tx/txid")?;
    holds(signed == txid, || {
        format!("funded by {txid}, but {signed} was signed")
    })
}

async fn open_failed(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    l1.fund(CHANNEL_SAT * 2).await?;
    fixture.lab().wait_block().await?;
    l1.connect(l2).await?;
    let funds: Value = l1
        .call(
            "fundpsbt",
            json!({"satoshi": CHANNEL_SAT, "feerate": "1000perkw", "startweight": 1000}),
        )
        .await?;
    let started: Value = l1
        .call(
            "openchannel_init",
            json!({"id": l2.id(), "amount": CHANNEL_SAT, "initialpsbt": text(&funds, "psbt")?}),
        )
        .await?;
    let channel_id = text(&started, "channel_id")?;
    l1.call::<Value>("openchannel_abort", json!({"channel_id": channel_id}))
        .await?;
    let ours = fixture.only(l1, "channel_open_failed").await?;
    same(&ours, "channel_id", channel_id)?;
    let theirs = fixture.only(l2, "channel_open_failed").await?;
    let id = text(&theirs.payload, "channel_id")?;
    holds(id.len() == 64, || theirs.line.clone())?;
    for (node, failed) in [(l1, &ours), (l2, &theirs)] {
        if fixture.at_least(25, 12) {
            let closed = fixture
                .first_where(node, "channel_state_changed", "to CLOSED", |payload| {
                    payload["new_state"] == "CLOSED"
                })
                .await?;
            in_order(&[failed, &closed])?;
        }
        fixture.none(node, "openchannel_peer_sigs").await?;
        fixture.none(node, "channel_opened").await?;
    }
    Ok(())
}
