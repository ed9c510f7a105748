//! `lab up`

use std::io::{BufRead, BufReader};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use cln_lab::registry::{self, Claim};
use cln_lab::{Lab, Nats, scaled};
use console::style;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::held::Held;
use super::progress::Progress;
use super::signals::Signals;
use super::spec::Spec;
use super::{out, target, usage};

/// A plugin that has not answered by then is probably not going to.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab up                                  two nodes, until Ctrl-C
  lab up --detach --nodes 3 --channels    three in a row, in the background, until `lab down`
  lab up --plugin ./my-plugin.py          with a plugin on every node
  lab up --plugin eventlog,eventlog-topics=connect,disconnect
  lab up --nats --plugin eventlog         and a NATS server, for `eventlog-publish`
  lab up --name other                     a second lab beside the first")]
pub struct Args {
    /// The lab's name [env: LAB_NAME] [default: default]
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: Option<String>,
    /// Return when all nodes are ready; `lab down` ends the lab
    #[arg(long, short)]
    detach: bool,
    #[command(flatten)]
    spec: Spec,
    /// What `--detach` starts: holds the lab, and reports on standard output when it is up
    #[arg(long, hide = true)]
    supervise: bool,
}

fn name(text: &str) -> cln_lab::Result<String> {
    registry::check_name(text)?;
    Ok(text.to_owned())
}

impl Args {
    /// The lab's name: `--name`, else `LAB_NAME`, else `default`.
    fn name(&self) -> anyhow::Result<String> {
        let text = self.name.clone().or_else(|| target::variable("LAB_NAME"));
        name(&text.unwrap_or_else(|| registry::DEFAULT.to_owned()))
            .map_err(|error| usage(error.to_string()))
    }
}

/// What the process that holds the lab reports to the one that started it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Started {
    Up(std::path::PathBuf),
    Failed(String),
}

/// Exit status 0 once it is up, with `--detach`; else after `lab down`.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    // What makes no sense is reported before anything is made.
    args.spec.builder()?;
    if args.supervise {
        return supervise(args).await;
    }
    if args.detach {
        return detach(args).await;
    }
    let started = Instant::now();
    let signals = Signals::new()?;
    let name = args.name()?;
    let claim = claim(&name).await?;
    let held = Held::start(&args.spec, Some(claim), signals);
    let held = noting(&args.spec, held).await?;
    let ready = async |lab: &Lab| print(lab, &name, started.elapsed(), "Ctrl-C");
    held.serve(ready).await
}

/// Notes on standard error what a start that takes long may be waiting for.
async fn noting<T>(spec: &Spec, start: impl Future<Output = T>) -> T {
    let mut start = std::pin::pin!(start);
    if let Some(plugins) = spec.plugins() {
        match tokio::time::timeout(scaled(PATIENCE), &mut start).await {
            Ok(done) => return done,
            Err(_) => out::note(format_args!(
                "note: still starting; a node waits until each plugin has answered getmanifest and init: {plugins}"
            )),
        }
    }
    start.await
}

async fn claim(name: &str) -> anyhow::Result<Claim> {
    let (claim, stale) = Claim::take(name).await?;
    if let Some(stale) = stale {
        target::note_stale(&stale);
    }
    Ok(claim)
}

/// What is up, and what to do next.
fn print(lab: &Lab, name: &str, took: Duration, end: &str) -> anyhow::Result<()> {
    let what = match lab.nodes().first() {
        Some(node) => node.implementation().to_string(),
        None => "no node".to_owned(),
    };
    out::line(format_args!(
        "{} lab `{name}` is up: {} × {what}, in {:.2} s",
        style("✓").green().bold(),
        lab.nodes().len(),
        took.as_secs_f64()
    ))?;
    for node in lab.nodes() {
        out::line(format_args!(
            "  {}  {}  127.0.0.1:{}",
            style(node.name()).bold(),
            node.id(),
            node.port()
        ))?;
    }
    if let Some(url) = Nats::url_in(lab.dir()) {
        out::line(format_args!("  {}  {url}", style("nats").bold()))?;
    }
    out::line(format_args!("  folder {}", lab.dir().display()))?;
    out::line(format_args!(
        "try `lab connect 1 2`, `lab cli l1 listpeers`, `eval \"$(lab env)\"`; {end} ends it"
    ))?;
    Ok(())
}

/// Starts a process that holds the lab, and waits until it reports that the lab is up.
async fn detach(args: Args) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let name = args.name()?;
    let mut signals = Signals::new()?;
    let progress = Progress::start(args.spec.starting());
    let program = std::env::current_exe().context("find the program `lab` itself")?;
    close_on_exec()?;
    let mut child = Command::new(&program)
        .args(std::env::args_os().skip(1))
        .arg("--supervise")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {}", program.display()))?;
    let pid = child.id();
    let stdout = child.stdout.take().context("its output is a pipe")?;
    let report = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).map(|_| line)
    });
    let line = tokio::select! {
        line = noting(&args.spec, report) => line??,
        interrupted = signals.next() => {
            // A signal has the same effect there: nothing is left.
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGTERM);
            child.wait()?;
            return Err(interrupted.into());
        }
    };
    drop(progress);
    match serde_json::from_str(&line) {
        Ok(Started::Up(dir)) => {
            let end = if name == registry::DEFAULT {
                "`lab down`".to_owned()
            } else {
                format!("`lab down --name {name}`")
            };
            print(&Lab::attach(dir)?, &name, started.elapsed(), &end)?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(Started::Failed(why)) => {
            child.wait()?;
            anyhow::bail!(why)
        }
        Err(_) => {
            let status = child.wait()?;
            anyhow::bail!(
                "the process that holds the lab exited without saying why: {status}; \
                 `lab up` without --detach shows more"
            )
        }
    }
}

/// Files that were open when we were started, such as a pipe from make or a shell, are
/// not inherited by the process that stays: a reader may wait for their end.
fn close_on_exec() -> anyhow::Result<()> {
    for entry in std::fs::read_dir("/dev/fd").context("list open files")? {
        let name = entry?.file_name();
        let Some(number @ 3..) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // SAFETY: it is not used beyond this call; one that was closed meanwhile, such
        // as that of the listing, gives EBADF, which is harmless.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let _ = fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    }
    Ok(())
}

/// Holds a lab in a session of its own, which no terminal can end.
async fn supervise(args: Args) -> anyhow::Result<ExitCode> {
    nix::unistd::setsid().context("start a session")?;
    let signals = Signals::new()?;
    let start = async {
        let claim = claim(&args.name()?).await?;
        log_to(&claim.log_path())?;
        Held::start(&args.spec, Some(claim), signals).await
    };
    let held = match start.await {
        Ok(held) => held,
        Err(error) => {
            report(&Started::Failed(format!("{error:#}")))?;
            return Ok(ExitCode::FAILURE);
        }
    };
    let ready = async |lab: &Lab| {
        report(&Started::Up(lab.dir().to_owned()))?;
        // No terminal, pipe or folder of the caller's is kept open any longer.
        let null = std::fs::File::options().write(true).open("/dev/null")?;
        nix::unistd::dup2_stdout(&null)?;
        Ok(std::env::set_current_dir("/")?)
    };
    held.serve(ready).await
}

fn log_to(path: &Path) -> anyhow::Result<()> {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("open {}", path.display()))?;
    Ok(nix::unistd::dup2_stderr(&log)?)
}

fn report(started: &Started) -> anyhow::Result<()> {
    out::line(serde_json::to_string(started)?)
}
