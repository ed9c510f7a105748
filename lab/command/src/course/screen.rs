//! The course on a terminal: a step, a verdict, hints, the wire, the list; at most 20
//! lines each, 80 columns wide, where they are to be read at a glance.

use std::path::Path;
use std::time::Duration;

use console::style;
use similar::{ChangeTag, TextDiff};

use super::folder::Folder;
use super::progress::Progress;
use super::verdict::{Miss, Said, Verdict};
use super::{PARTS, STEPS, Step};
use crate::wire::Sender;
use crate::workshop::{filled, rows, shortened};

const COLUMNS: usize = 80;
/// The wire below a verdict: so many messages, from the last back.
const FOLDED: usize = 3;
/// Rows of help below a verdict.
const HELP: usize = 5;
/// Checks that held, named one by one.
const HELD: usize = 6;

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
        shown(&file),
        style("each save is checked").dim()
    ));
    lines.push(style(KEYS).dim().to_string());
    lines.join("\n")
}

/// A path as short as it can be typed.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let short = here
        .as_deref()
        .and_then(|here| path.strip_prefix(here).ok());
    short.unwrap_or(path).display().to_string()
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

/// What a check found, and what to do next.
pub fn verdict(verdict: &Verdict, step: &Step, took: Duration) -> String {
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
        lines.push(
            style(format!("  … {from} earlier, `w` shows all"))
                .dim()
                .to_string(),
        );
    }
    lines.extend(
        verdict.wire[from..]
            .iter()
            .flat_map(|said| message(said, 1)),
    );
    let took = format!("{:.2} s after the save", took.as_secs_f64());
    lines.push(if verdict.passed() {
        let last = step.number() == STEPS.len();
        let next = if last {
            "That was the last one."
        } else {
            "`n`: the next one."
        };
        let text = format!(
            "✓ Step {} of {} is passed, {took}.",
            step.number(),
            STEPS.len()
        );
        format!("{} {next}", style(text).green().bold())
    } else {
        format!("{} {took}. `h`: a hint.", style("✗ Not yet,").red().bold())
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
    let mut rows = rows(text, COLUMNS - width);
    if rows.len() > most {
        rows.truncate(most);
        if let Some(last) = rows.last_mut() {
            let kept: String = last.chars().take(COLUMNS - width - 1).collect();
            *last = kept + "…";
        }
    }
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

/// A message, in at most so many rows, and what is wrong with it.
fn message(said: &Said, most: usize) -> Vec<String> {
    let mark = match said.from {
        Sender::Lightningd => style("→").green(),
        Sender::Plugin => style("←").cyan(),
        Sender::Stderr => style("!").yellow(),
        Sender::Tee => style("·").dim(),
    };
    let mut lines = marked(&format!("  {mark}"), 4, &shortened(&said.text), most);
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

/// All that passed, in full: → to the plugin, ← from it, ! its stderr.
pub fn wire(verdict: Option<&Verdict>) -> String {
    match verdict {
        Some(verdict) if !verdict.wire.is_empty() => {
            let mut lines = vec![
                style("→ to the plugin, ← from it, ! its stderr")
                    .dim()
                    .to_string(),
            ];
            lines.extend(verdict.wire.iter().flat_map(|said| {
                let mistake = said.mistake.iter().map(|text| format!("  mistake: {text}"));
                let mark = match said.from {
                    Sender::Lightningd => "→",
                    Sender::Plugin => "←",
                    Sender::Stderr => "!",
                    Sender::Tee => "·",
                };
                std::iter::once(format!("{mark} {}", said.text)).chain(mistake)
            }));
            lines.join("\n")
        }
        _ => "nothing has passed yet: save your file, or press Enter".to_owned(),
    }
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
            let text = verdict(&found, &STEPS[0], Duration::from_millis(1234));
            fits(&text, "a verdict");
            assert!(text.contains("1.23 s"), "{text}");
        }
    }
}
