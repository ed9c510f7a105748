//! What `lab cli` says beside a node's answer, on standard error: what is wrong with a
//! plugin that does not start, what to do about a usual mistake.

use std::time::Duration;

use cln_lab::{Follower, Node, StartWatch, scaled};
use serde_json::Value;
use serde_json::value::RawValue;

use super::cli::Request;
use super::out;

/// A plugin that has not answered by then is probably not going to.
const PATIENCE: Duration = Duration::from_secs(3);
/// lightningd's code for a label that exists (common/jsonrpc_errors.h).
const LABEL_EXISTS: i64 = 900;

/// The result or the error, in the node's own spelling.
type Answer = Result<Box<RawValue>, Box<RawValue>>;

/// The answer, and what to add to it, a line or more each.
///
/// # Errors
/// Those of `asked`.
pub async fn during(
    node: &Node,
    request: &Request<'_>,
    asked: impl Future<Output = anyhow::Result<Answer>>,
) -> anyhow::Result<(Answer, Vec<String>)> {
    let params: Value = serde_json::from_str(&request.params)?;
    let param = |place: usize, name: &str| -> Option<String> {
        let value = params.get(place).or_else(|| params.get(name))?;
        value.as_str().map(str::to_owned)
    };
    let plugin = param(1, "plugin");
    let plugin = match param(0, "subcommand").filter(|_| request.method == "plugin") {
        Some(word) if word == "start" => plugin,
        _ => None,
    };
    let before = new_lines(node)?;
    let Some(plugin) = plugin else {
        let answer = asked.await?;
        let notes = answer.as_ref().err().and_then(|error| usual(node, error));
        let mut notes: Vec<String> = notes.into_iter().collect();
        if request.method == "plugin" && answer.is_ok() {
            let listing = answer.as_ref().map_or("", |listing| listing.get());
            let lines = node.log().lines_with(DEATH)?;
            notes.extend(died(node, &lines, |name| {
                listing.contains(&format!("/{name}\""))
            }));
        } else {
            notes.extend(died(node, &before, |_| false));
        }
        return Ok((answer, notes));
    };
    let watch = node.watch_start(&plugin)?;
    let mut asked = std::pin::pin!(asked);
    let answer = match tokio::time::timeout(scaled(PATIENCE), &mut asked).await {
        Ok(answer) => answer,
        Err(_) => {
            out::note(watch.waiting());
            asked.await
        }
    }?;
    let mut notes = died(node, &before, |_| false);
    match &answer {
        Ok(_) => notes.extend(watch.warnings().iter().map(|text| format!("note: {text}"))),
        Err(error) => notes.push(refused(&watch, error)),
    }
    let known = |note: &String| !note.is_empty();
    Ok((answer, notes.into_iter().filter(known).collect()))
}

fn refused(watch: &StartWatch, error: &RawValue) -> String {
    let error: Value = serde_json::from_str(error.get()).unwrap_or_default();
    watch.refused(error["message"].as_str().unwrap_or_default())
}

/// A hint for a usual mistake that is not a plugin's.
fn usual(node: &Node, error: &RawValue) -> Option<String> {
    let error: Value = serde_json::from_str(error.get()).ok()?;
    (error["code"].as_i64() == Some(LABEL_EXISTS)).then(|| {
        format!(
            "hint: each invoice of {0} needs a label of its own; `{0}-cli listinvoices` shows those that exist",
            node.name()
        )
    })
}

/// What lightningd logs of a plugin that has died on its own.
const DEATH: &str = ": Killing plugin: exited during normal operation";

/// The lines that came into the node's log since the last command looked there, so that
/// a death is noted once, by the next command, whatever that is.
fn new_lines(node: &Node) -> anyhow::Result<Vec<String>> {
    let mark = node.dir().join("log-seen");
    let seen = std::fs::read_to_string(&mark).ok();
    let seen = seen.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let mut log = Follower::from_offset(node.log_path(), seen);
    let lines = log.lines()?;
    let _ = std::fs::write(&mark, log.offset().to_string());
    Ok(lines)
}

/// Plugins that died on their own by these lines, but for those that are up again.
fn died(node: &Node, lines: &[String], is_up: impl Fn(&str) -> bool) -> Vec<String> {
    let mut notes = Vec::new();
    for line in lines.iter().filter(|line| line.contains(DEATH)) {
        let Some((_, name)) = line.split_once("plugin-") else {
            continue;
        };
        let name = name.split(": Killing").next().unwrap_or_default();
        if is_up(name) || line.contains(" DEBUG ") {
            continue;
        }
        let time = line.split(' ').next().unwrap_or_default();
        let note = format!(
            "note: plugin {} ended on its own at {time}; its stderr is in {}",
            name,
            node.dir().join("output").display()
        );
        notes.retain(|known: &String| !known.starts_with(&format!("note: plugin {name} ")));
        notes.push(note);
    }
    notes
}
