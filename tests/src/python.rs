//! Python packages that some tests and benchmarks compare with, in a virtual
//! environment of their own.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use cln_lab::binaries;
use nix::fcntl::{Flock, FlockArg};

/// A Python that has these packages (`name==version`): made on first use, kept
/// in the private folder of [`binaries::nodes_dir`].
///
/// # Errors
/// If there is no `python3`, or a package cannot be had.
pub fn with(packages: &[&str]) -> anyhow::Result<PathBuf> {
    let name = packages
        .join("_")
        .replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-");
    let nodes = binaries::nodes_dir().context("no home to keep a Python in")?;
    let venv = nodes.join(format!("venv-{name}"));
    let python = venv.join("bin/python3");
    let complete = venv.join("complete");
    if complete.exists() {
        return Ok(python);
    }
    let folder = venv.parent().context("the venv has no parent")?;
    std::fs::create_dir_all(folder)?;
    // Tests that start at the same time wait for the first of them.
    let lock = File::create(folder.join("venv.lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    if complete.exists() {
        return Ok(python);
    }
    let result = run(Command::new("python3").args(["-m", "venv"]).arg(&venv)).and_then(|()| {
        run(Command::new(venv.join("bin/pip"))
            .args(["install", "--quiet", "--retries=0", "--timeout=10"])
            .args(packages))
    });
    if let Err(error) = result {
        let _ = std::fs::remove_dir_all(&venv);
        bail!("a Python with {}: {error:#}", packages.join(", "));
    }
    File::create(complete)?;
    Ok(python)
}

/// What `eventlog` does for the topic `flood`, in Python, kindly: the same lines,
/// in a file that stays open. Its path is in the variable `PYLN_FILE`.
pub const RECORDER: &str = r#"
import json, os
from datetime import datetime, timezone
from pyln.client import Plugin

plugin = Plugin()
out = open(os.environ["PYLN_FILE"], "a", buffering=1)
seq = 0

@plugin.subscribe("flood")
def flood(plugin, n, pad, **kwargs):
    global seq
    seq += 1
    out.write(json.dumps({
        "seq": seq,
        "received_at": datetime.now(timezone.utc).isoformat(),
        "topic": "flood",
        "payload": {"n": n, "pad": pad},
    }) + "\n")

plugin.run()
"#;

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
