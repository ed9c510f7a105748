//! The lab itself: it comes up, it says what is wrong, and however it ends,
//! nothing of it is left.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use cln_lab::{Error, Keep, Lab, NodeKind, NodeSpec, Plugin, Probe, Process, eventually};
use lab_tests::{Kinds, Outcome, Suite, is_alive, program};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

pub fn tests(suite: Suite) -> Suite {
    suite
        .scenario_alone("stop_leaves_nothing", stop_leaves_nothing)
        .scenario_alone("drop_leaves_nothing", drop_leaves_nothing)
        .scenario_alone("kill_9_of_the_lab_leaves_nothing", kill_9_of_the_lab)
        .scenario_alone("ctrl_c_leaves_nothing", ctrl_c)
        .scenario_alone("a_node_keeps_its_id_and_port_across_a_restart", restart)
        .scenario_alone("a_node_without_its_log_starts_again", lost_log)
        .unless((!Path::new(IO).exists()).then(|| format!("no {IO}")))
        .scenario_alone("a_long_log_is_not_read_at_a_start", long_log)
        .unless(None)
        .scenario_alone("many_nodes_start_at_once", many_nodes)
        .scenario_alone("labs_side_by_side_do_not_meet", side_by_side)
        .scenario_alone(
            "a_wrong_option_is_reported_in_the_nodes_words",
            wrong_option,
        )
        .scenario_alone("a_killed_bitcoind_is_reported", bitcoind_killed)
        .scenario_alone("a_killed_node_is_reported", node_killed)
        .scenario_alone("a_long_path_is_refused_early", long_path)
        .test("a_missing_lightningd_is_reported", no_lightningd)
        .test("a_missing_bitcoind_is_reported", no_bitcoind)
        .test("node_names_must_be_distinct_and_plain", names)
}

/// What this program does instead of testing if a test has started it to hold a lab.
pub fn hold_if_asked() -> Option<ExitCode> {
    std::env::var(HOLD).ok().map(|kind| hold(&kind))
}

/// The processes of a lab, and its folder.
async fn traces(lab: &Lab) -> anyhow::Result<(Vec<u32>, PathBuf)> {
    let mut pids = vec![lab.bitcoind().pid()];
    for node in lab.nodes() {
        let processes = node.processes().await?;
        ensure!(!processes.is_empty(), "{} has no process", node.name());
        // lightningd asks bitcoind through one that is gone a moment later.
        let stay = |process: &&Process| !process.command.contains("bitcoin-cli");
        pids.extend(processes.iter().filter(stay).map(|process| process.pid));
    }
    Ok((pids, lab.dir().to_owned()))
}

/// Waits until none of it is left.
async fn gone(pids: &[u32], dir: &Path) -> Outcome {
    eventually(
        "every process and the folder to be gone",
        Duration::from_secs(10),
        async || {
            let alive: Vec<u32> = pids.iter().copied().filter(|pid| is_alive(*pid)).collect();
            Ok(match (alive.is_empty(), dir.exists()) {
                (true, false) => Probe::Ready(()),
                (_, folder) => Probe::NotYet(format!("alive: {alive:?}, folder there: {folder}")),
            })
        },
    )
    .await?;
    Ok(())
}

async fn stop_leaves_nothing(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
    lab.l1()
        .plugin_start(&Plugin::path(program("eventlog")?))
        .await?;
    let (pids, dir) = traces(&lab).await?;
    lab.stop().await?;
    // At once, not eventually: `stop` waited for it.
    ensure!(!pids.iter().any(|pid| is_alive(*pid)) && !dir.exists());
    Ok(())
}

async fn drop_leaves_nothing(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).keep(Keep::Never).start().await?;
    let (pids, dir) = traces(&lab).await?;
    drop(lab);
    gone(&pids, &dir).await
}

/// Tells this test binary to hold a lab up until it is killed.
pub const HOLD: &str = "LAB_TESTS_HOLD";

fn hold(kinds: &str) -> ExitCode {
    let Some(kinds) = Kinds::ALL.into_iter().find(|c| c.name() == kinds) else {
        return ExitCode::FAILURE;
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        return ExitCode::FAILURE;
    };
    runtime.block_on(async {
        let held = async {
            let lab = kinds.lab(2).start().await?;
            let (pids, dir) = traces(&lab).await?;
            println!("{}", json!({"pids": pids, "dir": dir}));
            std::future::pending::<Outcome>().await
        };
        if let Err(error) = held.await {
            eprintln!("{error:#}");
        }
        ExitCode::FAILURE
    })
}

