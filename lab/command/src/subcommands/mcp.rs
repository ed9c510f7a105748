//! `lab mcp`: the subcommands as tools of the Model Context Protocol, whose stdio transport
//! is a JSON-RPC message a line (<https://modelcontextprotocol.io/specification>).
//!
//! Written by hand: of the protocol four methods are needed, and its Rust SDK would bring
//! more crates than this file has pages. What a tool takes is read off the command line's
//! own description, so the two never differ.

use std::process::Stdio;

use clap::{Arg, ArgAction, Command, CommandFactory};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{Cli, out};

/// Of the specification; an older client asks for its own, and gets it: what is used here is
/// the same in all.
const PROTOCOL: &str = "2025-06-18";
/// The subcommands that ask nobody, and end by themselves.
const TOOLS: [&str; 24] = [
    "up",
    "down",
    "add",
    "status",
    "doctor",
    "cli",
    "bitcoin-cli",
    "connect",
    "disconnect",
    "fund",
    "channel",
    "pay",
    "close",
    "mine",
    "logs",
    "events",
    "trace",
    "stop",
    "start",
    "restart",
    "topics",
    "check",
    "matrix",
    "new",
];
/// Arguments that no tool has: what never ends, or is only for a terminal.
const LEFT_OUT: [&str; 5] = ["follow", "detach", "help", "version", "interactive"];

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  in the configuration of a client:
  {\"mcpServers\": {\"lab\": {\"command\": \"lab\", \"args\": [\"mcp\"]}}}

The tools are the subcommands, with their arguments; `up` returns when the nodes are ready, and
they stay until `down`.")]
pub struct Args {}

/// Until its stdin ends.
pub async fn run(_: Args) -> anyhow::Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        if line.trim().is_empty() {
            continue;
        }
        let answer = match serde_json::from_str::<Value>(&line) {
            Ok(message) => answer(&message).await,
            Err(error) => Some(json!({
                "jsonrpc": "2.0", "id": null,
                "error": {"code": -32700, "message": error.to_string()},
            })),
        };
        if let Some(answer) = answer {
            out::line(answer)?;
        }
    }
    Ok(())
}

/// What is answered to a message; nothing to a notification.
async fn answer(message: &Value) -> Option<Value> {
    let id = message.get("id")?;
    let params = &message["params"];
    let result = match message["method"].as_str() {
        Some("initialize") => Ok(json!({
            "protocolVersion": params["protocolVersion"].as_str().unwrap_or(PROTOCOL),
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "lab", "version": env!("CARGO_PKG_VERSION")},
        })),
        Some("ping") => Ok(json!({})),
        Some("tools/list") => {
            Ok(json!({"tools": tools().map(|tool| shown(&tool)).collect::<Vec<_>>()}))
        }
        Some("tools/call") => call(params).await.map_err(|why| (-32602, why)),
        Some(method) => Err((-32601, format!("no method `{method}`"))),
        None => Err((-32600, "no method".to_owned())),
    };
    Some(match result {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err((code, message)) => {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
        }
    })
}

fn tools() -> impl Iterator<Item = Command> {
    let mut all = Cli::command();
    // Else options that several share are not there yet.
    all.build();
    TOOLS
        .iter()
        .filter_map(move |name| all.find_subcommand(name).cloned())
}

/// The arguments that a tool takes.
fn arguments(tool: &Command) -> impl Iterator<Item = &Arg> {
    tool.get_arguments()
        .filter(|arg| !arg.is_hide_set() && !LEFT_OUT.contains(&arg.get_id().as_str()))
}

fn is_list(arg: &Arg) -> bool {
    let several = |range: clap::builder::ValueRange| range.max_values() > 1;
    matches!(arg.get_action(), ArgAction::Append) || arg.get_num_args().is_some_and(several)
}

fn is_flag(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::Count)
}

