//! `lab exec`

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};

use cln_lab::Lab;
use cln_lab::control::Control;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::env::variables;
use super::held;
use super::progress::Progress;
use super::signals::Signals;
use super::spec::Spec;

/// The lab could not be started, or ended badly although the command went well.
const LAB_FAILED: u8 = 125;
/// The command cannot be run, or is not there: as shells have it.
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab exec -- pytest tests/
  lab exec --nodes 3 --channels -- ./pay-over-three.sh
  lab exec --plugin ./my-plugin.py -- sh -c 'lab connect 1 2 && lab logs l1 | grep my-plugin'

The command finds the lab as `lab cli` and the others do, by LAB_DIR, and `lab` itself on its PATH.
It also has LAB_NODES, the nodes' names, for each node L1_ID, L1_PORT, L1_DIR (its --lightning-dir)
and L1_RPC (its socket), and BITCOIN_DIR, bitcoind's data directory. Exit status: the command's, 128 + N if signal N killed it; 125 if the lab failed, 126
if the command cannot be run, 127 if it is not there.")]
pub struct Args {
    #[command(flatten)]
    spec: Spec,
    /// The command
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "COMMAND"
    )]
    command: Vec<OsString>,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let progress = Progress::start(format!("starting bitcoind and {} nodes", args.spec.nodes));
    let lab = match held::start(&args.spec, &mut signals).await {
        Ok(Ok(lab)) => lab,
        Ok(Err(number)) => return Ok(ExitCode::from(128 + number)),
        Err(error) => {
            drop(progress);
            super::fail(&error.into());
            return Ok(ExitCode::from(LAB_FAILED));
        }
    };
    drop(progress);
    let status = play(&lab, &args.command, &mut signals).await;
    let progress = Progress::start("stopping");
    let stopped = held::end(lab, &mut signals).await;
    drop(progress);
    let code = match status {
        Ok(status) => code(status),
        Err(error) => {
            super::fail(&error);
            let kind = error
                .downcast_ref::<std::io::Error>()
                .map(std::io::Error::kind);
            match kind {
                Some(std::io::ErrorKind::NotFound) => NOT_FOUND,
                Some(_) => CANNOT_RUN,
                None => LAB_FAILED,
            }
        }
    };
    match stopped {
        Err(error) => {
            super::fail(&error.into());
            Ok(ExitCode::from(if code == 0 { LAB_FAILED } else { code }))
        }
        Ok(()) => Ok(ExitCode::from(code)),
    }
}

/// Runs the command and serves the lab until it has ended.
async fn play(
    lab: &Lab,
    command: &[OsString],
    signals: &mut Signals,
) -> anyhow::Result<ExitStatus> {
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
    let mut child = command.spawn().map_err(|error| {
        anyhow::Error::new(error).context(format!("run `{}`", program.display()))
    })?;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(status?),
            // Ctrl-C has reached the command by itself, from the terminal; what
            // becomes of it decides how this ends.
            number = signals.next() => pass_on(&child, number),
            down = control.serve(lab) => {
                down?.refuse("this lab ends with the command that `lab exec` runs").await;
            }
        }
    }
}

/// What was sent to us alone is the command's, too.
fn pass_on(child: &Child, number: u8) {
    if let (Some(pid), Ok(signal)) = (child.id(), Signal::try_from(i32::from(number)))
        && signal != Signal::SIGINT
    {
        let _ = kill(Pid::from_raw(pid as i32), signal);
    }
}

fn code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => code as u8,
        (None, signal) => 128 + signal.unwrap_or(0) as u8,
    }
}

/// The PATH on which `lab` is this very program; `None` if it is already.
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
