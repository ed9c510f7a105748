//! The walkthrough on a terminal: at most 20 lines a step, 80 columns wide.

use std::io::Write;

use cln_lab::Result;
use console::style;
use futures_util::future::LocalBoxFuture;
use serde_json::Value;

use super::report::{Report, StepReport};
use super::walkthrough::{Next, Observer};
use crate::keys::Keys;

/// Lines a step, and columns a line.
const LINES: usize = 20;
const COLUMNS: usize = 80;
/// One line of an answer takes at most this many rows.
const ROWS: usize = 3;
/// A word of more letters and digits than this, an id say, is cut to its start.
const LONG: usize = 40;
const START: usize = 8;

/// Prints each step as it happens: why it is done, the command, its answer with long
/// lists folded and ids shortened, the recorded notifications, and the checks.
pub struct Screen<W: Write> {
    out: W,
    pause: bool,
    /// Lines of the present step.
    used: usize,
    /// What is said at the end of a lab that stays up.
    words: String,
}

impl<W: Write> Screen<W> {
    /// Prints to `out`; with `pause`, asks the terminal after each step what follows.
    /// `words` tell how to go on with a lab that stays up.
    pub fn new(out: W, pause: bool, words: String) -> Screen<W> {
        Screen {
            out,
            pause,
            used: 0,
            words,
        }
    }

    /// A reader that has gone (`| head`) must not end the walkthrough half-way.
    fn line(&mut self, text: impl std::fmt::Display) {
        self.used += 1;
        let _ = writeln!(self.out, "{text}");
        let _ = self.out.flush();
    }

    /// A text that starts with `mark`, over as many rows as it needs, at most [`ROWS`].
    fn marked(&mut self, mark: impl std::fmt::Display, width: usize, text: &str) {
        for (n, row) in rows(text, COLUMNS - 2 - width).into_iter().enumerate() {
            if n == 0 {
                self.line(format_args!("  {mark} {row}"));
            } else {
                self.line(format_args!("  {:width$}{row}", ""));
            }
        }
    }
}

impl<W: Write> Observer for Screen<W> {
    fn part(&mut self, title: &str) {
        self.line(format_args!("\n{}", style(title).bold().underlined()));
    }

    fn start(&mut self, step: &StepReport) {
        self.used = 0;
        self.line("");
        let title = format!("{}. {}", step.number, step.name);
        self.line(style(title).cyan().bold());
        for row in filled(&step.explanation, COLUMNS) {
            self.line(style(row).dim());
        }
        for (n, line) in step.command.lines().enumerate() {
            let prompt = if n == 0 { "$" } else { ">" };
            for (n, row) in rows(line, COLUMNS - 2).into_iter().enumerate() {
                let prompt = if n == 0 { prompt } else { " " };
                let prompt = style(prompt).green().bold();
                self.line(format_args!("{prompt} {}", style(row).bold()));
            }
        }
    }

    fn end(&mut self, step: &StepReport) {
        let answer: Vec<String> = shown(&step.answer)
            .lines()
            .flat_map(|line| rows(line, COLUMNS - 2))
            .collect();
        let recorded = step.recorded.iter();
        let below: usize = step.checks.len()
            + recorded
                .map(|recorded| rows(&shortened(&recorded.line), COLUMNS - 12).len())
                .sum::<usize>();
        let room = LINES.saturating_sub(self.used + below).max(3);
        for line in within(answer, room) {
            self.line(format_args!("  {line}"));
        }
        for recorded in &step.recorded {
            let line = shortened(&recorded.line);
            self.marked(style("recorded:").cyan(), 10, &line);
        }
        for check in &step.checks {
            match &check.seen {
                None => self.line(format_args!("  {} {}", style("✓").green(), check.what)),
                Some(seen) => {
                    let text = format!("{}: {seen}", check.what);
                    self.marked(style("✗").red().bold(), 2, &text);
                }
            }
        }
        if let Some(error) = &step.error {
            self.line(format_args!("  {} {error}", style("✗").red().bold()));
        }
    }

    fn next(&mut self) -> LocalBoxFuture<'_, Result<Next>> {
        Box::pin(async {
            if !self.pause {
                return Ok(Next::Step);
            }
            let _ = write!(
                self.out,
                "{}",
                style("— Enter: next, s: shell, q: quit — ").dim()
            );
            let _ = self.out.flush();
            let key = Keys::new()?.next().await?;
            let _ = writeln!(self.out);
            Ok(match key {
                'q' => Next::Quit,
                's' => Next::Shell,
                '\n' | '\r' | ' ' => Next::Step,
                _ => Next::Unclear,
            })
        })
    }

    fn finish(&mut self, report: &Report) {
        self.line("");
        let mark = if report.ok {
            style("✓").green().bold()
        } else {
            style("✗").red().bold()
        };
        self.line(format_args!("{mark} {}", report.summary()));
        // Below the step that failed it is shown already.
        let shown = report.steps.iter().any(|step| step.error == report.error);
        if let Some(error) = report.error.as_ref().filter(|_| !shown) {
            self.line(format_args!("  {error}"));
        }
        if let Some(lab) = &report.lab {
            self.line(format_args!(
                "\nlab `{lab}` stays up. To go on, in your shell:"
            ));
            let words = std::mem::take(&mut self.words);
            words
                .lines()
                .for_each(|line| self.line(format_args!("  {line}")));
        }
    }
}

