//! A plugin for Core Lightning, on cln-plugin.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};
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
        .subscribe("connect", async |plugin, params| {
            record(&plugin, "connect", &params)
        })
        .subscribe("disconnect", async |plugin, params| {
            record(&plugin, "disconnect", &params)
        })
        .subscribe("invoice_creation", async |plugin, params| {
            on_invoice(&plugin, &params)
        })
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

fn on_invoice(plugin: &Plugin<Count>, params: &Value) -> Result<()> {
    record(plugin, "invoice_creation", params)?;
    let label = params["invoice_creation"]["label"].as_str();
    let label = label.unwrap_or_default();
    ensure!(!label.starts_with("burnt"), "{label} is burnt");
    Ok(())
}

fn record(plugin: &Plugin<Count>, topic: &str, params: &Value) -> Result<()> {
    // Before v23.08 the payload is not under the topic's name.
    let payload = params.get(topic).unwrap_or(params);
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
