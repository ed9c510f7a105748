//! What is published, and who publishes it.

use std::borrow::Cow;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use cln_plugin::options::Value;
use eventlog::cursor::Cursor;
use eventlog::notification::Notification;
use eventlog::options::{Settings, Shared};
use eventlog::recorder::{Inlet, Recorder};
use eventlog::stdin::Sink;
use eventlog::tail::{From, Item, Tail};
use nix::sys::signal::Signal;
use tempfile::TempDir;

/// A row of the table that `make soak` prints, of a test that failed in none of its rounds.
pub fn row(name: &str, rounds: usize, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    let row = format!("{name:<60} {rounds:>8} {:>8} {seconds:>7.1} s\n", 0);
    let table = Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak");
    let mut table = fs::File::options()
        .append(true)
        .create(true)
        .open(table)
        .unwrap();
    table.write_all(row.as_bytes()).unwrap();
}

pub const NODE: &str = "02aa";

/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// So many rounds; twenty of `make soak`.
pub fn rounds(few: usize) -> usize {
    let soak = std::env::var("NEXTEST_PROFILE").is_ok_and(|profile| profile == "soak");
    if soak { 20 } else { few }
}

/// eventlog, in this process.
pub struct Recording {
    pub dir: TempDir,
    pub recorder: Recorder,
    pub inlet: Inlet,
    pub n: u64,
}

impl Recording {
    pub fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let folder = dir.path().join("regtest");
        fs::create_dir(&folder).unwrap();
        let value = |name: &str| match name {
            "eventlog-topics" => Some(Value::String("*".to_owned())),
            "eventlog-rotate-size" => Some(Value::String("64KiB".to_owned())),
            "eventlog-rotate-keep" => Some(Value::Integer(1000)),
            _ => None,
        };
        let (fixed, settings) = Settings::read(value, &folder).unwrap();
        let node = Some(NODE.to_owned());
        let (recorder, _) = Recorder::start(fixed, Shared::new(settings), node).unwrap();
        Self {
            inlet: Inlet::new(recorder.clone()),
            recorder,
            dir,
            n: 0,
        }
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("regtest/eventlog.jsonl")
    }

    /// Records so many notifications, of three topics.
    pub fn record(&mut self, count: u64) {
        for n in self.n..self.n + count {
            let topic = ["connect", "disconnect", "invoice_creation"][n as usize % 3];
            let payload = format!("{{\"n\":{n}}}");
            let notification = Notification {
                topic: Cow::Borrowed(topic),
                origin: None,
                payload: &payload,
                is_json: true,
            };
            self.inlet.notification(SystemTime::now(), &notification);
        }
        self.n += count;
        self.recorder.flush();
    }

    /// Records one of so many bytes, and some more.
    pub fn record_large(&mut self, bytes: usize) {
        let payload = format!("\"{}\"", "x".repeat(bytes));
        let notification = Notification {
            topic: Cow::Borrowed("custommsg"),
            origin: None,
            payload: &payload,
            is_json: true,
        };
        self.inlet.notification(SystemTime::now(), &notification);
        self.n += 1;
        self.recorder.flush();
    }

    /// The message ids of all that is recorded, in order.
    pub fn ids(&self) -> Vec<String> {
        let mut tail = Tail::open(&self.file(), From::Oldest).unwrap();
        let mut ids = Vec::new();
        let started = Instant::now();
        // The start's record as well.
        while (ids.len() as u64) < self.n + 1 {
            match tail.next().unwrap() {
                Some(Item::Record(record)) => ids.push(id(record.cursor)),
                Some(gap) => panic!("{gap:?}"),
                None => {
                    tail.wait(Some(Duration::from_millis(100))).unwrap();
                }
            }
            assert!(started.elapsed() < PATIENCE, "{} of {}", ids.len(), self.n);
        }
        ids
    }
}

/// Of a record, its cursor.
#[derive(serde::Deserialize)]
pub struct Place {
    pub epoch: eventlog::cursor::Epoch,
    pub seq: u64,
}

impl std::convert::From<Place> for Cursor {
    fn from(Place { epoch, seq }: Place) -> Cursor {
        Cursor { epoch, seq }
    }
}

pub fn id(cursor: Cursor) -> String {
    format!("{NODE}/{}/{}", cursor.epoch, cursor.seq)
}

pub fn signal(child: &Child, signal: Signal) {
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, signal).unwrap();
}

/// The command.
pub struct Publisher {
    pub child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Publisher {
    pub fn start(file: &Path, args: &[&str]) -> Self {
        Self::with(file, args, |_| {})
    }

    pub fn with(file: &Path, args: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eventlog-publish"));
        change(&mut command);
        let mut child = command
            .arg(file)
            .args(args)
            .env("NO_COLOR", "1")
            .env("NO_PROXY", "127.0.0.1")
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (mut stderr, lines) = (child.stderr.take().unwrap(), log.clone());
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut bytes) {
                lines
                    .lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        let reader = Some(reader);
        Self { child, log, reader }
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a condition.
    pub fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let started = Instant::now();
        while !is_so() {
            assert!(started.elapsed() < PATIENCE, "{what}: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn terminate(&self) {
        signal(&self.child, Signal::SIGTERM);
    }

    /// SIGTERM; it ends well.
    pub fn stop(self) -> String {
        self.terminate();
        self.ended()
    }

    /// It ends well. Gives its log.
    pub fn ended(mut self) -> String {
        let status = self.child.wait().unwrap();
        self.reader.take().map(JoinHandle::join);
        assert!(status.success(), "{status}: {}", self.log());
        self.log()
    }

    /// It ends with an error.
    pub fn failed(mut self) -> String {
        let started = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < PATIENCE, "it runs on: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        self.reader.take().map(JoinHandle::join);
        assert!(!self.child.wait().unwrap().success(), "{}", self.log());
        self.log()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
