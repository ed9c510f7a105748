//! Plays lightningd's part: starts a plugin's executable and speaks with it over
//! its stdin and stdout. Not the lab's harness: the plugin's tests need nothing
//! of the lab, and write bytes that no well-behaved host would.

#![allow(dead_code, clippy::unwrap_used)]

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

#[derive(serde::Deserialize)]
struct Envelope {
    id: Option<String>,
}

/// A running plugin and its folder.
pub struct Host {
    pub child: Child,
    pub dir: TempDir,
    stdin: Option<ChildStdin>,
    messages: Receiver<(Value, String)>,
    /// `log` notifications so far: level and message.
    pub log: Vec<(String, String)>,
    ids: u64,
}

/// An example's executable: cargo builds it beside the tests.
pub fn example(name: &str) -> PathBuf {
    let plugin = Path::new(env!("CARGO_BIN_EXE_eventlog"));
    plugin.parent().unwrap().join("examples").join(name)
}

/// The plugin's command.
pub fn eventlog() -> Command {
    Command::new(env!("CARGO_BIN_EXE_eventlog"))
}

impl Host {
    /// Starts a plugin, in the folder of a node that has no RPC socket.
    pub fn spawn(command: Command) -> Self {
        Self::spawn_in(command, TempDir::new().unwrap())
    }

    /// The same in a folder that is there.
    pub fn spawn_in(command: Command, dir: TempDir) -> Self {
        Self::reading(Stdio::piped(), command, dir)
    }

