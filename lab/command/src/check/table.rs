//! A check's result, for people.

use console::style;

use super::codes::Code;
use super::finding::Level;
use super::summary::{Found, Summary, ranges};
use crate::counted;

/// How much of a message is shown.
const FOLDED: usize = 240;

/// The table of releases and stages, the findings, and a line that sums them up.
pub fn table(summary: &Summary, plugin: &str) -> String {
    let mut lines = Vec::new();
    let all = summary.releases();
    let stages = summary.reports.first().map_or(&[][..], |r| r.stages);
    let width = all.iter().map(|release| release.len()).max().unwrap_or(0);
    let names = stages.iter().map(|stage| format!("{:<8}", stage.name()));
    let names: Vec<String> = names.collect();
    let header = format!("{:<width$}  {}", "", names.join("  "));
    lines.push(style(header.trim_end()).bold().to_string());
    for report in &summary.reports {
        let marks = stages.iter().map(|stage| {
            let padding = " ".repeat(7);
            format!("{}{padding}", coloured(report.mark(*stage)))
        });
        let marks: Vec<String> = marks.collect();
        lines.push(
            format!("{:<width$}  {}", report.release, marks.join("  "))
                .trim_end()
                .to_owned(),
        );
    }
    for found in &summary.found {
        lines.push(String::new());
        lines.extend(shown(found, &all));
    }
    lines.push(String::new());
    lines.push(last_line(summary, plugin));
    lines.join("\n")
}

fn coloured(mark: &str) -> String {
    match mark {
        "✓" => style(mark).green().to_string(),
        "!" => style(mark).yellow().bold().to_string(),
        "✗" => style(mark).red().bold().to_string(),
        _ => style(mark).dim().to_string(),
    }
}

fn shown(found: &Found, all: &[&str]) -> Vec<String> {
    let finding = &found.finding;
    let code = finding.code;
    let mark = coloured(finding.level.mark());
    let mut lines = vec![format!(
        "{mark} {} {}",
        style(code.code).bold(),
        visible(&finding.text)
    )];
    let mut add = |name: &str, text: &str| {
        let text = visible(text);
        let mut text = text.trim().lines();
        let first = text.next().unwrap_or_default();
        lines.push(format!(
            "    {}  {first}",
            style(format!("{name:<8}")).dim()
        ));
        lines.extend(text.map(|line| format!("              {line}")));
    };
    add("on", &ranges(&found.releases, all));
    if let Some(sent) = finding.sent.as_deref().filter(|sent| !sent.is_empty()) {
        add("sent", &folded(sent));
    }
    if let Some(came) = &finding.came {
        add("came", &folded_lines(came));
    }
    add("why", &wrapped(code.why));
    add("to do", &wrapped(code.remedy));
    lines
}

/// What a plugin wrote, without what a terminal takes for commands.
fn visible(text: &str) -> String {
    let command = |c: char| c.is_control() && c != '\n' && c != '\t';
    text.replace(command, "\u{fffd}")
}

fn last_line(summary: &Summary, plugin: &str) -> String {
    let (errors, warnings) = (summary.count(Level::Error), summary.count(Level::Warning));
    let mark = match (errors, warnings) {
        (0, 0) => "✓",
        (0, _) => "!",
        _ => "✗",
    };
    let releases = summary.reports.len();
    let share = match summary.share_of_start() {
        Some(share) => format!(", {:.0} % of it its own start", share * 100.0),
        None => String::new(),
    };
    let unrecorded: usize = summary
        .reports
        .iter()
        .map(|report| report.unrecorded.len())
        .sum();
    let unplayed = match unrecorded {
        0 => String::new(),
        n => format!(", {n} topics and hooks without a recording"),
    };
    format!(
        "{} {plugin}: {}, {} on {}; {} in {:.2} s{share}{unplayed}",
        coloured(mark),
        counted(errors, "error"),
        counted(warnings, "warning"),
        counted(releases, "release"),
        counted(summary.sent(), "message"),
        summary.took.as_secs_f64(),
    )
}

/// A code, at length.
pub fn explain(code: &Code) -> String {
    format!(
        "{}: {} ({}, {})\n\n{}\n\nWhat to do:\n{}",
        code.code,
        code.title,
        code.level,
        code.stage.name(),
        wrapped(code.why),
        wrapped(code.remedy)
    )
}

/// The start and the end of a message.
fn folded(text: &str) -> String {
    let count = text.chars().count();
    if count <= FOLDED {
        return text.to_owned();
    }
    let start: String = text.chars().take(FOLDED * 3 / 4).collect();
    let end: String = text.chars().skip(count - FOLDED / 4).collect();
    format!("{start} … {end}")
}

fn folded_lines(text: &str) -> String {
    const SHOWN: usize = 12;
    let lines: Vec<String> = text.lines().map(folded).collect();
    let cut = lines.len().saturating_sub(SHOWN);
    match cut {
        0 => lines.join("\n"),
        _ => format!("{}\n… {cut} lines more", lines[..SHOWN].join("\n")),
    }
}

/// In lines of at most 84 characters.
fn wrapped(text: &str) -> String {
    const WIDTH: usize = 84;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].chars().count() + 1 + word.chars().count() > WIDTH
        {
            lines.push(word.to_owned());
        } else {
            if !lines[last].is_empty() {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_folded() {
        let text = "a".repeat(10_000);
        assert!(folded(&text).chars().count() < 300);
        assert_eq!(folded("short"), "short");
        assert_eq!(folded_lines(&"x\n".repeat(20)).lines().count(), 13);
        assert!(
            wrapped(&"word ".repeat(100))
                .lines()
                .all(|line| line.len() <= 84)
        );
    }
}
