//! A plugin that only reads: it takes `flood` notifications and counts them, as
//! the least that any plugin must do. It looks for the end of each message and at
//! nothing in it. After every read the count so far stands in the file that
//! `SINK_FILE` names, from which a benchmark sees when the last one has come.

use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use serde_json::{Value, json};

fn main() -> io::Result<()> {
    let path = std::env::var("SINK_FILE").map_err(io::Error::other)?;
    let file = std::fs::File::create(path)?;
    let mut stdin = io::stdin().lock();
    let mut buffer = vec![0; 1 << 16];

    // `getmanifest` and `init`: one message each, before anything else comes.
    for n in 0..2 {
        let mut message = Vec::new();
        while !message.ends_with(b"\n\n") {
            let mut byte = [0];
            stdin.read_exact(&mut byte)?;
            message.push(byte[0]);
        }
        let request: Value = serde_json::from_slice(&message)?;
        let result = match n {
            0 => {
                json!({"dynamic": true, "options": [], "rpcmethods": [], "subscriptions": ["flood"]})
            }
            _ => json!({}),
        };
        let answer = json!({"jsonrpc": "2.0", "id": request["id"], "result": result});
        let mut stdout = io::stdout();
        write!(stdout, "{answer}\n\n")?;
        stdout.flush()?;
    }

    let mut count: u64 = 0;
    let mut last = 0;
    loop {
        let read = stdin.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        for &byte in &buffer[..read] {
            count += u64::from(byte == b'\n' && last == b'\n');
            last = byte;
        }
        file.write_all_at(format!("{count:020}").as_bytes(), 0)?;
    }
}
