//! Does the plugin count a connection? Exit status 0 if it does.

use std::env;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

fn main() -> Result<()> {
    lab(&["cli", "l1", "plugin", "start", &env::var("PLUGIN")?])?;
    let before = count()?;
    lab(&["connect", "1", "2"])?;
    // A notification may come after the answer: look until it is there, not longer.
    let deadline = Instant::now() + Duration::from_secs(1);
    while count()? == before {
        ensure!(Instant::now() < deadline, "the connection was not counted");
    }
    Ok(())
}

fn count() -> Result<Value> {
    let answer: Value = serde_json::from_slice(&lab(&["cli", "l1", "eventcount"])?)?;
    Ok(answer["count"].clone())
}

fn lab(words: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new(env::var("LAB")?).args(words).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{words:?}: {error}");
    Ok(output.stdout)
}
