//! The walkthrough while it runs: each step is announced, run, checked, timed, reported.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant, SystemTime};

use super::report::{Check, Report, StepReport};
use super::shell::Shell;
use cln_lab::{Error, Event, Result};

/// What follows a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The next step.
    Step,
    /// A shell for the learner, then the question again.
    Shell,
    /// What was answered means nothing: the question again.
    Unclear,
    /// The end.
    Quit,
}

/// Receives the walkthrough as it happens.
pub trait Observer {
    /// A part starts.
    fn part(&mut self, title: &str);
    /// A step starts; the report has its explanation and its command.
    fn start(&mut self, step: &StepReport);
    /// The step has ended.
    fn end(&mut self, step: &StepReport);
    /// What follows the step that has just ended.
    ///
    /// # Errors
    /// If it cannot be asked.
    fn next(&mut self) -> futures_util::future::LocalBoxFuture<'_, Result<Next>> {
        Box::pin(async { Ok(Next::Step) })
    }
    /// The walkthrough has ended.
    fn finish(&mut self, report: &Report);
}

/// Shows nothing.
#[derive(Debug)]
pub struct Quiet;

impl Observer for Quiet {
    fn part(&mut self, _: &str) {}
    fn start(&mut self, _: &StepReport) {}
    fn end(&mut self, _: &StepReport) {}
    fn finish(&mut self, _: &Report) {}
}

pub(super) struct Walkthrough<'a> {
    observer: &'a mut dyn Observer,
    shell: &'a mut Shell,
    /// The steps that are shown; those before are played in silence, none after.
    shown: RangeInclusive<usize>,
    /// The first step that was asked for.
    first: usize,
    part: String,
    steps: Vec<StepReport>,
    node: Option<String>,
    /// Nothing more is played, though nothing is wrong.
    ended: bool,
    /// This is the last step: there is nothing to ask after it.
    last: bool,
}

/// One step, after its command has ended.
pub(super) struct Step {
    report: StepReport,
}

