//! Gates: a lab ends with an error if a node's log has a BROKEN line, lightningd crashed
//! or a plugin died, unless the test allows it.
//!
//!     cargo run --example gates

use cln_lab::{Error, Keep, Lab, Plugin, Result};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/events.sh");
    for allowed in [false, true] {
        // It fails on purpose; its folder would be kept otherwise.
        let mut builder = Lab::builder().nodes(1).keep(Keep::Never);
        if allowed {
            builder = builder.allow_plugin_death("events.sh");
        }
        let lab = builder.plugin(Plugin::path(path)).start().await?;
        let l1 = lab.l1();
        let process = l1.process_with("events.sh").await?;
        let killed = std::process::Command::new("kill")
            .args(["-9", &process.pid.to_string()])
            .status();
        assert!(killed.is_ok_and(|status| status.success()));
        l1.log()
            .wait_for("plugin-events.sh: Killing plugin")
            .await?;
        match lab.stop().await {
            Err(Error::Gate(found)) if !allowed => println!("{}", found.join("\n")),
            outcome => outcome?,
        }
    }
    Ok(())
}
