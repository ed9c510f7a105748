//! One check while it runs: what is done is kept, and the first thing that does not
//! hold ends it.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use cln_lab::{Error, IoContext, json_hint};
use serde_json::Value;

use super::bench::Bench;
use super::verdict::{Miss, Said, Verdict};
use crate::wire::Sender;

/// More of a text, in characters, is not kept.
const LONGEST: usize = 4000;

/// More messages than twice as many are not kept: the last are.
const MOST: usize = 1000;

/// Lines of standard error that are quoted.
pub(super) const LINES: usize = 8;

/// Why a check ended.
pub(super) enum Stop {
    /// Something did not hold.
    Missed(Box<Miss>),
    /// The check could not be made.
    Broken(Error),
}

pub(super) type Outcome<T = ()> = std::result::Result<T, Stop>;

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Broken(error)
    }
}

/// One check.
pub(super) struct Exam {
    pub bench: Rc<Bench>,
    pub program: PathBuf,
    pub test: PathBuf,
    verdict: Verdict,
    /// What was done last, for people.
    done: String,
    /// How many messages are not kept any more.
    left_out: usize,
}

/// Ends the check: what should have come, and what came.
pub(super) fn missed<T>(
    done: impl Into<String>,
    expected: impl ToString,
    came: impl ToString,
) -> Outcome<T> {
    let (expected, came) = (expected.to_string(), came.to_string());
    Err(Stop::Missed(Box::new(Miss {
        done: done.into(),
        expected,
        came,
        help: String::new(),
    })))
}

impl Exam {
    pub fn new(bench: Rc<Bench>, program: &Path, test: &Path) -> Exam {
        Exam {
            bench,
            program: program.to_owned(),
            test: test.to_owned(),
            verdict: Verdict::default(),
            done: String::new(),
            left_out: 0,
        }
    }

    /// This holds.
    pub fn held(&mut self, what: impl Into<String>) {
        self.verdict.held.push(what.into());
    }

    /// This was done; what comes is its effect.
    pub fn doing(&mut self, what: impl Into<String>) {
        self.done = what.into();
    }

    /// This holds, or ends the check.
    pub fn must(
        &mut self,
        ok: bool,
        what: &str,
        expected: impl ToString,
        came: impl ToString,
    ) -> Outcome {
        if !ok {
            return missed(self.done(), expected, came);
        }
        self.held(what);
        Ok(())
    }

    /// What has passed so far.
    pub fn wire(&self) -> &[Said] {
        &self.verdict.wire
    }

    /// What was done last.
    pub fn done(&self) -> String {
        self.done.clone()
    }

    /// The last that it wrote to its stderr, or logged: why a handler failed, say.
    fn spoken(&self) -> String {
        let logged = self.verdict.wire.iter().filter_map(|said| {
            let message: Value = serde_json::from_str(&said.text).ok()?;
            let ours = said.from == Sender::Plugin && message["method"] == "log";
            let text = message["params"]["message"].as_str().filter(|_| ours)?;
            Some(text.trim_end().to_owned()).filter(|text| !text.is_empty())
        });
        for (what, mut lines) in [("stderr", self.stderr()), ("log", logged.collect())] {
            lines.drain(..lines.len().saturating_sub(LINES));
            if !lines.is_empty() {
                return format!("its {what}:\n  {}", lines.join("\n  "));
            }
        }
        String::new()
    }

    /// The last lines that it wrote to its stderr, by the wire.
    pub fn stderr(&self) -> Vec<String> {
        let wire = self.verdict.wire.iter();
        let mut lines: Vec<String> = wire
            .filter(|said| said.from == Sender::Stderr)
            .map(|said| said.text.clone())
            .collect();
        lines.drain(..lines.len().saturating_sub(LINES));
        lines
    }

    pub fn missed(&mut self, mut miss: Miss) {
        if miss.help.is_empty() {
            miss.help = self.spoken();
        }
        if let Some(hint) = json_hint(&miss.came)
            && !miss.help.contains("hint: ")
        {
            miss.help = format!("{}\nhint: {hint}", miss.help).trim().to_owned();
        }
        for text in [&mut miss.expected, &mut miss.came, &mut miss.help] {
            cut(text);
        }
        self.verdict.miss = Some(miss);
    }

    pub fn finish(mut self) -> Verdict {
        if self.left_out > 0 {
            let note = Said {
                from: Sender::Tee,
                text: format!("{} earlier messages are left out", self.left_out),
                mistake: None,
            };
            self.verdict.wire.insert(0, note);
        }
        self.verdict
    }

    pub fn said(&mut self, from: Sender, text: impl Into<String>, mistake: Option<String>) {
        let mut text = text.into().trim_end().to_owned();
        cut(&mut text);
        let wire = &mut self.verdict.wire;
        wire.push(Said {
            from,
            text,
            mistake,
        });
        // Seldom, as it moves what is kept.
        if wire.len() > 2 * MOST {
            self.left_out += wire.drain(..wire.len() - MOST).count();
        }
    }

    /// Whether what it sent is only what may come unasked: notifications of its own.
    pub fn must_be_silent(&mut self, sent: &[Value]) -> Outcome {
        let answer = sent.iter().find(|message| !message["method"].is_string());
        match answer {
            None => Ok(()),
            Some(answer) => missed(
                self.done(),
                "nothing: a notification has no id, and must not be answered",
                answer,
            ),
        }
    }
}

/// Leaves the start of a long text.
fn cut(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push('…');
    }
}

/// The lines of a file; none if there is no file.
pub(super) fn lines_of(path: &Path) -> Outcome<Vec<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).doing("read", path).map_err(Stop::Broken),
    }
}
