//! `lab start`

use super::out;
use super::progress::Progress;
use super::target::{TargetNode, node};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab start l1    start l1 again after `lab stop l1`, with its plugins from the first start")]
pub struct Args {
    #[command(flatten)]
    one: TargetNode,
}

/// Returns when the node is ready.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let lab = args.one.target.lab().await?;
    let node = node(&lab, &args.one.node)?;
    Progress::during(format!("starting {}", node.name()), node.start()).await?;
    out::line(format_args!("{} is up", node.name()))
}
