//! A plugin for Core Lightning, on cln-plugin.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use cln_plugin::messages::NotificationTopic;
use cln_plugin::options::{ConfigOption, DefaultStringConfigOption};
use cln_plugin::{Builder, Plugin};
use serde_json::{Value, json};
use tokio::io::{stdin, stdout};

const EVENTS_FILE: DefaultStringConfigOption = ConfigOption::new_str_with_default(
    "events-file",
    "myplugin.txt",
    "Where notifications are written",
);

#[derive(Default)]
struct State {
    /// How many were written before the plugin started.
    before: u64,
    /// How many since.
    count: AtomicU64,
}

// One thread: handlers run in the order of the messages.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let builder = Builder::new(stdin(), stdout())
        .option(EVENTS_FILE)
        .rpcmethod("eventcount", "How many notifications were written", count)
        .hook("invoice_payment", on_invoice_payment)
        .notification(NotificationTopic::new("counted"))
        .subscribe(topic(), on_any)
        .dynamic();
    let Some(plugin) = builder.configure().await? else {
        return Ok(()); // it was only asked for its manifest
    };
    if plugin.configuration().startup {
        log::info!("started with the node");
    } else {
        log::info!("started by hand");
    }
    let state = State {
        before: last_number(&plugin.option(&EVENTS_FILE)?)?,
        ..State::default()
    };
    plugin.start(Arc::new(state)).await?.join().await
}

/// Before v24.05 a notification may come before `init`, and this library ends of it: one
/// that hears all would. Not at its start: that somebody makes an invoice.
fn topic() -> &'static str {
    match std::env::var("LIGHTNINGD_VERSION") {
        Ok(version) if version.starts_with('v') && *version < *"v24.05" => "invoice_creation",
        _ => "*",
    }
}

/// The number of the last line; 0 if there is no file yet.
fn last_number(path: &str) -> Result<u64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let last = text.lines().next_back();
    let number = last.and_then(|line| line.split(' ').next());
    Ok(number.unwrap_or("0").parse()?)
}

async fn count(plugin: Plugin<Arc<State>>, _params: Value) -> Result<Value> {
    Ok(json!({"count": plugin.state().count.load(Ordering::Relaxed)}))
}

async fn on_any(plugin: Plugin<Arc<State>>, params: Value) -> Result<()> {
    // The library passes `params` alone. From v23.08 on its object is the payload, under
    // the topic's name. From v25.09 on another plugin's topic is not named there.
    let mut members = params.as_object().into_iter().flatten();
    let Some((topic, payload)) = members.find(|(_, value)| value.is_object()) else {
        return Ok(());
    };
    if topic == "shutdown" {
        std::process::exit(0);
    }
    record(&plugin, topic, payload)?;
    if topic == "invoice_creation" {
        let count = plugin.state().count.load(Ordering::Relaxed);
        let counted = json!({"count": count});
        plugin
            .send_custom_notification("counted".to_owned(), counted)
            .await?;
    }
    let label = payload["label"].as_str().unwrap_or_default();
    ensure!(!label.starts_with("burnt"), "{label} is burnt");
    Ok(())
}

async fn on_invoice_payment(_: Plugin<Arc<State>>, params: Value) -> Result<Value> {
    let payment = &params["payment"];
    let label = payment["label"].as_str().unwrap_or_default();
    let amount = msat(&payment["msat"]).context("a payment without an amount")?;
    let rejected = label.starts_with("no-") || amount < 1000;
    Ok(json!({"result": if rejected { "reject" } else { "continue" }}))
}

/// An amount: before v23.11 a text, `1000msat`; since then a number.
fn msat(amount: &Value) -> Option<u64> {
    let text = || amount.as_str()?.strip_suffix("msat")?.parse().ok();
    amount.as_u64().or_else(text)
}

fn record(plugin: &Plugin<Arc<State>>, topic: &str, payload: &Value) -> Result<()> {
    let mut file = File::options()
        .create(true)
        .append(true)
        .mode(0o600) // preimages are secrets
        .open(plugin.option(&EVENTS_FILE)?)?;
    let count = plugin.state().count.fetch_add(1, Ordering::Relaxed) + 1;
    let number = plugin.state().before + count;
    let line = format!("{number} {topic} notification: {payload}\n");
    Ok(file.write_all(line.as_bytes())?)
}
