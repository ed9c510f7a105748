//! lightningd's own plugin `bcli`, through which a new block is seen at once.
//!
//! lightningd asks `bcli` for the block after its last one; if there is none, it asks
//! again after `dev-bitcoind-poll` seconds. With 1, a block is seen half a second late, and
//! a channel needs three. 0 would make it ask without pause. So it is 0, and between the
//! two runs [`relay`]: it keeps the answer that there is *still* no such block until there
//! is one.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{Read, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cln_wire::{Frame, Members, Splitter};
use serde_json::{Value, json};

use super::client::Client;
use crate::error::IoContext;
use crate::lock::lock;
use crate::process::daemon::quoted;
use crate::process::files::write_executable;
use crate::{Result, binaries};

/// How long an answer is kept at most. A node that has ended leaves its question with
/// bitcoind for this long.
const KEPT: Duration = Duration::from_secs(5);
/// What lightningd asks in a loop, too, is answered this often.
const PACE: Duration = Duration::from_secs(1);
/// At first as often as it asks: it starts with such questions.
const AT_FIRST: u32 = 3;

/// The plugin to start in place of the `bcli` of this lightningd, which it relays to:
/// a script in `dir`, and that `bcli`. `None` where one of the two programs is not found.
pub(crate) fn in_place_of(lightningd: &Path, dir: &Path) -> Result<Option<(PathBuf, PathBuf)>> {
    let (Some(bcli), Some(lab)) = (bcli_of(lightningd), binaries::lab()) else {
        return Ok(None);
    };
    let mut text = "#!/bin/sh\nexec".to_owned();
    for word in [lab.as_path(), Path::new("bcli"), &bcli] {
        let _ = write!(text, " {}", quoted(&word.display().to_string()));
    }
    let script = dir.join("bcli");
    write_executable(&script, &format!("{text}\n"))?;
    Ok(Some((script, bcli)))
}

/// Where lightningd looks for its plugins: as installed, or as built.
fn bcli_of(lightningd: &Path) -> Option<PathBuf> {
    let lightningd = lightningd.canonicalize().ok()?;
    let dir = lightningd.parent()?.parent()?;
    ["libexec/c-lightning/plugins/bcli", "plugins/bcli"]
        .iter()
        .map(|path| dir.join(path))
        .find(|path| binaries::is_executable(path))
}

/// Runs the plugin `bcli` for the lightningd at stdin and stdout, until one of the two
/// ends.
///
/// # Errors
/// If it cannot be run, or a pipe to it fails.
pub fn relay(bcli: &Path) -> Result<()> {
    between(stdin(), bcli, stdout())
}

fn between(
    lightningd: impl Read + Send + 'static,
    bcli: &Path,
    output: impl Write + Send + 'static,
) -> Result<()> {
    let mut plugin = Command::new(bcli)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .doing("run", bcli)?;
    let (Some(to), Some(from)) = (plugin.stdin.take(), plugin.stdout.take()) else {
        unreachable!("both are pipes");
    };
    let asked = Arc::new(Mutex::new(Asked::default()));
    let questions = Arc::clone(&asked);
    // bcli ends at the end of its input.
    std::thread::spawn(move || note_questions(lightningd, to, &questions));
    pass_answers(from, output, &asked).doing("relay", bcli)?;
    plugin.wait().doing("wait for", bcli)?;
    Ok(())
}

fn note_questions(
    mut from: impl Read,
    mut to: impl Write,
    asked: &Mutex<Asked>,
) -> std::io::Result<()> {
    let mut splitter = Splitter::default();
    let mut buffer = [0; 4096];
    loop {
        let bytes = match from.read(&mut buffer)? {
            0 => return Ok(()),
            length => &buffer[..length],
        };
        let mut frames = splitter.push(bytes);
        while let Some(frame) = frames.next() {
            if let Some(message) = message(&frame) {
                lock(asked).note(&message);
            }
        }
        to.write_all(bytes)?;
    }
}

