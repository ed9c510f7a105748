//! `lab close`

use std::process::ExitCode;

use serde_json::json;

use super::progress::Progress;
use super::which::{Which, node};
use super::{json_text, out};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab close 1 2    close the channel between l1 and l2, together")]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// The node that closes it
    from: String,
    /// The node at its other end
    to: String,
}

/// Prints the closing transaction once both sides have seen it in a block.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let lab = args.which.lab().await?;
    let (from, to) = (node(&lab, &args.from)?, node(&lab, &args.to)?);
    let (a, b) = (from.name(), to.name());
    let progress = Progress::start(format!("closing the channel of {a} and {b}"));
    let txid = from.close(to).await?;
    drop(progress);
    out::line(json_text::pretty(&json!({"txid": txid})))?;
    Ok(ExitCode::SUCCESS)
}
