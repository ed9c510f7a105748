//! `lab restart`

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
pub async fn run(args: Args) -> anyhow::Result<()> {
    let lab = args.one.target.lab().await?;
    let node = node(&lab, &args.one.node)?;
    Progress::during(format!("restarting {}", node.name()), node.restart()).await?;
    out::line(format_args!("{} is up", node.name()))
}
