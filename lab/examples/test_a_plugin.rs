//! A complete test, in 15 lines, of a plugin in another language: a shell script on a
//! real node that appends a line to a file for each event.
//!
//!     cargo run --example test_a_plugin

use cln_lab::{Lab, Plugin, Result};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/events.sh");
    let plugin = Plugin::path(path).option("events-file", "seen.txt");
    let lab = Lab::builder().nodes(2).plugin(plugin).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    l1.connect(l2).await?;
    l1.disconnect(l2).await?;
    let mut seen = l1.events("seen.txt");
    let events = seen.expect_in_order(&["connect", "disconnect"]).await?;
    assert_eq!(events[0].payload["id"], l2.id());
    println!("{}", events[0].line);
    lab.stop().await
}
