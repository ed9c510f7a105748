//! `lab restart`

use std::process::ExitCode;

use super::out;
use super::progress::Progress;
use super::target::{TargetNode, node};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab restart l1    stop l1 and start it again, with its plugins from the first start")]
pub struct Args {
    #[command(flatten)]
    one: TargetNode,
}

/// Returns when the node is ready again.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let lab = args.one.target.lab().await?;
    let node = node(&lab, &args.one.node)?;
    let progress = Progress::start(format!("restarting {}", node.name()));
    node.restart().await?;
    drop(progress);
    out::line(format_args!("{} is up", node.name()))?;
    Ok(ExitCode::SUCCESS)
}
