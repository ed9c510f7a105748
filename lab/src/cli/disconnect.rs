//! `lab disconnect`

use std::process::ExitCode;

use super::out;
use super::which::{Which, node};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab disconnect 1 2    l1 ends its connection to l2")]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// The node that disconnects
    from: String,
    /// Its peer
    to: String,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let lab = args.which.lab().await?;
    let (from, to) = (node(&lab, &args.from)?, node(&lab, &args.to)?);
    from.disconnect(to).await?;
    out::line("{}")?;
    Ok(ExitCode::SUCCESS)
}
