//! What surrounds a lab: the folders and programs it finds, the environment, the umask.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};
use cln_lab::{PATIENCE, Probe, binaries, eventually, scaled};
use lab_tests::sandbox::{Said, Sandbox, said};
use lab_tests::{Kinds, Outcome, Suite, path_without, write_script};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub fn tests(suite: Suite) -> Suite {
    suite
        .scenario_alone("a_cache_that_cannot_be_used_is_done_without", no_cache)
        .test("nothing_is_run_from_where_others_can_write", planted)
        .scenario_alone("an_empty_variable_is_not_set", empty_variables)
        .test("a_program_that_hangs_is_given_up", hanging_version)
        .test(
            "each_program_is_asked_once_and_scripts_every_time",
            asked_once,
        )
        .test("a_report_survives_what_is_not_utf_8", report)
        .test("doctor_says_whether_a_lab_can_run", doctor)
        .scenario_alone("a_node_that_does_not_answer_is_not_down", frozen)
        .scenario_alone("events_of_a_node_that_is_down_are_shown", events_when_down)
        .test("a_folder_that_lightningd_refuses_is_refused_first", quote)
        .scenario_alone("files_are_private_whatever_the_umask", umask)
        .test("a_harness_is_private_whatever_the_umask", harness_umask)
        .unless((!Path::new("/proc/net/tcp").exists()).then(|| "no /proc/net/tcp".to_owned()))
        .test(
            "a_holder_out_of_descriptors_keeps_its_lab",
            out_of_descriptors,
        )
        .scenario_alone("nothing_listens_beyond_loopback", loopback)
}

/// Runs `lab` with variables set; an empty value removes one.
fn lab_with(sandbox: &Sandbox, variables: &[(&str, &Path)], args: &[&str]) -> anyhow::Result<Said> {
    let mut command = sandbox.command(sandbox.program());
    command.args(args);
    for (name, value) in variables {
        command.env(name, value);
    }
    said(&mut command)
}

async fn no_cache(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let bitcoind = binaries::bitcoind()?;
    let cache = sandbox.path("home/.cache");
    // A folder that nobody can make, and one in which nobody can make files.
    for (nodes, cache, cached) in [
        ("/dev/null/nodes", cache.as_path(), true),
        ("/dev/null/nodes", Path::new("/dev/null"), false),
        ("/proc/self", Path::new("/dev/null"), false),
    ] {
        let variables = [
            ("BITCOIND", bitcoind.as_path()),
            ("LAB_NODES_DIR", Path::new(nodes)),
            ("XDG_CACHE_HOME", cache),
        ];
        let args = ["exec", "--node", kinds.name(), "--nodes", "1", "--"];
        let height = "test \"$(\"$LAB\" bitcoin-cli getblockcount)\" = 101";
        let run = lab_with(
            &sandbox,
            &variables,
            &[&args[..], &["sh", "-c", height]].concat(),
        )?;
        ensure!(run.code == Some(0), "{nodes}: {run:?}");
        ensure!(
            cache.join("cln-lab/chain.lock").exists() == cached,
            "{nodes}"
        );
    }
    Ok(())
}

async fn planted() -> Outcome {
    let sandbox = Sandbox::new()?;
    let path = path_without("bitcoind", &sandbox.path("links"))?;
    let ran = sandbox.path("ran");
    let plant = |at: PathBuf| -> Outcome {
        fs::create_dir_all(at.parent().context("a parent")?)?;
        write_script(
            &at,
            &format!("echo \"$0\" >>'{}'; echo v26.06", ran.display()),
        )?;
        Ok(())
    };
    // In the current folder, and in one above the program that all may write to.
    let (here, open) = (sandbox.path("here"), sandbox.path("open"));
    plant(here.join("target/nodes/bin/bitcoind"))?;
    plant(open.join("cln-embedded"))?;
    plant(open.join("nodes/bin/bitcoind"))?;
    fs::write(open.join("CACHEDIR.TAG"), "")?;
    fs::set_permissions(&open, Permissions::from_mode(0o777))?;
    let program = open.join("debug/lab");
    fs::create_dir(open.join("debug"))?;
    fs::copy(sandbox.program(), &program)?;
    let mut doctor = sandbox.command(&program);
    doctor
        .arg("doctor")
        .current_dir(&here)
        .env("PATH", path)
        .env_remove("BITCOIND")
        .env_remove("LAB_NODES_DIR");
    let found = said(&mut doctor)?;
    ensure!(!ran.exists(), "{}\n{found:?}", fs::read_to_string(ran)?);
    for folder in [&open, &here] {
        let planted = folder.display().to_string();
        ensure!(!found.out.contains(&planted), "{found:?}");
    }
    // Whoever names a folder knows whose it is.
    let named = said(doctor.env("LAB_NODES_DIR", open.join("nodes")))?;
    ensure!(named.out.contains("✓ bitcoind"), "{named:?}");
    Ok(())
}

