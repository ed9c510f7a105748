//! Gates: a lab in which something went wrong does not end well, unless the test
//! allowed it by name; and what is reported then.

use std::process::Command;

use anyhow::{Context, ensure};
use cln_lab::{Error, Keep, Lab, NodeSpec, Plugin};
use lab_tests::{Kinds, Outcome, Suite, program, write_script};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub fn tests(suite: Suite) -> Suite {
    suite
        .scenario_alone("a_broken_line_fails_the_lab", broken)
        .scenario_alone("a_dead_plugin_fails_the_lab", plugin_death)
        .scenario_alone(
            "a_stopped_or_refused_plugin_does_not_fail_the_lab",
            no_death,
        )
        .scenario_alone("a_crash_log_fails_the_lab", crash_log)
        .scenario_alone("a_node_may_fail_if_allowed", may_fail)
        .scenario_alone("a_failed_test_prints_a_full_report", failed_test)
        .scenario_alone("a_lab_that_does_not_start_reports_why", failed_start)
}

fn spec(kinds: Kinds) -> NodeSpec {
    NodeSpec::new().kind(kinds.kind_of(0))
}

async fn one(node: NodeSpec) -> anyhow::Result<Lab> {
    Ok(Lab::builder().node(node).keep(Keep::Never).start().await?)
}

fn gate(outcome: cln_lab::Result<()>) -> anyhow::Result<Vec<String>> {
    match outcome {
        Err(Error::Gate(found)) => Ok(found),
        other => anyhow::bail!("{other:?}"),
    }
}

/// `failing_handler` panics on `disconnect`, which it logs at the worst level.
async fn log_broken(lab: &Lab) -> Outcome {
    let plugin = Plugin::path(program("failing_handler")?);
    lab.l1().plugin_start(&plugin).await?;
    lab.l1().connect(lab.l2()).await?;
    lab.l1().disconnect(lab.l2()).await?;
    lab.l1().log().wait_for("**BROKEN**").await?;
    Ok(())
}

async fn broken(kinds: Kinds) -> Outcome {
    let two = |spec: NodeSpec| {
        Lab::builder()
            .node(spec)
            .node(self::spec(kinds))
            .keep(Keep::Never)
    };
    let lab = two(spec(kinds)).start().await?;
    log_broken(&lab).await?;
    let found = gate(lab.stop().await)?;
    ensure!(
        found.len() == 1 && found[0].starts_with("l1: a BROKEN line: "),
        "{found:?}"
    );
    ensure!(found[0].contains("panicked at"), "{found:?}");

    // Of the node that it was allowed for, and for what was said.
    let lab = two(spec(kinds).allow_broken("something else"))
        .start()
        .await?;
    log_broken(&lab).await?;
    gate(lab.stop().await)?;
    let lab = two(spec(kinds).allow_broken("plugin-failing_handler"))
        .start()
        .await?;
    log_broken(&lab).await?;
    Ok(lab.stop().await?)
}

async fn kill_eventlog(lab: &Lab) -> Outcome {
    lab.l1()
        .plugin_start(&Plugin::path(program("eventlog")?))
        .await?;
    let pid = lab.l1().process_with("/eventlog").await?.pid;
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL)?;
    lab.l1()
        .log()
        .wait_for("plugin-eventlog: Killing plugin")
        .await?;
    Ok(())
}

async fn plugin_death(kinds: Kinds) -> Outcome {
    let lab = one(spec(kinds)).await?;
    kill_eventlog(&lab).await?;
    let found = gate(lab.stop().await)?;
    ensure!(
        found.len() == 1 && found[0].starts_with("l1: plugin eventlog died: "),
        "{found:?}"
    );

    let lab = one(spec(kinds).allow_plugin_death("eventlog")).await?;
    kill_eventlog(&lab).await?;
    Ok(lab.stop().await?)
}

async fn no_death(kinds: Kinds) -> Outcome {
    let lab = one(spec(kinds)).await?;
    let l1 = lab.l1();
    l1.plugin_start(&Plugin::path(program("eventlog")?)).await?;
    l1.plugin_stop("eventlog").await?;
    for text in ["exit 1", "echo '}'; sleep 1000"] {
        let script = lab.dir().join("refused");
        write_script(&script, text)?;
        let refused = l1.plugin_start(&Plugin::path(&script)).await;
        ensure!(
            refused.as_ref().err().and_then(Error::rpc_code) == Some(-3),
            "{refused:?}"
        );
    }
    Ok(lab.stop().await?)
}