impl<'a> Walkthrough<'a> {
    pub fn new(
        observer: &'a mut dyn Observer,
        shell: &'a mut Shell,
        shown: RangeInclusive<usize>,
    ) -> Walkthrough<'a> {
        Walkthrough {
            observer,
            shell,
            first: *shown.start(),
            shown,
            part: String::new(),
            steps: Vec::new(),
            node: None,
            ended: false,
            last: false,
        }
    }

    pub fn part(&mut self, title: &str) {
        title.clone_into(&mut self.part);
        if self.is_shown() {
            self.observer.part(title);
        }
    }

    /// Which program the nodes are.
    pub fn set_node(&mut self, node: String) {
        self.node = Some(node);
    }

    /// Whether the next step is shown.
    fn is_shown(&self) -> bool {
        self.shown.contains(&(self.steps.len() + 1))
    }

    /// Plays one step: runs `command`, which must succeed, and then `check`.
    ///
    /// # Errors
    /// The check's own, or one that names the step if the command or a check failed: the
    /// steps that follow depend on it. Also after the last step that was asked for.
    pub async fn step<T>(
        &mut self,
        name: &str,
        why: &str,
        command: impl Into<String>,
        check: impl AsyncFnOnce(&mut Step) -> Result<T>,
    ) -> Result<T> {
        let wrong = |status| status != 0;
        self.play(name, why, command.into(), wrong, check).await
    }

    /// The same for a command that must fail.
    pub async fn failing_step<T>(
        &mut self,
        name: &str,
        why: &str,
        command: impl Into<String>,
        check: impl AsyncFnOnce(&mut Step) -> Result<T>,
    ) -> Result<T> {
        let wrong = |status| status == 0;
        self.play(name, why, command.into(), wrong, check).await
    }

    /// The same for a command that may fail; whether it succeeded.
    pub async fn either_step(&mut self, name: &str, why: &str, command: &str) -> Result<bool> {
        let check = async |step: &mut Step| Ok(step.report.status == 0);
        self.play(name, why, command.to_owned(), |_| false, check)
            .await
    }

    async fn play<T>(
        &mut self,
        name: &str,
        why: &str,
        command: String,
        wrong: impl FnOnce(i32) -> bool,
        check: impl AsyncFnOnce(&mut Step) -> Result<T>,
    ) -> Result<T> {
        let shown = self.is_shown();
        let mut report = StepReport {
            number: self.steps.len() + 1,
            part: self.part.clone(),
            name: name.to_owned(),
            explanation: why.to_owned(),
            command,
            at: humantime::format_rfc3339_micros(SystemTime::now()).to_string(),
            ..StepReport::default()
        };
        if shown {
            self.observer.start(&report);
        }
        let started = Instant::now();
        let ran = self.shell.run(&report.command).await;
        let mut step = Step { report };
        let outcome = match ran {
            Ok((answer, status)) => {
                (step.report.answer, step.report.status) = (answer, status);
                if wrong(status) {
                    Err(Error::usage(format!("exit status {status}")))
                } else {
                    check(&mut step).await
                }
            }
            Err(error) => Err(error),
        };
        report = step.report;
        report.ms = started.elapsed().as_millis() as u64;
        report.error = outcome.as_ref().err().map(ToString::to_string);
        report.ok = outcome.is_ok() && report.checks.iter().all(|check| check.ok);
        let ok = report.ok;
        if shown || !ok {
            self.observer.end(&report);
        }
        self.steps.push(report);
        let value = outcome?;
        if !ok {
            return Err(Error::usage(format!("step `{name}`: a check failed")));
        }
        if self.steps.len() >= *self.shown.end() {
            self.ended = true;
        } else if shown && !self.last {
            self.ask().await?;
        }
        if self.ended {
            return Err(Error::usage("nothing more was asked for"));
        }
        Ok(value)
    }

    /// Does what the learner wants before the next step.
    async fn ask(&mut self) -> Result<()> {
        loop {
            match self.observer.next().await? {
                Next::Step => return Ok(()),
                Next::Quit => {
                    self.ended = true;
                    return Ok(());
                }
                Next::Shell => self.shell.lend().await?,
                Next::Unclear => {}
            }
        }
    }

    /// The end of the lab, always played; shown unless less was asked for.
    pub async fn last_step<T>(
        &mut self,
        name: &str,
        why: &str,
        command: &str,
        check: impl AsyncFnOnce(&mut Step) -> Result<T>,
    ) -> Result<T> {
        let ended = std::mem::take(&mut self.ended);
        let first = if self.is_shown() { 1 } else { usize::MAX };
        self.shown = first..=usize::MAX;
        self.last = true;
        let outcome = self.step(name, why, command, check).await;
        self.ended = ended;
        outcome
    }

    pub fn shell(&mut self) -> &mut Shell {
        self.shell
    }

    /// `lab` is the name of the lab that stays up.
    pub fn finish(mut self, outcome: Result<()>, took: Duration, lab: Option<String>) -> Report {
        let (first, played) = (self.first, self.steps.len());
        let outcome = match outcome {
            _ if self.ended => Ok(()),
            Ok(()) if first > played => Err(Error::usage(format!(
                "there is no step {first}: the steps are 1 to {played}"
            ))),
            outcome => outcome,
        };
        let report = Report {
            ok: outcome.is_ok() && self.steps.iter().all(|step| step.ok),
            ms: took.as_millis() as u64,
            node: self.node.take(),
            steps: self.steps,
            error: outcome.err().map(|error| error.to_string()),
            lab,
            trace: None,
        };
        self.observer.finish(&report);
        report
    }
}

impl Step {
    /// What the command printed.
    pub fn answer(&self) -> &str {
        &self.report.answer
    }

    /// A notification that was recorded.
    pub fn recorded(&mut self, event: &Event) {
        self.report.recorded.push(event.into());
    }

    /// Something that must hold; `seen` describes what was there instead.
    pub fn check(&mut self, what: &str, ok: bool, seen: impl FnOnce() -> String) {
        let seen = (!ok).then(seen);
        self.report.checks.push(Check {
            what: what.to_owned(),
            ok,
            seen,
        });
    }

    /// The answer must contain this.
    pub fn check_answer(&mut self, what: &str, text: &str) {
        let ok = self.report.answer.contains(text);
        let seen = format!("no `{text}` in the answer");
        self.check(what, ok, || seen);
    }

    /// Something that must be equal.
    pub fn check_eq<T>(&mut self, what: &str, seen: T, expected: T)
    where
        T: PartialEq + std::fmt::Debug,
    {
        let ok = seen == expected;
        self.check(what, ok, || format!("{seen:?}, expected {expected:?}"));
    }
}