async fn empty_variables(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let empty = [("LAB_NODE", Path::new("")), ("LAB_NAME", Path::new(""))];
    let args = ["up", "-d", "--nodes", "1", "--node", kinds.name()];
    let up = lab_with(&sandbox, &empty, &args)?;
    ensure!(
        up.code == Some(0) && up.out.contains("lab `default`"),
        "{up:?}"
    );
    // A variable is not an option that was given.
    let kind = [("LAB_NODE", Path::new(kinds.name()))];
    let topics = lab_with(&sandbox, &kind, &["topics", "connect"])?;
    ensure!(topics.code == Some(0), "{topics:?}");
    let wrong = [("LAB_NODE", Path::new("other"))];
    for args in [
        &["up"][..],
        &["up", "-d"],
        &["workshop"],
        &["topics", "--run"],
    ] {
        let refused = lab_with(&sandbox, &wrong, args)?;
        let named = refused.err.contains("LAB_NODE") && refused.err.contains("`other`");
        ensure!(refused.code == Some(2) && named, "{args:?}: {refused:?}");
    }
    Ok(())
}

async fn hanging_version() -> Outcome {
    let sandbox = Sandbox::new()?;
    let node = sandbox.path("node");
    let pid = sandbox.path("pid");
    write_script(
        &node,
        &format!("sleep 1000 & echo $! >'{}'; wait", pid.display()),
    )?;
    let mut up = sandbox.command(sandbox.program());
    // A tenth of the usual patience.
    up.args(["up", "-d"])
        .env("LIGHTNINGD", &node)
        .env("LAB_TIMEOUT_FACTOR", "0.1");
    let started = Instant::now();
    let up = said(&mut up)?;
    ensure!(
        up.code == Some(1) && up.err.contains("node --version") && up.err.contains("timed out"),
        "{up:?}"
    );
    ensure!(
        started.elapsed() < scaled(2 * PATIENCE),
        "{:?}",
        started.elapsed()
    );
    let pid: u32 = fs::read_to_string(pid)?.trim().parse()?;
    ensure!(!cln_lab::is_alive(pid), "what it started lives");

    // One that prints without end, and one that prints nothing.
    for (body, expected) in [("exec yes", "node --version"), (":", "it prints nothing")] {
        write_script(&node, body)?;
        let up = lab_with(&sandbox, &[("LIGHTNINGD", &node)], &["up", "-d"])?;
        ensure!(up.code == Some(1) && up.err.contains(expected), "{up:?}");
    }
    fs::write(&node, "\0no program")?;
    let up = lab_with(&sandbox, &[("LIGHTNINGD", &node)], &["up", "-d"])?;
    let named = up.err.contains("node, which LIGHTNINGD names");
    ensure!(up.code == Some(1) && named, "{up:?}");
    Ok(())
}

async fn asked_once() -> Outcome {
    let sandbox = Sandbox::new()?;
    let asked = sandbox.path("asked");
    let node = sandbox.path("node");
    let real = binaries::embedded()?;
    let script = |version: &str| {
        let body = format!(
            "test \"$1\" = --version && {{ echo >>'{}'; echo {version}; exit; }}; exec '{}' \"$@\"",
            asked.display(),
            real.display()
        );
        write_script(&node, &body)
    };
    let version_in = |nodes: &str| {
        let args = [
            "exec",
            "--nodes",
            nodes,
            "--",
            "sh",
            "-c",
            "\"$LAB\" status --json",
        ];
        let run = lab_with(
            &sandbox,
            &[("CLN_EMBEDDED", &node), ("LAB_NODE", Path::new("embedded"))],
            &args,
        )?;
        ensure!(run.code == Some(0), "{run:?}");
        let status: serde_json::Value = serde_json::from_str(&run.out)?;
        let version = status["labs"][0]["nodes"][0]["version"].clone();
        let count = fs::read_to_string(&asked)?.lines().count();
        anyhow::Ok((version.as_str().unwrap_or_default().to_owned(), count))
    };
    script("embedded-1")?;
    let (version, count) = version_in("3")?;
    ensure!(
        version.contains("embedded-1") && count == 1,
        "{version}, asked {count} times"
    );
    // What a script runs may change without it.
    let (_, count) = version_in("1")?;
    ensure!(count == 2, "asked {count} times");
    Ok(())
}

