//! `lab channel`

use std::process::ExitCode;

use cln_lab::CHANNEL_SAT;
use serde_json::json;

use super::progress::Progress;
use super::which::{Which, node};
use super::{json_text, out};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab channel 1 2             a channel of a million satoshi from l1 to l2
  lab channel l2 l3 250000    another, smaller

Connects the two, funds the first and mines where it must.")]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// The node that opens it, and has all of it at first
    from: String,
    /// The node it goes to
    to: String,
    /// Its capacity, in satoshi
    #[arg(value_name = "SATOSHI", default_value_t = CHANNEL_SAT,
        value_parser = clap::value_parser!(u64).range(10_000..=4_000_000_000))]
    sat: u64,
}

/// Prints the channel once both sides can use it.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let lab = args.which.lab().await?;
    let (from, to) = (node(&lab, &args.from)?, node(&lab, &args.to)?);
    let (a, b) = (from.name(), to.name());
    let progress = Progress::start(format!("opening a channel from {a} to {b}"));
    let channel = from.open_channel(to, args.sat).await?;
    drop(progress);
    out::line(json_text::pretty(&json!({
        "short_channel_id": channel.short_channel_id,
        "channel_id": channel.channel_id,
        "funding_txid": channel.funding_txid,
        "sat": channel.sat,
    })))?;
    Ok(ExitCode::SUCCESS)
}