fn pass_answers(
    mut from: impl Read,
    to: impl Write + Send + 'static,
    asked: &Mutex<Asked>,
) -> std::io::Result<()> {
    let to = Arc::new(Mutex::new(to));
    let mut splitter = Splitter::default();
    let mut buffer = [0; 64 * 1024];
    loop {
        let bytes = match from.read(&mut buffer)? {
            0 => return Ok(()),
            length => &buffer[..length],
        };
        let mut frames = splitter.push(bytes);
        while let Some(frame) = frames.next() {
            let Frame::Message(answer) = frame else {
                continue;
            };
            match message(&frame).map_or(Until::Now, |message| lock(asked).until(&message)) {
                Until::Now => pass(answer, &to)?,
                // Others pass it meanwhile. Once lightningd is gone, so are we.
                later => {
                    let (answer, to) = (answer.to_vec(), Arc::clone(&to));
                    std::thread::spawn(move || {
                        later.wait();
                        pass(&answer, &to)
                    });
                }
            }
        }
    }
}

fn pass(answer: &[u8], to: &Mutex<impl Write>) -> std::io::Result<()> {
    let mut to = lock(to);
    to.write_all(answer)?;
    to.write_all(b"\n\n")?;
    to.flush()
}

fn message<'a>(frame: &Frame<'a>) -> Option<Members<'a>> {
    match frame {
        Frame::Message(bytes) => Members::read(std::str::from_utf8(bytes).ok()?),
        _ => None,
    }
}

/// When an answer is passed on.
#[derive(Debug)]
enum Until {
    Now,
    Time(Instant),
    Block(Client, u64),
}

impl Until {
    fn wait(self) {
        let started = Instant::now();
        let until = match self {
            Until::Now => return,
            Until::Time(time) => time,
            Until::Block(bitcoind, height) => {
                let kept = u64::try_from(KEPT.as_millis()).unwrap_or_default();
                match bitcoind.wait::<Value>("waitforblockheight", &[json!(height), json!(kept)]) {
                    Ok(_) => return,
                    // It is away, or has too much to do.
                    Err(_) => started + PACE,
                }
            }
        };
        std::thread::sleep(until.saturating_duration_since(started));
    }
}

/// What lightningd has asked, and what it was answered.
#[derive(Debug, Default)]
struct Asked {
    bitcoind: Option<Client>,
    /// Ids of requests that are not answered, with the method and the first parameter.
    open: HashMap<String, (String, Option<u64>)>,
    /// The block that is known to be missing.
    missing: Option<u64>,
    /// How often lightningd was answered what it asks in a loop, and when for the last time.
    answered: HashMap<String, (u32, Instant)>,
}

impl Asked {
    fn note(&mut self, request: &Members<'_>) {
        let (Some(id), Some(method)) = (request.get("id"), request.text("method")) else {
            return;
        };
        let params = request.get("params").unwrap_or_default();
        match &*method {
            "init" => self.bitcoind = bitcoind(params),
            "getrawblockbyheight" => {
                let params: Option<Value> = serde_json::from_str(params).ok();
                let height = params.and_then(|params| match params {
                    Value::Array(params) => params.first()?.as_u64(),
                    params => params["height"].as_u64(),
                });
                self.open
                    .insert(id.to_owned(), (method.into_owned(), height));
            }
            "estimatefees" | "getchaininfo" => {
                self.open.insert(id.to_owned(), (method.into_owned(), None));
            }
            _ => {}
        }
    }

    fn until(&mut self, answer: &Members<'_>) -> Until {
        let open = answer.get("id").and_then(|id| self.open.remove(id));
        let Some((method, height)) = open else {
            return Until::Now;
        };
        let Some(height) = height else {
            return self.paced(method);
        };
        let result = answer.get("result").and_then(Members::read);
        let is_missing = result.is_some_and(|block| block.get("blockhash") == Some("null"));
        let before = self.missing.take();
        if !is_missing {
            return Until::Now;
        }
        self.missing = Some(height);
        // The first time it is news: lightningd knows then that it has seen all.
        match &self.bitcoind {
            Some(bitcoind) if before == Some(height) => Until::Block(bitcoind.clone(), height),
            Some(_) => Until::Now,
            None => Until::Time(Instant::now() + PACE),
        }
    }

    fn paced(&mut self, method: String) -> Until {
        let now = Instant::now();
        let (times, last) = self.answered.entry(method).or_insert((0, now));
        *times += 1;
        *last = if *times > AT_FIRST {
            now.max(*last + PACE)
        } else {
            now
        };
        if *last > now {
            Until::Time(*last)
        } else {
            Until::Now
        }
    }
}

