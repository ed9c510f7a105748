//! `lab bcli`: lightningd's plugin of this name, with answers that come with the blocks.

use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// lightningd's own
    bcli: PathBuf,
}

/// Until lightningd or its plugin ends.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let relay = move || cln_lab::relay_bcli(&args.bcli);
    Ok(tokio::task::spawn_blocking(relay).await??)
}
