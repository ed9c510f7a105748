//! `lab disconnect`

use serde_json::json;

use super::json_text::Json;
use super::target::TargetNodes;
use super::{cli, out};

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
    let (from, to) = args.two.different(&lab).await?;
    if !from.is_connected(to).await? {
        anyhow::bail!("{} is not connected to {}", from.name(), to.name());
    }
    let params = json!({"id": to.id()});
    let answer = cli::call(from, "disconnect", params.to_string()).await?;
    out::line(Json::of(&answer).pretty())
}
