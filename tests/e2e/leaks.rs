//! Whoever is killed, at whatever moment: nothing of a lab is left. `make soak` plays
//! many more rounds.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cln_lab::{Keep, Probe, binaries, eventually};
use lab_tests::sandbox::{Sandbox, said};
use lab_tests::{Kinds, Outcome, Suite, is_alive, program, without, write_script};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::soak;

pub fn tests(suite: Suite) -> Suite {
    let proc = Path::new("/proc/self/environ").exists();
    suite
        .unless((!proc).then(|| "no /proc".to_owned()))
        .scenario_alone("nothing_is_left_whoever_is_killed", rounds)
        .test("nothing_is_left_of_a_lab_killed_at_once", at_once)
        .scenario_alone("a_child_in_a_session_of_its_own_ends_with_its_lab", setsid)
        .scenario_alone("what_ignores_its_end_goes_with_the_next_lab", ignored)
        .test("an_unfinished_chain_goes_with_the_next", chain)
        .test("a_command_ends_with_its_lab", exec)
        .scenario_alone("a_reaper_that_was_killed_is_reported", reaper_killed)
        .scenario_alone("a_dead_nodes_pid_is_no_other_process", pid_kept)
        .scenario_alone("a_stale_pid_file_names_nobody", stale_pid_file)
        // Before, lightningd itself kills its plugins when it ends.
        .since((23, 11), "a_plugin_may_finish_after_its_node", afterwards)
        .scenario_alone("a_suspended_node_is_killed_and_reported", suspended)
        .unless(without("python3"))
        .test("a_process_is_alive_while_a_thread_is", threads)
}

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Lab,
    /// What would clean up after the lab; then the lab ends in good order.
    Reaper,
    ReaperAndLab,
    Group,
}

const VICTIMS: [(Victim, Signal); 9] = [
    (Victim::Lab, Signal::SIGKILL),
    (Victim::ReaperAndLab, Signal::SIGKILL),
    (Victim::Lab, Signal::SIGTERM),
    (Victim::Reaper, Signal::SIGKILL),
    (Victim::Group, Signal::SIGKILL),
    (Victim::Lab, Signal::SIGINT),
    (Victim::Lab, Signal::SIGHUP),
    (Victim::Group, Signal::SIGTERM),
    (Victim::Group, Signal::SIGINT),
];

/// What is running when it happens.
const SUBJECTS: [&str; 6] = ["up", "detach", "exec", "workshop", "test", "harness"];

async fn rounds(kinds: Kinds) -> Outcome {
    let started = Instant::now();
    let rounds = soak::rounds(20, 500);
    let next = AtomicUsize::new(0);
    let played = Mutex::new((BTreeMap::new(), Vec::new()));
    let play = || {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= rounds {
                return;
            }
            // Every pair comes once in 54 rounds.
            let (victim, signal) = VICTIMS[(n + n / 18) % VICTIMS.len()];
            let subject = SUBJECTS[n % SUBJECTS.len()];
            // Spread over a start, a run and an end; the same in every run.
            let moment = Duration::from_millis((n as u64 * 7919) % 1500);
            let outcome = lab_tests::block_on(round(kinds, subject, victim, signal, moment));
            let mut played = played.lock().expect("no panic");
            let what = format!("{subject:<9} {victim:?} {signal}");
            let counts = played.0.entry(what.clone()).or_insert((0, 0));
            counts.0 += 1;
            match outcome {
                Ok(left) => counts.1 += usize::from(left),
                Err(error) => {
                    let left = format!("round {n}: {what} after {moment:?}: {error:#}");
                    played.1.push(left);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(play);
        }
    });
    let (counts, left) = played.into_inner().expect("no panic");
    for (what, (count, left)) in counts {
        let note = match left {
            0 => String::new(),
            left => format!("; {left} × a process was left to the next command"),
        };
        println!("{count:>4} × {what}, {}{note}", kinds.name());
    }
    let name = format!("a lab or its reaper killed, {}", kinds.name());
    soak::row(&name, rounds, &left, started)
}

