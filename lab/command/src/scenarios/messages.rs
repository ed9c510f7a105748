//! Onion messages (BOLT 4): `onionmessage_forward_fail`.

use std::time::Duration;

use serde_json::{Value, json};

use super::checks::{holds, same, text};
use super::fixture::Fixture;
use super::scenario::Scenario;
use cln_lab::{Node, Probe, Result, eventually};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario::new(
    "onionmessage_forward_fail",
    &["onionmessage_forward_fail"],
    3,
    "l1 asks l3, which is down, for an invoice through l2: only l2 is notified",
    |fixture| Box::pin(forward_fail(fixture)),
)];

async fn forward_fail(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    let l3 = fixture.lab().node("l3")?;
    fixture.lab().line_graph().await?;
    // Onion messages are routed through nodes known to take them.
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
    let event = fixture.first(l2, "onionmessage_forward_fail").await?;
    same(&event, "source", l1.id())?;
    if event.payload.get("next_node_id").is_some() {
        same(&event, "next_node_id", l3.id())?;
    } else {
        text(&event.payload, "next_short_channel_id_dir")?;
    }
    for name in ["incoming", "outgoing", "path_key"] {
        let hex = text(&event.payload, name)?;
        let is_hex = hex.chars().all(|c| c.is_ascii_hexdigit());
        holds(!hex.is_empty() && is_hex, || event.line.clone())?;
    }
    fixture.none(l1, "onionmessage_forward_fail").await
}

/// Waits until a node has the announcement of another (BOLT 7).
pub(super) async fn announced(node: &Node, other: &Node) -> Result<()> {
    // Before v23.11 a node passes gossip on once a minute.
    const GOSSIP: Duration = Duration::from_secs(240);
    let what = format!("{} to know the features of {}", node.name(), other.name());
    eventually(what, GOSSIP, async || {
        let answer: Value = node.call("listnodes", json!({"id": other.id()})).await?;
        Ok(if answer["nodes"][0]["features"].is_string() {
            Probe::Ready(())
        } else {
            Probe::NotYet(answer.to_string())
        })
    })
    .await
}
