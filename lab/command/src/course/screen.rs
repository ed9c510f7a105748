//! The course on a terminal: a step, a verdict, hints, the wire, the list; at most 20
//! lines each, 80 columns wide, where they are to be read at a glance.

use std::path::Path;
use std::time::Duration;

use console::style;
use similar::{ChangeTag, TextDiff};

use super::folder::Folder;
use super::progress::Progress;
use super::verdict::{Miss, Said, Verdict};
use super::{PARTS, STEPS, Step, TEST};
use crate::wire::Sender;
use crate::workshop::{filled, rows_within, shortened};

const COLUMNS: usize = 80;
/// The wire below a verdict: so many messages, from the last back.
const FOLDED: usize = 3;
/// Rows of help below a verdict.
const HELP: usize = 5;
/// Rows that `w` shows, and of one message.
const WIRE: usize = 40;
const UNFOLDED: usize = 8;
/// Checks that held, named one by one.
const HELD: usize = 6;

/// What a check followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// A save, in a terminal.
    Save,
    /// A key, in a terminal.
    Enter,
    /// `--check`.
    Command,
}

/// The keys, in one line.
pub const KEYS: &str =
    "h hint  w wire  s shell  n/p next/previous  l list  r reset  Enter check  q quit";

/// A step: its title, why, and the task.
pub fn step(step: &Step, folder: &Folder) -> String {
    let text = step.text();
    let title = format!("{}. {}", step.number(), text.title);
    let part = format!(
        "part {}: {}",
        step.part,
        PARTS[step.part - 1].to_lowercase()
    );
    let gap = COLUMNS.saturating_sub(title.chars().count() + part.chars().count());
    let mut lines = vec![
        String::new(),
        format!(
            "{}{:gap$}{}",
            style(title).cyan().bold(),
            "",
            style(part).dim()
        ),
    ];
    lines.extend(paragraphs(text.why));
    lines.push(style(text.see).dim().to_string());
    lines.push(style("Your turn:").bold().to_string());
    lines.extend(paragraphs(text.task));
    let file = folder.file(step);
    lines.push(format!(
        "{} {}, {}",
        style("Edit").bold(),
        short(&file),
        style("each save is checked").dim()
    ));
    lines.push(style(KEYS).dim().to_string());
    lines.join("\n")
}

/// A path as short as it can be typed.
fn short(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let relative = here
        .as_deref()
        .and_then(|here| path.strip_prefix(here).ok());
    relative.unwrap_or(path).display().to_string()
}

/// Prose in lines of the screen's width; indented lines as they are, without the empty
/// lines around them.
fn paragraphs(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut prose = String::new();
    for line in text.lines() {
        if line.starts_with("    ") {
            lines.extend(filled(&std::mem::take(&mut prose), COLUMNS));
            lines.push(style(line).green().to_string());
        } else {
            prose.push_str(line);
            prose.push(' ');
        }
    }
    lines.extend(filled(&prose, COLUMNS));
    lines
}

/// What a check found, and what to do next; in a terminal that is a key.
pub fn verdict(verdict: &Verdict, step: &Step, took: Duration, after: After) -> String {
    let keys = after != After::Command;
    let mut lines = vec![String::new()];
    let left_out = verdict.held.len().saturating_sub(HELD);
    if left_out > 0 {
        lines.push(format!(
            "{} {left_out} more checks held",
            style("✓").green()
        ));
    }
    for held in &verdict.held[left_out..] {
        lines.extend(marked(&style("✓").green().to_string(), 2, held, 1));
    }
    if let Some(miss) = &verdict.miss {
        lines.extend(missed(miss));
    }
    let from = verdict.wire.len().saturating_sub(FOLDED);
    if from > 0 {
        let shows = if keys { "`w`" } else { "`--json`" };
        let text = format!("  … {from} earlier, {shows} shows them");
        lines.push(style(text).dim().to_string());
    }
    lines.extend(
        verdict.wire[from..]
            .iter()
            .flat_map(|said| message(said, &shortened(&said.text), 1)),
    );
    let (number, count) = (step.number(), STEPS.len());
    let took = format!("{:.2} s", took.as_secs_f64());
    let since = if after == After::Save {
        format!("{took} after the save")
    } else {
        format!("in {took}")
    };
    lines.push(match (verdict.passed(), keys) {
        (true, true) => {
            let text = format!("✓ Step {number} of {count} is passed, {since}.");
            let next = if number == count {
                "That was the last one."
            } else {
                "`n`: the next one."
            };
            format!("{} {next}", style(text).green().bold())
        }
        (true, false) => {
            let text = format!("✓ Step {number} of {count}, {}, is passed,", step.slug);
            format!("{} {since}.", style(text).green().bold())
        }
        (false, true) => format!("{} {since}. `h`: a hint.", style("✗ Not yet,").red().bold()),
        (false, false) => {
            let text = format!("✗ Step {number} of {count}, {}, is not passed,", step.slug);
            format!("{} {since}.", style(text).red().bold())
        }
    });
    lines.join("\n")
}