/// True if a process was left to the next command.
async fn round(
    kinds: Kinds,
    subject: &str,
    victim: Victim,
    signal: Signal,
    moment: Duration,
) -> anyhow::Result<bool> {
    let sandbox = Sandbox::new()?;
    let mut child = start(&sandbox, subject, kinds)?;
    let started = Instant::now();
    while started.elapsed() < moment && child.try_wait()?.is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    if matches!(victim, Victim::Reaper | Victim::ReaperAndLab) {
        for pid in running(&sandbox)?.having("cln-lab-reaper") {
            let _ = kill(pid_of(pid), Signal::SIGKILL);
        }
    }
    // One that is detached has two processes, the second a child of the first.
    let labs = || -> anyhow::Result<Vec<u32>> {
        if subject == "detach" {
            return Ok(running(&sandbox)?.having("up --detach"));
        }
        Ok(vec![child.id()])
    };
    let mut signalled = BTreeSet::new();
    while let Some(pid) = labs()?.into_iter().find(|pid| !signalled.contains(pid)) {
        signalled.insert(pid);
        let _ = match victim {
            // `lab exec` leaves Ctrl-C to its command, to which the terminal sends it, too.
            Victim::Lab if (subject, signal) == ("exec", Signal::SIGINT) => {
                killpg(pid_of(pid), signal)
            }
            Victim::Lab | Victim::ReaperAndLab => kill(pid_of(pid), signal),
            Victim::Reaper => kill(pid_of(pid), Signal::SIGTERM),
            Victim::Group => killpg(pid_of(pid), signal),
        };
    }
    // These two do not handle signals.
    let killed = ["test", "harness"].contains(&subject) && victim == Victim::Reaper;
    let alone = killed || victim == Victim::ReaperAndLab;
    let mut ended = async |within| {
        eventually("every process to end", within, async || {
            let _ = child.try_wait();
            let left = running(&sandbox).unwrap_or_default();
            Ok(if left.0.is_empty() {
                Probe::Ready(())
            } else {
                Probe::NotYet(format!("{left:#?}"))
            })
        })
        .await
    };
    let mut left = false;
    if alone {
        // The kernel has killed the daemons. What they had started may wait for
        // something: that, and the folder, goes with the next command.
        left = ended(Duration::from_secs(2)).await.is_err();
        sandbox.lab(&["status"])?;
    }
    ended(Duration::from_secs(30)).await?;
    child.wait()?;
    nothing_left(&sandbox).await?;
    sandbox.lab(&["status"])?;
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(left)
}

/// Waits until the labs' folders are gone.
async fn nothing_left(sandbox: &Sandbox) -> Outcome {
    let tmp = sandbox.path("tmp");
    eventually("every folder to go", Duration::from_secs(10), async || {
        let left = std::fs::read_dir(&tmp).into_iter().flatten().flatten();
        let left: Vec<PathBuf> = left.map(|entry| entry.path()).collect();
        Ok(if left.is_empty() {
            Probe::Ready(())
        } else {
            Probe::NotYet(format!("{left:?}"))
        })
    })
    .await?;
    Ok(())
}

/// Starts what is to be killed, in a process group of its own.
fn start(sandbox: &Sandbox, subject: &str, kinds: Kinds) -> anyhow::Result<Child> {
    let node = ["--node", kinds.name()];
    let lab = |args: &[&str]| {
        let mut command = sandbox.command(sandbox.program());
        command.args(args);
        command
    };
    let this_again = |variable: &str| -> anyhow::Result<Command> {
        let mut command = sandbox.command(std::env::current_exe()?);
        command.env(variable, kinds.name());
        Ok(command)
    };
    let mut command = match subject {
        "up" => lab(&[&["up"], &node[..]].concat()),
        "detach" => lab(&[&["up", "--detach"], &node[..]].concat()),
        "exec" => lab(&[&["exec"], &node[..], &["--", "sleep", "600"]].concat()),
        "workshop" => lab(&[&["workshop"], &node[..]].concat()),
        "test" => this_again(super::lifecycle::HOLD)?,
        _ => this_again(super::harness::HOLD)?,
    };
    Ok(command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?)
}

