//! A check's result, for programs: JSON, and XML as JUnit writes it.

use serde_json::{Value, json};

use super::finding::{Finding, Level, Report, Stage};
use super::summary::Summary;

/// One object: `plugin`, `releases` with their stages and findings, and the counts.
pub fn json(summary: &Summary, plugin: &str) -> Value {
    let releases: Vec<Value> = summary.reports.iter().map(release).collect();
    json!({
        "plugin": plugin,
        "errors": summary.count(Level::Error),
        "warnings": summary.count(Level::Warning),
        "messages": summary.sent(),
        "seconds": summary.took.as_secs_f64(),
        "releases": releases,
    })
}

fn release(report: &Report) -> Value {
    let stages: serde_json::Map<String, Value> = report
        .stages
        .iter()
        .map(|stage| (stage.name().to_owned(), outcome(report, *stage).into()))
        .collect();
    let findings: Vec<Value> = report.findings.iter().map(finding).collect();
    json!({
        "release": report.release,
        "stages": stages,
        "findings": findings,
        "unrecorded": report.unrecorded,
        "start_seconds": report.start.as_secs_f64(),
        "seconds": report.took.as_secs_f64(),
    })
}

/// `ok`, `warning`, `error`, or `not played`.
fn outcome(report: &Report, stage: Stage) -> String {
    match report.worst(stage) {
        Some(level) => level.to_string(),
        None if report.played.contains(&stage) => "ok".to_owned(),
        None => "not played".to_owned(),
    }
}

fn finding(finding: &Finding) -> Value {
    json!({
        "code": finding.code.code,
        "level": finding.level.to_string(),
        "stage": finding.stage.name(),
        "subject": finding.subject,
        "text": finding.text,
        "sent": finding.sent,
        "came": finding.came,
        "why": finding.code.why,
        "to_do": finding.code.remedy,
    })
}

/// A test suite a release, a test case a stage: an error is a failure, a warning stands in
/// its output.
pub fn junit(summary: &Summary, plugin: &str) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let name = escaped(plugin);
    let seconds = summary.took.as_secs_f64();
    xml += &format!("<testsuites name=\"lab check {name}\" time=\"{seconds:.3}\">\n");
    for report in &summary.reports {
        let failed = |stage: &&Stage| report.worst(**stage) == Some(Level::Error);
        let failures = report.stages.iter().filter(failed).count();
        let skipped = report
            .stages
            .iter()
            .filter(|stage| report.mark(**stage) == "-")
            .count();
        xml += &format!(
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" errors=\"0\" \
             skipped=\"{skipped}\">\n",
            report.release,
            report.stages.len()
        );
        for stage in report.stages {
            xml += &case(report, *stage, &name);
        }
        xml += "  </testsuite>\n";
    }
    xml += "</testsuites>\n";
    xml
}

fn case(report: &Report, stage: Stage, plugin: &str) -> String {
    let mut inside = String::new();
    for level in [Level::Error, Level::Warning] {
        let of_stage = report
            .findings
            .iter()
            .filter(|f| f.stage == stage && f.level == level);
        let texts: Vec<String> = of_stage.map(in_full).collect();
        if texts.is_empty() {
            continue;
        }
        let text = escaped(&texts.join("\n"));
        let first = escaped(texts[0].lines().next().unwrap_or_default());
        inside += &match level {
            Level::Error => format!("      <failure message=\"{first}\">{text}</failure>\n"),
            Level::Warning => format!("      <system-out>{text}</system-out>\n"),
        };
    }
    if report.mark(stage) == "-" {
        inside += "      <skipped/>\n";
    }
    format!(
        "    <testcase classname=\"{plugin}.{}\" name=\"{}\">\n{inside}    </testcase>\n",
        report.release,
        stage.name()
    )
}

fn in_full(finding: &Finding) -> String {
    let mut text = format!("{} {}", finding.code.code, finding.text);
    for (name, part) in [("sent", &finding.sent), ("came", &finding.came)] {
        if let Some(part) = part {
            text += &format!("\n{name}: {part}");
        }
    }
    format!("{text}\nto do: {}", finding.code.remedy)
}

/// Text for XML: with entities, and without what XML 1.0 has no way to write.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_for_xml() {
        assert_eq!(
            escaped("<a b=\"c\">&\n\u{1}"),
            "&lt;a b=&quot;c&quot;&gt;&amp;\n\u{fffd}"
        );
    }
}
