//! The result of the walkthrough, for people and for programs.

use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;

use cln_lab::Event;
use cln_lab::trace::{Page, Step, Trace};

/// The whole walkthrough.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether every step passed.
    pub ok: bool,
    /// From the first step to the last, in milliseconds.
    pub ms: u64,
    /// Which program the nodes were, for example `lightningd v26.06.6`; `None` if they
    /// never ran.
    pub node: Option<String>,
    /// Every step that was run, in order.
    pub steps: Vec<StepReport>,
    /// The error that ended it early, if one did.
    pub error: Option<String>,
    /// The lab's name, if it stays up.
    pub lab: Option<String>,
    /// What happened in the lab until its end, if it was asked for.
    #[serde(skip)]
    pub trace: Option<Trace>,
}

/// One step.
#[derive(Debug, Default, Serialize)]
pub struct StepReport {
    /// Its place, from 1.
    pub number: usize,
    /// The title of its part.
    pub part: String,
    /// A short name.
    pub name: String,
    /// Why it is done, and what to look at.
    pub explanation: String,
    /// The command as it was run in bash, after `source contrib/lab.sh`.
    pub command: String,
    /// When it started, RFC 3339 in UTC.
    pub at: String,
    /// The command's exit status.
    pub status: i32,
    /// Whether all its checks passed.
    pub ok: bool,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// What the command printed, both streams, without spaces at its end.
    pub answer: String,
    /// The notifications that plugins recorded because of it.
    pub recorded: Vec<Recorded>,
    /// Its checks.
    pub checks: Vec<Check>,
    /// Why it was not completed.
    pub error: Option<String>,
}

/// A recorded notification, as reported.
#[derive(Debug, Serialize)]
pub struct Recorded {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: Value,
    /// The line in the file.
    pub line: String,
}

impl From<&Event> for Recorded {
    fn from(event: &Event) -> Recorded {
        Recorded {
            topic: event.topic.clone(),
            payload: event.payload.clone(),
            line: event.line.clone(),
        }
    }
}

/// One check.
#[derive(Debug, Serialize)]
pub struct Check {
    /// What must hold.
    pub what: String,
    /// Whether it does.
    pub ok: bool,
    /// What was seen instead, if it does not.
    pub seen: Option<String>,
}

impl Check {
    fn shown(&self) -> cln_lab::trace::Check {
        cln_lab::trace::Check {
            what: self.what.clone(),
            ok: self.ok,
            seen: self.seen.clone(),
        }
    }
}

impl Report {
    /// All of it in Markdown, with every answer in full.
    pub fn markdown(&self) -> String {
        let mut text = "# The workshop, as it was played\n".to_owned();
        let mut part = "";
        for step in &self.steps {
            if step.part != part {
                part = &step.part;
                let _ = write!(text, "\n## {part}\n");
            }
            let _ = write!(text, "\n### {}. {}\n\n", step.number, step.name);
            if !step.explanation.is_empty() {
                let _ = write!(text, "{}\n\n", step.explanation);
            }
            let _ = write!(
                text,
                "```console\n$ {}\n",
                step.command.replace('\n', "\n> ")
            );
            if !step.answer.is_empty() {
                let _ = writeln!(text, "{}", step.answer);
            }
            text.push_str("```\n");
            for recorded in &step.recorded {
                let _ = write!(text, "\nrecorded:\n\n```text\n{}\n```\n", recorded.line);
            }
            if !step.checks.is_empty() {
                text.push('\n');
            }
            for check in &step.checks {
                let mark = if check.ok { "x" } else { " " };
                let seen = check.seen.as_ref().map(|seen| format!(": {seen}"));
                let _ = writeln!(
                    text,
                    "- [{mark}] {}{}",
                    check.what,
                    seen.unwrap_or_default()
                );
            }
            if let Some(error) = &step.error {
                let _ = write!(text, "\n**{error}**\n");
            }
        }
        let _ = write!(text, "\n{}\n", self.summary());
        text
    }

    /// A page with the steps, their checks, and what was sent.
    pub fn page(&self) -> String {
        let step = |step: &StepReport| Step {
            title: format!("{}. {}: {}", step.number, step.name, step.command),
            at: Some(step.at.clone()),
            ok: step.ok,
            text: step.error.clone(),
            recorded: step.recorded.iter().map(|one| one.line.clone()).collect(),
            checks: step.checks.iter().map(Check::shown).collect(),
        };
        let none = Trace::default();
        let trace = self.trace.as_ref().unwrap_or(&none);
        let title = format!("The workshop: {}", self.summary());
        let page = Page::new(&title, trace).steps(self.steps.iter().map(step).collect());
        match &self.error {
            Some(error) => page.failure(error.as_str()).html(),
            None => page.html(),
        }
    }

    /// One line: how much of it held, on which node.
    pub fn summary(&self) -> String {
        let held = self.steps.iter().filter(|step| step.ok).count();
        let node = self.node.as_ref();
        let on = node.map_or(String::new(), |node| format!(", on {node}"));
        let seconds = self.ms as f64 / 1000.0;
        if self.ok {
            let checks: usize = self.steps.iter().map(|step| step.checks.len()).sum();
            format!("{held} steps, {checks} checks, all held{on}, in {seconds:.2} s")
        } else {
            let total = self.steps.len();
            format!("{held} of {total} steps held{on}, in {seconds:.2} s")
        }
    }
}