/// A process that holds a lab, with what belongs to the lab.
fn held(kinds: Kinds) -> anyhow::Result<(Child, Vec<u32>, PathBuf)> {
    let mut child = Command::new(std::env::current_exe()?)
        .env(HOLD, kinds.name())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let told: Value = serde_json::from_str(&line)?;
    let pids = serde_json::from_value(told["pids"].clone())?;
    let dir = serde_json::from_value(told["dir"].clone())?;
    Ok((child, pids, dir))
}

/// No destructor runs on SIGKILL; the reaper sees to it.
async fn kill_9_of_the_lab(kinds: Kinds) -> Outcome {
    let (mut child, pids, dir) = held(kinds)?;
    let there = pids.iter().all(|pid| is_alive(*pid)) && dir.exists();
    // Before it is judged: a failed test leaves no lab either.
    child.kill()?;
    child.wait()?;
    ensure!(there);
    gone(&pids, &dir).await
}

/// The command ends its lab on Ctrl-C, and says so by its exit status.
async fn ctrl_c(kinds: Kinds) -> Outcome {
    let tmp = tempfile::Builder::new().prefix("t").tempdir()?;
    let mut child = Command::new(program("lab")?)
        .args(["workshop", "--node", kinds.name()])
        .env("TMPDIR", tmp.path())
        .stdout(Stdio::piped())
        .spawn()?;
    // The second command on the screen: the nodes are being started.
    let stdout = BufReader::new(child.stdout.take().context("stdout is piped")?);
    let mut lines = stdout.lines();
    while let Some(line) = lines.next().transpose()? {
        if line.contains("start_ln") {
            break;
        }
    }
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT)?;
    // Its output ends when nobody holds it any more.
    for line in lines {
        line?;
    }
    let status = child.wait()?;
    ensure!(status.code() == Some(130), "{status}");
    let left: Vec<_> = std::fs::read_dir(tmp.path())?.collect();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

async fn restart(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let (id, port) = (l1.id().to_owned(), l1.port());
    l1.restart().await?;
    ensure!((l1.id(), l1.port()) == (id.as_str(), port));
    l2.connect(l1).await?;
    l1.kill9().await?;
    ensure!(l1.processes().await?.is_empty());
    l1.start().await?;
    l2.connect(l1).await?;
    Ok(lab.stop().await?)
}

/// A log that was emptied or removed meanwhile is no reason to wait.
/// What this process has read and written, as proc_pid_io(5) says.
const IO: &str = "/proc/self/io";

async fn long_log(kinds: Kinds) -> Outcome {
    const LENGTH: u64 = 100 << 20;
    let lab = kinds.lab(1).start().await?;
    let l1 = lab.l1();
    l1.stop().await?;
    let log = std::fs::File::options().write(true).open(l1.log_path())?;
    log.set_len(LENGTH)?;
    let read = || -> anyhow::Result<u64> {
        let io = std::fs::read_to_string(IO)?;
        let read = io.lines().find_map(|line| line.strip_prefix("rchar: "));
        Ok(read.context("rchar")?.parse()?)
    };
    let before = read()?;
    l1.start().await?;
    let read = read()? - before;
    ensure!(read < LENGTH / 10, "{read} bytes were read");
    log.set_len(0)?;
    Ok(lab.stop().await?)
}

async fn lost_log(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
    let l1 = lab.l1();
    l1.stop().await?;
    std::fs::write(l1.log_path(), "")?;
    l1.start().await?;
    l1.stop().await?;
    std::fs::remove_file(l1.log_path())?;
    l1.start().await?;
    Ok(lab.stop().await?)
}

async fn many_nodes(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(5).start().await?;
    for pair in lab.nodes().windows(2) {
        pair[0].connect(pair[1]).await?;
        ensure!(pair[1].is_connected(pair[0]).await?);
    }
    ensure!(lab.node("l5")?.name() == "l5");
    ensure!(matches!(lab.node("l6"), Err(Error::Usage(_))));
    Ok(lab.stop().await?)
}