fn missed(miss: &Miss) -> Vec<String> {
    let mut lines = marked(&style("✗").red().bold().to_string(), 2, &miss.done, 2);
    for (what, text) in [("expected:", &miss.expected), ("came:    ", &miss.came)] {
        let what = style(what).yellow().to_string();
        lines.extend(marked(&format!("  {what}"), 12, &shortened(text), 3));
    }
    let help = miss.help.lines().flat_map(|line| marked(" ", 2, line, 2));
    let help: Vec<String> = help.collect();
    // The end of an error says more than its start; a hint is the last line.
    lines.extend_from_slice(&help[help.len().saturating_sub(HELP)..]);
    lines
}

/// A text behind a mark of this width, in at most so many rows.
fn marked(mark: &str, width: usize, text: &str, most: usize) -> Vec<String> {
    let rows = rows_within(text, COLUMNS - width, most);
    let mut lines = Vec::new();
    for (n, row) in rows.into_iter().enumerate() {
        lines.push(if n == 0 {
            format!("{mark} {row}")
        } else {
            format!("{:width$}{row}", "")
        });
    }
    lines
}

/// A message as this text, in at most so many rows, and what is wrong with it.
fn message(said: &Said, text: &str, most: usize) -> Vec<String> {
    let mark = style(said.from.mark());
    let mark = match said.from {
        Sender::Lightningd => mark.green(),
        Sender::Plugin => mark.cyan(),
        Sender::Stderr => mark.yellow(),
        Sender::Tee => mark.dim(),
    };
    let mut lines = marked(&format!("  {mark}"), 4, text, most);
    if let Some(mistake) = &said.mistake {
        lines.extend(marked(
            &style("    mistake:").red().to_string(),
            13,
            mistake,
            2,
        ));
    }
    lines
}

/// The last of what passed; `whole` is the file that has all of it.
pub fn wire(verdict: Option<&Verdict>, whole: Option<&Path>) -> String {
    let (Some(verdict), Some(whole)) = (verdict, whole) else {
        return "`w` shows the messages of the last check, and there was none yet: save your file,\n\
                or press Enter"
            .to_owned();
    };
    let legend = "→ to the plugin, ← from it, ! its stderr";
    let mut lines = vec![style(legend).dim().to_string()];
    let mut shown = Vec::new();
    let mut used = 0;
    for said in verdict.wire.iter().rev() {
        let rows = message(said, &said.text, UNFOLDED);
        used += rows.len();
        if used > WIRE && !shown.is_empty() {
            break;
        }
        shown.push(rows);
    }
    let earlier = verdict.wire.len() - shown.len();
    if earlier > 0 {
        let text = format!("… {earlier} earlier");
        lines.push(style(text).dim().to_string());
    }
    lines.extend(shown.into_iter().rev().flatten());
    let text = format!("all of it: {}", short(whole));
    lines.push(style(text).dim().to_string());
    lines.join("\n")
}

/// What a reset did; `kept` is where the learner's own text is now.
pub fn reset(step: &Step, folder: &Folder, kept: Option<&Path>) -> String {
    let start = folder.language().and_then(|language| language.passes(step));
    let what = match start {
        Some(before) => format!(
            "the solution of step {}, with which step {} starts",
            before.number(),
            step.number()
        ),
        None => "what the course starts with".to_owned(),
    };
    let mut text = if step.slug == TEST {
        format!("reset: {} is gone", short(&folder.file(step)))
    } else {
        format!("reset: {} is now {what}", short(&folder.file(step)))
    };
    if let Some(kept) = kept {
        text.push_str(&format!("; yours is kept as {}", short(kept)));
    }
    text
}

