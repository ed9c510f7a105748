//! The course of `lab learn`: each step's check on its solution, on what came before it,
//! and on typical mistakes; and the whole of it in a terminal.

mod mistakes;
mod python;
mod rust;
mod sh;
#[cfg(clippy)]
mod solutions;
mod terminal;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cln_lab::write_executable;
use cln_lab_command::course::{Bench, Folder, Language, STEPS, Step, TEST, Verdict};
use lab_tests::author::Author;
use lab_tests::{Kinds, Outcome, Suite, program, without};
use mistakes::Mistake;

pub fn tests(suite: Suite) -> Suite {
    let suite = Kinds::PURE.into_iter().fold(suite, |suite, kinds| {
        let walked = |suite: Suite, name, mistakes: &'static [Mistake]| {
            let test = move || walk(kinds, name, mistakes);
            suite.case(name, kinds, skipped(name), test)
        };
        let suite = walked(suite, "python", python::MISTAKES);
        let suite = walked(suite, "rust", rust::MISTAKES);
        let suite = walked(suite, "sh", sh::MISTAKES);
        let skip = skipped("python");
        suite
            .case("in_a_terminal", kinds, skip.clone(), move || {
                terminal::walk(kinds)
            })
            .case("without_a_terminal", kinds, skip, move || {
                terminal::check(kinds)
            })
    });
    suite
        .unless(without("shellcheck"))
        .test("shellcheck_finds_nothing", sh::shellcheck)
        .test("clippy_looks_at_every_solution", rust::clippy)
}

/// Why the course is not walked in this language here.
fn skipped(language: &str) -> Option<String> {
    let needs = Language::named(language).map_or(&[][..], |language| language.needs);
    let missing = needs.iter().find_map(|program| without(program));
    missing.or_else(|| (language == "python").then(python::skipped)?)
}

/// A learner, and how long verdicts took.
struct Learner {
    bench: Rc<Bench>,
    folder: Folder,
    took: Vec<(&'static str, Duration)>,
    /// What was built beforehand, in a language that is compiled.
    programs: Option<rust::Programs>,
    /// One at a time builds.
    _author: Option<Author>,
    _dir: tempfile::TempDir,
}

impl Learner {
    fn new(kinds: Kinds, language: &'static Language) -> anyhow::Result<Learner> {
        let dir = tempfile::tempdir()?;
        let path = match language.name {
            "python" => python::path()?,
            _ => std::env::var("PATH")?,
        };
        let mut mine = dir.path().join("mine");
        let mut author = None;
        if language.name == "rust" {
            author = Some(Author::new(dir.path(), kinds)?);
            mine = rust::folder("learner")?;
            rust::prepare(&mine)?;
        }
        let (folder, _) = Folder::open(&mine, Some(language), None)?;
        Ok(Learner {
            bench: Bench::new(kinds.kind_of(0), program("lab")?, path),
            folder,
            took: Vec::new(),
            programs: None,
            _author: author,
            _dir: dir,
        })
    }

    /// Checks a step with this text as the learner's file.
    async fn check(&mut self, step: &'static Step, text: &str) -> anyhow::Result<Verdict> {
        write(&self.folder.file(step), text)?;
        let started = Instant::now();
        let (program, test) = (self.folder.program(), self.folder.test());
        let its = if step.slug == TEST { &test } else { &program };
        let built = match &self.programs {
            Some(programs) if programs.put(text, its)? => Ok(()),
            _ => self.folder.build().await?,
        };
        let verdict = match built {
            Ok(()) => self.bench.check(step, &program, &test).await?,
            Err(why) => Verdict::not_built(&why),
        };
        if verdict.passed() {
            self.took.push((step.slug, started.elapsed()));
        }
        Ok(verdict)
    }
}

/// With an editor's care: a file that is executable stays so, and one that has this text
/// is left alone. An empty one is not.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if text.is_empty() {
        let _ = std::fs::remove_file(path);
        return Ok(());
    }
    let is_this = std::fs::read_to_string(path).is_ok_and(|present| present == text);
    if is_this && path.metadata()?.permissions().mode() & 0o111 != 0 {
        return Ok(());
    }
    Ok(write_executable(path, text)?)
}

/// The whole course in one language. What is done wrong, which is most of it, is checked on
/// one kind of node: lightningd where there is one.
async fn walk(kinds: Kinds, language: &str, mistakes: &[Mistake]) -> Outcome {
    let language = Language::named(language).context("no such language")?;
    let mut learner = Learner::new(kinds, language)?;
    if language.name == "rust" {
        // But for the first step, where the learner's own build is tried.
        let mut texts = Vec::new();
        for step in &STEPS[1..] {
            let solution = language.solution(step.slug);
            texts.extend([language.before(step.slug), solution].map(str::to_owned));
            for mistake in mistakes.iter().filter(|m| m.step == step.slug) {
                texts.push(mistake.made_in(solution)?);
            }
        }
        // The test's file is none before its step.
        texts.retain(|text| !text.is_empty());
        texts.sort_unstable();
        texts.dedup();
        learner.programs = Some(rust::Programs::build(&texts)?);
    }
    let only_solutions = kinds == Kinds::Embedded && Kinds::Lightningd.skipped_because().is_none();
    let mut wrong = Vec::new();
    for step in STEPS {
        let slug = step.slug;
        // It plays every release, on no node: once is enough.
        if slug == "releases" && only_solutions {
            continue;
        }
        let (before, solution) = (language.before(slug), language.solution(slug));
        if !only_solutions && before != solution && learner.check(step, before).await?.passed() {
            wrong.push(format!(
                "{slug}: what passes the step before passes it, too"
            ));
        }
        let ours: Vec<&Mistake> = mistakes.iter().filter(|m| m.step == slug).collect();
        ensure!(ours.len() >= 2, "{slug}: {} mistakes", ours.len());
        for mistake in ours.into_iter().filter(|_| !only_solutions) {
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
