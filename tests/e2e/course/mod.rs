//! The course of `lab learn`: each step's check on its solution, on what came before it,
//! and on typical mistakes; and the whole of it in a terminal.

mod mistakes;
mod python;
mod terminal;

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cln_lab::write_executable;
use cln_lab_command::course::{Bench, Folder, Language, STEPS, Step, Verdict};
use lab_tests::{Kinds, Outcome, Suite, program};
use mistakes::Mistake;

pub fn tests(suite: Suite) -> Suite {
    Kinds::PURE.into_iter().fold(suite, |suite, kinds| {
        let skip = python::skipped();
        suite
            .case("python", kinds, skip.clone(), move || {
                walk(kinds, "python", python::MISTAKES)
            })
            .case("in_a_terminal", kinds, skip.clone(), move || {
                terminal::walk(kinds)
            })
            .case("without_a_terminal", kinds, skip, move || {
                terminal::check(kinds)
            })
    })
}

/// A learner, and how long verdicts took.
struct Learner {
    bench: Rc<Bench>,
    folder: Folder,
    took: Vec<(&'static str, Duration)>,
    _dir: tempfile::TempDir,
}

impl Learner {
    fn new(kinds: Kinds, language: &'static Language) -> anyhow::Result<Learner> {
        let dir = tempfile::tempdir()?;
        let path = match language.name {
            "python" => python::path()?,
            _ => std::env::var("PATH")?,
        };
        Ok(Learner {
            bench: Bench::new(kinds.kind_of(0), program("lab")?, path),
            folder: Folder::open(dir.path(), Some(language), None)?.0,
            took: Vec::new(),
            _dir: dir,
        })
    }

    /// Checks a step with this text as the learner's file.
    async fn check(&mut self, step: &'static Step, text: &str) -> anyhow::Result<Verdict> {
        write(&self.folder.file(step), text)?;
        let started = Instant::now();
        let verdict = match self.folder.build().await? {
            Ok(()) => {
                let (program, test) = (self.folder.program(), self.folder.test());
                self.bench.check(step, &program, &test).await?
            }
            Err(why) => Verdict::not_built(why),
        };
        if verdict.passed() {
            self.took.push((step.slug, started.elapsed()));
        }
        Ok(verdict)
    }
}

/// With an editor's care: a file that is executable stays so. An empty one is not.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if text.is_empty() {
        let _ = std::fs::remove_file(path);
        return Ok(());
    }
    Ok(write_executable(path, text)?)
}

/// The whole course in one language.
async fn walk(kinds: Kinds, language: &str, mistakes: &[Mistake]) -> Outcome {
    let language = Language::named(language).context("no such language")?;
    let mut learner = Learner::new(kinds, language)?;
    let mut wrong = Vec::new();
    for step in STEPS {
        let slug = step.slug;
        let (before, solution) = (language.before(slug), language.solution(slug));
        if before != solution && learner.check(step, before).await?.passed() {
            wrong.push(format!(
                "{slug}: what passes the step before passes it, too"
            ));
        }
        let ours: Vec<&Mistake> = mistakes.iter().filter(|m| m.step == slug).collect();
        ensure!(ours.len() >= 2, "{slug}: {} mistakes", ours.len());
        for mistake in ours {
            let verdict = learner.check(step, &mistake.made_in(solution)?).await?;
            match &verdict.miss {
                Some(miss) if miss.to_string().contains(mistake.says) => {}
                Some(miss) => wrong.push(format!("{mistake:?}: {miss}\n{:#?}", verdict.wire)),
                None => wrong.push(format!("{mistake:?}: passed")),
            }
        }
        let verdict = learner.check(step, solution).await?;
        if !verdict.passed() || verdict.held.is_empty() {
            wrong.push(format!("{slug}: {verdict:#?}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    let took = std::mem::take(&mut learner.took);
    print_times(&format!("each check in {}", language.name), kinds, took);
    let Learner { bench, .. } = learner;
    Ok(bench.stop().await?)
}

/// Printed, not asserted: it is the machine's.
fn print_times(what: &str, kinds: Kinds, mut took: Vec<(&str, Duration)>) {
    took.sort_unstable_by_key(|(_, took)| *took);
    let at = |percent: usize| took[(took.len() * percent).div_ceil(100) - 1].1;
    println!(
        "{what}, {}: {} times, median {:.2?}, p95 {:.2?}; the slowest {:.2?}",
        kinds.name(),
        took.len(),
        at(50),
        at(95),
        &took[took.len() - 4..]
    );
}