    /// The same, whose stdin this is.
    pub fn reading(stdin: impl Into<Stdio>, mut command: Command, dir: TempDir) -> Self {
        let mut child = command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(File::create(dir.path().join("stderr")).unwrap())
            .env("LIGHTNINGD_PLUGIN", "1")
            .env_remove("RUST_BACKTRACE")
            .current_dir(dir.path())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let mut pending = Vec::new();
            let mut buffer = vec![0; 1 << 16];
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                // An end may be cut in two.
                let mut seen = pending.len().saturating_sub(1);
                pending.extend_from_slice(&buffer[..count]);
                while let Some(end) = memchr::memmem::find(&pending[seen..], b"\n\n") {
                    let text: Vec<u8> = pending.drain(..seen + end + 2).collect();
                    seen = 0;
                    let text = String::from_utf8(text).unwrap();
                    // What is handed out as it was recorded may not fit in a tree.
                    let message = serde_json::from_str(&text).unwrap_or_else(|_| {
                        let whole: Envelope = serde_json::from_str(&text)
                            .expect("the plugin writes JSON and an empty line");
                        json!({"id": whole.id})
                    });
                    if sender.send((message, text)).is_err() {
                        return;
                    }
                }
            }
            assert_eq!(pending, b"", "the plugin's last message has no end");
        });
        Self {
            stdin: child.stdin.take(),
            child,
            dir,
            messages,
            log: Vec::new(),
            ids: 0,
        }
    }

    /// eventlog, started with these options, ready.
    pub fn eventlog(options: Value) -> Self {
        Self::eventlog_in(TempDir::new().unwrap(), options)
    }

    /// The same in a folder that is there.
    pub fn eventlog_in(dir: TempDir, options: Value) -> Self {
        let mut command = eventlog();
        command.env("LIGHTNINGD_VERSION", "v26.06.6");
        let mut host = Self::spawn_in(command, dir);
        host.handshake(options);
        host
    }

    /// `getmanifest` and `init`; gives the manifest.
    pub fn handshake(&mut self, options: Value) -> Value {
        let manifest = self
            .call("getmanifest", json!({"allow-deprecated-apis": false}))
            .unwrap();
        let init = self.init(options).unwrap();
        assert_eq!(init, json!({}), "the plugin disabled itself");
        manifest
    }

    /// `init`.
    pub fn init(&mut self, options: Value) -> Result<Value, Value> {
        let dir = self.dir.path().to_owned();
        self.call(
            "init",
            json!({"options": options, "configuration": {
                "lightning-dir": dir, "rpc-file": "no-rpc", "startup": false,
                "network": "regtest", "feature_set": {},
            }}),
        )
    }

    /// Writes bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Sends a message.
    pub fn send(&mut self, message: &Value) {
        self.write(format!("{message}\n\n").as_bytes());
    }

    /// Sends a notification in today's shape.
    pub fn notify(&mut self, topic: &str, payload: Value) {
        self.send(&json!({"jsonrpc": "2.0", "method": topic, "params": {topic: payload}}));
    }

    /// Sends a request; gives its id.
    pub fn request(&mut self, method: &str, params: Value) -> String {
        self.ids += 1;
        let id = format!("test:{method}#{}", self.ids);
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        id
    }

    /// Waits for the answer to a request.
    pub fn answer(&mut self, id: &str) -> Result<Value, Value> {
        self.answer_to(&json!(id))
    }

    /// The same for an id of any type: before v23.05 they are numbers.
    pub fn answer_to(&mut self, id: &Value) -> Result<Value, Value> {
        loop {
            let message = self.next(&format!("the answer to {id}"));
            if message["id"] == *id {
                return match message.get("error") {
                    Some(error) => Err(error.clone()),
                    None => Ok(message["result"].clone()),
                };
            }
            assert!(message.get("id").is_none(), "another answer: {message}");
        }
    }

    /// Waits for the answer to a request; gives it as it was written.
    pub fn answer_text(&mut self, id: &str) -> String {
        loop {
            let (message, text) = self.next_with_text(&format!("the answer to {id}"));
            if message["id"] == id {
                return text;
            }
        }
    }

    /// Waits for the answer to any request: its id and its result.
    pub fn any_answer(&mut self) -> (String, Result<Value, Value>) {
        loop {
            let message = self.next("any answer");
            if let Some(id) = message["id"].as_str() {
                let answer = match message.get("error") {
                    Some(error) => Err(error.clone()),
                    None => Ok(message["result"].clone()),
                };
                return (id.to_owned(), answer);
            }
        }
    }

    /// Sends a request and waits for its answer.
    pub fn call(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let id = self.request(method, params);
        self.answer(&id)
    }

    /// The next message, log lines noted on the way.
    fn next(&mut self, awaited: &str) -> Value {
        self.next_with_text(awaited).0
    }

    fn next_with_text(&mut self, awaited: &str) -> (Value, String) {
        match self.messages.recv_timeout(PATIENCE) {
            Ok((message, text)) => {
                if message["method"] == "log" {
                    let text = |key: &str| message["params"][key].as_str().unwrap().to_owned();
                    self.log.push((text("level"), text("message")));
                }
                (message, text)
            }
            Err(error) => panic!(
                "no {awaited} ({error}); log: {:#?}; stderr: {}",
                self.log,
                std::fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
            ),
        }
    }

    /// Waits until a log line has this in it; gives it.
    pub fn logged(&mut self, part: &str) -> String {
        loop {
            let found = self.log.iter().find(|(_, message)| message.contains(part));
            if let Some((level, message)) = found {
                return format!("{level}: {message}");
            }
            self.next(&format!("log line with `{part}`"));
        }
    }

    /// All log lines of this level until the plugin's end.
    pub fn log_until_end(&mut self) -> &[(String, String)] {
        loop {
            match self.messages.recv_timeout(PATIENCE) {
                Ok((message, _)) if message["method"] == "log" => {
                    let text = |key: &str| message["params"][key].as_str().unwrap().to_owned();
                    self.log.push((text("level"), text("message")));
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return &self.log,
                Err(error) => panic!("the plugin does not end: {error}"),
            }
        }
    }

    /// Closes the plugin's stdin and waits for its end.
    pub fn close(&mut self) -> ExitStatus {
        self.stdin = None;
        self.ended()
    }

    /// Waits for the plugin's end.
    pub fn ended(&mut self) -> ExitStatus {
        eventually("the plugin's end", || self.child.try_wait().unwrap())
    }

    /// A path in the node's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Closes the plugin and gives its folder.
    pub fn into_dir(mut self) -> TempDir {
        assert!(self.close().success());
        self.take_dir()
    }

    /// The folder of a plugin that has ended.
    pub fn take_dir(&mut self) -> TempDir {
        std::mem::replace(&mut self.dir, TempDir::new().unwrap())
    }

    /// Waits until the file has this many lines; gives them.
    pub fn lines(&self, name: &str, count: usize) -> Vec<String> {
        let path = self.path(name);
        let mut last = String::new();
        eventually(&format!("{count} lines in {name}"), || {
            last = std::fs::read_to_string(&path).unwrap_or_default();
            (last.ends_with('\n') && last.lines().count() >= count)
                .then(|| last.lines().map(str::to_owned).collect())
        })
    }

    /// Waits until the file has this many lines; some may not fit in a tree.
    pub fn records_as_text(&self, count: usize) -> Vec<String> {
        self.lines("eventlog.jsonl", count)
    }

    /// Waits until the file has this many records beside that of the start; gives
    /// them.
    pub fn records(&self, count: usize) -> Vec<Value> {
        let path = self.path("eventlog.jsonl");
        eventually(&format!("{count} records"), || {
            let records = without_start(json_lines(&path));
            (records.len() >= count).then_some(records)
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The captures of a version: file name and bytes.
pub fn captures(version: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/captures")
        .join(version);
    let mut all: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                std::fs::read(entry.path()).unwrap(),
            )
        })
        .collect();
    all.sort();
    all
}

/// Builds a C source of the tests' folder to be preloaded.
pub fn preloaded(source: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let library = folder.path().join("preloaded.so");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests")
                .join(source),
        )
        .arg("-ldl")
        .status()
        .expect("cc, which Rust links with");
    assert!(built.success());
    (folder, library)
}

/// The whole lines of a file.
pub fn json_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // A line that is being written shows in parts.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// These but the records of a start.
pub fn without_start(mut records: Vec<Value>) -> Vec<Value> {
    records.retain(|record| record["topic"] != "eventlog_started");
    records
}

/// Waits until there is something.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
