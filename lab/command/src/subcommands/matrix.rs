//! `lab matrix`

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::available_parallelism;

use cln_lab_command::matrix;
use console::style;

use super::progress::Progress;
use super::{out, usage};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab matrix -- cargo test
  lab matrix --lightningd /opt/cln/*/bin/lightningd -- pytest -p cln_lab tests/
  lab matrix -j 4 --junit matrix.xml -- ./test.sh

The command runs once for each lightningd: LIGHTNINGD is its path, which every lab uses. Without
--lightningd these are the one on the PATH and those in LAB_NODES_DIR/lightningd/*/bin. The output
of a command that fails is shown, its last lines. Exit status 0 if it succeeded on all, 1 if not,
2 if the arguments make no sense.")]
pub struct Args {
    /// The lightningd executables to run it on
    #[arg(long, value_name = "PATH", num_args = 1..)]
    lightningd: Vec<PathBuf>,
    /// How many run at once [default: one a core]
    #[arg(short, long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Write the result as JUnit does
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// The command to run
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Exit status 0 if the command succeeded on each.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let all = matrix::find(&args.lightningd).await?;
    let jobs = args.jobs.or(available_parallelism().ok());
    let jobs = jobs.map_or(1, NonZeroUsize::get);
    let mut printed = Ok(());
    let print = |outcome: &matrix::Outcome| {
        if args.json || printed.is_err() {
            return;
        }
        let mark = if outcome.status.success() {
            style("✓").green()
        } else {
            style("✗").red().bold()
        };
        let (version, seconds) = (&outcome.version, outcome.took.as_secs_f64());
        printed = out::line(format_args!("{mark} {version:<12} {seconds:>8.2} s"));
        if printed.is_ok() && !outcome.status.success() {
            printed = out::line(format_args!("  {}", outcome.status)).and_then(|()| {
                let lines = outcome.output.lines().rev().take(20).collect::<Vec<_>>();
                let mut lines = lines.into_iter().rev();
                lines.try_for_each(|line| out::line(format_args!("  | {line}")))
            });
        }
    };
    let doing = format!("running it on {} releases", all.len());
    let ran = Progress::during(doing, matrix::run(&all, &args.command, jobs, print)).await;
    let outcomes = ran?;
    printed?;
    let failed = outcomes.iter().filter(|one| !one.status.success()).count();
    if args.json {
        out::line(format_args!("{:#}", matrix::json(&args.command, &outcomes)))?;
    } else {
        let of = outcomes.len();
        out::line(format_args!(
            "succeeded on {} of {of} releases",
            of - failed
        ))?;
    }
    if let Some(path) = &args.junit {
        std::fs::write(path, matrix::junit(&args.command, &outcomes))
            .map_err(|error| usage(format!("write {}: {error}", path.display())))?;
    }
    Ok(ExitCode::from(u8::from(failed > 0)))
}