/// Processes, with their command lines.
#[derive(Debug, Default)]
struct Running(BTreeMap<u32, String>);

impl Running {
    /// Those with `text` in their command line.
    fn having(&self, text: &str) -> Vec<u32> {
        let found = self.0.iter().filter(|(_, command)| command.contains(text));
        found.map(|(pid, _)| *pid).collect()
    }
}

/// Every process that was started in the sandbox, whatever became of its parent: all
/// have its folder in their environment. The sandbox's own is left out.
fn running(sandbox: &Sandbox) -> anyhow::Result<Running> {
    let mark = format!("TMPDIR={}", sandbox.path("tmp").display());
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|pid| pid.parse().ok()) else {
            continue;
        };
        let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        let mut variables = environ.split(|byte| *byte == 0);
        let ours = variables.any(|variable| variable == mark.as_bytes());
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if ours && !command.contains("sandbox-watchdog") {
            found.insert(pid, command);
        }
    }
    Ok(Running(found))
}

fn pid_of(pid: u32) -> Pid {
    Pid::from_raw(pid as i32)
}

/// Waits until this many processes have `text` in their command line.
async fn processes(sandbox: &Sandbox, text: &str, count: usize) -> anyhow::Result<Vec<u32>> {
    let what = format!("{count} processes with `{text}`");
    Ok(eventually(what, Duration::from_secs(20), async || {
        let running = running(sandbox).unwrap_or_default();
        let found = running.having(text);
        Ok(if found.len() == count {
            Probe::Ready(found)
        } else {
            Probe::NotYet(format!("{running:#?}"))
        })
    })
    .await?)
}

/// Before its folder is watched over, there is none.
async fn at_once() -> Outcome {
    for moment in 0..20 {
        let sandbox = Sandbox::new()?;
        let mut lab = sandbox.spawn(&["exec", "--node", "embedded", "--", "true"])?;
        tokio::time::sleep(Duration::from_millis(moment)).await;
        lab.kill()?;
        lab.wait()?;
        let killed = nothing_left(&sandbox).await;
        killed.with_context(|| format!("killed after {moment} ms"))?;
    }
    Ok(())
}

/// A plugin that starts a process in a session of its own, which is in no process group
/// of the lab's.
fn leaver(sandbox: &Sandbox) -> anyhow::Result<PathBuf> {
    let plugin = program("eventlog")?;
    let text = format!(
        "setsid sleep 4321 >/dev/null 2>&1 </dev/null &\nexec '{}'",
        plugin.display()
    );
    write_script(&sandbox.path("leaver.sh"), &text)
}

async fn setsid(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let plugin = leaver(&sandbox)?;
    let mut command = sandbox.command(sandbox.program());
    command.args(["exec", "--nodes", "1", "--node", kinds.name(), "--plugin"]);
    command
        .arg(&plugin)
        .args(["--", "pgrep", "-f", "sleep 4321"]);
    let said = said(&mut command)?;
    ensure!(said.code == Some(0), "it runs as long as the lab: {said:?}");
    let left = running(&sandbox)?;
    ensure!(left.0.is_empty(), "{left:#?}");
    Ok(())
}