/// An answer with long lists folded and long words shortened. One that is JSON is
/// laid out, as lightning-cli does.
fn shown(answer: &str) -> String {
    let start = if answer.starts_with('{') {
        Some(0)
    } else {
        answer.find("\n{").map(|at| at + 1)
    };
    let (before, json) = answer.split_at(start.unwrap_or(answer.len()));
    let mut values = serde_json::Deserializer::from_str(json).into_iter::<Value>();
    let Some(Ok(value @ Value::Object(_))) = values.next() else {
        return shortened(answer);
    };
    let after = json.get(values.byte_offset()..).unwrap_or_default();
    let folded = serde_json::to_string_pretty(&folded(&value)).unwrap_or_default();
    shortened(&format!("{before}{folded}{after}"))
}

/// The same with only the last entry of every long list.
fn folded(value: &Value) -> Value {
    const LONG: usize = 4;
    match value {
        Value::Array(items) if items.len() >= LONG => {
            let note = format!("… {} more …", items.len() - 1);
            let last = items.last().map(folded);
            std::iter::once(Value::String(note)).chain(last).collect()
        }
        Value::Array(items) => items.iter().map(folded).collect(),
        Value::Object(object) => object
            .iter()
            .map(|(key, value)| (key.clone(), folded(value)))
            .collect(),
        other => other.clone(),
    }
}

/// The text with every long word cut to its start.
pub(crate) fn shortened(text: &str) -> String {
    let mut short = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let plain = |c: char| c.is_ascii_alphanumeric();
        let word = rest.find(|c| !plain(c)).unwrap_or(rest.len());
        let (head, tail) = rest.split_at(word);
        if head.len() > LONG {
            short.push_str(&head[..START]);
            short.push('…');
        } else {
            short.push_str(head);
        }
        let between = tail.find(plain).unwrap_or(tail.len());
        short.push_str(&tail[..between]);
        rest = &tail[between..];
    }
    short
}

/// A line in rows of this width, at most [`ROWS`]: then `…` stands for the rest.
fn rows(line: &str, width: usize) -> Vec<String> {
    rows_within(line, width, ROWS)
}

/// The same with at most so many rows. Of a line that is much longer, only its start is
/// looked at.
pub(crate) fn rows_within(line: &str, width: usize, most: usize) -> Vec<String> {
    let seen: String = line.chars().take((most + 1) * width).collect();
    let mut rest: Vec<char> = seen.replace('\t', "    ").chars().collect();
    let mut rows = Vec::new();
    while rest.len() > width {
        // Between two words, if there is a place near the end.
        let space = rest[..width].iter().rposition(|c| *c == ' ');
        let end = space
            .filter(|at| at + 20 > width)
            .map_or(width, |at| at + 1);
        let tail = rest.split_off(end);
        rows.push(String::from_iter(std::mem::replace(&mut rest, tail)));
    }
    rows.push(String::from_iter(rest));
    if rows.len() > most {
        rows.truncate(most);
        let mut last = rows.pop().unwrap_or_default();
        if last.chars().count() == width {
            last.pop();
        }
        rows.push(last + "…");
    }
    rows
}

/// Words in lines of this width.
pub(crate) fn filled(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The first and the last of these lines, if there are more than `room`.
fn within(lines: Vec<String>, room: usize) -> Vec<String> {
    if lines.len() <= room {
        return lines;
    }
    let tail = (room - 1) / 3;
    let head = room - 1 - tail;
    let left_out = lines.len() - head - tail;
    let mut shown = lines[..head].to_vec();
    shown.push(format!("… {left_out} lines, which --transcript has …"));
    shown.extend_from_slice(&lines[lines.len() - tail..]);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn long_lists_are_folded_to_their_last_entry() {
        assert_eq!(folded(&json!({"a": [1, 2, 3]})), json!({"a": [1, 2, 3]}));
        assert_eq!(
            folded(&json!({"a": [1, 2, 3, {"b": 4}]})),
            json!({"a": ["… 3 more …", {"b": 4}]})
        );
    }

    #[test]
    fn long_words_are_cut() {
        let id = "02".repeat(33);
        assert_eq!(shortened(&format!("\"{id}\", x")), "\"02020202…\", x");
        assert_eq!(shortened("/a/b-c d"), "/a/b-c d");
    }

    #[test]
    fn a_step_fits_its_room() {
        let lines: Vec<String> = (0..50).map(|n| n.to_string()).collect();
        let shown = within(lines, 10);
        assert_eq!(shown.len(), 10);
        assert_eq!((shown[0].as_str(), shown[9].as_str()), ("0", "49"));
        assert_eq!(rows(&"x".repeat(1000), 78).len(), ROWS);
    }
}