async fn crash_log(kinds: Kinds) -> Outcome {
    let lab = one(spec(kinds)).await?;
    // As lightningd names it.
    let file = lab.l1().network_dir().join("crash.log.20260101000000");
    std::fs::write(&file, "")?;
    let found = gate(lab.stop().await)?;
    ensure!(
        found.len() == 1 && found[0].contains("crash.log.20260101000000"),
        "{found:?}"
    );
    Ok(())
}

async fn may_fail(kinds: Kinds) -> Outcome {
    let lab = one(spec(kinds).may_fail()).await?;
    let pid = lab.l1().pid().await.context("it runs")?;
    kill(Pid::from_raw(pid as i32), Signal::SIGABRT)?;
    Ok(lab.stop().await?)
}

/// A test that fails half-way: it runs in a process of its own, this one again.
const FAILS: &str = "LAB_TESTS_FAILS";

async fn failed_test(kinds: Kinds) -> Outcome {
    if std::env::var(FAILS).is_ok() {
        let lab = Lab::builder()
            .node(spec(kinds))
            .node(spec(kinds))
            .start()
            .await?;
        let mut tap = lab.l1().tap_topics(&["connect", "disconnect"]).await?;
        log_broken(&lab).await?;
        tap.expect("disconnect").await?;
        tap.expect("connect").await?;
        return Ok(());
    }
    let tmp = tempfile::Builder::new().prefix("t").tempdir()?;
    let name = format!(
        "gates::a_failed_test_prints_a_full_report::{}",
        kinds.name()
    );
    let run = |keep: &str| {
        Command::new(std::env::current_exe()?)
            .args(["--exact", &name, "--nocapture"])
            .env(FAILS, "1")
            .env("LAB_TIMEOUT_FACTOR", "0.3")
            .env("LAB_KEEP", keep)
            .env("TMPDIR", tmp.path())
            .output()
    };
    let output = run("failed")?;
    ensure!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    for expected in [
        "awaited:\n    timed out after 3s",
        "a `connect` notification",
        "last recorded in ",
        r#""topic":"connect""#,
        "the ends of the logs, by time",
        "l1| ",
        "l2| ",
        "**BROKEN** plugin-failing_handler: a handler panicked",
        "daemons:\n    bitcoind: ",
        "--lightning-dir=",
        "to run it again:\n    LAB_KEEP=failed",
        &format!("--exact {name}"),
        "lab folder kept: ",
    ] {
        ensure!(text.contains(expected), "no `{expected}` in: {text}");
    }
    // Last of all, where to look; with why it failed.
    let page = text.lines().rfind(|line| line.contains("trace"));
    let page = page
        .and_then(|line| line.strip_prefix("trace: "))
        .context(text.clone())?;
    let file = format!(
        "target/lab/gates.a_failed_test_prints_a_full_report.{}/trace.html",
        kinds.name()
    );
    ensure!(page.ends_with(&file), "{page}");
    let html = std::fs::read_to_string(page)?;
    for expected in [
        "a `connect` notification",
        r#""disconnect""#,
        "failing_handler",
    ] {
        ensure!(html.contains(expected), "no {expected} in {page}");
    }
    std::fs::remove_file(page)?;
    let kept: Vec<_> = std::fs::read_dir(tmp.path())?.collect::<Result<_, _>>()?;
    ensure!(kept.len() == 1, "{kept:?}");
    ensure!(kept[0].path().join("l1/log").is_file());

    // Without the folder the report is all there is.
    std::fs::remove_dir_all(kept[0].path())?;
    let text = run("never")?.stderr;
    let text = String::from_utf8_lossy(&text);
    ensure!(
        text.contains("the ends of the logs")
            && !text.contains("folder kept")
            && text.contains("\ntrace: "),
        "{text}"
    );
    ensure!(std::fs::read_dir(tmp.path())?.next().is_none());
    Ok(())
}

async fn failed_start(kinds: Kinds) -> Outcome {
    if std::env::var(FAILS).is_ok() {
        let node = spec(kinds).option("no-such-option", 1);
        Lab::builder().node(node).start().await?;
        return Ok(());
    }
    let tmp = tempfile::Builder::new().prefix("t").tempdir()?;
    let name = format!(
        "gates::a_lab_that_does_not_start_reports_why::{}",
        kinds.name()
    );
    let output = Command::new(std::env::current_exe()?)
        .args(["--exact", &name, "--nocapture"])
        .env(FAILS, "1")
        .env("TMPDIR", tmp.path())
        .output()?;
    ensure!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(text.contains("failed\n") && text.contains("l1| "), "{text}");
    ensure!(
        text.contains("no-such-option") && text.contains("bitcoind| "),
        "{text}"
    );
    Ok(())
}
