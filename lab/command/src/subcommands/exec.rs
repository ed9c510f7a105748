//! `lab exec`

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::pin::pin;
use std::process::{ExitCode, ExitStatus};

use cln_lab::control::Control;
use cln_lab::end_with_this_thread;
use futures_util::FutureExt;
use nix::libc::SIGINT;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::env::variables;
use super::held::Held;
use super::signals::{Interrupted, Signals};
use super::spec::Spec;

/// The lab could not be started, or ended badly although the command went well.
const LAB_FAILED: u8 = 125;
/// The command cannot be run, or is not found: the codes that shells use.
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab exec -- pytest tests/
  lab exec --nodes 3 --channels -- ./pay-over-three.sh
  lab exec --plugin ./my-plugin.py -- sh -c 'lab connect 1 2 && lab logs l1 | grep my-plugin'

The command finds the lab by LAB_DIR, as `lab cli` and the others do, and `lab` itself on its PATH.
It also has LAB_NODES, the nodes' names; for each node L1_ID, L1_PORT, L1_DIR (its --lightning-dir)
and L1_RPC (its socket); and BITCOIN_DIR, bitcoind's data directory.

Exit status: the command's, 128 + N if signal N killed it; 125 if the lab failed, 126 if the
command cannot be run, 127 if it is not found.")]
pub struct Args {
    #[command(flatten)]
    spec: Spec,
    /// The command to run
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "COMMAND"
    )]
    command: Vec<OsString>,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut held = match Held::start(&args.spec, None, Signals::new()?).await {
        Err(error) if !error.is::<Interrupted>() => return Ok(failed(&error, LAB_FAILED)),
        started => started?,
    };
    let played = play(&mut held, &args.command).await;
    let stopped = held.stop().await;
    let code = match played {
        Ok(status) => code(status),
        Err(error) => {
            super::fail(&error);
            match error.downcast_ref::<std::io::Error>().map(|e| e.kind()) {
                Some(std::io::ErrorKind::NotFound) => NOT_FOUND,
                Some(_) => CANNOT_RUN,
                None => LAB_FAILED,
            }
        }
    };
    Ok(match stopped {
        Ok(()) => ExitCode::from(code),
        Err(error) => failed(&error.into(), if code == 0 { LAB_FAILED } else { code }),
    })
}

fn failed(error: &anyhow::Error, code: u8) -> ExitCode {
    super::fail(error);
    ExitCode::from(code)
}

/// Runs the command and serves the lab until the command has ended.
async fn play(held: &mut Held, command: &[OsString]) -> anyhow::Result<ExitStatus> {
    let Held { lab, signals, .. } = held;
    let control = Control::open(lab)?;
    let [program, args @ ..] = command else {
        anyhow::bail!("no command");
    };
    let mut command = Command::new(program);
    command
        .args(args)
        .env_remove("LAB_NAME")
        .env("LAB_DIR", lab.dir())
        .envs(variables(lab));
    let this = std::env::current_exe()?;
    command.env("LAB", &this);
    if let Some(path) = path_with(&this) {
        command.env("PATH", path);
    }
    // A `lab exec` that is killed can no longer end it; this thread is the main one.
    end_with_this_thread(command.as_std_mut());
    let mut child = command.spawn().map_err(|error| {
        anyhow::Error::new(error).context(format!("run `{}`", program.display()))
    })?;
    // A Ctrl-C from before the command ran, which it does now, has not reached it. The
    // pause lets it reach us.
    tokio::task::yield_now().await;
    if let Some(Interrupted(number)) = signals.next().now_or_never() {
        send(&child, number);
    }
    let why = "this lab ends with the command that `lab exec` runs";
    // One for all: what it does for a client must not end half-way.
    let mut served = pin!(control.serve_and_stay(lab, why));
    loop {
        tokio::select! {
            status = child.wait() => return Ok(status?),
            // The terminal has sent Ctrl-C to the command, too; how that ends decides
            // how this ends.
            Interrupted(number) = signals.next() => {
                if i32::from(number) != SIGINT {
                    send(&child, number);
                }
            }
            () = &mut served => {}
        }
    }
}

fn send(child: &Child, number: u8) {
    if let (Some(pid), Ok(signal)) = (child.id(), Signal::try_from(i32::from(number))) {
        let _ = kill(Pid::from_raw(pid as i32), signal);
    }
}

fn code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => code as u8,
        (None, signal) => 128 + signal.unwrap_or(0) as u8,
    }
}

/// A PATH on which `lab` is this program; `None` if it is already.
fn path_with(this: &Path) -> Option<OsString> {
    let found = which::which("lab")
        .ok()
        .and_then(|lab| lab.canonicalize().ok());
    if found.is_some() && found == this.canonicalize().ok() {
        return None;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(this.parent()?.to_owned()).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).ok()
}
