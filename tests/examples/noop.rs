//! A plugin on cln-plugin whose handler does nothing but count: cln-plugin's own
//! share of the time. Every thousandth count stands in the file that `SINK_FILE`
//! names.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use cln_plugin::Builder;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let path = std::env::var("SINK_FILE").context("SINK_FILE")?;
    let file = Arc::new(std::fs::File::create(path)?);
    let count = Arc::new(AtomicU64::new(0));
    let plugin = Builder::new(tokio::io::stdin(), tokio::io::stdout())
        .dynamic()
        .subscribe("flood", move |_, _| {
            let count = count.fetch_add(1, Ordering::Relaxed) + 1;
            let written = match count % 1000 {
                0 => file.write_all_at(format!("{count:020}").as_bytes(), 0),
                _ => Ok(()),
            };
            async move { Ok(written?) }
        })
        .start(())
        .await?;
    match plugin {
        Some(plugin) => plugin.join().await,
        None => Ok(()),
    }
}
