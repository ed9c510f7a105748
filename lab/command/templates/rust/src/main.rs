//! Greets each peer that connects, in the node's log, and counts them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use cln_plugin::options::{ConfigOption, DefaultStringConfigOption};
use cln_plugin::{Builder, Plugin};
use serde_json::{Value, json};

const GREETING: DefaultStringConfigOption = ConfigOption::new_str_with_default(
    "PLUGIN_NAME-greeting",
    "hello",
    "What to log before the id of each peer that connects",
);

/// How many peers have connected.
type Count = Arc<AtomicU64>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let plugin = Builder::new(tokio::io::stdin(), tokio::io::stdout())
        .option(GREETING)
        .rpcmethod("PLUGIN_NAME-count", "How many peers have connected", count)
        .subscribe("connect", on_connect)
        .dynamic()
        .start(Count::default())
        .await?;
    match plugin {
        Some(plugin) => plugin.join().await,
        None => Ok(()), // lightningd only asked for its options
    }
}

async fn count(plugin: Plugin<Count>, _params: Value) -> Result<Value> {
    Ok(json!({"connections": plugin.state().load(Ordering::Relaxed)}))
}

async fn on_connect(plugin: Plugin<Count>, params: Value) -> Result<()> {
    // Before v23.08 the payload is `params` itself.
    let payload = params.get("connect").unwrap_or(&params);
    let id = payload["id"].as_str().context("connect: no id")?;
    plugin.state().fetch_add(1, Ordering::Relaxed);
    log::info!("{} {id}", plugin.option(&GREETING)?);
    Ok(())
}