async fn side_by_side(kinds: Kinds) -> Outcome {
    let (one, two) = tokio::try_join!(kinds.lab(2).start(), kinds.lab(2).start())?;
    let mut ports: Vec<u16> = [&one, &two]
        .iter()
        .flat_map(|lab| {
            lab.nodes()
                .into_iter()
                .map(|node| node.port())
                .chain([lab.bitcoind().rpc_port()])
        })
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ensure!(ports.len() == 6, "{ports:?}");
    // Two chains: a block of one is none of the other's.
    one.bitcoind().mine(1).await?;
    ensure!(one.bitcoind().height().await? == two.bitcoind().height().await? + 1);
    let (a, b) = tokio::join!(one.stop(), two.stop());
    a?;
    Ok(b?)
}

async fn wrong_option(kinds: Kinds) -> Outcome {
    let node = NodeSpec::new()
        .kind(kinds.kind_of(0))
        .option("no-such-option", 1);
    let error = Lab::builder()
        .node(node)
        .keep(Keep::Never)
        .start()
        .await
        .expect_err("no such option");
    let text = error.to_string();
    ensure!(matches!(error, Error::Died { .. }), "{text}");
    ensure!(
        text.contains("no-such-option") && text.contains("--lightning-dir"),
        "{text}"
    );
    Ok(())
}

async fn bitcoind_killed(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).keep(Keep::Never).start().await?;
    let (pids, dir) = traces(&lab).await?;
    let waiting = lab.while_alive(async {
        kill(Pid::from_raw(lab.bitcoind().pid() as i32), Signal::SIGKILL)
            .map_err(std::io::Error::from)
            .map_err(|error| Error::Io {
                doing: "kill".to_owned(),
                error,
            })?;
        std::future::pending::<cln_lab::Result<()>>().await
    });
    let error = waiting.await.expect_err("bitcoind is dead");
    ensure!(
        matches!(&error, Error::Died { name, .. } if name == "bitcoind"),
        "{error}"
    );
    let error = lab.stop().await.expect_err("and `stop` says so, too");
    ensure!(
        matches!(&error, Error::Died { name, .. } if name == "bitcoind"),
        "{error}"
    );
    gone(&pids, &dir).await
}

async fn node_killed(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).keep(Keep::Never).start().await?;
    let (pids, dir) = traces(&lab).await?;
    let pid = lab.l2().pid().await.context("l2 runs")?;
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL)?;
    let waiting = lab.while_alive(std::future::pending::<cln_lab::Result<()>>());
    let error = waiting.await.expect_err("l2 is dead");
    ensure!(
        matches!(&error, Error::Died { name, .. } if name == "l2"),
        "{error}"
    );
    ensure!(error.to_string().contains("signal: 9"), "{error}");
    ensure!(lab.stop().await.is_err());
    gone(&pids, &dir).await
}

/// A unix socket's path has room for 107 bytes: said before anything hangs.
async fn long_path(kinds: Kinds) -> Outcome {
    let name = "n".repeat(100);
    let node = NodeSpec::new().kind(kinds.kind_of(0)).name(name);
    let error = Lab::builder()
        .node(node)
        .keep(Keep::Never)
        .start()
        .await
        .expect_err("too long");
    ensure!(error.to_string().contains("TMPDIR"), "{error}");
    Ok(())
}

/// Runs `lab workshop` with `variable` set to a program that does not exist.
fn workshop_without(variable: &str) -> Outcome {
    let tmp = tempfile::Builder::new().prefix("t").tempdir()?;
    let output = Command::new(program("lab")?)
        .args(["workshop", "--node", "auto"])
        .env(variable, "/nonexistent")
        .env("TMPDIR", tmp.path())
        .output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
    ensure!(said.contains(&format!("{variable}=/nonexistent")), "{said}");
    let left: Vec<_> = std::fs::read_dir(tmp.path())?.collect();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

async fn no_lightningd() -> Outcome {
    workshop_without("LIGHTNINGD")
}

async fn no_bitcoind() -> Outcome {
    workshop_without("BITCOIND")
}

async fn names() -> Outcome {
    for names in [["l1", "l1"], ["", "b"], ["a/b", "c"], ["bitcoind", "x"]] {
        let lab = names.iter().fold(Lab::builder(), |lab, name| {
            lab.node(NodeSpec::new().name(*name))
        });
        let error = lab
            .kind(NodeKind::Lightningd)
            .start()
            .await
            .expect_err("bad names");
        ensure!(matches!(error, Error::Usage(_)), "{names:?}: {error}");
    }
    Ok(())
}