/// The bitcoind that `init` names in bcli's options.
fn bitcoind(params: &str) -> Option<Client> {
    let params: Value = serde_json::from_str(params).ok()?;
    let options = &params["options"];
    let text = |name: &str| options[name].as_str();
    let port = match &options["bitcoin-rpcport"] {
        Value::Number(port) => port.as_u64()?,
        port => port.as_str()?.parse().ok()?,
    };
    let (user, password) = (text("bitcoin-rpcuser")?, text("bitcoin-rpcpassword")?);
    Client::new(port.try_into().ok()?, user, password).ok()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, pipe};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc;

    use super::*;

    /// Answers every request as bcli does where there is no such block.
    const NO_BLOCKS: &str = r#"#!/bin/sh
while read -r line; do
    id=${line#*'"id":'}
    [ "$id" = "$line" ] || printf '{"id":%s,"result":{"blockhash":null}}\n\n' "${id%%,*}"
done
"#;

    /// A bitcoind that gives what it was asked to the test, and answers when told to.
    fn bitcoind() -> (u16, mpsc::Receiver<(Value, TcpStream)>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let (asked, asks) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.expect("a connection"));
                let mut length = 0;
                let mut line = String::new();
                while stream.read_line(&mut line).expect("a header") > 2 {
                    let lower = line.to_lowercase();
                    if let Some(value) = lower.strip_prefix("content-length:") {
                        length = value.trim().parse().expect("a length");
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).expect("a body");
                let request = serde_json::from_slice(&body).expect("JSON");
                if asked.send((request, stream.into_inner())).is_err() {
                    return;
                }
            }
        });
        (port, asks)
    }

    #[test]
    fn that_there_is_still_no_block_is_said_once_there_is_one() {
        let dir = tempfile::tempdir().expect("a folder");
        let bcli = dir.path().join("bcli");
        write_executable(&bcli, NO_BLOCKS).expect("written");
        let (port, asks) = bitcoind();
        let (input, mut lightningd) = pipe().expect("a pipe");
        let (answers, output) = pipe().expect("a pipe");
        let relay = std::thread::spawn(move || between(input, &bcli, output));
        let mut answers = BufReader::new(answers).lines();
        let mut answer = || loop {
            let line = answers.next().expect("an answer").expect("text");
            if !line.is_empty() {
                let answer: Value = serde_json::from_str(&line).expect("JSON");
                return answer["id"].clone();
            }
        };
        let mut ask = |id: u32, method: &str, params: Value| {
            let request = json!({"id": id, "method": method, "params": params, "jsonrpc": "2.0"});
            // The script looks for `"id":N,`.
            writeln!(lightningd, "{request}\n").expect("sent");
        };
        let options = json!({
            "bitcoin-rpcport": port.to_string(), "bitcoin-rpcuser": "u", "bitcoin-rpcpassword": "p"
        });
        ask(0, "init", json!({"options": options}));
        assert_eq!(answer(), 0);
        ask(1, "getrawblockbyheight", json!({"height": 7}));
        assert_eq!(answer(), 1, "the first time it is news");
        ask(2, "getrawblockbyheight", json!([7]));
        let (request, mut bitcoind) = asks.recv().expect("a request");
        assert_eq!(request["method"], "waitforblockheight");
        assert_eq!(request["params"][0], 7);
        // Nothing waits behind it.
        ask(3, "sendrawtransaction", json!({}));
        assert_eq!(answer(), 3);
        let body = json!({"id": request["id"], "result": {}, "error": null}).to_string();
        let length = body.len();
        write!(
            bitcoind,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .expect("answered");
        drop(bitcoind);
        assert_eq!(answer(), 2);
        ask(4, "getrawblockbyheight", json!({"height": 8}));
        assert_eq!(answer(), 4, "another block");
        drop(lightningd);
        relay.join().expect("no panic").expect("relayed");
    }

    #[test]
    fn what_is_asked_in_a_loop_is_answered_once_a_second() {
        let mut asked = Asked::default();
        let mut until = |id: usize| {
            let (request, answer) = (
                format!(r#"{{"id":{id},"method":"estimatefees","params":{{}}}}"#),
                format!(r#"{{"id":{id},"result":{{}}}}"#),
            );
            asked.note(&Members::read(&request).expect("an object"));
            asked.until(&Members::read(&answer).expect("an object"))
        };
        for id in 0..3 {
            assert!(matches!(until(id), Until::Now), "{id}");
        }
        let times: Vec<_> = (3..6)
            .map(|id| match until(id) {
                Until::Time(time) => time,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(times.is_sorted_by(|a, b| *b >= *a + PACE), "{times:?}");
    }
}
