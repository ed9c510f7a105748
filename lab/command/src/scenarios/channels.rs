//! Channels, opened and closed: `channel_opened`, `channel_state_changed`.

use serde_json::{Value, json};

use super::fixture::{Stage, amount, holds, in_order, same, text};
use super::scenario::Scenario;
use cln_lab::{CHANNEL_SAT, Channel, Event, Node, Result};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "channel_opened",
        &["channel_state_changed", "channel_opened"],
        2,
        "l1 opens a channel to l2; only l2 is told that it was opened",
        |stage| Box::pin(opened(stage)),
    ),
    Scenario::new(
        "channel_state_changed_open",
        &["channel_state_changed"],
        2,
        "a channel opens: CHANNELD_AWAITING_LOCKIN, then CHANNELD_NORMAL, on both sides",
        |stage| Box::pin(open(stage)),
    ),
    Scenario::new(
        "channel_state_changed_mutual_close",
        &["channel_state_changed"],
        2,
        "l1 and l2 close a channel together; after 100 blocks it is CLOSED",
        |stage| Box::pin(mutual_close(stage)),
    ),
    Scenario::new(
        "channel_state_changed_unilateral_close",
        &["channel_state_changed"],
        2,
        "l1 closes a channel while l2 is down; l2 finds out from the chain",
        |stage| Box::pin(unilateral_close(stage)),
    ),
];

async fn opened(stage: &Stage) -> Result<()> {
    let (l1, l2) = stage.pair();
    let channel = l1.open_channel(l2, CHANNEL_SAT).await?;
    let told = stage.only(l2, "channel_opened").await?;
    same(&told, "id", l1.id())?;
    amount(&told, "funding_msat", channel.sat * 1000)?;
    same(&told, "funding_txid", channel.funding_txid.as_str())?;
    same(&told, "channel_ready", false)?;
    let changes = stage.all(l2, "channel_state_changed").await?;
    holds(changes.len() == 2, || format!("{changes:?}"))?;
    in_order(&[&changes[0], &told, &changes[1]])?;
    stage.none(l1, "channel_opened").await
}

/// Waits until a node was told of this state; all it was told of states by then.
async fn changes_until(stage: &Stage, node: &Node, state: &str) -> Result<Vec<Event>> {
    stage
        .first_where(node, "channel_state_changed", &format!("to {state}"), |p| {
            p["new_state"] == state
        })
        .await?;
    stage.all(node, "channel_state_changed").await
}

/// Each change is of this channel, begins where the one before ended, and
/// `states` are those that it went through.
fn went_through(
    (stage, peer, channel): (&Stage, &Node, &Channel),
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
            None if stage.at_least(25, 5) => {
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

async fn open(stage: &Stage) -> Result<()> {
    let (l1, l2) = stage.pair();
    let channel = l1.open_channel(l2, CHANNEL_SAT).await?;
    for (node, peer, opener) in [(l1, l2, true), (l2, l1, false)] {
        let changes = changes_until(stage, node, "CHANNELD_NORMAL").await?;
        went_through((stage, peer, &channel), &changes, &OPEN)?;
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

async fn mutual_close(stage: &Stage) -> Result<()> {
    let (l1, l2) = stage.pair();
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
        let changes = changes_until(stage, node, "ONCHAIN").await?;
        went_through((stage, peer, &channel), &changes, &states)?;
        same(&changes[2], "cause", cause)?;
    }
    if !stage.at_least(25, 12) {
        return Ok(());
    }
    // A hundred blocks later nothing can be undone. For one node they are enough.
    l2.stop().await?;
    stage.lab().mine(100).await?;
    let changes = changes_until(stage, l1, "CLOSED").await?;
    states.push("CLOSED");
    went_through((stage, l2, &channel), &changes, &states)
}

async fn unilateral_close(stage: &Stage) -> Result<()> {
    let (l1, l2) = stage.pair();
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
    stage.lab().bitcoind().mine_until_confirmed(txid).await?;
    let ours = changes_until(stage, l1, "ONCHAIN").await?;
    l2.start().await?;
    let theirs = changes_until(stage, l2, "ONCHAIN").await?;

    let then = |states: &[&'static str]| [&OPEN[..], states].concat();
    let states = then(&[
        "CHANNELD_SHUTTING_DOWN",
        "AWAITING_UNILATERAL",
        "FUNDING_SPEND_SEEN",
        "ONCHAIN",
    ]);
    went_through((stage, l2, &channel), &ours, &states)?;
    for change in &ours[2..] {
        same(change, "cause", "user")?;
    }
    let states = then(&["AWAITING_UNILATERAL", "FUNDING_SPEND_SEEN", "ONCHAIN"]);
    went_through((stage, l1, &channel), &theirs, &states)?;
    same(&theirs[2], "cause", "onchain")?;
    if !stage.at_least(25, 9) {
        // It does not say yet by what.
        return same(&theirs[2], "message", "Funding transaction spent");
    }
    holds(text(&theirs[2].payload, "message")?.contains(txid), || {
        format!(
            "what spent the funding transaction, {txid}: {}",
            theirs[2].line
        )
    })
}