/// The hint of this number, from 1; with the last, what changes in the solution.
pub fn hint(step: &Step, folder: &Folder, number: usize) -> String {
    let text = step.text();
    let number = number.clamp(1, text.hints.len());
    let mut lines = vec![
        String::new(),
        style(format!("Hint {number} of {}", text.hints.len()))
            .yellow()
            .bold()
            .to_string(),
    ];
    lines.extend(filled(text.hints[number - 1], COLUMNS));
    if number == text.hints.len()
        && let Some(language) = folder.language()
    {
        let (before, solution) = (language.before(step.slug), language.solution(step.slug));
        lines.extend(changes(before, solution));
    }
    lines.join("\n")
}

/// What is new in a text, `+`, and what goes, `-`.
fn changes(before: &str, after: &str) -> Vec<String> {
    let diff = TextDiff::from_lines(before, after);
    let mut lines = Vec::new();
    for group in diff.grouped_ops(1) {
        for op in group {
            for change in diff.iter_changes(&op) {
                let text = change.value().trim_end_matches('\n');
                lines.push(match change.tag() {
                    ChangeTag::Insert => style(format!("+ {text}")).green().to_string(),
                    ChangeTag::Delete => style(format!("- {text}")).red().to_string(),
                    ChangeTag::Equal => style(format!("  {text}")).dim().to_string(),
                });
            }
        }
    }
    lines
}

/// All steps, with what is passed.
pub fn list(progress: &Progress, present: &Step) -> String {
    let mut lines = Vec::new();
    for step in STEPS {
        let passed = progress.has_passed(step);
        let mark = if passed {
            style("✓").green()
        } else {
            style("·").dim()
        };
        let here = if step.slug == present.slug {
            style("▸").cyan().bold()
        } else {
            style(" ")
        };
        lines.push(format!(
            "{here}{mark} {:2}. {}",
            step.number(),
            step.text().title
        ));
    }
    let passed = STEPS
        .iter()
        .filter(|step| progress.has_passed(step))
        .count();
    lines.push(format!("{passed} of {} passed", STEPS.len()));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(text: &str, what: &str) {
        let text = console::strip_ansi_codes(text);
        assert!(
            text.lines().count() <= 20,
            "{what}: {} lines:\n{text}",
            text.lines().count()
        );
        for line in text.lines() {
            assert!(line.chars().count() <= COLUMNS, "{what}: {line}");
        }
    }

    #[test]
    fn everything_fits_the_screen() {
        let dir = tempfile::tempdir().expect("a folder");
        let (folder, progress) = Folder::open(dir.path(), None, None).expect("open");
        for each in STEPS {
            // The path is as long as the learner made it.
            let path = folder.file(each).display().to_string();
            fits(&step(each, &folder).replace(&path, "plugin.py"), each.slug);
            for number in 1..=2 {
                fits(&hint(each, &folder, number), each.slug);
            }
        }
        let list = list(&progress, &STEPS[0]);
        assert!(list.lines().count() <= STEPS.len() + 1, "{list}");
        fits(KEYS, "the keys");
    }

    #[test]
    fn a_verdict_fits_the_screen() {
        let long = "word ".repeat(1000);
        let said = |from| Said {
            from,
            text: format!("{{\"id\":\"{}\"}}", "02".repeat(2000)),
            mistake: None,
        };
        let miss = Miss {
            done: long.clone(),
            expected: long.clone(),
            came: long.clone(),
            help: "line\n".repeat(100),
        };
        for miss in [Some(miss), None] {
            let found = Verdict {
                held: vec![long.clone(); if miss.is_some() { 0 } else { 30 }],
                miss,
                wire: (0..50).map(|_| said(Sender::Plugin)).collect(),
            };
            for after in [After::Save, After::Enter, After::Command] {
                let keys = after != After::Command;
                let text = verdict(&found, &STEPS[0], Duration::from_millis(1234), after);
                fits(&text, "a verdict");
                assert!(text.contains("1.23 s"), "{text}");
                // Words of a terminal only where there is one.
                assert_eq!(
                    text.contains("after the save"),
                    after == After::Save,
                    "{text}"
                );
                assert_eq!(text.contains("`w`"), keys, "{text}");
                assert!(
                    keys || !(text.contains("`n`") || text.contains("`h`")),
                    "{text}"
                );
            }
            let whole = Path::new("wire.txt");
            let text = wire(Some(&found), Some(whole));
            assert!(
                text.lines().count() <= WIRE + 3 && text.contains("wire.txt"),
                "{text}"
            );
            assert!(text.contains("… 45 earlier"), "{text}");
        }
    }
}
