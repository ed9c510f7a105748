//! `lab workshop`

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use cln_lab_command::workshop::{self, KEPT, Options, Quiet, Screen};

use super::spec::Kind;
use super::{out, usage};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab workshop                      on lightningd where it is found
  lab workshop --pause              step by step: Enter, a shell, or the end
  lab workshop --step 5..8          these steps only
  lab workshop --keep               and the lab stays up, to go on by hand
  lab workshop --transcript W.md    all of it as Markdown, every answer in full
  lab workshop --json | jq .ok")]
pub struct Args {
    #[command(flatten)]
    kind: Kind,
    /// Leave the lab up at the end, under the name `workshop`
    #[arg(long)]
    keep: bool,
    /// Wait after each step: Enter goes on, s opens a shell, q ends
    #[arg(long, conflicts_with = "json")]
    pause: bool,
    /// Show these steps only: N, N.., ..M or N..M
    #[arg(long, value_name = "N..M", value_parser = steps)]
    step: Option<RangeInclusive<usize>>,
    /// Write all of it as Markdown, also what the screen has no room for
    #[arg(long, value_name = "FILE.md")]
    transcript: Option<PathBuf>,
    /// Print one JSON object at the end, and nothing else
    #[arg(long)]
    json: bool,
}

/// Exit status 0 only if every check holds.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.pause && !std::io::stdin().is_terminal() {
        return Err(usage(
            "--pause asks on a terminal, and standard input is none",
        ));
    }
    // Before anything is played: a path that cannot be written is known at once.
    let transcript = args.transcript.as_deref().map(create).transpose()?;
    let lab = std::env::current_exe().context("find the program `lab` itself")?;
    let options = Options {
        node: args.kind.node()?,
        keep: args.keep,
        steps: args.step.unwrap_or(1..=usize::MAX),
        lab,
    };
    let report = if args.json {
        let report = workshop::run(&options, &mut Quiet).await?;
        out::line(serde_json::to_string_pretty(&report)?)?;
        report
    } else {
        let words = words(&options.lab);
        let mut screen = Screen::new(std::io::stdout(), args.pause, words);
        workshop::run(&options, &mut screen).await?
    };
    if let Some(mut file) = transcript {
        file.write_all(report.markdown().as_bytes())
            .context("write the transcript")?;
    }
    Ok(ExitCode::from(u8::from(!report.ok)))
}

/// Only its owner may read it: an invoice's preimage is in it.
fn create(path: &Path) -> anyhow::Result<File> {
    let mut options = File::options();
    let file = options
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    file.with_context(|| format!("create {}", path.display()))
}

/// How to go on with the lab in one's own shell.
fn words(lab: &Path) -> String {
    let word = |path: &Path| cln_lab::quoted(&path.display().to_string());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contrib/lab.sh");
    let first = match script.canonicalize() {
        Ok(script) => format!(
            "source {}\nexport LAB_NAME={KEPT}\nstart_ln    # takes up the lab that is there",
            word(&script)
        ),
        Err(_) => format!("eval \"$({} env --name {KEPT})\"", word(lab)),
    };
    format!("{first}\ncd ${{L1_DIR%/l1}}/workshop\nstop_ln     # ends it, when you are done")
}

/// `N`, `N..`, `..M` or `N..M`, from 1.
fn steps(text: &str) -> Result<RangeInclusive<usize>, String> {
    let number = |part: &str, default| match part {
        "" => Ok(default),
        part => part
            .parse::<usize>()
            .map_err(|_| format!("`{text}` is not N, N.., ..M or N..M, as in `9..13`")),
    };
    let (from, to) = match text.split_once("..") {
        Some((from, to)) => (
            number(from, 1)?,
            number(to.trim_start_matches('='), usize::MAX)?,
        ),
        None => (number(text, 0)?, number(text, 0)?),
    };
    if from == 0 || to < from {
        return Err(format!(
            "`{text}`: steps are counted from 1, and the first is not after the last"
        ));
    }
    Ok(from..=to)
}