async fn ignored(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let plugin = leaver(&sandbox)?;
    let plugin = plugin.to_str().context("a plain path")?;
    let up = ["up", "--detach", "--nodes", "1", "--node", kinds.name()];
    sandbox.done(&[&up[..], &["--plugin", plugin]].concat())?;
    let traces = sandbox.traces("default")?;
    let reaper = processes(&sandbox, "cln-lab-reaper", 1).await?;
    for pid in [reaper[0], traces.holder] {
        kill(pid_of(pid), Signal::SIGKILL)?;
    }
    processes(&sandbox, "", 1).await?;
    processes(&sandbox, "sleep 4321", 1).await?;
    ensure!(traces.dir.exists());
    let status = sandbox.lab(&["status"])?;
    ensure!(status.code == Some(1), "{status:?}");
    let left = running(&sandbox)?;
    ensure!(left.0.is_empty(), "{left:#?}");
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

/// Both are killed while they prepare the chain that other labs are to copy.
async fn chain() -> Outcome {
    let sandbox = Sandbox::new()?;
    let nodes = sandbox.path("nodes");
    std::fs::create_dir(&nodes)?;
    let bitcoind = binaries::bitcoind()?;
    let mut lab = sandbox.command(sandbox.program());
    lab.args(["exec", "--nodes", "1", "--node", "embedded", "--", "true"]);
    lab.env("LAB_NODES_DIR", &nodes).env("BITCOIND", bitcoind);
    let mut killed = lab.spawn()?;
    processes(&sandbox, &format!("-datadir={}", nodes.display()), 1).await?;
    for pid in running(&sandbox)?.having("cln-lab-reaper") {
        kill(pid_of(pid), Signal::SIGKILL)?;
    }
    killed.kill()?;
    killed.wait()?;
    processes(&sandbox, "", 0).await?;
    let folders = || -> anyhow::Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(&nodes)?;
        let paths = entries.map(|entry| Ok(entry?.path()));
        let mut paths = paths.collect::<anyhow::Result<Vec<_>>>()?;
        paths.retain(|path| path.is_dir());
        Ok(paths)
    };
    let unfinished = folders()?;
    let said = said(&mut lab)?;
    ensure!(said.code == Some(0), "{said:?}");
    let left = folders()?;
    let gone = unfinished.iter().all(|folder| !left.contains(folder));
    ensure!(
        unfinished.len() == 1 && gone && left.len() == 1,
        "first {unfinished:?}, then {left:?}"
    );
    Ok(())
}

async fn exec() -> Outcome {
    let sandbox = Sandbox::new()?;
    let mut lab = sandbox.spawn(&["exec", "--node", "embedded", "--", "sleep", "4321"])?;
    // The other one is `lab`, which has it on its command line.
    processes(&sandbox, "sleep 4321", 2).await?;
    lab.kill()?;
    lab.wait()?;
    processes(&sandbox, "", 0).await?;
    nothing_left(&sandbox).await
}

async fn reaper_killed(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    sandbox.done(&["up", "--detach", "--node", kinds.name()])?;
    let traces = sandbox.traces("default")?;
    let reaper = processes(&sandbox, "cln-lab-reaper", 1).await?[0];
    kill(pid_of(reaper), Signal::SIGKILL)?;
    sandbox.done(&["stop", "l1"])?;
    let start = sandbox.lab(&["start", "l1"])?;
    ensure!(
        start.code == Some(1) && start.err.contains(&format!("reaper (process {reaper})")),
        "{start:?}"
    );
    sandbox.done(&["down"])?;
    ensure!(traces.alive().is_empty(), "{traces:?}");
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

/// A number that might be another process's by now must not be signalled.
async fn pid_kept(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).keep(Keep::Never).start().await?;
    let pid = lab.l1().pid().await.context("it runs")?;
    kill(pid_of(pid), Signal::SIGKILL)?;
    let what = "the death to be noticed";
    eventually(what, Duration::from_secs(10), async || {
        Ok(match lab.check_alive().await {
            Ok(()) => Probe::NotYet("alive".to_owned()),
            Err(error) => Probe::Ready(error),
        })
    })
    .await?;
    ensure!(!is_alive(pid));
    kill(pid_of(pid), None).context("its number is still taken")?;
    ensure!(lab.stop().await.is_err());
    ensure!(kill(pid_of(pid), None).is_err(), "it is given back");
    Ok(())
}

