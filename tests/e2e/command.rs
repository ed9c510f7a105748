//! The command `lab`: labs that stay up, their names, and their end.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use cln_lab::{Error, Lab, Probe, eventually};
use lab_tests::sandbox::{Said, Sandbox, said};
use lab_tests::{Kinds, Outcome, Suite, is_alive};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

pub fn tests(suite: Suite) -> Suite {
    suite
        .scenario_alone("up_status_down", up_status_down)
        .scenario_alone("ctrl_c_ends_a_foreground_lab", ctrl_c)
        .scenario_alone("down_ends_the_lab_of_another_terminal", down_of_foreground)
        .scenario_alone("kill_9_of_the_holder_leaves_nothing", kill_9)
        .scenario_alone(
            "leftovers_of_a_killed_reaper_are_cleaned_up",
            kill_9_of_both,
        )
        .scenario_alone("a_detached_lab_survives_its_terminal", hangup)
        .scenario_alone("two_named_labs_at_once", two_labs)
        .scenario_alone("a_name_in_use_is_refused", taken)
        .scenario_alone("nodes_are_stopped_and_started", stop_and_start)
        .scenario_alone("a_node_stopped_by_hand_is_not_a_failure", by_hand)
        .scenario_alone("attached_handles_own_nothing", attach)
        .scenario_alone("exec_returns_the_exit_status_of_its_command", exec_status)
        .scenario_alone("exec_ends_with_its_command", exec_signals)
        .test("exec_survives_a_closed_stderr", closed_stderr)
        .scenario_alone("a_kept_lab_has_ended", kept)
        .scenario_alone("a_failing_plugin_is_reported", failing_plugin)
        .test("a_lab_that_cannot_start_is_reported", cannot_start)
        .test("without_a_lab_every_command_says_what_to_do", no_lab)
        .test("wrong_usage_exits_2", usage)
        .test("a_folder_of_another_user_is_refused", not_ours)
}

async fn up_status_down(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let up = sandbox.lab(&["up", "--detach", "--nodes", "3", "--node", kinds.name()])?;
    ensure!(up.code == Some(0) && up.err.is_empty(), "quiet: {up:?}");
    let status = sandbox.json(&["status", "--json"])?;
    let lab = &status["labs"][0];
    ensure!(lab["name"] == "default" && lab["state"] == "up", "{lab:#}");
    let nodes = lab["nodes"].as_array().context("nodes")?;
    let names: Vec<_> = nodes.iter().map(|node| node["name"].as_str()).collect();
    ensure!(names == [Some("l1"), Some("l2"), Some("l3")], "{names:?}");
    for node in nodes {
        ensure!(node["running"] == true && node["height"] == 101, "{node:#}");
        ensure!(
            up.out.contains(node["id"].as_str().context("id")?),
            "{}",
            up.out
        );
    }
    let table = sandbox.done(&["status"])?;
    ensure!(table.lines().count() == 5, "{table}");
    ensure!(!table.contains('\x1b'), "no colours in a file");

    let traces = sandbox.traces("default")?;
    ensure!(traces.alive() == traces.pids(), "{traces:?}");
    let down = sandbox.lab(&["down"])?;
    ensure!(
        (down.code, down.out.as_str(), down.err.as_str())
            == (Some(0), "lab `default` is down\n", ""),
        "{down:?}"
    );
    // At once, not eventually: `down` waited for it.
    ensure!(traces.alive().is_empty(), "{:?}", traces.alive());
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

/// Its folder is still there, but nothing in it can be asked or ended.
async fn kept(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let exec = [
        "exec",
        "--keep",
        "--nodes",
        "1",
        "--node",
        kinds.name(),
        "--",
        "true",
    ];
    let said = sandbox.lab(&exec)?;
    let (_, dir) = said
        .err
        .split_once("lab folder kept: ")
        .context("no folder")?;
    for verb in ["status", "down"] {
        let said = sandbox.lab(&[verb, "--dir", dir.trim()])?;
        ensure!(
            said.code == Some(1) && said.out.is_empty() && said.err.contains("has ended: process"),
            "{verb}: {said:?}"
        );
    }
    std::fs::remove_dir_all(dir.trim())?;
    Ok(())
}

/// `lab up` in the foreground, up. Its standard output and error, to be read to
/// their end.
fn foreground(sandbox: &Sandbox, kinds: Kinds) -> anyhow::Result<(Child, impl BufRead + use<>)> {
    let mut child = sandbox.spawn(&["up", "--node", kinds.name()])?;
    let mut out = BufReader::new(child.stdout.take().context("stdout is piped")?);
    let mut line = String::new();
    while !line.contains("ends it") {
        line.clear();
        ensure!(out.read_line(&mut line)? > 0, "{:?}", child.wait()?);
    }
    Ok((child, out))
}

fn rest(child: Child) -> anyhow::Result<Said> {
    Ok(child.wait_with_output()?.into())
}

fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    Ok(kill(Pid::from_raw(pid as i32), signal)?)
}

