//! The walkthrough while it runs: each step is announced, run, checked, timed, reported.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::report::{Check, Report, StepReport};
use cln_lab::{Error, Event, Result};

/// Receives the walkthrough as it happens.
pub trait Observer {
    /// A part starts.
    fn part(&mut self, title: &str);
    /// A step starts; `command` is what a person would type.
    fn start(&mut self, command: &str);
    /// A comment on the step.
    fn say(&mut self, text: &str);
    /// The step has ended.
    fn end(&mut self, step: &StepReport);
    /// The walkthrough has ended.
    fn finish(&mut self, report: &Report);
}

/// Shows nothing.
#[derive(Debug)]
pub struct Quiet;

impl Observer for Quiet {
    fn part(&mut self, _: &str) {}
    fn start(&mut self, _: &str) {}
    fn say(&mut self, _: &str) {}
    fn end(&mut self, _: &StepReport) {}
    fn finish(&mut self, _: &Report) {}
}

pub(super) struct Walkthrough<'a> {
    observer: &'a mut dyn Observer,
    steps: Vec<StepReport>,
    node: Option<String>,
}

/// One step while it runs.
pub(super) struct Step<'a> {
    report: StepReport,
    observer: &'a mut dyn Observer,
}

impl<'a> Walkthrough<'a> {
    pub(super) fn new(observer: &'a mut dyn Observer) -> Walkthrough<'a> {
        Walkthrough {
            observer,
            steps: Vec::new(),
            node: None,
        }
    }

    pub(super) fn part(&mut self, title: &str) {
        self.observer.part(title);
    }

    /// Which program the nodes are.
    pub(super) fn set_node(&mut self, node: String) {
        self.node = Some(node);
    }

    /// Plays one step.
    ///
    /// # Errors
    /// The step's own, or one that names the step if a check failed: the steps that
    /// follow depend on it.
    pub(super) async fn step<T>(
        &mut self,
        name: &str,
        command: impl Into<String>,
        play: impl AsyncFnOnce(&mut Step<'_>) -> Result<T>,
    ) -> Result<T> {
        let command = command.into();
        self.observer.start(&command);
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
            Ok(_) if !ok => Err(Error::usage(format!("step `{name}`: a check failed"))),
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
    /// A comment for the reader.
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

    /// Something that must hold; `seen` describes what was there instead.
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
}