/// A tool, with a JSON schema of what it takes.
fn shown(tool: &Command) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for arg in arguments(tool) {
        let values: Vec<String> = arg
            .get_possible_values()
            .iter()
            .map(|value| value.get_name().to_owned())
            .collect();
        let mut schema = match (is_flag(arg), is_list(arg), values.is_empty()) {
            (true, ..) => json!({"type": "boolean"}),
            (_, true, _) => json!({"type": "array", "items": {"type": "string"}}),
            (.., false) => json!({"type": "string", "enum": values}),
            // Numbers, too: a client may send either.
            (.., true) => json!({"type": ["string", "number"]}),
        };
        if let Some(help) = arg.get_help() {
            schema["description"] = json!(help.to_string());
        }
        if arg.is_required_set() {
            required.push(arg.get_id().to_string());
        }
        properties.insert(arg.get_id().to_string(), schema);
    }
    let text = |text: Option<&clap::builder::StyledStr>| text.map(ToString::to_string);
    let about = match tool.get_name() {
        "up" => "Start a lab, which stays up until the tool `down` ends it".to_owned(),
        _ => text(tool.get_about()).unwrap_or_default(),
    };
    let examples = text(tool.get_after_help()).unwrap_or_default();
    json!({
        "name": tool.get_name(),
        "description": format!("{about}\n\n{examples}").trim_end(),
        "inputSchema": {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        },
    })
}

/// Runs a tool; an error says what is wrong with its parameters.
async fn call(params: &Value) -> Result<Value, String> {
    let name = params["name"].as_str().ok_or("no name")?;
    let tool = tools().find(|tool| tool.get_name() == name);
    let tool = tool.ok_or_else(|| format!("no tool `{name}`"))?;
    let words = words(&tool, &params["arguments"])?;
    let lab = std::env::current_exe().map_err(|error| error.to_string())?;
    let ran = tokio::process::Command::new(lab)
        .args(words)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    Ok(match ran {
        Ok(output) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let both = text(&output.stdout) + &text(&output.stderr);
            result(both, !output.status.success())
        }
        Err(error) => result(error.to_string(), true),
    })
}

fn result(text: String, failed: bool) -> Value {
    json!({"content": [{"type": "text", "text": text}], "isError": failed})
}

/// The command line of a call.
fn words(tool: &Command, given: &Value) -> Result<Vec<String>, String> {
    let none = Map::new();
    let given = match given {
        Value::Null => &none,
        Value::Object(given) => given,
        other => return Err(format!("arguments: {other} is no object")),
    };
    let known = |name: &String| arguments(tool).any(|arg| arg.get_id() == name.as_str());
    if let Some(name) = given.keys().find(|name| !known(name)) {
        return Err(format!("{}: no argument `{name}`", tool.get_name()));
    }
    let mut words = vec![tool.get_name().to_owned()];
    if tool.get_name() == "up" {
        words.push("--detach".to_owned());
    }
    let mut positional = Vec::new();
    for arg in arguments(tool) {
        let Some(value) = given.get(arg.get_id().as_str()) else {
            continue;
        };
        let values = match value {
            Value::Array(values) => values.iter().map(plain).collect::<Result<_, _>>()?,
            value => vec![plain(value)?],
        };
        match arg.get_long() {
            _ if arg.is_positional() => positional.extend(values),
            Some(long) if is_flag(arg) => {
                if value
                    .as_bool()
                    .ok_or_else(|| format!("{long}: true or false"))?
                {
                    words.push(format!("--{long}"));
                }
            }
            Some(long) => words.extend(values.iter().map(|value| format!("--{long}={value}"))),
            None => return Err(format!("{}: it has no long name", arg.get_id())),
        }
    }
    // What begins with a dash is no option then.
    if !positional.is_empty() {
        words.push("--".to_owned());
    }
    Ok(words.into_iter().chain(positional).collect())
}

/// A word of the command line.
fn plain(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        Value::Object(_) => Ok(value.to_string()),
        other => Err(format!("{other}: a text, a number or an object")),
    }
}
