//! `lab connect`

use std::process::ExitCode;

use serde_json::json;

use super::json_text::Json;
use super::which::{Which, node};
use super::{lightning_cli, out};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab connect 1 2      l1 connects to l2; prints lightningd's answer
  lab connect l1 l2    the same")]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// The node that connects
    from: String,
    /// The node it connects to
    to: String,
}

/// Returns when both sides have the other as a peer.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let lab = args.which.lab().await?;
    let (from, to) = (node(&lab, &args.from)?, node(&lab, &args.to)?);
    let params = json!({"id": to.id(), "host": "127.0.0.1", "port": to.port()});
    let answer = lightning_cli::call(from, "connect", params.to_string()).await?;
    // Once more, since this waits for the other side; it makes no second connection.
    from.connect(to).await?;
    out::line(Json::of(&answer).pretty())?;
    Ok(ExitCode::SUCCESS)
}
