//! `lab connect`

use serde_json::json;

use super::json_text::Json;
use super::target::TargetNodes;
use super::{cli, out};

#[derive(Debug, clap::Args)]
#[command(
    mut_arg("from", |arg| arg.help("The node that connects")),
    mut_arg("to", |arg| arg.help("The node it connects to")),
    after_help = "\
Examples:
  lab connect 1 2      l1 connects to l2; prints lightningd's answer
  lab connect l1 l2    the same"
)]
pub struct Args {
    #[command(flatten)]
    two: TargetNodes,
}

/// Returns when each is a peer of the other.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let lab = args.two.target.lab().await?;
    let (from, to) = args.two.different(&lab).await?;
    let params = json!({"id": to.id(), "host": "127.0.0.1", "port": to.port()});
    let answer = cli::call(from, "connect", params.to_string()).await?;
    to.has_connected(from).await?;
    out::line(Json::of(&answer).pretty())
}
