//! The walkthrough on a terminal.

use std::io::Write;

use console::style;
use serde_json::Value;

use super::report::{Report, StepReport};
use super::walkthrough::Observer;

/// Prints each step as it happens: the command, its answer with long lists folded, the
/// recorded notifications, and the checks.
pub struct Screen<W: Write> {
    out: W,
}

impl<W: Write> Screen<W> {
    /// Prints to `out`.
    pub fn new(out: W) -> Screen<W> {
        Screen { out }
    }

    /// A reader that has gone (`| head`) must not end the walkthrough half-way.
    fn line(&mut self, text: impl std::fmt::Display) {
        let _ = writeln!(self.out, "{text}");
        let _ = self.out.flush();
    }
}

impl<W: Write> Observer for Screen<W> {
    fn part(&mut self, title: &str) {
        self.line(format_args!("\n{}", style(title).bold().underlined()));
    }

    fn start(&mut self, command: &str) {
        self.line("");
        for (n, line) in command.lines().enumerate() {
            let prompt = if n == 0 { "$" } else { ">" };
            self.line(format_args!(
                "{} {}",
                style(prompt).green().bold(),
                style(line).bold()
            ));
        }
    }

    fn say(&mut self, text: &str) {
        self.line(format_args!("  {}", style(text).dim()));
    }

    fn end(&mut self, step: &StepReport) {
        for line in shown(&step.answer).lines() {
            self.line(format_args!("  {line}"));
        }
        for recorded in &step.recorded {
            self.line(format_args!(
                "  {} {}",
                style("recorded:").cyan(),
                recorded.line
            ));
        }
        for check in &step.checks {
            match &check.seen {
                None => self.line(format_args!("  {} {}", style("✓").green(), check.what)),
                Some(seen) => self.line(format_args!(
                    "  {} {}: {seen}",
                    style("✗").red().bold(),
                    check.what
                )),
            }
        }
        if let Some(error) = &step.error {
            self.line(format_args!("  {} {error}", style("✗").red().bold()));
        }
        self.line(format_args!("  {}", style(format!("{} ms", step.ms)).dim()));
    }

    fn finish(&mut self, report: &Report) {
        let held = report.steps.iter().filter(|step| step.ok).count();
        let checks: usize = report.steps.iter().map(|step| step.checks.len()).sum();
        let node = report.node.as_deref().unwrap_or("no node");
        let seconds = report.ms as f64 / 1000.0;
        self.line("");
        if report.ok {
            self.line(format_args!(
                "{} {held} steps, {checks} checks, all held, on {node}, in {seconds:.2} s",
                style("✓").green().bold()
            ));
        } else {
            let total = report.steps.len();
            self.line(format_args!(
                "{} {held} of {total} steps held, on {node}, in {seconds:.2} s",
                style("✗").red().bold()
            ));
            // Below the step that failed it is shown already.
            let shown = report.steps.iter().any(|step| step.error == report.error);
            if let Some(error) = report.error.as_ref().filter(|_| !shown) {
                self.line(format_args!("  {error}"));
            }
        }
        if let Some(folder) = &report.folder {
            self.line(format_args!("  the lab's folder is {}", folder.display()));
        }
    }
}

/// An answer as lightning-cli would print it, long lists folded; text as it is.
fn shown(answer: &Value) -> String {
    match answer {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => serde_json::to_string_pretty(&folded(other)).unwrap_or_default(),
    }
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
}
