//! Plugins: `plugin_started`, `plugin_stopped`, `shutdown`, `deprecated_oneshot`,
//! and a topic of a plugin's own.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::fixture::{RECORDER, Stage, holds, in_order, same};
use super::scenario::Scenario;
use cln_lab::IoContext;
use cln_lab::write_executable;
use cln_lab::{Error, Event, Node, Plugin, Probe, Result, eventually};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "custom",
        &[WEATHER],
        2,
        "a plugin of l1's sends a topic of its own; the other plugins of l1 are told",
        |stage| Box::pin(custom(stage)),
    )
    .embedded()
    // Before, a plugin could subscribe to nothing that it could not name.
    .since(23, 8),
    Scenario::new(
        "plugin_started",
        &["plugin_started"],
        2,
        "l1 starts a plugin",
        |stage| Box::pin(started(stage)),
    )
    .embedded(),
    Scenario::new(
        "plugin_stopped",
        &["plugin_started", "plugin_stopped"],
        2,
        "l1 starts a plugin and stops it; started again, the plugin is killed",
        |stage| Box::pin(stopped(stage)),
    )
    .embedded(),
    Scenario::new(
        "shutdown",
        &["shutdown"],
        2,
        "l1 stops; l2 stops the recorder alone: it is the last that either is told",
        |stage| Box::pin(shutdown(stage)),
    )
    .embedded(),
    Scenario::new(
        "deprecated_oneshot",
        &["deprecated_oneshot"],
        1,
        "a caller of l1 wants no deprecated APIs, and calls a method of the recorder's",
        |stage| Box::pin(deprecated_oneshot(stage)),
    ),
];

/// The topic of our plugin, and its name but for `.sh`.
const WEATHER: &str = "weather";

/// Puts our plugin into the lab's folder and starts it on a node.
pub(super) async fn start_weather(stage: &Stage, node: &Node) -> Result<PathBuf> {
    let path = stage.lab().dir().join("weather.sh");
    write_executable(&path, include_str!("weather.sh"))?;
    node.plugin_start(&Plugin::path(&path)).await?;
    Ok(path)
}

