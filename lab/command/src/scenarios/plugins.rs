//! Plugins: `plugin_started`, `plugin_stopped`, `shutdown`, `deprecated_oneshot`,
//! and a plugin's own topic.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::checks::{holds, in_order, same, unexpected};
use super::fixture::Fixture;
use super::oracle::RECORDER;
use super::scenario::Scenario;
use super::witness;
use cln_lab::{Event, IoContext, Node, Plugin, Probe, Result, eventually, write_executable};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "custom",
        &[WEATHER],
        2,
        "a plugin on l1 sends its own topic; the other plugins on l1 receive it",
        |fixture| Box::pin(custom(fixture)),
    )
    .embedded()
    // Before, there was no `*`, and eventlog cannot name this topic.
    .since(23, 8),
    Scenario::new(
        "plugin_started",
        &["plugin_started"],
        2,
        "l1 starts a plugin",
        |fixture| Box::pin(started(fixture)),
    )
    .embedded(),
    Scenario::new(
        "plugin_stopped",
        &["plugin_started", "plugin_stopped"],
        2,
        "l1 starts a plugin and stops it; started again, the plugin is killed",
        |fixture| Box::pin(stopped(fixture)),
    )
    .embedded(),
    Scenario::new(
        "shutdown",
        &["shutdown"],
        2,
        "l1 stops, and l2 stops only the recorder; in both cases `shutdown` is the last \
         notification received",
        |fixture| Box::pin(shutdown(fixture)),
    )
    .embedded(),
    Scenario::new(
        "deprecated_oneshot",
        &["deprecated_oneshot"],
        1,
        "a client of l1 turns deprecated APIs off and calls a method of the recorder",
        |fixture| Box::pin(deprecated_oneshot(fixture)),
    ),
];

/// The topic of our plugin, and its name but for `.sh`.
pub(super) const WEATHER: &str = "weather";

/// Puts our plugin into the lab's folder and starts it on a node.
pub(super) async fn start_weather(fixture: &Fixture, node: &Node) -> Result<PathBuf> {
    let path = fixture.lab().dir().join("weather.sh");
    write_executable(&path, include_str!("weather.sh"))?;
    node.plugin_start(&Plugin::path(&path)).await?;
    Ok(path)
}

