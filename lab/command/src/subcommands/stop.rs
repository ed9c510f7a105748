//! `lab stop`

use super::out;
use super::progress::Progress;
use super::target::{TargetNode, node};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab stop l1            as `lab cli l1 stop`, but wait until it and its plugins have ended
  lab stop --kill9 l1    kill it and its plugins at once, as a power cut would
  lab down               end the whole lab")]
pub struct Args {
    #[command(flatten)]
    one: TargetNode,
    /// Send SIGKILL instead
    #[arg(long)]
    kill9: bool,
}

/// Returns when the node and its plugins have ended; `lab start` starts it again.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let lab = args.one.target.lab().await?;
    let node = node(&lab, &args.one.node)?;
    let progress = Progress::start(format!("stopping {}", node.name()));
    let status = if args.kill9 {
        node.kill9().await?
    } else {
        node.stop().await?
    };
    drop(progress);
    out::line(format_args!("{} is down ({status})", node.name()))
}
