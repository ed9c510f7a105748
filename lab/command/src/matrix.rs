//! One command on each lightningd that there is.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cln_lab::{Implementation, Version, binaries};
use futures_util::{StreamExt, stream};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::check::escaped;

/// Of a failed command's output so much is kept, in bytes.
const END: u64 = 16 << 10;

/// A lightningd.
#[derive(Debug, Clone)]
pub struct Lightningd {
    /// Its version.
    pub version: Version,
    /// Its executable.
    pub program: PathBuf,
}

/// What became of the command on one of them.
#[derive(Debug)]
pub struct Outcome {
    /// The lightningd's version.
    pub version: String,
    /// The command's exit status.
    pub status: ExitStatus,
    /// How long it ran.
    pub took: Duration,
    /// The end of what it wrote to standard output and error, if it failed.
    pub output: String,
}

/// Those that are named; without a name the one that labs run, and those in
/// `LAB_NODES_DIR/lightningd`, a folder each with `bin/lightningd`. Oldest first, each
/// version once.
///
/// # Errors
/// If one that is named cannot be run or is no lightningd, or none is found.
pub async fn find(named: &[PathBuf]) -> anyhow::Result<Vec<Lightningd>> {
    let mut found = Vec::new();
    let programs = match named {
        [] => installed(),
        named => named.to_vec(),
    };
    for program in programs {
        let program = which::which(&program)
            .with_context(|| format!("{} is not an executable file", program.display()))?;
        let what = binaries::implementation(&program).await?;
        let Implementation::Lightningd(version) = what else {
            ensure!(named.is_empty(), "{} is no lightningd", program.display());
            continue;
        };
        found.push(Lightningd { version, program });
    }
    // Stable: of two of one version the first named counts.
    found.sort_by_key(|one| one.version.release());
    let mut seen = HashSet::new();
    found.retain(|one| seen.insert(one.version.to_string()));
    ensure!(
        !found.is_empty(),
        "no lightningd found: name them with --lightningd, or put them in LAB_NODES_DIR/lightningd/VERSION/bin"
    );
    Ok(found)
}

fn installed() -> Vec<PathBuf> {
    let folder = binaries::nodes_dir().map(|dir| dir.join("lightningd"));
    let versions = folder.and_then(|folder| std::fs::read_dir(folder).ok());
    let mut programs: Vec<PathBuf> = versions
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin/lightningd")))
        .filter(|program| program.exists())
        .collect();
    programs.extend(binaries::lightningd());
    programs
}

/// Runs the command once for each, `jobs` at once: its environment has `LIGHTNINGD` and
/// `LAB_NODE=lightningd`. `each` is called with each outcome, as they come; they are
/// returned in the order of `all`.
///
/// What still runs when this is dropped is killed, with all in its process group.
///
/// # Errors
/// If the command cannot be run.
pub async fn run(
    all: &[Lightningd],
    command: &[OsString],
    jobs: usize,
    mut each: impl FnMut(&Outcome),
) -> anyhow::Result<Vec<Outcome>> {
    let runs = all.iter().enumerate().map(|(n, one)| async move {
        let outcome = run_on(one, command).await;
        outcome.map(|outcome| (n, outcome))
    });
    let mut runs = stream::iter(runs).buffer_unordered(jobs);
    let mut outcomes = Vec::new();
    while let Some(run) = runs.next().await {
        let (n, outcome) = run?;
        each(&outcome);
        outcomes.push((n, outcome));
    }
    outcomes.sort_by_key(|(n, _)| *n);
    Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
}

async fn run_on(one: &Lightningd, command: &[OsString]) -> anyhow::Result<Outcome> {
    let [program, arguments @ ..] = command else {
        anyhow::bail!("no command");
    };
    let mut output = tempfile::tempfile().context("make a temporary file")?;
    let started = Instant::now();
    let child = Command::new(program)
        .args(arguments)
        .env("LIGHTNINGD", &one.program)
        .env("LAB_NODE", "lightningd")
        // These would be those of another lab.
        .env_remove("LAB_NAME")
        .env_remove("LAB_DIR")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .process_group(0)
        .spawn()
        .with_context(|| format!("run {}", Path::new(program).display()))?;
    let status = Group(child).0.wait().await?;
    Ok(Outcome {
        version: one.version.to_string(),
        status,
        took: started.elapsed(),
        output: if status.success() {
            String::new()
        } else {
            end_of(&mut output)?
        },
    })
}

/// A child whose process group is killed, unless it has ended.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // None once it was waited for: the number may be another's then.
        if let Some(pid) = self.0.id() {
            let _ = killpg(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
    }
}

fn end_of(output: &mut File) -> std::io::Result<String> {
    let length = output.metadata()?.len();
    output.seek(SeekFrom::Start(length.saturating_sub(END)))?;
    let mut bytes = Vec::new();
    output.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The outcomes as one JSON object: `command`, and `lightningd`, a list of `version`,
/// `ok`, `status` (`null` after a signal), `seconds`, and `output` of those that failed.
pub fn json(command: &[OsString], outcomes: &[Outcome]) -> Value {
    let each: Vec<Value> = outcomes
        .iter()
        .map(|outcome| {
            json!({
                "version": outcome.version,
                "ok": outcome.status.success(),
                "status": outcome.status.code(),
                "seconds": outcome.took.as_secs_f64(),
                "output": outcome.output,
            })
        })
        .collect();
    json!({"command": words(command), "lightningd": each})
}

/// The outcomes as JUnit has it: a test case for each lightningd.
pub fn junit(command: &[OsString], outcomes: &[Outcome]) -> String {
    let failed = outcomes.iter().filter(|one| !one.status.success()).count();
    let name = escaped(&words(command).join(" "));
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuite name=\"lab matrix\" tests=\"{}\" failures=\"{failed}\">\n",
        outcomes.len()
    );
    for outcome in outcomes {
        xml += &format!(
            "  <testcase classname=\"{name}\" name=\"{}\" time=\"{:.3}\">\n",
            escaped(&outcome.version),
            outcome.took.as_secs_f64()
        );
        if !outcome.status.success() {
            let (status, output) = (outcome.status.to_string(), escaped(&outcome.output));
            xml += &format!("    <failure message=\"{status}\">{output}</failure>\n");
        }
        xml += "  </testcase>\n";
    }
    xml + "</testsuite>\n"
}

fn words(command: &[OsString]) -> Vec<String> {
    let words = command.iter();
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect()
}
