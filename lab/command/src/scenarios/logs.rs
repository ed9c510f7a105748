//! The node's log: `warning`, `log`.

use serde_json::{Value, json};

use super::checks::{holds, in_order, same};
use super::fixture::Fixture;
use super::plugins::start_weather;
use super::scenario::Scenario;
use cln_lab::{Event, Node, Result};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "warning",
        &["warning"],
        2,
        "a plugin on l1 logs at every level; only `warn` and `error` cause a notification",
        |fixture| Box::pin(warning(fixture)),
    )
    .embedded(),
    Scenario::new(
        "log",
        &["log"],
        1,
        "a plugin on l1 logs at every level; each line causes a notification, from debug to broken",
        |fixture| Box::pin(log(fixture)),
    )
    .embedded(),
];

/// The notifications of the lines that our plugin logged.
async fn remarks(fixture: &Fixture, node: &Node, topic: &str) -> Result<Vec<Event>> {
    let mut events = fixture.all(node, topic).await?;
    events.retain(|event| {
        event.payload["source"] == "plugin-weather.sh" && !is_from_lightningd(&event.payload)
    });
    Ok(events)
}

/// A line that lightningd writes about a plugin has that plugin as its source.
fn is_from_lightningd(payload: &Value) -> bool {
    let line = payload["log"].as_str().unwrap_or_default();
    !LINES.iter().any(|(_, text)| *text == line)
}

/// What `weather.sh` writes, and the level as `log` names it.
const LINES: [(&str, &str); 4] = [
    ("debug", "a breeze"),
    ("info", "some clouds"),
    ("unusual", "a storm is near"),
    ("broken", "hail"),
];

async fn warning(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    start_weather(fixture, l1).await?;
    l1.call::<Value>("remark", json!({})).await?;
    let events = remarks(fixture, l1, "warning").await?;
    let [first, second] = &events[..] else {
        return holds(false, || format!("expected two: {events:?}"));
    };
    same(first, "level", "warn")?;
    same(first, "log", "a storm is near")?;
    same(second, "level", "error")?;
    same(second, "log", "hail")?;
    in_order(&[first, second])?;
    as_written(l1, &events)?;
    let elsewhere = remarks(fixture, l2, "warning").await?;
    holds(elsewhere.is_empty(), || format!("l2: {elsewhere:?}"))
}

async fn log(fixture: &Fixture) -> Result<()> {
    let l1 = fixture.lab().l1();
    start_weather(fixture, l1).await?;
    l1.call::<Value>("remark", json!({})).await?;
    let events = remarks(fixture, l1, "log").await?;
    let lines: Vec<(&str, &str)> = events
        .iter()
        .filter_map(|e| Some((e.payload["level"].as_str()?, e.payload["log"].as_str()?)))
        .collect();
    holds(lines == LINES, || format!("{lines:?}"))?;
    as_written(l1, &events)
}

/// The log file has the same lines, with the same times.
fn as_written(node: &Node, events: &[Event]) -> Result<()> {
    for event in events {
        let member = |name: &str| event.payload[name].as_str().unwrap_or_default();
        let lines = node.log().lines_with(member("log"))?;
        let time = member("timestamp");
        holds(lines.iter().any(|line| line.starts_with(time)), || {
            format!("{} is not in the log, which has {lines:?}", event.line)
        })?;
    }
    Ok(())
}
