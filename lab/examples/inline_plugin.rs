//! A cln-plugin whose handlers run in this process, attached to a real node: it
//! shares variables with the test, and a breakpoint in a handler is hit.
//!
//!     cargo run --example inline_plugin

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;
use cln_lab::Lab;
use cln_plugin::{Builder, Plugin};
use serde_json::{Value, json};

type Greeted = Arc<AtomicU32>;

async fn greet(plugin: Plugin<Greeted>, _params: Value) -> anyhow::Result<Value> {
    let before = plugin.state().fetch_add(1, Ordering::SeqCst);
    Ok(json!({"hello": before + 1}))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let lab = Lab::builder().nodes(1).start().await?;
    let greeted = Greeted::default();
    let state = Arc::clone(&greeted);
    let _plugin = lab
        .l1()
        .inline_plugin("greeter")
        .start(|reader, writer| {
            Builder::new(reader, writer)
                .rpcmethod("greet", "Says hello", greet)
                .dynamic()
                .with_logging(false)
                .start(state)
        })
        .await??
        .context("lightningd only showed its help")?;

    let answer: Value = lab.l1().call("greet", json!({})).await?;
    println!("{answer}");
    assert_eq!(greeted.load(Ordering::SeqCst), 1);
    Ok(lab.stop().await?)
}