async fn custom(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    start_weather(fixture, l1).await?;
    l1.call::<Value>("weather", json!({})).await?;
    let event = fixture.only(l1, WEATHER).await?;
    holds(
        event.payload == json!({"sky": "blue", "degrees": 21.5}),
        || event.line.clone(),
    )?;
    // Byte for byte what the plugin wrote.
    holds(
        event.line.contains(r#"{"sky": "blue", "degrees": 21.50}"#),
        || event.line.clone(),
    )?;
    holds(event.origin.as_deref() == Some("weather.sh"), || {
        format!("expected origin `weather.sh`: {}", event.line)
    })?;
    // A topic that the manifest does not announce is not passed on.
    fixture.none(l1, "climate").await?;
    fixture.none(l2, WEATHER).await
}

/// The notifications of this topic that are about our plugin.
async fn about_weather(fixture: &Fixture, node: &Node, topic: &str) -> Result<Vec<Event>> {
    let mut events = fixture.all(node, topic).await?;
    events.retain(|event| event.payload["plugin_name"] == "weather.sh");
    Ok(events)
}

async fn one_about_weather(fixture: &Fixture, node: &Node, topic: &str) -> Result<Event> {
    let mut events = about_weather(fixture, node, topic).await?;
    match (events.pop(), events.is_empty()) {
        (Some(event), true) => Ok(event),
        (last, _) => Err(unexpected(
            node.name(),
            format!("expected one `{topic}`: {events:?}, {last:?}"),
        )),
    }
}

async fn started(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    let path = start_weather(fixture, l1).await?;
    let event = one_about_weather(fixture, l1, "plugin_started").await?;
    same(&event, "plugin_path", path.display().to_string())?;
    same(&event, "methods", json!(["weather", "remark"]))?;
    let listed = l1.plugin_list().await?;
    holds(
        listed
            .iter()
            .any(|p| event.payload["plugin_path"] == p.name.as_str()),
        || format!("{listed:?}"),
    )?;
    // A plugin also receives the notification of its own start.
    fixture
        .first_where(l1, "plugin_started", "of the recorder", |payload| {
            payload["plugin_name"] == RECORDER
        })
        .await?;
    let elsewhere = about_weather(fixture, l2, "plugin_started").await?;
    holds(elsewhere.is_empty(), || format!("l2: {elsewhere:?}"))
}

async fn stopped(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    let path = start_weather(fixture, l1).await?;
    let started = one_about_weather(fixture, l1, "plugin_started").await?;
    fixture.none(l1, "plugin_stopped").await?;
    l1.plugin_stop("weather.sh").await?;
    let event = one_about_weather(fixture, l1, "plugin_stopped").await?;
    same(&event, "plugin_path", path.display().to_string())?;
    same(&event, "methods", json!(["weather", "remark"]))?;
    in_order(&[&started, &event])?;

    start_weather(fixture, l1).await?;
    // What the script starts bears its name, too, until it is another program.
    let process = eventually("the one process", Duration::from_secs(10), async || {
        Ok(match l1.process_with("weather.sh").await {
            Ok(process) => Probe::Ready(process),
            Err(error) => Probe::NotYet(error.to_string()),
        })
    })
    .await?;
    kill(Pid::from_raw(process.pid as i32), Signal::SIGKILL)
        .map_err(std::io::Error::from)
        .doing("kill", "weather.sh")?;
    eventually(
        "a notification of its death",
        Duration::from_secs(10),
        async || {
            let mut events = fixture.recorded(l1)?;
            events.retain(|event| event.topic == "plugin_stopped");
            Ok(match events.len() {
                2 => Probe::Ready(()),
                count => Probe::NotYet(format!("{count} of `plugin_stopped`, not 2")),
            })
        },
    )
    .await?;
    let both = about_weather(fixture, l1, "plugin_stopped").await?;
    holds(both[0].payload == both[1].payload, || format!("{both:?}"))?;
    fixture.none(l2, "plugin_stopped").await
}

async fn shutdown(fixture: &Fixture) -> Result<()> {
    let (l1, l2) = fixture.pair();
    for node in [l1, l2] {
        fixture.none(node, "shutdown").await?;
    }
    l1.stop().await?;
    l2.plugin_stop(RECORDER).await?;
    for node in [l1, l2] {
        let events = fixture.recorded(node)?;
        let shutdowns = events.iter().filter(|e| e.topic == "shutdown").count();
        holds(shutdowns == 1, || format!("{}: {shutdowns}", node.name()))?;
        let last = events
            .last()
            .map(|event| (&event.topic[..], &event.payload));
        holds(last == Some(("shutdown", &json!({}))), || {
            format!("the last notification on {}: {last:?}", node.name())
        })?;
    }
    // Without a recorder its end cannot be marked.
    l2.stop().await.map(drop)
}

async fn deprecated_oneshot(fixture: &Fixture) -> Result<()> {
    let l1 = fixture.lab().l1();
    let stats = || json!({});
    // This connection has not chosen anything about deprecated APIs.
    l1.call::<Value>("eventlog-stats", stats()).await?;
    fixture.none(l1, "deprecated_oneshot").await?;
    let mut rpc = l1.rpc().await?;
    let refused = |error: cln_rpc::RpcError| unexpected(l1.name(), error.to_string());
    rpc.call_raw::<Value, _>("deprecations", &json!({"enable": false}))
        .await
        .map_err(refused)?;
    rpc.call_raw::<Value, _>("eventlog-stats", &stats())
        .await
        .map_err(refused)?;
    let event = fixture.only(l1, "deprecated_oneshot").await?;
    same(&event, "deprecated_ok", false)?;
    // Each plugin is notified of calls of its own methods.
    rpc.call_raw::<Value, _>(witness::NAME, &json!({"first": 1}))
        .await
        .map_err(refused)?;
    let heard = fixture.calls(l1, "deprecated_oneshot")?;
    holds(heard.len() == 1, || format!("{heard:?}"))?;
    // The node's default: nothing is sent.
    rpc.call_raw::<Value, _>("deprecations", &json!({"enable": true}))
        .await
        .map_err(refused)?;
    rpc.call_raw::<Value, _>("eventlog-stats", &stats())
        .await
        .map_err(refused)?;
    fixture.only(l1, "deprecated_oneshot").await.map(drop)
}
