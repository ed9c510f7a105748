//! A plugin for Core Lightning, on cln-plugin.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::Result;
use cln_plugin::Builder;
use serde_json::Value;
use tokio::io::{stdin, stdout};

// One thread: handlers run in the order of the messages.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let builder = Builder::new(stdin(), stdout())
        .subscribe("connect", async |_, params| record("connect", &params))
        .subscribe("disconnect", async |_, params| {
            record("disconnect", &params)
        })
        .subscribe("invoice_creation", async |_, params| {
            record("invoice_creation", &params)
        })
        .dynamic();
    let Some(plugin) = builder.configure().await? else {
        return Ok(()); // it was only asked for its manifest
    };
    plugin.start(()).await?.join().await
}

fn record(topic: &str, params: &Value) -> Result<()> {
    // Before v23.08 the payload is not under the topic's name.
    let payload = params.get(topic).unwrap_or(params);
    let mut file = File::options()
        .create(true)
        .append(true)
        .mode(0o600) // preimages are secrets
        .open("myplugin.txt")?;
    let line = format!("{topic} notification: {payload}\n");
    Ok(file.write_all(line.as_bytes())?)
}
