//! A plugin without a node: it takes milliseconds, and the test can send what lightningd
//! never would.
//!
//!     cargo run --example harness

use cln_lab::{Event, PluginHarness, Result};
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/events.sh");
    let mut plugin = PluginHarness::spawn(path).await?;
    let manifest = plugin.manifest().await?;
    println!("subscribes to {}", manifest["subscriptions"]);
    plugin.init(json!({"events-file": "seen.txt"})).await?;
    let file = plugin.dir().join("seen.txt");

    // As lightningd sent it before v23.08, and as it does now, in two pieces.
    plugin
        .notify_flat("disconnect", json!({"id": "02aa"}))
        .await?;
    plugin.raw(r#"{"jsonrpc":"2.0","method":"disconn"#).await?;
    plugin
        .raw("ect\",\"params\":{\"disconnect\":{\"id\":\"02bb\"}}}\n\n")
        .await?;

    let mut seen = cln_lab::Events::open(&file);
    let events: Vec<Event> = seen.expect_in_order(&["disconnect", "disconnect"]).await?;
    assert_eq!(events[0].payload["id"], "02aa");
    assert_eq!(events[1].payload["id"], "02bb");
    let status = plugin.close().await?;
    println!("ended with {status}");
    Ok(())
}
