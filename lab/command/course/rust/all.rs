//! A plugin for Core Lightning, on cln-plugin.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use cln_plugin::options::{ConfigOption, DefaultStringConfigOption};
use cln_plugin::{Builder, Plugin};
use serde_json::{Value, json};
use tokio::io::{stdin, stdout};

const EVENTS_FILE: DefaultStringConfigOption = ConfigOption::new_str_with_default(
    "events-file",
    "myplugin.txt",
    "Where notifications are written",
);

/// How many were written since the plugin started.
type Count = Arc<AtomicU64>;

// One thread: handlers run in the order of the messages.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let builder = Builder::new(stdin(), stdout())
        .option(EVENTS_FILE)
        .rpcmethod("eventcount", "How many notifications were written", count)
        .subscribe("*", on_any)
        .dynamic();
    let Some(plugin) = builder.configure().await? else {
        return Ok(()); // it was only asked for its manifest
    };
    if plugin.configuration().startup {
        log::info!("started with the node");
    } else {
        log::info!("started by hand");
    }
    plugin.start(Count::default()).await?.join().await
}

async fn count(plugin: Plugin<Count>, _params: Value) -> Result<Value> {
    Ok(json!({"count": plugin.state().load(Ordering::Relaxed)}))
}

async fn on_any(plugin: Plugin<Count>, params: Value) -> Result<()> {
    // The library passes `params` alone. From v23.08 on its object is the payload, under
    // the topic's name.
    let mut members = params.as_object().into_iter().flatten();
    let (topic, payload) = members
        .find(|(_, value)| value.is_object())
        .context("a notification without its topic")?;
    if topic == "shutdown" {
        std::process::exit(0);
    }
    record(&plugin, topic, payload)?;
    let label = payload["label"].as_str().unwrap_or_default();
    ensure!(!label.starts_with("burnt"), "{label} is burnt");
    Ok(())
}

fn record(plugin: &Plugin<Count>, topic: &str, payload: &Value) -> Result<()> {
    let mut file = File::options()
        .create(true)
        .append(true)
        .mode(0o600) // preimages are secrets
        .open(plugin.option(&EVENTS_FILE)?)?;
    let line = format!("{topic} notification: {payload}\n");
    file.write_all(line.as_bytes())?;
    plugin.state().fetch_add(1, Ordering::Relaxed);
    Ok(())
}
