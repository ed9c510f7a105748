//! Where steps are played: each is announced, run, checked, timed, reported.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::report::{Check, Report, StepReport};
use super::stopped_at;
use cln_lab::Process;
use cln_lab::{Event, Lab, Node, Result};

/// Is told of the walkthrough as it goes.
pub trait Observer {
    /// A part begins.
    fn part(&mut self, title: &str);
    /// A step begins; `command` is what a person would type.
    fn begin(&mut self, name: &str, command: &str);
    /// A word on what is to be seen.
    fn say(&mut self, text: &str);
    /// The step is over.
    fn end(&mut self, step: &StepReport);
    /// Everything is over.
    fn finish(&mut self, report: &Report);
}

/// Shows nothing.
#[derive(Debug)]
pub struct Quiet;

impl Observer for Quiet {
    fn part(&mut self, _: &str) {}
    fn begin(&mut self, _: &str, _: &str) {}
    fn say(&mut self, _: &str) {}
    fn end(&mut self, _: &StepReport) {}
    fn finish(&mut self, _: &Report) {}
}

/// The walkthrough under way.
pub(super) struct Stage<'a> {
    observer: &'a mut dyn Observer,
    steps: Vec<StepReport>,
    node: Option<String>,
}

/// One step under way: what it saw.
pub(super) struct Step<'a> {
    report: StepReport,
    observer: &'a mut dyn Observer,
}

impl<'a> Stage<'a> {
    pub(super) fn new(observer: &'a mut dyn Observer) -> Stage<'a> {
        Stage {
            observer,
            steps: Vec::new(),
            node: None,
        }
    }

    pub(super) fn part(&mut self, title: &str) {
        self.observer.part(title);
    }

    /// What the nodes turned out to be.
    pub(super) fn set_node(&mut self, node: String) {
        self.node = Some(node);
    }

    /// Plays one step. Its value is there if nothing failed.
    ///
    /// # Errors
    /// The step's own, or one that names the step if a check did not hold: the
    /// steps that follow build on it.
    pub(super) async fn step<T>(
        &mut self,
        name: &str,
        command: impl Into<String>,
        play: impl AsyncFnOnce(&mut Step<'_>) -> Result<T>,
    ) -> Result<T> {
        let command = command.into();
        self.observer.begin(name, &command);
        let started = Instant::now();
        let mut step = Step {
            report: StepReport {
                name: name.to_owned(),
                command,
                ..StepReport::default()
            },
            observer: self.observer,
        };
        let outcome = play(&mut step).await;
        let mut report = step.report;
        report.ms = started.elapsed().as_millis() as u64;
        report.error = outcome.as_ref().err().map(ToString::to_string);
        report.ok = outcome.is_ok() && report.checks.iter().all(|check| check.ok);
        self.observer.end(&report);
        let ok = report.ok;
        self.steps.push(report);
        match outcome {
            Ok(_) if !ok => Err(stopped_at(name)),
            outcome => outcome,
        }
    }

    pub(super) fn finish(
        self,
        outcome: Result<()>,
        took: Duration,
        folder: Option<PathBuf>,
    ) -> Report {
        let report = Report {
            ok: outcome.is_ok() && self.steps.iter().all(|step| step.ok),
            ms: took.as_millis() as u64,
            node: self.node,
            steps: self.steps,
            error: outcome.err().map(|error| error.to_string()),
            folder,
        };
        self.observer.finish(&report);
        report
    }
}

impl Step<'_> {
    /// A word on what is to be seen.
    pub(super) fn say(&mut self, text: &str) {
        self.observer.say(text);
    }

    /// The command's answer.
    pub(super) fn answer(&mut self, answer: impl Into<Value>) {
        self.report.answer = answer.into();
    }

    /// A notification that was recorded.
    pub(super) fn recorded(&mut self, event: &Event) {
        self.report.recorded.push(event.into());
    }

    /// Something that must hold; `seen` tells what was there instead.
    pub(super) fn check(&mut self, what: &str, ok: bool, seen: impl FnOnce() -> String) {
        let seen = (!ok).then(seen);
        self.report.checks.push(Check {
            what: what.to_owned(),
            ok,
            seen,
        });
    }

    /// Something that must be equal.
    pub(super) fn check_eq<T>(&mut self, what: &str, seen: T, expected: T)
    where
        T: PartialEq + std::fmt::Debug,
    {
        let ok = seen == expected;
        self.check(what, ok, || format!("{seen:?}, expected {expected:?}"));
    }

    /// Every process of a lab's daemons and of what they started.
    pub(super) async fn processes_of(&mut self, lab: &Lab) -> Result<Vec<u32>> {
        let mut pids = vec![lab.bitcoind().pid()];
        for node in lab.nodes() {
            pids.extend(node.processes().await?.iter().map(|process| process.pid));
        }
        Ok(pids)
    }

    /// The process of the node's whose command line has `text` in it, as
    /// `ps -ax | grep` finds it; an error if there is none.
    pub(super) async fn process(&mut self, node: &Node, text: &str) -> Result<Process> {
        node.process_with(text).await
    }
}
