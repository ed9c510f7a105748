//! `lab disconnect`

use super::out;
use super::target::{TargetNodes, node};

#[derive(Debug, clap::Args)]
#[command(
    mut_arg("from", |arg| arg.help("The node that disconnects")),
    mut_arg("to", |arg| arg.help("Its peer")),
    after_help = "\
Examples:
  lab disconnect 1 2    l1 ends its connection to l2"
)]
pub struct Args {
    #[command(flatten)]
    two: TargetNodes,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    let lab = args.two.target.lab().await?;
    let (from, to) = (node(&lab, &args.two.from)?, node(&lab, &args.two.to)?);
    from.disconnect(to).await?;
    out::line("{}")
}
