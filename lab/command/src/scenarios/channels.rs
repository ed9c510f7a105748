//! Channels, opened and closed: `channel_opened`, `channel_state_changed`.

use serde_json::{Value, json};

use super::checks::{amount, holds, in_order, same, text};
use super::fixture::Fixture;
use super::scenario::Scenario;
use cln_lab::{CHANNEL_SAT, Channel, Event, Node, Result};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "channel_opened",
        &["channel_state_changed", "channel_opened"],
        2,
        "l1 opens a channel to l2; only l2 receives `channel_opened`",
        |fixture| Box::pin(opened(fixture)),
    ),
    Scenario::new(
        "channel_state_changed_open",
        &["channel_state_changed"],
        2,
        "a channel opens: CHANNELD_AWAITING_LOCKIN, then CHANNELD_NORMAL, on both sides",
        |fixture| Box::pin(open(fixture)),
    ),
    Scenario::new(
        "channel_state_changed_mutual_close",
        &["channel_state_changed"],
        2,
        "l1 and l2 close a channel cooperatively; after 100 blocks it is CLOSED",
        |fixture| Box::pin(mutual_close(fixture)),
    ),
    Scenario::new(
        "channel_state_changed_unilateral_close",
        &["channel_state_changed"],
        2,
        "l1 closes a channel while l2 is down; l2 learns of it from the chain",
        |fixture| Box::pin(unilateral_close(fixture)),
    ),
];

async fn opened(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    let channel = l1.open_channel(l2, CHANNEL_SAT).await?;
    let event = fixture.only(l2, "channel_opened").await?;
    same(&event, "id", l1.id())?;
    amount(&event, "funding_msat", channel.sat * 1000)?;
    same(&event, "funding_txid", channel.funding_txid.as_str())?;
    same(&event, "channel_ready", false)?;
    let changes = fixture.all(l2, "channel_state_changed").await?;
    holds(changes.len() == 2, || format!("{changes:?}"))?;
    in_order(&[&changes[0], &event, &changes[1]])?;
    fixture.none(l1, "channel_opened").await
}

/// Waits until a node's channel is in this state; every change up to then.
async fn changes_until(fixture: &Fixture, node: &Node, state: &str) -> Result<Vec<Event>> {
    fixture
        .first_where(node, "channel_state_changed", &format!("to {state}"), |p| {
            p["new_state"] == state
        })
        .await?;
    fixture.all(node, "channel_state_changed").await
}

/// Each change is of this channel and starts where the one before ended, and
/// `states` are those that it went through.
fn went_through(
    (fixture, peer, channel): (&Fixture, &Node, &Channel),
    changes: &[Event],
    states: &[&str],
) -> Result<()> {
    let news: Vec<&str> = changes
        .iter()
        .map(|event| text(&event.payload, "new_state"))
        .collect::<Result<_>>()?;
    holds(news == states, || format!("{news:?}, expected {states:?}"))?;
    let mut before: Option<&str> = None;
    for change in changes {
        match before {
            Some(before) => same(change, "old_state", before)?,
            // From v25.05 it is deprecated, and on by default.
            None if fixture.at_least(26, 3) => {
                holds(change.payload.get("old_state").is_none(), || {
                    change.line.clone()
                })?;
            }
            None => same(change, "old_state", "unknown")?,
        }
        before = Some(text(&change.payload, "new_state")?);
        same(change, "peer_id", peer.id())?;
        same(change, "channel_id", channel.channel_id.as_str())?;
        // It has none until it is in a block.
        if change.payload["short_channel_id"].is_string() {
            same(
                change,
                "short_channel_id",
                channel.short_channel_id.as_str(),
            )?;
        }
    }
    in_order(&changes.iter().collect::<Vec<_>>())
}

const OPEN: [&str; 2] = ["CHANNELD_AWAITING_LOCKIN", "CHANNELD_NORMAL"];

