//! The step that plays every release.

use serde_json::json;

use super::super::exam::{Exam, Outcome, Stop, missed};
use super::super::verdict::Miss;
use crate::check::{self, Found, Level, Plan};
use crate::counted;
use crate::wire::Sender;

/// Enough to see whether it reads on; `lab check` sends more.
const BURST: usize = 400;

/// What `lab check` finds is no error, and small payments are rejected on every release.
pub async fn releases(exam: &mut Exam) -> Outcome {
    let mut plan = Plan::new(&exam.program);
    plan.env = vec![("PATH".to_owned(), exam.bench.path().to_owned())];
    plan.burst = BURST;
    let summary = check::check(&plan).await?;
    let all = summary.releases();
    let range = check::ranges(&all, &all);
    exam.doing(format!("the messages of {range} were sent"));
    if let Some(found) = summary.found.first()
        && found.finding.level == Level::Error
    {
        return error(exam, found, &all);
    }
    let warnings = counted(summary.count(Level::Warning), "warning");
    exam.held(format!(
        "no ✗ on {range}: {}, {warnings}, which `lab check` shows",
        counted(summary.sent(), "message")
    ));

    let (mut plugin, _) = exam.up(json!({})).await?;
    for (msat, result) in [
        (json!("999msat"), "reject"),
        (json!(999), "reject"),
        (json!("1000msat"), "continue"),
        (json!(1000), "continue"),
    ] {
        let id = exam.id("invoice_payment");
        let expected = json!({"jsonrpc": "2.0", "id": id, "result": {"result": result}});
        let payment = json!({"label": "x", "preimage": "00".repeat(32), "msat": msat});
        let params = json!({"payment": payment});
        let answer = exam
            .ask(&mut plugin, id, "invoice_payment", params, &expected)
            .await?;
        exam.doing(format!("a payment with \"msat\": {msat}"));
        if answer["result"]["result"] != result {
            return missed(exam.done(), expected, &answer);
        }
    }
    exam.held("999 msat are rejected, 1000 are not, as a text and as a number");
    exam.close(&mut plugin).await?;
    Ok(())
}

/// The first finding, as the check's miss.
fn error(exam: &mut Exam, found: &Found, all: &[&str]) -> Outcome {
    let finding = &found.finding;
    for (from, text) in [
        (Sender::Lightningd, &finding.sent),
        (Sender::Plugin, &finding.came),
    ] {
        if let Some(text) = text {
            exam.said(from, text, None);
        }
    }
    let code = finding.code;
    let came = finding.came.as_deref().unwrap_or_default().trim();
    Err(Stop::Missed(Box::new(Miss {
        done: exam.done(),
        expected: "no ✗".to_owned(),
        came: format!(
            "✗ {} {}, on {}",
            code.code,
            finding.text,
            check::ranges(&found.releases, all)
        ),
        help: format!("{came}\nwhy: {}\nto do: {}", code.why, code.remedy)
            .trim()
            .to_owned(),
    })))
}
