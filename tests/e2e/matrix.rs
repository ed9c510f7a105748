//! `lab matrix`: one command on each lightningd that there is.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use cln_lab::{Probe, eventually};
use lab_tests::sandbox::Sandbox;
use lab_tests::{Outcome, Suite, is_alive, program, write_script};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

pub fn tests(suite: Suite) -> Suite {
    suite
        .test("a_table_json_and_junit", table)
        .test("what_is_no_lightningd_is_refused", refused)
        .test("a_command_ends_with_it", ended)
}

/// Two that say which version they are, and what names them to the command.
fn two(sandbox: &Sandbox) -> anyhow::Result<[String; 2]> {
    let [new, old] = ["v26.06.6", "v25.05"].map(|version| -> anyhow::Result<String> {
        let path = sandbox.path(version);
        write_script(&path, &format!("echo {version}"))?;
        Ok(path.display().to_string())
    });
    Ok([new?, old?])
}

const COMMAND: &str = r#"test "$LAB_NODE" = lightningd || exit 9
test "$("$LIGHTNINGD" --version)" = v26.06.6 || { echo '1 < 2'; echo "for $LIGHTNINGD" >&2; exit 3; }"#;

async fn table() -> Outcome {
    let sandbox = Sandbox::new()?;
    let [new, old] = two(&sandbox)?;
    let junit = sandbox.path("matrix.xml").display().to_string();
    let ours = ["matrix", "--lightningd", &new, &old, "--junit", &junit];
    let command = ["--", "sh", "-c", COMMAND];
    let said = sandbox.lab(&[&ours[..], &command].concat())?;
    ensure!(said.code == Some(1), "{said:?}");
    for line in [
        "✓ v26.06.6",
        "✗ v25.05",
        "  exit status: 3",
        "  | 1 < 2",
        &format!("  | for {old}"),
        "succeeded on 1 of 2 releases",
    ] {
        ensure!(
            said.out.lines().any(|said| said.starts_with(line)),
            "{line}: {said:?}"
        );
    }
    let xml = std::fs::read_to_string(junit)?;
    ensure!(xml.contains("tests=\"2\" failures=\"1\""), "{xml}");
    ensure!(
        xml.contains("name=\"v25.05\"") && xml.contains("1 &lt; 2"),
        "{xml}"
    );

    let said = sandbox.lab(&[
        "matrix",
        "--json",
        "--lightningd",
        &new,
        "--",
        "sh",
        "-c",
        COMMAND,
    ])?;
    let json: Value = serde_json::from_str(&said.out)?;
    ensure!(
        said.code == Some(0) && json["command"][0] == "sh",
        "{said:?}"
    );
    let [one] = &json["lightningd"].as_array().context("no list")?[..] else {
        anyhow::bail!("{json}");
    };
    ensure!(
        one["version"] == "v26.06.6" && one["ok"] == true && one["status"] == 0,
        "{json}"
    );
    Ok(())
}

async fn refused() -> Outcome {
    let sandbox = Sandbox::new()?;
    let [new, _] = two(&sandbox)?;
    let said = sandbox.lab(&["matrix", "--lightningd", "/nowhere", "--", "true"])?;
    ensure!(said.code == Some(1), "{said:?}");
    ensure!(
        said.err.contains("/nowhere is not an executable file"),
        "{said:?}"
    );
    let said = sandbox.lab(&["matrix", "--lightningd", &new, "--", "/nowhere/command"])?;
    ensure!(said.code == Some(1), "{said:?}");
    ensure!(said.err.contains("run /nowhere/command"), "{said:?}");
    Ok(())
}

async fn ended() -> Outcome {
    let sandbox = Sandbox::new()?;
    let [new, _] = two(&sandbox)?;
    let pid = sandbox.path("pid");
    let endless = format!(
        "sleep 1000 & echo $! >'{0}.new'; mv '{0}.new' '{0}'; wait",
        pid.display()
    );
    let mut matrix = sandbox
        .command(program("lab")?)
        .args(["matrix", "--lightningd", &new, "--", "sh", "-c", &endless])
        .stdout(Stdio::null())
        .spawn()?;
    let within = Duration::from_secs(20);
    let sleeper: u32 = eventually("the command to run", within, async || {
        let read = std::fs::read_to_string(&pid);
        Ok(match read.map(|text| text.trim().parse()) {
            Ok(Ok(pid)) => Probe::Ready(pid),
            other => Probe::NotYet(format!("{other:?}")),
        })
    })
    .await?;
    kill(Pid::from_raw(matrix.id().cast_signed()), Signal::SIGTERM)?;
    let status = matrix.wait()?;
    ensure!(status.code() == Some(128 + 15), "{status}");
    eventually("what it started to end", within, async || {
        Ok(if is_alive(sleeper) {
            Probe::NotYet(format!("process {sleeper} runs"))
        } else {
            Probe::Ready(())
        })
    })
    .await?;
    Ok(())
}
