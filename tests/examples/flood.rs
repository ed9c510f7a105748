//! A plugin that sends notifications of its own, as fast as lightningd takes
//! them: `flood count [pad]` sends `count` notifications of the topic `flood`,
//! `{"n": 0, "pad": "xxx…"}` and so on, and then answers.
//!
//! A tool of the tests: it speaks the protocol by hand and ends on anything odd.

use std::io::{self, BufRead, Write};

use serde_json::{Value, json};

fn main() -> io::Result<()> {
    let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout());
    let mut message = String::new();
    for line in io::stdin().lock().lines() {
        let line = line?;
        message.push_str(&line);
        if !line.is_empty() || message.is_empty() {
            continue;
        }
        let request: Value = serde_json::from_str(&message)?;
        message.clear();
        let result = match request["method"].as_str() {
            Some("getmanifest") => json!({
                "dynamic": true,
                "options": [],
                "subscriptions": [],
                "notifications": [{"method": "flood"}],
                "rpcmethods": [{
                    "name": "flood",
                    "usage": "count [pad]",
                    "description": "Send count notifications, each with pad bytes more",
                }],
            }),
            Some("init") => json!({}),
            Some("flood") => {
                let number = |name: &str, at: usize| {
                    let params = &request["params"];
                    params
                        .get(name)
                        .or_else(|| params.get(at))
                        .and_then(Value::as_u64)
                };
                let count = number("count", 0).unwrap_or(0);
                let pad = "x".repeat(number("pad", 1).unwrap_or(0) as usize);
                for n in 0..count {
                    write!(
                        out,
                        r#"{{"jsonrpc":"2.0","method":"flood","params":{{"n":{n},"pad":"{pad}"}}}}"#
                    )?;
                    out.write_all(b"\n\n")?;
                }
                json!({"sent": count})
            }
            _ => continue,
        };
        let answer = json!({"jsonrpc": "2.0", "id": request["id"], "result": result});
        write!(out, "{answer}\n\n")?;
        out.flush()?;
    }
    Ok(())
}