async fn ctrl_c(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    for (number, name) in [(130, Signal::SIGINT), (143, Signal::SIGTERM)] {
        let (child, _out) = foreground(&sandbox, kinds)?;
        let traces = sandbox.traces("default")?;
        ensure!(traces.holder == child.id());
        signal(child.id(), name)?;
        let said = rest(child)?;
        ensure!(
            said.code == Some(number) && said.err.is_empty(),
            "{name}: {said:?}"
        );
        ensure!(traces.alive().is_empty() && sandbox.left()?.is_empty());
    }
    // While it starts, too.
    let mut child = sandbox.spawn(&["up", "--node", kinds.name(), "--nodes", "5"])?;
    while sandbox.left()?.is_empty() {
        ensure!(child.try_wait()?.is_none(), "it ended");
        tokio::task::yield_now().await;
    }
    signal(child.id(), Signal::SIGINT)?;
    let said = rest(child)?;
    ensure!(said.code == Some(130) && said.out.is_empty(), "{said:?}");
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

async fn down_of_foreground(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let (child, _out) = foreground(&sandbox, kinds)?;
    let traces = sandbox.traces("default")?;
    sandbox.done(&["down"])?;
    let said = rest(child)?;
    ensure!(said.code == Some(0) && said.err.is_empty(), "{said:?}");
    ensure!(traces.alive().is_empty() && sandbox.left()?.is_empty());
    Ok(())
}

async fn ended(pid: u32) -> Outcome {
    eventually("a process to end", Duration::from_secs(10), async || {
        Ok(if is_alive(pid) {
            Probe::NotYet(format!("{pid} is alive"))
        } else {
            Probe::Ready(())
        })
    })
    .await?;
    Ok(())
}

async fn kill_9(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let up = ["up", "--detach", "--node", kinds.name()];
    sandbox.done(&up)?;
    let traces = sandbox.traces("default")?;
    signal(traces.holder, Signal::SIGKILL)?;
    traces.gone().await?;
    // The next command says so, once.
    let status = sandbox.lab(&["status"])?;
    ensure!(status.code == Some(1), "{status:?}");
    ensure!(
        status.err.contains("ended without `lab down`")
            && status.err.contains(&traces.holder.to_string()),
        "{status:?}"
    );
    ensure!(status.out.contains("lab up"), "{status:?}");
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);

    // And a lab of that name can start at once.
    sandbox.done(&up)?;
    let holder = sandbox.traces("default")?.holder;
    signal(holder, Signal::SIGKILL)?;
    ended(holder).await?;
    let again = sandbox.lab(&up)?;
    ensure!(
        again.code == Some(0) && again.err.contains("ended without `lab down`"),
        "{again:?}"
    );
    sandbox.done(&["down"])?;
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

/// The child of the holder that waits for its end.
fn reaper_of(holder: u32) -> anyhow::Result<u32> {
    let ps = said(std::process::Command::new("ps").args(["-A", "-o", "pid=,ppid=,args="]))?;
    let of_holder = |line: &&str| {
        let mut words = line.split_whitespace().skip(1);
        words.next() == Some(&holder.to_string()) && line.contains("cln-lab-reaper")
    };
    let line = ps.out.lines().find(of_holder).context("no reaper")?;
    let pid = line.split_whitespace().next().context("no pid")?;
    Ok(pid.parse()?)
}

async fn kill_9_of_both(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    sandbox.done(&["up", "--detach", "--node", kinds.name()])?;
    let traces = sandbox.traces("default")?;
    for pid in [reaper_of(traces.holder)?, traces.holder] {
        signal(pid, Signal::SIGKILL)?;
        ended(pid).await?;
    }
    ensure!(traces.dir.exists(), "nobody is there to remove it");
    let status = sandbox.lab(&["status"])?;
    ensure!(
        status.code == Some(1) && status.err.contains("cleaned up after it"),
        "{status:?}"
    );
    ensure!(traces.alive().is_empty(), "{:?}", traces.alive());
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

/// The terminal that started it sends SIGHUP to its own session only.
async fn hangup(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    sandbox.done(&["up", "--detach", "--node", kinds.name()])?;
    let traces = sandbox.traces("default")?;
    let session = nix::unistd::getsid(Some(Pid::from_raw(traces.holder as i32)))?;
    ensure!(session.as_raw() == traces.holder as i32, "{session}");
    // SIGTERM, as at the system's end, is as good as `down`.
    signal(traces.holder, Signal::SIGTERM)?;
    traces.gone().await?;
    let status = sandbox.lab(&["status"])?;
    ensure!(status.err.is_empty(), "nothing to clean up: {status:?}");
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

async fn two_labs(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    for name in ["one", "two"] {
        sandbox.done(&["up", "-d", "--node", kinds.name(), "--name", name])?;
    }
    let (one, two) = (sandbox.traces("one")?, sandbox.traces("two")?);
    ensure!(one.pids().iter().all(|pid| !two.pids().contains(pid)) && one.dir != two.dir);
    // Neither is meant if none is named.
    let which = sandbox.lab(&["cli", "l1", "getinfo"])?;
    ensure!(
        which.code == Some(1) && which.err.contains("one, two") && which.err.contains("--name"),
        "{which:?}"
    );
    let id = |name: &str| {
        sandbox
            .json(&["cli", "--name", name, "l1", "getinfo"])
            .map(|info| info["id"].clone())
    };
    ensure!(id("one")? != id("two")?);
    let by_variable = said(
        sandbox
            .command(sandbox.program())
            .args(["cli", "l1", "getinfo"])
            .env("LAB_NAME", "two"),
    )?;
    ensure!(
        by_variable.out.contains(id("two")?.as_str().context("id")?),
        "{by_variable:?}"
    );
    sandbox.done(&["down", "--name", "one"])?;
    ensure!(one.alive().is_empty() && two.alive() == two.pids());
    // Now there is only one that can be meant.
    ensure!(sandbox.json(&["cli", "l1", "getinfo"])?["id"] == id("two")?);
    sandbox.done(&["down", "--all"])?;
    ensure!(two.alive().is_empty() && sandbox.left()?.is_empty());
    Ok(())
}

async fn taken(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    // Both at once: one gets the name, the other says so.
    let up = ["up", "--detach", "--node", kinds.name()];
    let (a, b) = (sandbox.spawn(&up)?, sandbox.spawn(&up)?);
    let (a, b) = (rest(a)?, rest(b)?);
    let (won, lost) = if a.code == Some(0) { (a, b) } else { (b, a) };
    ensure!(won.code == Some(0), "{won:?}\n{lost:?}");
    ensure!(
        lost.code == Some(1) && lost.err.contains("`default`") && lost.err.contains("--name"),
        "{lost:?}"
    );
    let again = sandbox.lab(&["up", "--node", kinds.name()])?;
    ensure!(
        again.code == Some(1) && again.err.contains("lab down --name default"),
        "{again:?}"
    );
    sandbox.done(&["down"])?;
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

async fn stop_and_start(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    sandbox.done(&["up", "-d", "--node", kinds.name()])?;
    sandbox.done(&["stop", "l1"])?;
    let refused = sandbox.lab(&["cli", "l1", "getinfo"])?;
    ensure!(
        refused.code == Some(1) && refused.err.contains("lab start l1"),
        "{refused:?}"
    );
    let status = sandbox.json(&["status", "--json"])?;
    ensure!(
        status["labs"][0]["nodes"][0]["running"] == false,
        "{status:#}"
    );
    sandbox.done(&["start", "1"])?;
    sandbox.done(&["restart", "l1"])?;
    sandbox.done(&["stop", "--kill9", "l1"])?;
    sandbox.done(&["start", "l1"])?;
    let again = sandbox.lab(&["start", "l1"])?;
    ensure!(
        again.code == Some(1) && again.err.contains("running already"),
        "{again:?}"
    );
    sandbox.done(&["connect", "1", "2"])?;
    sandbox.done(&["down"])?;
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

async fn by_hand(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    sandbox.done(&["up", "-d", "--node", kinds.name()])?;
    let traces = sandbox.traces("default")?;
    // Stopped by its own method, which the lab only sees happen; the other one
    // started again by hand, as in the workshop.
    let l2 = *traces.daemons.last().context("l2")?;
    sandbox.done(&["cli", "l2", "stop"])?;
    ended(l2).await?;
    let (program, _) = kinds.kind_of(0).find().await?;
    // Its output stays open for as long as it runs.
    let by_hand = sandbox
        .command(program)
        .arg(format!(
            "--lightning-dir={}",
            traces.dir.join("l2").display()
        ))
        .arg("--daemon")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    ensure!(by_hand.success(), "{by_hand}");
    // It returns when the node is up.
    sandbox.done(&["cli", "l2", "getinfo"])?;
    let now = sandbox.json(&["status", "--json"])?;
    let stranger = now["labs"][0]["nodes"][1]["pid"].as_u64();
    let stranger = stranger.context("l2 as it was started")?;
    sandbox.done(&["down"])?;
    ensure!(!is_alive(stranger as u32), "{stranger}");
    ensure!(traces.alive().is_empty());
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

async fn attach(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    sandbox.done(&["up", "-d", "--node", kinds.name()])?;
    let traces = sandbox.traces("default")?;
    let lab = Lab::attach(&traces.dir)?;
    let (l1, l2) = (lab.l1(), lab.l2());
    l1.connect(l2).await?;
    lab.check_alive().await?;
    let pid = l1.pid().await.context("l1 runs")?;
    ensure!(traces.daemons.contains(&pid));
    // The holder restarts what is its own.
    l1.restart().await?;
    let restarted = l1.pid().await.context("l1 runs")?;
    ensure!(restarted != pid);
    ensure!(lab.bitcoind().mine(1).await?.len() == 1);
    let refused = lab.stop().await.expect_err("not ours");
    ensure!(refused.to_string().contains("lab down"), "{refused}");

    let lab = Lab::attach(&traces.dir)?;
    drop(lab);
    ensure!(is_alive(restarted) && is_alive(traces.daemons[0]));
    sandbox.done(&["down"])?;
    let gone = Lab::attach(&traces.dir).expect_err("it is gone");
    ensure!(matches!(gone, Error::Usage(_)), "{gone}");
    Ok(())
}

async fn exec_status(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let exec = |command: &[&str]| {
        let mut args = vec!["exec", "--nodes", "1", "--node", kinds.name(), "--"];
        args.extend(command);
        sandbox.lab(&args)
    };
    // What is inside finds the lab, and `lab` itself.
    let script = r#"
        test "$(lab cli l1 -F getinfo | sed -n 's/^id=//p')" = "$L1_ID" || exit 3
        test -S "$L1_RPC" && test -d "$L1_DIR" && test -d "$BITCOIN_DIR" || exit 4
        test "$LAB_NODES" = l1 || exit 5
        lab down && exit 6
        echo "$LAB_DIR"
    "#;
    let inside = exec(&["sh", "-c", script])?;
    ensure!(
        inside.code == Some(0) && inside.out.contains("cln-lab-"),
        "{inside:?}"
    );
    ensure!(
        inside.err.contains("lab exec"),
        "`down` says why: {inside:?}"
    );
    for (command, code) in [
        (vec!["true"], 0),
        (vec!["sh", "-c", "exit 7"], 7),
        (vec!["sh", "-c", "kill -KILL $$"], 137),
        (vec!["no-such-command"], 127),
        (vec!["/etc/passwd"], 126),
    ] {
        let said = exec(&command)?;
        ensure!(said.code == Some(code), "{command:?}: {said:?}");
        ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    }
    let kept = said(
        sandbox
            .command(sandbox.program())
            .args(["exec", "-n", "1", "--node", kinds.name(), "--keep", "--"])
            .args(["sh", "-c", "echo \"$L1_DIR\""]),
    )?;
    let dir = std::path::PathBuf::from(kept.out.trim());
    ensure!(
        kept.code == Some(0) && dir.join("log").is_file(),
        "{kept:?}"
    );
    Ok(())
}

async fn exec_signals(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let script = "trap 'echo signal; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let mut child = sandbox.spawn(&[
        "exec",
        "--nodes",
        "1",
        "--node",
        kinds.name(),
        "--",
        "sh",
        "-c",
        script,
    ])?;
    let mut out = BufReader::new(child.stdout.take().context("stdout is piped")?);
    let mut line = String::new();
    out.read_line(&mut line)?;
    ensure!(line == "ready\n", "{line}");
    signal(child.id(), Signal::SIGTERM)?;
    line.clear();
    out.read_line(&mut line)?;
    ensure!(line == "signal\n", "{line}");
    let said = rest(child)?;
    ensure!(said.code == Some(9), "{said:?}");
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

/// As of a terminal that was closed.
async fn closed_stderr() -> Outcome {
    let sandbox = Sandbox::new()?;
    let mut lab = sandbox.command(sandbox.program());
    lab.args(["exec", "--node", "embedded", "--", "sh", "-c", "exit 7"])
        .env("LAB_KEEP", "always")
        .stderr(Stdio::piped());
    let mut lab = lab.spawn()?;
    lab.stderr.take();
    let status = lab.wait()?;
    ensure!(status.code() == Some(7), "{status}");
    Ok(())
}

async fn failing_plugin(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    for how in [&["up", "--detach"][..], &["up"], &["exec"]] {
        let mut args = how.to_vec();
        args.extend(["--node", kinds.name(), "--plugin", "/bin/false"]);
        if how == ["exec"] {
            args.extend(["--", "true"]);
        }
        let said = sandbox.lab(&args)?;
        let code = if how == ["exec"] { 125 } else { 1 };
        ensure!(said.code == Some(code), "{how:?}: {said:?}");
        ensure!(said.err.contains("/bin/false"), "{how:?}: {said:?}");
        ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    }
    Ok(())
}

async fn cannot_start() -> Outcome {
    let sandbox = Sandbox::new()?;
    for variable in ["LIGHTNINGD", "BITCOIND"] {
        for args in [&["up"][..], &["up", "--detach"], &["exec", "true"]] {
            let said = said(
                sandbox
                    .command(sandbox.program())
                    .args(args)
                    .env(variable, "/nonexistent"),
            )?;
            let code = if args[0] == "exec" { 125 } else { 1 };
            ensure!(
                said.code == Some(code) && said.err.contains(&format!("{variable}=/nonexistent")),
                "{args:?}: {said:?}"
            );
            ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
        }
    }
    Ok(())
}

async fn no_lab() -> Outcome {
    let sandbox = Sandbox::new()?;
    for args in [
        "env",
        "cli l1 getinfo",
        "bitcoin-cli getblockcount",
        "connect 1 2",
        "disconnect 1 2",
        "fund",
        "channel 1 2",
        "pay 1 2 1000",
        "close 1 2",
        "mine",
        "logs l1",
        "events l1",
        "stop l1",
        "start l1",
        "restart l1",
    ] {
        let args: Vec<&str> = args.split(' ').collect();
        let said = sandbox.lab(&args)?;
        ensure!(
            said.code == Some(1) && said.out.is_empty() && said.err.contains("run `lab up`"),
            "{args:?}: {said:?}"
        );
    }
    let status = sandbox.lab(&["status"])?;
    ensure!(status.code == Some(1) && status.out.contains("run `lab up`"));
    let status = sandbox.lab(&["status", "--json"])?;
    ensure!(status.code == Some(1));
    ensure!(serde_json::from_str::<serde_json::Value>(&status.out)? == json!({"labs": []}));
    // Nothing is up already; but a name must be one of a lab.
    ensure!(sandbox.lab(&["down"])?.code == Some(0));
    let named = sandbox.lab(&["down", "--name", "other"])?;
    ensure!(
        named.code == Some(1) && named.err.contains("`other`"),
        "{named:?}"
    );
    let folder = sandbox.lab(&["cli", "--dir", "/nonexistent", "l1", "getinfo"])?;
    ensure!(
        folder.code == Some(1) && folder.err.contains("/nonexistent"),
        "{folder:?}"
    );
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

async fn usage() -> Outcome {
    let sandbox = Sandbox::new()?;
    for args in [
        &[][..],
        &["no-such-command"],
        &["up", "--nodes", "0"],
        &["up", "--nodes", "x"],
        &["up", "--node", "other"],
        &["up", "--name", "a/b"],
        &["up", "--name", ""],
        &["up", "--plugin", "/nonexistent"],
        &["up", "--plugin", "/etc/passwd"],
        &["up", "--plugin", "/bin/true,x"],
        &["exec"],
        &["cli", "l1"],
        &["cli", "l1", "getinfo", "--no-such-option"],
        &["mine", "0"],
        &["mine", "x"],
        &["channel", "1"],
        &["channel", "1", "2", "3"],
        &["pay", "1", "2"],
        &["logs"],
        &["down", "--all", "--name", "x"],
        &["completions", "no-such-shell"],
    ] {
        let said = sandbox.lab(args)?;
        ensure!(
            said.code == Some(2) && said.out.is_empty() && !said.err.is_empty(),
            "{args:?}: {said:?}"
        );
    }
    // Help is no error, and every command's has examples.
    let help = sandbox.done(&["--help"])?;
    let commands = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        // What is indented more continues the line before.
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty());
    let mut count = 0;
    for command in commands.filter(|command| *command != "help") {
        let help = sandbox.done(&[command, "--help"])?;
        ensure!(help.contains("Examples:\n  "), "{command}: {help}");
        count += 1;
    }
    ensure!(count >= 20, "{count} commands in {help}");
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

/// Where the temporary folder is everybody's, somebody may have been there first.
async fn not_ours() -> Outcome {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::new()?;
    let names = sandbox.path("run").join("cln-lab");
    std::fs::create_dir(&names)?;
    std::fs::set_permissions(&names, std::fs::Permissions::from_mode(0o777))?;
    for args in [&["up"][..], &["status"], &["cli", "l1", "getinfo"]] {
        let said = sandbox.lab(args)?;
        ensure!(
            said.code == Some(1) && said.err.contains("0700"),
            "{args:?}: {said:?}"
        );
    }
    std::fs::remove_dir(&names)?;
    Ok(())
}
