//! Peers: `connect`, `disconnect`, `custommsg`.

use serde_json::{Value, json};

use super::checks::{holds, in_order, same, text};
use super::fixture::Fixture;
use super::scenario::Scenario;
use cln_lab::Result;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "connect",
        &["connect"],
        2,
        "l1 connects to l2; both are notified, each with its own direction",
        |fixture| Box::pin(connect(fixture)),
    )
    .embedded(),
    Scenario::new(
        "disconnect",
        &["connect", "disconnect"],
        2,
        "l1 connects to l2 and disconnects; both are notified, in this order",
        |fixture| Box::pin(disconnect(fixture)),
    )
    .embedded(),
    Scenario::new(
        "custommsg",
        &["custommsg"],
        2,
        "l1 sends l2 a message of an odd type that lightningd does not know; only l2 is notified",
        |fixture| Box::pin(custommsg(fixture)),
    ),
];

async fn connect(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    let answer = l1.connect(l2).await?;
    let out = fixture.only(l1, "connect").await?;
    same(&out, "id", answer.id.to_string())?;
    same(&out, "id", l2.id())?;
    same(&out, "direction", "out")?;
    same(
        &out,
        "address",
        json!({"type": "ipv4", "address": "127.0.0.1", "port": l2.port()}),
    )?;
    let within = fixture.only(l2, "connect").await?;
    same(&within, "id", l1.id())?;
    same(&within, "direction", "in")?;
    same(&within, "address/type", "ipv4")?;
    same(&within, "address/address", "127.0.0.1")?;
    let port = &within.payload["address"]["port"];
    holds(port != l1.port() && port != l2.port(), || {
        format!("expected the port that l1 connected from: {}", within.line)
    })?;
    // Already connected: nothing is sent.
    l1.connect(l2).await?;
    for node in [l1, l2] {
        fixture.only(node, "connect").await?;
        fixture.none(node, "disconnect").await?;
    }
    Ok(())
}

async fn disconnect(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    l1.connect(l2).await?;
    for node in [l1, l2] {
        fixture.first(node, "connect").await?;
        fixture.none(node, "disconnect").await?;
    }
    l1.disconnect(l2).await?;
    for (node, peer) in [(l1, l2), (l2, l1)] {
        let gone = fixture.only(node, "disconnect").await?;
        same(&gone, "id", peer.id())?;
        in_order(&[&fixture.only(node, "connect").await?, &gone])?;
    }
    // No longer a peer: refused, and nothing is sent.
    let again = l1.disconnect(l2).await;
    holds(again.is_err(), || {
        "a second disconnect was accepted".to_owned()
    })?;
    fixture.only(l1, "disconnect").await?;
    Ok(())
}

async fn custommsg(fixture: &Fixture) -> Result<()> {
    // Type 0x8001: odd, so that a peer who does not know it ignores it (BOLT 1).
    const MESSAGE: &str = "8001deadbeef";
    let (l1, l2) = fixture.pair();
    l1.connect(l2).await?;
    let sent: Value = l1
        .call("sendcustommsg", json!({"node_id": l2.id(), "msg": MESSAGE}))
        .await?;
    text(&sent, "status")?;
    let is_ours = |payload: &Value| payload["payload"] == MESSAGE;
    let event = fixture
        .first_where(l2, "custommsg", "with our message", is_ours)
        .await?;
    same(&event, "peer_id", l1.id())?;
    // Nodes back each other up with messages 7 and 9, so there can be others.
    let ours = |events: &[cln_lab::Event]| events.iter().filter(|e| is_ours(&e.payload)).count();
    let (sender, receiver) = (
        ours(&fixture.all(l1, "custommsg").await?),
        ours(&fixture.all(l2, "custommsg").await?),
    );
    holds((sender, receiver) == (0, 1), || {
        format!("expected 0 at the sender, not {sender}, and 1 at the receiver, not {receiver}")
    })
}
