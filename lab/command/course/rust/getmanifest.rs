//! A plugin for Core Lightning: it says what it is.

use std::io::{self, Write};

use serde_json::{Value, json};

fn main() -> io::Result<()> {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    let request = serde_json::from_str(&line)?;
    answer(&request, json!({"options": [], "rpcmethods": []}))
}

fn answer(request: &Value, result: Value) -> io::Result<()> {
    let response = json!({"jsonrpc": "2.0", "id": request["id"], "result": result});
    print!("{response}\n\n");
    io::stdout().flush()
}
