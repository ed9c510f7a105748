//! `lab up`

use std::io::{BufRead, BufReader, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use cln_lab::Lab;
use cln_lab::registry::{self, Claim};
use console::style;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::held::{self, End};
use super::progress::Progress;
use super::signals::Signals;
use super::spec::Spec;
use super::{out, target};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab up                                  two nodes, until Ctrl-C
  lab up --detach --nodes 3 --channels    three in a row, in the background, until `lab down`
  lab up --plugin ./my-plugin.py          with a plugin on every node
  lab up --plugin eventlog,eventlog-topics=connect,disconnect
  lab up --name other                     a second lab beside the first")]
pub struct Args {
    /// What to call it
    #[arg(long, value_name = "NAME", env = "LAB_NAME", default_value = registry::DEFAULT,
        value_parser = name)]
    name: String,
    /// Return when all nodes are ready; `lab down` ends it
    #[arg(long, short)]
    detach: bool,
    #[command(flatten)]
    spec: Spec,
    /// What `--detach` starts: holds the lab, and says on standard output when it is up
    #[arg(long, hide = true)]
    supervise: bool,
}

fn name(text: &str) -> cln_lab::Result<String> {
    registry::check_name(text)?;
    Ok(text.to_owned())
}

/// What the process that holds the lab tells the one that started it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Told {
    Up(std::path::PathBuf),
    Failed(String),
}

/// Exit status 0 once it is up, with `--detach`; else when it has been ended by
/// `lab down`, 128 + N by signal N.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.supervise {
        return supervise(args).await;
    }
    if args.detach {
        return detach(args).await;
    }
    let started = Instant::now();
    let mut signals = Signals::new()?;
    let mut claim = claim(&args.name).await?;
    let progress = Progress::start(starting(&args.spec));
    let lab = match held::start(&args.spec, &mut signals).await? {
        Ok(lab) => lab,
        Err(number) => return Ok(ExitCode::from(128 + number)),
    };
    drop(progress);
    let ready = async || print(&lab, &args.name, started.elapsed(), "Ctrl-C");
    let end = held::serve(&lab, &mut claim, &mut signals, ready).await;
    let _progress = Progress::start("stopping");
    let stopped = held::end(lab, &mut signals).await;
    drop(claim);
    match end? {
        End::Signal(number) => {
            stopped?;
            Ok(ExitCode::from(128 + number))
        }
        End::Down(down) => {
            down.answer(&stopped).await;
            stopped?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn claim(name: &str) -> anyhow::Result<Claim> {
    let (claim, stale) = Claim::take(name).await?;
    if let Some(stale) = stale {
        target::note_stale(&stale);
    }
    Ok(claim)
}

fn starting(spec: &Spec) -> String {
    let channels = if spec.channels { ", then channels" } else { "" };
    format!("starting bitcoind and {} nodes{channels}", spec.nodes)
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
    out::line(format_args!("  folder {}", lab.dir().display()))?;
    out::line(format_args!(
        "try `lab connect 1 2`, `lab cli l1 listpeers`, `eval \"$(lab env)\"`; {end} ends it"
    ))?;
    Ok(())
}

/// Starts a process of its own that holds the lab, and waits until it says that
/// the lab is up.
async fn detach(args: Args) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let mut signals = Signals::new()?;
    let progress = Progress::start(starting(&args.spec));
    let program = std::env::current_exe().context("find the program `lab` itself")?;
    keep_to_ourselves()?;
    let mut child = Command::new(&program)
        .args(std::env::args_os().skip(1))
        .arg("--supervise")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {}", program.display()))?;
    let pid = child.id();
    let stdout = child.stdout.take().context("its output is a pipe")?;
    let told = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).map(|_| line)
    });
    let line = tokio::select! {
        line = told => line??,
        number = signals.next() => {
            // It has the same signal's effect there: nothing is left.
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGTERM);
            child.wait()?;
            return Ok(ExitCode::from(128 + number));
        }
    };
    drop(progress);
    match serde_json::from_str(&line) {
        Ok(Told::Up(dir)) => {
            let lab = Lab::attach(dir)?;
            let end = if args.name == registry::DEFAULT {
                "`lab down`".to_owned()
            } else {
                format!("`lab down --name {}`", args.name)
            };
            print(&lab, &args.name, started.elapsed(), &end)?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(Told::Failed(why)) => {
            child.wait()?;
            anyhow::bail!(why)
        }
        Err(_) => {
            let status = child.wait()?;
            anyhow::bail!(
                "the process that was to hold the lab ended without a word: {status}; \
                 `lab up` without --detach shows more"
            )
        }
    }
}

/// Whatever else was open when we were started, a pipe of make's or of a shell's,
/// is not for the process that stays: somebody may wait for its end.
fn keep_to_ourselves() -> anyhow::Result<()> {
    for entry in std::fs::read_dir("/dev/fd").context("list open files")? {
        let name = entry?.file_name();
        let Some(number @ 3..) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // SAFETY: it is not used beyond this call; one that was closed meanwhile,
        // as the listing's own is, gives EBADF, which is as well.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let _ = fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    }
    Ok(())
}

/// Holds a lab in a session of its own, which no terminal can end.
async fn supervise(args: Args) -> anyhow::Result<ExitCode> {
    nix::unistd::setsid().context("begin a session of its own")?;
    let mut signals = Signals::new()?;
    let held = async {
        let mut claim = claim(&args.name).await?;
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(claim.log_path())
            .with_context(|| format!("open {}", claim.log_path().display()))?;
        nix::unistd::dup2_stderr(&log)?;
        drop(log);
        match held::start(&args.spec, &mut signals).await? {
            Ok(lab) => {
                let ready = async || {
                    tell(&Told::Up(lab.dir().to_owned()))?;
                    // Nobody's terminal, pipe or folder is to be held any longer.
                    let null = std::fs::File::options().write(true).open("/dev/null")?;
                    nix::unistd::dup2_stdout(&null)?;
                    Ok(std::env::set_current_dir("/")?)
                };
                let end = held::serve(&lab, &mut claim, &mut signals, ready).await;
                let stopped = held::end(lab, &mut signals).await;
                drop(claim);
                Ok(Some((end, stopped)))
            }
            Err(_) => anyhow::Ok(None),
        }
    };
    match held.await {
        Ok(Some((Ok(End::Down(down)), stopped))) => {
            down.answer(&stopped).await;
            Ok(ExitCode::from(u8::from(stopped.is_err())))
        }
        Ok(Some((Ok(End::Signal(_)), stopped))) => Ok(ExitCode::from(u8::from(stopped.is_err()))),
        // Whoever started this has gone: nobody would know of the lab.
        Ok(Some((Err(error), _))) => Err(error),
        Ok(None) => Ok(ExitCode::FAILURE),
        Err(error) => {
            tell(&Told::Failed(format!("{error:#}")))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn tell(told: &Told) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(told)?)?;
    Ok(out.flush()?)
}
