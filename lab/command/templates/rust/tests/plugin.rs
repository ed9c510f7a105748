//! The plugin on real nodes, and without one.
#![cfg(test)]

use cln_lab::{Lab, Plugin, PluginHarness, Result};
use serde_json::{Value, json};

const PLUGIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/debug/PLUGIN_NAME");

#[tokio::test]
async fn it_greets_and_counts() -> Result<()> {
    let lab = Lab::builder().nodes(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let plugin = Plugin::path(PLUGIN).option("PLUGIN_NAME-greeting", "welcome");
    l1.plugin_start(&plugin).await?;

    l1.connect(l2).await?;

    l1.log().wait_for(&format!("welcome {}", l2.id())).await?;
    let answer: Value = l1.call("PLUGIN_NAME-count", json!({})).await?;
    assert_eq!(answer, json!({"connections": 1}));
    lab.stop().await
}

/// No node: the test is lightningd, of any release.
#[tokio::test]
async fn it_reads_what_each_release_sends() -> Result<()> {
    let mut plugin = PluginHarness::spawn(PLUGIN).await?;
    plugin.manifest().await?;
    plugin.init(json!({"PLUGIN_NAME-greeting": "hello"})).await?;

    plugin.notify_flat("connect", json!({"id": "02aa"})).await?; // until v23.05
    plugin.expect_log("hello 02aa").await?;
    plugin.notify("connect", json!({"id": "02bb"})).await?;
    plugin.expect_log("hello 02bb").await?;

    let answer = plugin.call("PLUGIN_NAME-count", json!({})).await?;
    assert_eq!(answer, json!({"connections": 2}));
    assert!(plugin.close().await?.success());
    Ok(())
}
