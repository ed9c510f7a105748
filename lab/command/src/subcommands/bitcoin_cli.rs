//! `lab bitcoin-cli`

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::Context;
use cln_lab::binaries;

use super::target::Target;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab bitcoin-cli getblockcount
  lab bitcoin-cli -generate 6
  lab bitcoin-cli sendtoaddress ADDRESS 0.5")]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Arguments of bitcoin-cli
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "ARGS"
    )]
    args: Vec<OsString>,
}

/// Becomes bitcoin-cli, so that the exit status is that of bitcoin-cli.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let lab = args.target.lab().await?;
    let bitcoind = lab.bitcoind();
    let program = binaries::bitcoin_cli(bitcoind.program())?;
    let error = Command::new(&program)
        .arg(format!("-datadir={}", bitcoind.dir().display()))
        .args(args.args)
        .exec();
    Err(error).with_context(|| format!("run {}", program.display()))
}