async fn report() -> Outcome {
    let sandbox = Sandbox::new()?;
    let body = "test \"$1\" = --version && echo embedded-1 && exit; exit 3";
    let node = write_script(&sandbox.path("node"), body)?;
    let mut lab = sandbox.command(std::env::current_exe()?);
    lab.env(crate::lifecycle::HOLD, "embedded")
        .env("CLN_EMBEDDED", node)
        .env("LAB_ODD", OsStr::from_bytes(b"\xff"))
        .env("LAB_KEEP", "never");
    let failed = said(&mut lab)?;
    ensure!(
        failed.code == Some(1) && failed.err.contains("to run it again:"),
        "{failed:?}"
    );
    ensure!(failed.err.contains("exit status: 3"), "{failed:?}");
    Ok(())
}

async fn doctor() -> Outcome {
    let sandbox = Sandbox::new()?;
    let empty = sandbox.path("empty");
    fs::create_dir(&empty)?;
    let lightningd = write_script(&sandbox.path("lightningd"), "echo v26.06")?;
    let missing = Path::new("/nonexistent");
    let ask = |variables: &[(&str, &Path)]| lab_with(&sandbox, variables, &["doctor"]);
    for (variables, expected) in [
        (
            &[("LIGHTNINGD", missing)][..],
            "correct LIGHTNINGD, or unset it",
        ),
        (
            &[
                ("LAB_NODE", Path::new("embedded")),
                ("CLN_EMBEDDED", missing),
            ],
            "correct CLN_EMBEDDED, or unset it",
        ),
        (
            &[
                ("LAB_NODE", Path::new("embedded")),
                ("CLN_EMBEDDED", &lightningd),
            ],
            "is lightningd v26.06: correct CLN_EMBEDDED, or unset it",
        ),
        (
            &[("LIGHTNINGD", empty.as_path())],
            "a lab cannot run here yet",
        ),
    ] {
        let said = ask(variables)?;
        ensure!(
            said.code == Some(1)
                && said.out.contains(expected)
                && !said.out.contains("a lab can run"),
            "{variables:?}: {said:?}"
        );
    }
    let both = ask(&[("LIGHTNINGD", &lightningd), ("CLN_EMBEDDED", &lightningd)])?;
    ensure!(
        both.code == Some(0) && !both.out.contains("and the embedded node"),
        "{both:?}"
    );
    // The workshop says what doctor does, and no more.
    let doctor = lab_with(&sandbox, &[("LIGHTNINGD", missing)], &["doctor"])?;
    let workshop = lab_with(&sandbox, &[("LIGHTNINGD", missing)], &["workshop"])?;
    let times = |said: &Said| said.out.matches("LIGHTNINGD=/nonexistent").count();
    ensure!(
        workshop.code == Some(1) && times(&workshop) == times(&doctor),
        "{workshop:?}"
    );
    Ok(())
}

