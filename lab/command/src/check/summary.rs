//! The reports of all releases, each finding once.

use std::time::Duration;

use super::codes;
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
    pub releases: Vec<&'static str>,
}

impl Summary {
    /// Joins the reports. A handler that fails on some releases, but not on others that send
    /// the topic, fails at what has changed: an error, not a warning.
    pub fn of(mut reports: Vec<Report>, took: Duration) -> Summary {
        let handled: Vec<(String, bool)> = reports
            .iter()
            .flat_map(|report| report.findings.iter())
            .filter(|finding| *finding.code == codes::FAILS)
            .map(|finding| topic(&finding.subject).to_owned())
            .map(|topic| {
                (
                    topic.clone(),
                    reports.iter().any(|report| handles(report, &topic)),
                )
            })
            .collect();
        for finding in reports.iter_mut().flat_map(|report| &mut report.findings) {
            let changed = handled
                .iter()
                .any(|(name, elsewhere)| *elsewhere && topic(&finding.subject) == name);
            if *finding.code == codes::FAILS && changed {
                finding.level = Level::Error;
            }
        }
        let mut found: Vec<Found> = Vec::new();
        for report in &reports {
            for finding in &report.findings {
                let same = |other: &&mut Found| {
                    let other = &other.finding;
                    other.code == finding.code
                        && other.subject == finding.subject
                        && other.level == finding.level
                };
                match found.iter_mut().find(same) {
                    Some(found) => found.releases.push(report.release),
                    None => found.push(Found {
                        finding: finding.clone(),
                        releases: vec![report.release],
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

    /// How many different findings there are of a level.
    pub fn count(&self, level: Level) -> usize {
        self.found
            .iter()
            .filter(|found| found.finding.level == level)
            .count()
    }

    /// How many messages were sent.
    pub fn sent(&self) -> usize {
        self.reports.iter().map(|report| report.sent).sum()
    }
}

/// True if this topic was played on this release, and nothing went wrong.
fn handles(report: &Report, name: &str) -> bool {
    let bad = |finding: &Finding| {
        [&codes::FAILS, &codes::DIES].contains(&finding.code) && topic(&finding.subject) == name
    };
    let played = report.played.contains(&Stage::Topics);
    played && report.topics.iter().any(|topic| topic == name) && !report.findings.iter().any(bad)
}

/// The topic in a subject such as `` `connect` (in) ``.
fn topic(subject: &str) -> &str {
    subject.split('`').nth(1).unwrap_or(subject)
}

/// Releases as people read them: `v23.02.2–v24.05` for those between in `all`, too.
pub fn ranges(releases: &[&str], all: &[&str]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for release in releases {
        let Some(at) = all.iter().position(|known| known == release) else {
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
    use super::*;

    #[test]
    fn releases_are_shown_as_ranges() {
        let all = ["a", "b", "c", "d", "e"];
        assert_eq!(ranges(&["a", "b", "c", "e"], &all), "a–c, e");
        assert_eq!(ranges(&["d"], &all), "d");
    }
}