async fn custom(stage: &Stage) -> Result<()> {
    let (l1, l2) = stage.pair();
    start_weather(stage, l1).await?;
    l1.call::<Value>("weather", json!({})).await?;
    let told = stage.only(l1, WEATHER).await?;
    holds(
        told.payload == json!({"sky": "blue", "degrees": 21.5}),
        || told.line.clone(),
    )?;
    // Byte for byte what the plugin wrote.
    holds(
        told.line.contains(r#"{"sky": "blue", "degrees": 21.50}"#),
        || told.line.clone(),
    )?;
    holds(told.origin.as_deref() == Some("weather.sh"), || {
        format!("its origin: {}", told.line)
    })?;
    // What is not in a manifest's `notifications` is not passed on.
    stage.none(l1, "climate").await?;
    stage.none(l2, WEATHER).await
}

/// What a node was told of our plugin.
async fn about_weather(stage: &Stage, node: &Node, topic: &str) -> Result<Vec<Event>> {
    let mut events = stage.all(node, topic).await?;
    events.retain(|event| event.payload["plugin_name"] == "weather.sh");
    Ok(events)
}

async fn one_about_weather(stage: &Stage, node: &Node, topic: &str) -> Result<Event> {
    let mut events = about_weather(stage, node, topic).await?;
    match (events.pop(), events.is_empty()) {
        (Some(event), true) => Ok(event),
        (last, _) => Err(Error::Answer {
            from: node.name().to_owned(),
            why: format!("one `{topic}` was expected: {events:?}, {last:?}"),
        }),
    }
}

async fn started(stage: &Stage) -> Result<()> {
    let (l1, l2) = stage.pair();
    let path = start_weather(stage, l1).await?;
    let told = one_about_weather(stage, l1, "plugin_started").await?;
    same(&told, "plugin_path", path.display().to_string())?;
    same(&told, "methods", json!(["weather", "remark"]))?;
    let listed = l1.plugin_list().await?;
    holds(
        listed
            .iter()
            .any(|p| told.payload["plugin_path"] == p.name.as_str()),
        || format!("{listed:?}"),
    )?;
    // A plugin is told of its own start, too.
    stage
        .first_where(l1, "plugin_started", "of the recorder", |payload| {
            payload["plugin_name"] == RECORDER
        })
        .await?;
    let elsewhere = about_weather(stage, l2, "plugin_started").await?;
    holds(elsewhere.is_empty(), || format!("l2: {elsewhere:?}"))
}

async fn stopped(stage: &Stage) -> Result<()> {
    let (l1, l2) = stage.pair();
    let path = start_weather(stage, l1).await?;
    let started = one_about_weather(stage, l1, "plugin_started").await?;
    stage.none(l1, "plugin_stopped").await?;
    l1.plugin_stop("weather.sh").await?;
    let told = one_about_weather(stage, l1, "plugin_stopped").await?;
    same(&told, "plugin_path", path.display().to_string())?;
    same(&told, "methods", json!(["weather", "remark"]))?;
    in_order(&[&started, &told])?;

    start_weather(stage, l1).await?;
    let process = l1.process_with("weather.sh").await?;
    kill(Pid::from_raw(process.pid as i32), Signal::SIGKILL)
        .map_err(std::io::Error::from)
        .doing("kill", "weather.sh")?;
    eventually(
        "its death to be told",
        Duration::from_secs(10),
        async || {
            let mut told = stage.recorded(l1)?;
            told.retain(|event| event.topic == "plugin_stopped");
            Ok(match told.len() {
                2 => Probe::Ready(()),
                count => Probe::NotYet(format!("{count} of `plugin_stopped`, not 2")),
            })
        },
    )
    .await?;
    let both = about_weather(stage, l1, "plugin_stopped").await?;
    holds(both[0].payload == both[1].payload, || format!("{both:?}"))?;
    stage.none(l2, "plugin_stopped").await
}

async fn shutdown(stage: &Stage) -> Result<()> {
    let (l1, l2) = stage.pair();
    for node in [l1, l2] {
        stage.none(node, "shutdown").await?;
    }
    l1.stop().await?;
    l2.plugin_stop(RECORDER).await?;
    for node in [l1, l2] {
        let events = stage.recorded(node)?;
        let shutdowns = events.iter().filter(|e| e.topic == "shutdown").count();
        holds(shutdowns == 1, || format!("{}: {shutdowns}", node.name()))?;
        let last = events
            .last()
            .map(|event| (&event.topic[..], &event.payload));
        holds(last == Some(("shutdown", &json!({}))), || {
            format!("the last that {} was told: {last:?}", node.name())
        })?;
    }
    // Without its recorder it could not mark the end.
    l2.stop().await.map(drop)
}

async fn deprecated_oneshot(stage: &Stage) -> Result<()> {
    let l1 = stage.lab().l1();
    let stats = || json!({});
    // On another connection nothing was said about deprecated APIs.
    l1.call::<Value>("eventlog-stats", stats()).await?;
    stage.none(l1, "deprecated_oneshot").await?;
    let mut rpc = l1.rpc().await?;
    let refused = |error: cln_rpc::RpcError| Error::Answer {
        from: l1.name().to_owned(),
        why: error.to_string(),
    };
    rpc.call_raw::<Value, _>("deprecations", &json!({"enable": false}))
        .await
        .map_err(refused)?;
    rpc.call_raw::<Value, _>("eventlog-stats", &stats())
        .await
        .map_err(refused)?;
    let told = stage.only(l1, "deprecated_oneshot").await?;
    same(&told, "deprecated_ok", false)?;
    // As the node has it by itself: nothing to tell.
    rpc.call_raw::<Value, _>("deprecations", &json!({"enable": true}))
        .await
        .map_err(refused)?;
    rpc.call_raw::<Value, _>("eventlog-stats", &stats())
        .await
        .map_err(refused)?;
    stage.only(l1, "deprecated_oneshot").await.map(drop)
}