async fn frozen(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    sandbox.done(&["up", "-d", "--node", kinds.name()])?;
    let traces = sandbox.traces("default")?;
    let node = Pid::from_raw(traces.daemons[1] as i32);
    kill(node, Signal::SIGSTOP)?;
    // As in a container, which often has none.
    let path = path_without("ps", &sandbox.path("links"))?;
    let quickly = |args: &[&str]| {
        let mut lab = sandbox.command(sandbox.program());
        lab.env("LAB_TIMEOUT_FACTOR", "0.2").env("PATH", &path);
        said(lab.args(args))
    };
    let (shown, connect) = (quickly(&["status"]), quickly(&["connect", "1", "2"]));
    kill(node, Signal::SIGCONT)?;
    let (shown, connect) = (shown?, connect?);
    let says_why = connect.err.contains("stopped by a signal");
    ensure!(connect.code == Some(1) && says_why, "{connect:?}");
    let l1 = shown.out.lines().find(|line| line.contains(" l1 "));
    ensure!(
        l1.is_some_and(|l1| l1.ends_with("does not answer")),
        "{shown:?}"
    );
    sandbox.done(&["stop", "l1"])?;
    let shown = sandbox.done(&["status"])?;
    let l1 = shown.lines().find(|line| line.contains(" l1 "));
    ensure!(l1.is_some_and(|l1| l1.ends_with("down")), "{shown}");
    Ok(())
}

async fn quote() -> Outcome {
    let sandbox = Sandbox::new()?;
    let tmp = sandbox.path("a\"b");
    fs::create_dir(&tmp)?;
    let up = lab_with(&sandbox, &[("TMPDIR", &tmp)], &["up", "-d"])?;
    ensure!(
        up.code == Some(1) && up.err.contains("set TMPDIR") && !up.err.contains("lightningd.log"),
        "{up:?}"
    );
    ensure!(fs::read_dir(&tmp)?.next().is_none() && sandbox.left()?.is_empty());
    Ok(())
}

async fn out_of_descriptors() -> Outcome {
    let sandbox = Sandbox::new()?;
    let mut up = sandbox.command("sh");
    up.args(["-c", "ulimit -n 200 && exec \"$@\"", "sh"])
        .arg(sandbox.program())
        .args(["up", "-d", "--nodes", "1", "--node", "embedded"]);
    let up = said(&mut up)?;
    ensure!(up.code == Some(0), "{up:?}");
    let traces = sandbox.traces("default")?;
    let connect = |_| UnixStream::connect(traces.dir.join("lab.sock"));
    let clients = (0..300).map(connect).collect::<Result<Vec<_>, _>>()?;
    let files = format!("/proc/{}/fd", traces.holder);
    eventually("all its descriptors to be taken", PATIENCE, async || {
        let open = fs::read_dir(&files).map_or(0, Iterator::count);
        Ok(if open == 200 {
            Probe::Ready(())
        } else {
            Probe::NotYet(format!("{open} open"))
        })
    })
    .await?;
    drop(clients);
    sandbox.done(&["restart", "l1"])?;
    ensure!(
        traces.alive().contains(&traces.holder),
        "the holder is gone"
    );
    sandbox.done(&["down"])?;
    Ok(())
}

async fn events_when_down(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let args = [
        "up",
        "-d",
        "--nodes",
        "1",
        "--node",
        kinds.name(),
        "--plugin",
        "eventlog",
    ];
    sandbox.done(&args)?;
    sandbox.done(&["cli", "l1", "invoice", "1000", "label", "description"])?;
    eventually("the event", PATIENCE, async || {
        let events = sandbox
            .lab(&["events", "l1"])
            .map_err(|e| cln_lab::Error::usage(e.to_string()))?;
        Ok(if events.out.contains("invoice_creation") {
            Probe::Ready(())
        } else {
            Probe::NotYet(format!("{events:?}"))
        })
    })
    .await?;
    let file = sandbox
        .traces("default")?
        .dir
        .join("l1/regtest/eventlog.jsonl");
    sandbox.done(&["stop", "l1"])?;
    let mut text = fs::read_to_string(&file)?;
    // A line whose end is missing is shown as well.
    text.push_str("{\"topic\":\"half");
    fs::write(&file, &text)?;
    let events = sandbox.done(&["events", "l1"])?;
    ensure!(events == format!("{text}\n"), "{events}");
    Ok(())
}

/// A program that lets others do anything with the files it makes.
fn without_umask(sandbox: &Sandbox, program: &Path) -> Command {
    let mut command = sandbox.command("sh");
    command.args(["-c", "umask 000 && exec \"$@\"", "sh"]);
    command.arg(program);
    command
}

