//! A plugin for Core Lightning: it answers what asks, and nothing else.

use std::fs::File;
use std::io::{self, Write};

use serde_json::{Value, json};

fn main() -> io::Result<()> {
    while let Some(message) = next()? {
        match message["method"].as_str() {
            Some("getmanifest") => answer(&message, manifest())?,
            Some("init") => answer(&message, json!({}))?,
            Some(topic @ ("connect" | "disconnect")) => record(topic, &message)?,
            _ if message.get("id").is_some() => refuse(&message)?,
            _ => {}
        }
    }
    Ok(())
}

/// The next message, which an empty line ends; none at the end of stdin.
fn next() -> io::Result<Option<Value>> {
    let mut text = String::new();
    while io::stdin().read_line(&mut text)? > 0 {
        if text.trim().is_empty() {
            text.clear();
        } else if text.ends_with("\n\n") {
            return Ok(Some(serde_json::from_str(&text)?));
        }
    }
    Ok(None)
}

fn manifest() -> Value {
    json!({
        "dynamic": true,
        "options": [],
        "rpcmethods": [],
        "subscriptions": ["connect", "disconnect"],
    })
}

fn answer(request: &Value, result: Value) -> io::Result<()> {
    send(&json!({"jsonrpc": "2.0", "id": request["id"], "result": result}))
}

fn refuse(request: &Value) -> io::Result<()> {
    let error = json!({"code": -32601, "message": "no such method"});
    send(&json!({"jsonrpc": "2.0", "id": request["id"], "error": error}))
}

fn send(message: &Value) -> io::Result<()> {
    print!("{message}\n\n");
    io::stdout().flush()
}

fn record(topic: &str, message: &Value) -> io::Result<()> {
    let mut file = File::options()
        .create(true)
        .append(true)
        .open("myplugin.txt")?;
    let line = format!("{topic} notification: {message}\n");
    file.write_all(line.as_bytes())
}
