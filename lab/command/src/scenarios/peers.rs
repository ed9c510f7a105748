//! Peers: `connect`, `disconnect`, `custommsg`.

use serde_json::{Value, json};

use super::fixture::{Stage, holds, in_order, same, text};
use super::scenario::Scenario;
use cln_lab::Result;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "connect",
        &["connect"],
        2,
        "l1 connects to l2; both are told, each with its own direction",
        |stage| Box::pin(connect(stage)),
    )
    .embedded(),
    Scenario::new(
        "disconnect",
        &["connect", "disconnect"],
        2,
        "l1 connects to l2 and disconnects; both are told, in this order",
        |stage| Box::pin(disconnect(stage)),
    )
    .embedded(),
    Scenario::new(
        "custommsg",
        &["custommsg"],
        2,
        "l1 sends l2 a message of an odd type that lightningd does not know; l2 is told",
        |stage| Box::pin(custommsg(stage)),
    ),
];

async fn connect(stage: &Stage) -> Result<()> {
    let (l1, l2) = stage.pair();
    let answer = l1.connect(l2).await?;
    let out = stage.only(l1, "connect").await?;
    same(&out, "id", answer.id.to_string())?;
    same(&out, "id", l2.id())?;
    same(&out, "direction", "out")?;
    same(
        &out,
        "address",
        json!({"type": "ipv4", "address": "127.0.0.1", "port": l2.port()}),
    )?;
    let within = stage.only(l2, "connect").await?;
    same(&within, "id", l1.id())?;
    same(&within, "direction", "in")?;
    same(&within, "address/type", "ipv4")?;
    same(&within, "address/address", "127.0.0.1")?;
    let port = &within.payload["address"]["port"];
    holds(port != l1.port() && port != l2.port(), || {
        format!("the port l1 called from: {}", within.line)
    })?;
    // Connected already: nothing new to tell.
    l1.connect(l2).await?;
    for node in [l1, l2] {
        stage.only(node, "connect").await?;
        stage.none(node, "disconnect").await?;
    }
    Ok(())
}

async fn disconnect(stage: &Stage) -> Result<()> {
    let (l1, l2) = stage.pair();
    l1.connect(l2).await?;
    for node in [l1, l2] {
        stage.first(node, "connect").await?;
        stage.none(node, "disconnect").await?;
    }
    l1.disconnect(l2).await?;
    for (node, peer) in [(l1, l2), (l2, l1)] {
        let gone = stage.only(node, "disconnect").await?;
        same(&gone, "id", peer.id())?;
        in_order(&[&stage.only(node, "connect").await?, &gone])?;
    }
    // No such peer any more: refused, and nothing is told.
    let again = l1.disconnect(l2).await;
    holds(again.is_err(), || {
        "a second disconnect was taken".to_owned()
    })?;
    stage.only(l1, "disconnect").await?;
    Ok(())
}

async fn custommsg(stage: &Stage) -> Result<()> {
    // Type 0x8001: odd, so that a peer who does not know it ignores it (BOLT 1).
    const MESSAGE: &str = "8001deadbeef";
    let (l1, l2) = stage.pair();
    l1.connect(l2).await?;
    let sent: Value = l1
        .call("sendcustommsg", json!({"node_id": l2.id(), "msg": MESSAGE}))
        .await?;
    text(&sent, "status")?;
    let is_ours = |payload: &Value| payload["payload"] == MESSAGE;
    let told = stage
        .first_where(l2, "custommsg", "with our message", is_ours)
        .await?;
    same(&told, "peer_id", l1.id())?;
    // Nodes back each other up with messages 7 and 9, so there can be others.
    let ours = |events: &[cln_lab::Event]| events.iter().filter(|e| is_ours(&e.payload)).count();
    let (sender, receiver) = (
        ours(&stage.all(l1, "custommsg").await?),
        ours(&stage.all(l2, "custommsg").await?),
    );
    holds((sender, receiver) == (0, 1), || {
        format!("told {sender} times at the sender, {receiver} at the receiver")
    })
}
