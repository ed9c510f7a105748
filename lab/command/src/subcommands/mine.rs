//! `lab mine`

use super::out;
use super::progress::Progress;
use super::target::Target;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab mine        one block
  lab mine 6      six")]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// How many blocks
    #[arg(default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    blocks: u64,
}

/// Prints the new height once every running node has reached it.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let lab = args.target.lab().await?;
    lab.bitcoind().mine(args.blocks).await?;
    let height = lab.bitcoind().height().await?;
    let progress = Progress::start(format!("waiting for the nodes to reach block {height}"));
    for node in lab.nodes() {
        if node.pid().await.is_some() {
            node.wait_height(height).await?;
        }
    }
    drop(progress);
    out::line(height)
}
