//! `lab learn`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use cln_lab_command::course::{
    self, After, Bench, Folder, LANGUAGES, Language, Progress, STEPS, Step, Verdict,
};

use super::spec::Kind;
use super::{out, usage};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab learn                                 in Python, in the folder `learn`; continues there
  lab learn --lang other --plugin ./x       any executable, in any language
  lab learn --check init                    one step, without a terminal: exit status 0 or 1
The keys are on the screen. In another terminal `source contrib/lab.sh` and `start_ln`,
with LAB_NAME=learn, give you the same nodes; `stop_ln` there ends them here, too.")]
pub struct Args {
    #[command(flatten)]
    kind: Kind,
    /// The learner's folder: made, or continued
    #[arg(default_value = "learn")]
    dir: PathBuf,
    /// The language of hints and solutions; `other` for any executable
    #[arg(long, value_parser = languages())]
    lang: Option<String>,
    /// The executable, with `--lang other`
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// Check one step, by its number or name, and report
    #[arg(long, value_name = "STEP", value_parser = step)]
    check: Option<&'static Step>,
    /// Print what a check found as JSON
    #[arg(long, requires = "check")]
    json: bool,
    /// Write the course as Markdown pages into this folder
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["check", "plugin", "lang"])]
    markdown: Option<PathBuf>,
}

const OTHER: &str = "other";

fn languages() -> clap::builder::PossibleValuesParser {
    let names = LANGUAGES.iter().map(|language| language.name);
    clap::builder::PossibleValuesParser::new(names.chain([OTHER]))
}

fn step(name: &str) -> Result<&'static Step, String> {
    Step::named(name).ok_or_else(|| {
        let names: Vec<&str> = STEPS.iter().map(|step| step.slug).collect();
        format!(
            "no step `{name}`: there are 1 to {}, or {}",
            STEPS.len(),
            names.join(", ")
        )
    })
}

/// Exit status 0 once the learner ends it, or if the step that is checked is passed.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(folder) = &args.markdown {
        write_pages(folder)?;
        return Ok(ExitCode::SUCCESS);
    }
    let other = args.lang.as_deref() == Some(OTHER);
    // A course that was started knows its executable.
    let started = || -> anyhow::Result<bool> {
        let progress = Progress::read(&args.dir)?;
        Ok(progress.is_some_and(|progress| progress.language.is_none()))
    };
    if other != args.plugin.is_some() && !(other && started()?) {
        return Err(usage("`--lang other` and `--plugin FILE` go together"));
    }
    let language = args.lang.as_deref().and_then(Language::named);
    let (folder, mut progress) = Folder::open(&args.dir, language, args.plugin.as_deref())?;
    let program = std::env::current_exe().context("find the program `lab` itself")?;
    let bench = Bench::new(args.kind.node()?, &program, path(&folder));
    let Some(step) = args.check else {
        course::learn(folder, progress, bench, &program).await?;
        return Ok(ExitCode::SUCCESS);
    };
    let started = Instant::now();
    let verdict = match folder.build().await? {
        Ok(()) => bench.check(step, &folder.program(), &folder.test()).await?,
        Err(why) => Verdict::not_built(&why),
    };
    let took = started.elapsed();
    bench.stop().await?;
    if verdict.passed() {
        progress.pass(step);
        progress.write(folder.dir())?;
    }
    if args.json {
        out::line(serde_json::to_string_pretty(&verdict)?)?;
    } else {
        out::line(course::verdict_text(&verdict, step, took, After::Command).trim_start())?;
    }
    Ok(ExitCode::from(u8::from(!verdict.passed())))
}

/// The PATH with which plugins run: a virtual environment in the folder comes first, as
/// after its activation.
fn path(folder: &Folder) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{}:{path}", folder.dir().join(".venv/bin").display())
}

fn write_pages(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let pages = course::pages();
    // One may well name a folder with a README of its own.
    let (index, text) = &pages[0];
    let title = text.lines().next().unwrap_or_default();
    let is_course = std::fs::read_to_string(folder.join(index))
        .is_ok_and(|present| present.lines().next() == Some(title));
    let mut entries = folder
        .read_dir()
        .with_context(|| format!("read {}", folder.display()))?;
    if !is_course && entries.next().is_some() {
        return Err(usage(format!(
            "{} has files that are not the course's: name a folder that is new, empty, or has \
             its pages",
            folder.display()
        )));
    }
    for (name, text) in pages {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
