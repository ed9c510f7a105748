//! The node's log: `warning`, `log`.

use serde_json::{Value, json};

use super::fixture::{Stage, holds, in_order, same};
use super::plugins::start_weather;
use super::scenario::Scenario;
use cln_lab::{Event, Node, Result};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "warning",
        &["warning"],
        2,
        "a plugin of l1's writes to the log: of the level warn and error is told",
        |stage| Box::pin(warning(stage)),
    )
    .embedded(),
    Scenario::new(
        "log",
        &["log"],
        1,
        "a plugin writes to the log: every level is told, from debug to broken",
        |stage| Box::pin(log(stage)),
    )
    .embedded(),
];

/// What came of our plugin's lines in the log.
async fn remarks(stage: &Stage, node: &Node, topic: &str) -> Result<Vec<Event>> {
    let mut told = stage.all(node, topic).await?;
    told.retain(|event| {
        event.payload["source"] == "plugin-weather.sh" && !is_of_lightningd(&event.payload)
    });
    Ok(told)
}

/// What lightningd itself writes about a plugin has that plugin as its source.
fn is_of_lightningd(payload: &Value) -> bool {
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

async fn warning(stage: &Stage) -> Result<()> {
    let (l1, l2) = stage.pair();
    start_weather(stage, l1).await?;
    l1.call::<Value>("remark", json!({})).await?;
    let told = remarks(stage, l1, "warning").await?;
    let [first, second] = &told[..] else {
        return holds(false, || format!("two were written: {told:?}"));
    };
    same(first, "level", "warn")?;
    same(first, "log", "a storm is near")?;
    same(second, "level", "error")?;
    same(second, "log", "hail")?;
    in_order(&[first, second])?;
    as_written(l1, &told)?;
    let elsewhere = remarks(stage, l2, "warning").await?;
    holds(elsewhere.is_empty(), || format!("l2: {elsewhere:?}"))
}

async fn log(stage: &Stage) -> Result<()> {
    let l1 = stage.lab().l1();
    start_weather(stage, l1).await?;
    l1.call::<Value>("remark", json!({})).await?;
    let told = remarks(stage, l1, "log").await?;
    let lines: Vec<(&str, &str)> = told
        .iter()
        .filter_map(|e| Some((e.payload["level"].as_str()?, e.payload["log"].as_str()?)))
        .collect();
    holds(lines == LINES, || format!("{lines:?}"))?;
    as_written(l1, &told)
}

/// The log file has the same lines, with the same times.
fn as_written(node: &Node, told: &[Event]) -> Result<()> {
    for event in told {
        let member = |name: &str| event.payload[name].as_str().unwrap_or_default();
        let lines = node.log().lines_with(member("log"))?;
        let time = member("timestamp");
        holds(lines.iter().any(|line| line.starts_with(time)), || {
            format!("{} is not in the log, which has {lines:?}", event.line)
        })?;
    }
    Ok(())
}
