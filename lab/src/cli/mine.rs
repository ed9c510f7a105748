//! `lab mine`

use std::process::ExitCode;
use std::time::Duration;

use cln_lab::{Probe, eventually};
use serde_json::{Value, json};

use super::out;
use super::progress::Progress;
use super::which::Which;

/// How long the nodes may take to see the blocks.
const SEEN: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab mine        one block
  lab mine 6      six")]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// How many blocks
    #[arg(default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    blocks: u64,
}

/// Prints the new height once every node that runs has reached it.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let lab = args.which.lab().await?;
    lab.bitcoind().mine(args.blocks).await?;
    let height = lab.bitcoind().height().await?;
    let progress = Progress::start(format!("waiting for the nodes to be at block {height}"));
    for node in lab.nodes() {
        let what = format!("{} to be at block {height}", node.name());
        eventually(what, SEEN, async || {
            if node.pid().await.is_none() {
                return Ok(Probe::Ready(()));
            }
            let info: Value = node.call("getinfo", json!({})).await?;
            let reached = info["blockheight"].as_u64().unwrap_or(0);
            Ok(if reached >= height {
                Probe::Ready(())
            } else {
                Probe::NotYet(format!("it is at {reached}"))
            })
        })
        .await?;
    }
    drop(progress);
    out::line(height)?;
    Ok(ExitCode::SUCCESS)
}