async fn stale_pid_file(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    sandbox.done(&["up", "--detach", "--nodes", "1", "--node", kinds.name()])?;
    let dir = sandbox.traces("default")?.dir;
    sandbox.done(&["stop", "l1"])?;
    let mut stranger = sandbox.command("sleep").arg("60").spawn()?;
    let pid_file = dir.join("l1/lightningd-regtest.pid");
    std::fs::write(&pid_file, stranger.id().to_string())?;
    let status = sandbox.json(&["status", "--json"])?;
    let l1 = &status["labs"][0]["nodes"][0];
    ensure!(l1["pid"].is_null() && l1["running"] == false, "{status:#}");
    sandbox.done(&["start", "l1"])?;
    sandbox.done(&["stop", "l1"])?;
    std::fs::write(&pid_file, stranger.id().to_string())?;
    sandbox.done(&["down"])?;
    ensure!(is_alive(stranger.id()), "it was killed");
    stranger.kill()?;
    stranger.wait()?;
    Ok(())
}

/// One that subscribes to `shutdown` is waited for by the node itself.
async fn afterwards(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let written = sandbox.path("written");
    let text = format!(
        "'{}' good slow\nsleep 1\necho done >'{}'",
        program("scripted")?.display(),
        written.display()
    );
    let plugin = write_script(&sandbox.path("slow.sh"), &text)?;
    let plugin = plugin.to_str().context("a plain path")?;
    let exec = ["exec", "--nodes", "1", "--node", kinds.name()];
    sandbox.done(&[&exec[..], &["--plugin", plugin, "--", "true"]].concat())?;
    ensure!(written.exists(), "it was killed before it had finished");
    Ok(())
}

async fn suspended(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let mut up = sandbox.command(sandbox.program());
    up.args(["up", "--detach", "--nodes", "1", "--node", kinds.name()]);
    // 1.5 s until it is killed.
    let up = said(up.env("LAB_TIMEOUT_FACTOR", "0.15"))?;
    ensure!(up.code == Some(0), "{up:?}");
    let traces = sandbox.traces("default")?;
    let node = traces.daemons[1];
    kill(pid_of(node), Signal::SIGSTOP)?;
    let down = sandbox.lab(&["down"])?;
    ensure!(down.code == Some(1), "{down:?}");
    for text in [
        "l1 to answer `stop`",
        "killed",
        "stopped by a signal",
        &node.to_string(),
    ] {
        ensure!(down.err.contains(text), "no `{text}` in {down:?}");
    }
    ensure!(traces.alive().is_empty(), "{traces:?}");
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

/// The main thread's end makes it look like a zombie, while it still has its locks.
async fn threads() -> Outcome {
    let text = "import ctypes, threading, time\n\
                threading.Thread(target=time.sleep, args=(60,)).start()\n\
                ctypes.CDLL(None).pthread_exit(None)";
    let mut python = Command::new("python3").args(["-c", text]).spawn()?;
    let stat = format!("/proc/{}/stat", python.id());
    eventually(
        "its main thread to end",
        Duration::from_secs(20),
        async || {
            let stat = std::fs::read_to_string(&stat).unwrap_or_default();
            Ok(if stat.contains(") Z ") {
                Probe::Ready(())
            } else {
                Probe::NotYet(stat)
            })
        },
    )
    .await?;
    let alive = is_alive(python.id());
    python.kill()?;
    ensure!(alive);
    eventually("its end", Duration::from_secs(20), async || {
        Ok(if is_alive(python.id()) {
            Probe::NotYet("alive".to_owned())
        } else {
            Probe::Ready(())
        })
    })
    .await?;
    python.wait()?;
    Ok(())
}
