//! Lean nodes, without those of lightningd's own plugins that a test does not need.
//!
//!     cargo run --example lean

use std::time::Instant;

use cln_lab::{Capability, Lab, Result};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    for lean in [false, true] {
        let mut builder = Lab::builder().nodes(2);
        if lean {
            builder = builder.lean([Capability::Channels]);
        }
        let started = Instant::now();
        let lab = builder.start().await?;
        let took = started.elapsed();
        let processes = lab.l1().processes().await?.len();
        println!("lean: {lean}, up after {took:?}, {processes} processes a node");
        lab.l1().open_channel(lab.l2(), 500_000).await?;
        lab.stop().await?;
    }
    Ok(())
}
