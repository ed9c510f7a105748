//! `lab close`

use serde_json::json;

use super::progress::Progress;
use super::target::{TargetNodes, node};
use super::{json_text, out};

#[derive(Debug, clap::Args)]
#[command(
    mut_arg("from", |arg| arg.help("The node that closes the channel")),
    mut_arg("to", |arg| arg.help("Its peer in the channel")),
    after_help = "\
Examples:
  lab close 1 2    close the channel between l1 and l2 cooperatively"
)]
pub struct Args {
    #[command(flatten)]
    two: TargetNodes,
}

/// Prints the closing transaction once both sides have seen it in a block.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let lab = args.two.target.lab().await?;
    let (from, to) = (node(&lab, &args.two.from)?, node(&lab, &args.two.to)?);
    let what = format!(
        "closing the channel between {} and {}",
        from.name(),
        to.name()
    );
    let txid = Progress::during(what, from.close(to)).await?;
    out::line(json_text::pretty(&json!({"txid": txid}))?)
}
