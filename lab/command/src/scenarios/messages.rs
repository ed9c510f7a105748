//! Onion messages (BOLT 4): `onionmessage_forward_fail`.

use std::time::Duration;

use serde_json::{Value, json};

use super::fixture::{Stage, holds, same, text};
use super::scenario::Scenario;
use cln_lab::{Node, Probe, Result, eventually};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario::new(
    "onionmessage_forward_fail",
    &["onionmessage_forward_fail"],
    3,
    "l1 asks l3, which is down, for an invoice by way of l2: l2 is told",
    |stage| Box::pin(forward_fail(stage)),
)];

async fn forward_fail(stage: &Stage) -> Result<()> {
    let (l1, l2) = stage.pair();
    let l3 = stage.lab().node("l3")?;
    stage.lab().line_graph().await?;
    // A way for onion messages leads over nodes that are known to take them.
    for node in [l2, l3] {
        announced(l1, node).await?;
    }
    let offer: Value = l3
        .call("offer", json!({"amount": "any", "description": "coffee"}))
        .await?;
    l3.stop().await?;
    let params = json!({
        "offer": text(&offer, "bolt12")?,
        "amount_msat": 1000,
        "timeout": 1,
    });
    let answer = l1.call::<Value>("fetchinvoice", params).await;
    holds(answer.is_err(), || format!("l3 is down: {answer:?}"))?;
    let told = stage.first(l2, "onionmessage_forward_fail").await?;
    same(&told, "source", l1.id())?;
    if told.payload.get("next_node_id").is_some() {
        same(&told, "next_node_id", l3.id())?;
    } else {
        text(&told.payload, "next_short_channel_id_dir")?;
    }
    for name in ["incoming", "outgoing", "path_key"] {
        let hex = text(&told.payload, name)?;
        let is_hex = hex.chars().all(|c| c.is_ascii_hexdigit());
        holds(!hex.is_empty() && is_hex, || told.line.clone())?;
    }
    stage.none(l1, "onionmessage_forward_fail").await
}

/// Waits until a node has another's announcement (BOLT 7).
async fn announced(node: &Node, other: &Node) -> Result<()> {
    const GOSSIP: Duration = Duration::from_secs(60);
    let what = format!("{} to know what {} can do", node.name(), other.name());
    eventually(what, GOSSIP, async || {
        let answer: Value = node.call("listnodes", json!({"id": other.id()})).await?;
        Ok(match answer["nodes"][0]["features"].is_string() {
            true => Probe::Ready(()),
            false => Probe::NotYet(answer.to_string()),
        })
    })
    .await
}
