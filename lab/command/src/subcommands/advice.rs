//! What `lab cli` says beside a node's answer, on standard error: what is wrong with a
//! plugin that does not start, what to do about a usual mistake.

use std::time::Duration;

use cln_lab::{Node, StartWatch, scaled};
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
    let Some(plugin) = plugin else {
        let answer = asked.await?;
        let notes = answer.as_ref().err().and_then(|error| usual(node, error));
        let mut notes: Vec<String> = notes.into_iter().collect();
        if request.method == "plugin" && answer.is_ok() {
            notes.extend(died(node, &answer)?);
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
    let notes: Vec<String> = match &answer {
        Ok(_) => watch
            .warnings()
            .iter()
            .map(|text| format!("note: {text}"))
            .collect(),
        Err(error) => vec![refused(&watch, error)],
    };
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

/// Plugins that died on their own, and are not listed now.
fn died(node: &Node, answer: &Answer) -> anyhow::Result<Vec<String>> {
    let listed = answer.as_ref().map_or("", |listing| listing.get());
    let mut notes = Vec::new();
    for line in node
        .log()
        .lines_with(": Killing plugin: exited during normal operation")?
    {
        let Some((_, name)) = line.split_once("plugin-") else {
            continue;
        };
        let name = name.split(": Killing").next().unwrap_or_default();
        if listed.contains(&format!("/{name}\"")) || line.contains(" DEBUG ") {
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
    Ok(notes)
}