async fn harness_umask() -> Outcome {
    let sandbox = Sandbox::new()?;
    let mut holder = without_umask(&sandbox, &std::env::current_exe()?);
    let mut holder = holder.env(super::harness::HOLD, "").spawn()?;
    let folder = eventually("the harness's folder", PATIENCE, async || {
        let mut found = sandbox.left().unwrap_or_default();
        found.retain(|path| path.join("regtest").exists());
        Ok(match found.pop() {
            Some(folder) => Probe::Ready(folder),
            None => Probe::NotYet("none".to_owned()),
        })
    })
    .await?;
    let open = open_to_others(&folder)?;
    holder.kill()?;
    holder.wait()?;
    ensure!(open.is_empty(), "open to others:\n{}", open.join("\n"));
    Ok(())
}

async fn umask(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let (nodes, bitcoind) = (sandbox.path("nodes"), binaries::bitcoind()?);
    fs::create_dir(&nodes)?;
    let mut up = without_umask(&sandbox, sandbox.program());
    up.args(["up", "-d", "--node", kinds.name(), "--plugin", "eventlog"])
        .env("LAB_NODES_DIR", &nodes)
        .env("BITCOIND", bitcoind);
    let up = said(&mut up)?;
    ensure!(up.code == Some(0), "{up:?}");
    sandbox.done(&["connect", "1", "2"])?;
    let labs_own = [sandbox.traces("default")?.dir, sandbox.path("run/cln-lab")];
    let mut open = Vec::new();
    for folder in labs_own {
        open.extend(open_to_others(&folder)?);
    }
    // Its folder was made by somebody else.
    open.extend(open_to_others(&nodes)?.into_iter().skip(1));
    ensure!(open.is_empty(), "open to others:\n{}", open.join("\n"));
    let chains = fs::read_dir(&nodes)?.count();
    ensure!(chains >= 2, "{chains} files beside the prepared chain");
    Ok(())
}

/// This file, and those in it, that others can read or write; not those in a folder
/// that others cannot enter.
fn open_to_others(path: &Path) -> anyhow::Result<Vec<String>> {
    let file = path.symlink_metadata()?;
    if file.is_symlink() || file.mode() & 0o077 == 0 {
        return Ok(Vec::new());
    }
    let mut open = vec![format!("{:o} {}", file.mode(), path.display())];
    if file.is_dir() {
        for entry in fs::read_dir(path)? {
            open.extend(open_to_others(&entry?.path())?);
        }
    }
    Ok(open)
}

async fn loopback(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    sandbox.done(&["up", "-d", "--node", kinds.name(), "--plugin", "eventlog"])?;
    let groups = sandbox.traces("default")?.pids();
    let listening = listening(&groups)?;
    // bitcoind's JSON-RPC interface and each node's port, at least.
    ensure!(listening.len() >= 3, "{listening:?}");
    let beyond = |address: &&String| {
        !["0100007F:", "00000000000000000000000001000000:"]
            .iter()
            .any(|own| address.starts_with(own))
    };
    let beyond: Vec<&String> = listening.iter().filter(beyond).collect();
    ensure!(beyond.is_empty(), "{beyond:?}");
    Ok(())
}

/// The addresses on which processes of these groups listen, or receive datagrams, as
/// /proc/net has them.
fn listening(groups: &[u32]) -> anyhow::Result<Vec<String>> {
    let mut sockets = Vec::new();
    for process in fs::read_dir("/proc")? {
        let process = process?.path();
        let Ok(stat) = fs::read_to_string(process.join("stat")) else {
            continue;
        };
        let group = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.split(' ').nth(2));
        if !group.is_some_and(|group| groups.iter().any(|own| group == own.to_string())) {
            continue;
        }
        for file in fs::read_dir(process.join("fd"))? {
            // It may be closed by now.
            let Ok(target) = fs::read_link(file?.path()) else {
                continue;
            };
            let name = target.to_string_lossy();
            let inode = name
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'));
            sockets.extend(inode.map(str::to_owned));
        }
    }
    let mut addresses = Vec::new();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let lines = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        for line in lines.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(address), Some(state), Some(inode)) =
                (fields.get(1), fields.get(3), fields.get(9))
            else {
                continue;
            };
            // TCP_LISTEN, or an unconnected UDP socket.
            let open = if table.starts_with("tcp") { "0A" } else { "07" };
            if *state == open && sockets.iter().any(|own| own == inode) {
                addresses.push((*address).to_owned());
            }
        }
    }
    Ok(addresses)
}
