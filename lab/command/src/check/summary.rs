//! The reports of all releases, each finding once.

use std::collections::BTreeSet;
use std::time::Duration;

use super::finding::{Finding, Level, Report, Stage};

/// What a check found.
#[derive(Debug, Clone)]
pub struct Summary {
    /// One report a release, oldest first.
    pub reports: Vec<Report>,
    /// Each finding once, with the releases that it is on: errors first.
    pub found: Vec<Found>,
    /// How long the check took.
    pub took: Duration,
}

/// A finding, and where.
#[derive(Debug, Clone)]
pub struct Found {
    /// As on the first of the releases.
    pub finding: Finding,
    /// The releases, oldest first.
    pub releases: Vec<String>,
}

impl Summary {
    /// Joins the reports. A handler that fails on some releases, but not on others that send
    /// the topic or call the hook, fails at what has changed: an error, not a warning.
    pub fn of(mut reports: Vec<Report>, took: Duration) -> Summary {
        let handled: BTreeSet<(Stage, String)> = reports.iter().flat_map(handled).collect();
        for finding in reports.iter_mut().flat_map(|report| &mut report.findings) {
            let subject = (finding.stage, name(&finding.subject).to_owned());
            if finding.code.is_of_handlers() && !finding.doubtful && handled.contains(&subject) {
                finding.level = Level::Error;
            }
        }
        let mut found: Vec<Found> = Vec::new();
        for report in &reports {
            for finding in &report.findings {
                let same = |other: &&mut Found| is_same(&other.finding, finding);
                match found.iter_mut().find(same) {
                    Some(found) => found.releases.push(report.release.clone()),
                    None => found.push(Found {
                        finding: finding.clone(),
                        releases: vec![report.release.clone()],
                    }),
                }
            }
        }
        found.sort_by_key(|found| {
            (
                std::cmp::Reverse(found.finding.level),
                found.finding.code.code,
            )
        });
        Summary {
            reports,
            found,
            took,
        }
    }

    /// The releases that were played, oldest first.
    pub fn releases(&self) -> Vec<&str> {
        let releases = self.reports.iter();
        releases.map(|report| &report.release[..]).collect()
    }

    /// How many different findings there are of a level.
    pub fn count(&self, level: Level) -> usize {
        self.found
            .iter()
            .filter(|found| found.finding.level == level)
            .count()
    }

    /// The plugin's own start, up to its answer to `init`, as a part of the time that its
    /// releases took; `None` if it did not get there.
    pub fn share_of_start(&self) -> Option<f64> {
        let up = self.reports.iter().filter(|report| !report.start.is_zero());
        let (start, took) = up.fold((0.0, 0.0), |(start, took), report| {
            (
                start + report.start.as_secs_f64(),
                took + report.took.as_secs_f64(),
            )
        });
        (start > 0.0).then(|| (start / took).min(1.0))
    }

    /// How many messages were sent.
    pub fn sent(&self) -> usize {
        self.reports.iter().map(|report| report.sent).sum()
    }
}

/// Whether two findings are one, on two releases. A handler may fail in another way on each:
/// who mends the one has not mended the other.
fn is_same(a: &Finding, b: &Finding) -> bool {
    a.code == b.code
        && a.subject == b.subject
        && a.level == b.level
        && (!a.code.is_of_handlers() || words(&a.text).eq(words(&b.text)))
}

/// The words of a text that are no numbers, ids or amounts: those are new each time.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let plain = |word: &&str| !word.bytes().any(|byte| byte.is_ascii_digit());
    text.split_whitespace().filter(plain)
}

/// The topics and hooks that were played on this release, and at which nothing went wrong.
fn handled(report: &Report) -> impl Iterator<Item = (Stage, String)> + '_ {
    let well = |(stage, subject): &&(Stage, String)| {
        let about = |f: &Finding| f.stage == *stage && name(&f.subject) == subject;
        report.played.contains(stage) && !report.findings.iter().any(about)
    };
    report.subjects.iter().filter(well).cloned()
}

/// The topic or hook in a subject such as `` `connect` (in) ``.
fn name(subject: &str) -> &str {
    subject.split('`').nth(1).unwrap_or(subject)
}

/// Releases as people read them: `v23.02.2–v24.05` for those between in `all`, too.
pub fn ranges<T: AsRef<str>>(releases: &[T], all: &[&str]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for release in releases {
        let Some(at) = all.iter().position(|known| *known == release.as_ref()) else {
            continue;
        };
        match parts.last_mut() {
            Some((_, end)) if *end + 1 == at => *end = at,
            _ => parts.push((at, at)),
        }
    }
    let text = |&(from, to): &(usize, usize)| match to - from {
        0 => all[from].to_owned(),
        _ => format!("{}–{}", all[from], all[to]),
    };
    parts.iter().map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::codes;
    use super::*;

    #[test]
    fn another_failure_is_another_finding() {
        let fails = |text: &str| Finding::new(&codes::HOOK_FAILS, "`openchannel`", text);
        let (a, b) = (fails("TypeError: 1000"), fails("KeyError: 'funding'"));
        assert!(!is_same(&a, &b) && is_same(&a, &fails("TypeError: 2000")));
        let slow = |text: &str| Finding::new(&codes::BURST, "burst", text);
        assert!(is_same(&slow("it is slow"), &slow("it is very slow")));
    }

    #[test]
    fn releases_are_shown_as_ranges() {
        let all = ["a", "b", "c", "d", "e"];
        assert_eq!(ranges(&["a", "b", "c", "e"], &all), "a–c, e");
        assert_eq!(ranges(&["d"], &all), "d");
    }
}
