//! The library's examples do what they say.

use std::process::Command;

use anyhow::ensure;
use lab_tests::{Kinds, Outcome, Suite, program};

pub fn tests(suite: Suite) -> Suite {
    suite
        .scenario_alone("test_a_plugin", |kinds| {
            example("test_a_plugin", kinds, "connect notification: ")
        })
        .scenario_alone("tap", |kinds| {
            example("tap", kinds, "\"topic\":\"connect\"")
        })
        .scenario_alone("inline_plugin", |kinds| {
            example("inline_plugin", kinds, "{\"hello\":1}")
        })
        .scenario_alone("gates", |kinds| {
            example("gates", kinds, "plugin events.sh died")
        })
        .on(&[Kinds::Lightningd], "channels", |kinds| {
            example("channels", kinds, "forward_event")
        })
        .on(&[Kinds::Lightningd], "lean", |kinds| {
            example("lean", kinds, "lean: true, up after")
        })
        .test("harness", harness)
}

/// Runs an example on this kind of node.
async fn example(name: &str, kinds: Kinds, says: &str) -> Outcome {
    let mut command = Command::new(program(name)?);
    command.env("LAB_NODE", kinds.name());
    run(command, says).await
}

/// It ends well, says this, and leaves nothing.
async fn run(mut command: Command, says: &str) -> Outcome {
    let tmp = tempfile::Builder::new().prefix("t").tempdir()?;
    let output = command.env("TMPDIR", tmp.path()).output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(
        output.status.success() && said.contains(says),
        "{}: {said}",
        output.status
    );
    let left: Vec<_> = std::fs::read_dir(tmp.path())?.collect();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

async fn harness() -> Outcome {
    run(Command::new(program("harness")?), "exit status: 0").await
}
