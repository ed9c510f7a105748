//! `lab witness`: the plugin that scenarios record with.

use std::path::PathBuf;

use cln_lab_command::scenarios;
use serde_json::Value;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where it keeps what it receives
    folder: PathBuf,
    /// What it answers to `getmanifest`
    #[arg(value_parser = |text: &str| serde_json::from_str::<Value>(text))]
    manifest: Value,
}

/// Until its stdin ends.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let task = move || scenarios::witness(&args.folder, &args.manifest);
    Ok(tokio::task::spawn_blocking(task).await??)
}