async fn open(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    let channel = l1.open_channel(l2, CHANNEL_SAT).await?;
    for (node, peer, opener) in [(l1, l2, true), (l2, l1, false)] {
        let changes = changes_until(fixture, node, "CHANNELD_NORMAL").await?;
        went_through((fixture, peer, &channel), &changes, &OPEN)?;
        same(&changes[0], "cause", if opener { "user" } else { "remote" })?;
        same(&changes[0], "message", "new channel opened")?;
        same(
            &changes[1],
            "short_channel_id",
            channel.short_channel_id.as_str(),
        )?;
        as_listed(node, peer, &changes[1..]).await?;
    }
    Ok(())
}

/// `listpeerchannels` has the same changes, but for the first.
async fn as_listed(node: &Node, peer: &Node, changes: &[Event]) -> Result<()> {
    let channels = node.channels_with(peer).await?;
    let Some(listed) = channels.first().map(|channel| &channel["state_changes"]) else {
        return holds(false, || format!("{} has no channel", node.name()));
    };
    let listed = listed.as_array().map_or(&[][..], Vec::as_slice);
    holds(listed.len() == changes.len(), || format!("{listed:?}"))?;
    for (listed, change) in listed.iter().zip(changes) {
        for name in ["old_state", "new_state", "cause", "message", "timestamp"] {
            same(change, name, listed[name].clone())?;
        }
    }
    Ok(())
}

async fn mutual_close(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    let channel = l1.open_channel(l2, CHANNEL_SAT).await?;
    l1.close(l2).await?;
    let mut states = OPEN.to_vec();
    states.extend([
        "CHANNELD_SHUTTING_DOWN",
        "CLOSINGD_SIGEXCHANGE",
        "CLOSINGD_COMPLETE",
        "FUNDING_SPEND_SEEN",
        "ONCHAIN",
    ]);
    for (node, peer, cause) in [(l1, l2, "user"), (l2, l1, "remote")] {
        let changes = changes_until(fixture, node, "ONCHAIN").await?;
        went_through((fixture, peer, &channel), &changes, &states)?;
        same(&changes[2], "cause", cause)?;
    }
    if !fixture.at_least(25, 12) {
        return Ok(());
    }
    // A hundred blocks later nothing can be undone. One node suffices for them.
    l2.stop().await?;
    fixture.lab().mine(100).await?;
    let changes = changes_until(fixture, l1, "CLOSED").await?;
    states.push("CLOSED");
    went_through((fixture, l2, &channel), &changes, &states)
}

async fn unilateral_close(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    let channel = l1.open_channel(l2, CHANNEL_SAT).await?;
    l2.stop().await?;
    let closed: Value = l1
        .call(
            "close",
            json!({"id": channel.channel_id, "unilateraltimeout": 1}),
        )
        .await?;
    holds(closed["type"] == "unilateral", || closed.to_string())?;
    let txid = text(&closed, "txids/0").or_else(|_| text(&closed, "txid"))?;
    fixture.lab().bitcoind().mine_until_confirmed(txid).await?;
    let ours = changes_until(fixture, l1, "ONCHAIN").await?;
    l2.start().await?;
    let theirs = changes_until(fixture, l2, "ONCHAIN").await?;

    let then = |states: &[&'static str]| [&OPEN[..], states].concat();
    let states = then(&[
        "CHANNELD_SHUTTING_DOWN",
        "AWAITING_UNILATERAL",
        "FUNDING_SPEND_SEEN",
        "ONCHAIN",
    ]);
    went_through((fixture, l2, &channel), &ours, &states)?;
    for change in &ours[2..] {
        same(change, "cause", "user")?;
    }
    let states = then(&["AWAITING_UNILATERAL", "FUNDING_SPEND_SEEN", "ONCHAIN"]);
    went_through((fixture, l1, &channel), &theirs, &states)?;
    same(&theirs[2], "cause", "onchain")?;
    if !fixture.at_least(24, 11) {
        // The transaction is not named yet.
        return same(&theirs[2], "message", "Funding transaction spent");
    }
    holds(text(&theirs[2].payload, "message")?.contains(txid), || {
        format!(
            "expected {txid}, which spent the funding output: {}",
            theirs[2].line
        )
    })
}
