//! `lab workshop`

use std::io::{IsTerminal, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use cln_lab_command::workshop::{self, KEPT, Options, Quiet, STEPS, Screen};

use tempfile::NamedTempFile;

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
  lab workshop --report W.html      as a page: steps, checks, who sent what to whom
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
    /// Write a page: the steps with their checks, and what was sent, as `lab trace --html`
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
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
    let steps = args.step.unwrap_or(1..=usize::MAX);
    // Before anything is played: what the steps are, and a path that cannot be written is known at once.
    if *steps.start() > STEPS {
        return Err(usage(format!(
            "there is no step {}: the steps are 1 to {STEPS}",
            steps.start()
        )));
    }
    let transcript = args.transcript.as_deref().map(Transcript::create);
    let transcript = transcript.transpose()?;
    let page = args.report.as_deref().map(Transcript::create);
    let page = page.transpose()?;
    let lab = std::env::current_exe().context("find the program `lab` itself")?;
    let options = Options {
        node: args.kind.node()?,
        keep: args.keep,
        steps,
        lab,
        trace: page.is_some(),
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
    if let Some(transcript) = transcript {
        transcript.write(&report.markdown())?;
    }
    if let Some(page) = page {
        page.write(&report.page())?;
    }
    Ok(ExitCode::from(u8::from(!report.ok)))
}

/// A transcript before it is there. What is at its path stays until it is complete.
struct Transcript {
    path: PathBuf,
    /// None for what is no file: a pipe, say.
    file: Option<NamedTempFile>,
}

impl Transcript {
    /// Only its owner may read it: an invoice's preimage is in it.
    fn create(path: &Path) -> anyhow::Result<Transcript> {
        let failed = || format!("create {}", path.display());
        if path.is_dir() {
            return Err(anyhow::anyhow!("it is a folder").context(failed()));
        }
        // Where a link leads.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let file = if path.exists() && !path.is_file() {
            None
        } else {
            Some(NamedTempFile::new_in(folder).with_context(failed)?)
        };
        Ok(Transcript { path, file })
    }

    fn write(self, text: &str) -> anyhow::Result<()> {
        let failed = || format!("write {}", self.path.display());
        let Some(mut file) = self.file else {
            return std::fs::write(&self.path, text).with_context(failed);
        };
        file.write_all(text.as_bytes()).with_context(failed)?;
        file.persist(&self.path).with_context(failed)?;
        Ok(())
    }
}

/// How to go on with the lab in one's own shell.
fn words(lab: &Path) -> String {
    let word = |path: &Path| cln_lab::quoted(&path.display().to_string());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/lab.sh");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays_until_there_is_a_transcript() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("W.md");
        let read = || std::fs::read_to_string(&path).expect("read");
        std::fs::write(&path, "before").expect("write");
        drop(Transcript::create(&path).expect("create"));
        let transcript = Transcript::create(&path).expect("create");
        assert_eq!(read(), "before");
        transcript.write("after").expect("write");
        assert_eq!(read(), "after");
        assert_eq!(dir.path().read_dir().expect("read").count(), 1);
        for wrong in [dir.path().to_owned(), path.join("W.md")] {
            let error = Transcript::create(&wrong).err().expect("refused");
            assert!(error.to_string().starts_with("create "), "{error}");
        }
    }
}
