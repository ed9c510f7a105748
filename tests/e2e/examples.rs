//! The library's examples do what they say.

use std::process::Command;

use anyhow::ensure;
use lab_tests::{Cast, Outcome, Suite, program};

pub fn tests(suite: Suite) -> Suite {
    suite
        .scenario_alone("test_a_plugin", |cast| {
            example("test_a_plugin", cast, "connect notification: ")
        })
        .scenario_alone("tap", |cast| example("tap", cast, "\"topic\":\"connect\""))
        .scenario_alone("inline_plugin", |cast| {
            example("inline_plugin", cast, "{\"hello\":1}")
        })
        .scenario_alone("gates", |cast| {
            example("gates", cast, "plugin events.sh died")
        })
        .on(&[Cast::Lightningd], "channels", |cast| {
            example("channels", cast, "forward_event")
        })
        .on(&[Cast::Lightningd], "lean", |cast| {
            example("lean", cast, "lean: true, up after")
        })
        .test("harness", harness)
}

/// Runs an example on this kind of node.
async fn example(name: &str, cast: Cast, says: &str) -> Outcome {
    let mut command = Command::new(program(name)?);
    command.env("LAB_NODE", cast.name());
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
