//! Records to a real nats-server: `NATS_SERVER`, or the one on the PATH, or the one in
//! `LAB_NODES_DIR`.

#![allow(clippy::unwrap_used)]

use std::borrow::Cow;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use async_nats::jetstream::consumer::{DeliverPolicy, pull::OrderedConfig};
use cln_plugin::options::Value;
use eventlog::cursor::Cursor;
use eventlog::notification::Notification;
use eventlog::options::{Settings, Shared};
use eventlog::recorder::{Inlet, Recorder};
use eventlog::stdin::Sink;
use eventlog::tail::{From, Item, Tail};
use futures_util::StreamExt;
use libtest_mimic::{Arguments, Failed, Trial};
use tempfile::TempDir;

const NODE: &str = "02aa";

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    let mut trials = Vec::new();
    let mut test = |name: &str, run: fn(&Path)| {
        let name = match server() {
            Ok(_) => name.to_owned(),
            Err(_) => format!("{name}::skipped (no nats-server found)"),
        };
        let ignored = server().is_err();
        let trial = Trial::test(name, move || {
            run(&server().map_err(Failed::from)?);
            Ok(())
        });
        trials.push(trial.with_ignored_flag(ignored));
    };
    test(
        "each_record_is_published_once_and_in_order",
        once_and_in_order,
    );
    test(
        "nothing_is_lost_or_doubled_whoever_is_killed",
        whoever_is_killed,
    );
    test(
        "who_keeps_his_place_in_a_file_publishes_twice",
        place_in_a_file,
    );
    test("a_second_publisher_is_refused", second_publisher);
    test("a_message_of_somebody_else_is_reported", somebody_else);
    test("what_does_not_fit_is_said", what_does_not_fit);
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn server() -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os("NATS_SERVER") {
        return Ok(named.into());
    }
    let folder = std::env::var_os("LAB_NODES_DIR").map(PathBuf::from);
    let private = folder.map(|folder| folder.join("bin/nats-server"));
    if let Some(private) = private.filter(|private| private.is_file()) {
        return Ok(private);
    }
    which::which("nats-server").map_err(|error| format!("nats-server: {error}"))
}

fn block_on<T>(task: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(task)
}

fn url(port: u16) -> String {
    format!("nats://127.0.0.1:{port}")
}

/// A broker with a folder and a port of its own.
struct Broker {
    program: PathBuf,
    dir: TempDir,
    port: u16,
    child: Child,
}

impl Broker {
    fn start(program: &Path) -> Self {
        let dir = TempDir::new().unwrap();
        // Freed for the server: another test may take it meanwhile, then this one fails
        // to start and another port is tried.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let child = spawn(program, &dir, port);
        Self {
            program: program.to_owned(),
            dir,
            port,
            child,
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn restart(&mut self) {
        self.child = spawn(&self.program, &self.dir, self.port);
    }

    /// What the stream holds: message ids and subjects.
    fn messages(&self, filter: &str) -> Vec<(String, String)> {
        block_on(async {
            let client = async_nats::connect(url(self.port)).await.unwrap();
            let context = async_nats::jetstream::new(client);
            let stream = context.get_stream("CLN").await.unwrap();
            let consumer = stream
                .create_consumer(OrderedConfig {
                    filter_subject: filter.to_owned(),
                    deliver_policy: DeliverPolicy::All,
                    ..OrderedConfig::default()
                })
                .await
                .unwrap();
            let mut left = consumer.cached_info().num_pending;
            let mut messages = consumer.messages().await.unwrap();
            let mut found = Vec::new();
            while left > 0 {
                let message = tokio::time::timeout(PATIENCE, messages.next()).await;
                let message = message.expect("no next message").unwrap().unwrap();
                let record: Place = serde_json::from_slice(&message.payload).unwrap();
                let id = id(record.into());
                let headers = message.headers.as_ref();
                if let Some(header) = headers.and_then(|headers| headers.get("Nats-Msg-Id")) {
                    assert_eq!(header.as_str(), id);
                }
                found.push((id, message.subject.to_string()));
                left -= 1;
            }
            found
        })
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(program: &Path, dir: &TempDir, port: u16) -> Child {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(dir.path().join("log"));
    let mut child = Command::new(program)
        .args([
            "--addr",
            "127.0.0.1",
            "--jetstream",
            "--port",
            &port.to_string(),
            "--store_dir",
        ])
        .arg(dir.path())
        .stderr(log.unwrap())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let ended = child.try_wait().unwrap();
        let log = || fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        assert!(
            ended.is_none() && started.elapsed() < PATIENCE,
            "{ended:?}: {}",
            log()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}

/// eventlog, in this process.
struct Recording {
    dir: TempDir,
    recorder: Recorder,
    inlet: Inlet,
    n: u64,
}

impl Recording {
    fn start() -> Self {
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

    fn file(&self) -> PathBuf {
        self.dir.path().join("regtest/eventlog.jsonl")
    }

    /// Records so many notifications, of three topics.
    fn record(&mut self, count: u64) {
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

    /// The message ids of all that is recorded, in order.
    fn ids(&self) -> Vec<String> {
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
struct Place {
    epoch: eventlog::cursor::Epoch,
    seq: u64,
}

impl std::convert::From<Place> for Cursor {
    fn from(Place { epoch, seq }: Place) -> Cursor {
        Cursor { epoch, seq }
    }
}

fn id(cursor: Cursor) -> String {
    format!("{NODE}/{}/{}", cursor.epoch, cursor.seq)
}

/// The command.
struct Publisher {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Publisher {
    fn start(file: &Path, port: u16, args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_eventlog-publish"))
            .arg(file)
            .args(["--nats", &format!("nats://127.0.0.1:{port}")])
            .args(args)
            .env("NO_COLOR", "1")
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (mut stderr, lines) = (child.stderr.take().unwrap(), log.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut bytes) {
                lines
                    .lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Self { child, log }
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// SIGTERM; it ends well.
    fn stop(mut self) -> String {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.log());
        self.log()
    }

    /// It ends with an error.
    fn failed(mut self) -> String {
        let started = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < PATIENCE, "it runs on: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
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

/// Waits until the stream has so many messages of the node.
fn until(broker: &Broker, publisher: &Publisher, count: usize) -> Vec<(String, String)> {
    let started = Instant::now();
    loop {
        let present = block_on(async {
            let client = async_nats::connect(url(broker.port)).await.ok()?;
            let stream = async_nats::jetstream::new(client)
                .get_stream("CLN")
                .await
                .ok()?;
            Some(stream.cached_info().state.messages as usize)
        });
        if present >= Some(count) {
            return broker.messages("cln.>");
        }
        assert!(
            started.elapsed() < PATIENCE,
            "{present:?} of {count} messages: {}",
            publisher.log()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ids(messages: &[(String, String)]) -> Vec<String> {
    messages.iter().map(|(id, _)| id.clone()).collect()
}

fn once_and_in_order(program: &Path) {
    let broker = Broker::start(program);
    let mut recording = Recording::start();
    recording.record(3000);
    let publisher = Publisher::start(&recording.file(), broker.port, &["--durable"]);
    recording.record(3000);
    let all = recording.ids();
    let messages = until(&broker, &publisher, all.len());
    assert_eq!(ids(&messages), all);
    let invoices = broker.messages("cln.*.*.invoice_creation");
    assert_eq!(invoices.len(), 2000);
    assert!(
        invoices
            .iter()
            .all(|(_, subject)| subject == "cln.regtest.02aa.invoice_creation")
    );
    assert!(publisher.stop().contains("6001 records published"));
}

/// Something between the two that cuts.
struct Proxy {
    port: u16,
    cut: Arc<AtomicBool>,
}

impl Proxy {
    fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(AtomicBool::new(false));
        let is_cut = cut.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else {
                    continue;
                };
                for (from, into) in [(&client, &server), (&server, &client)] {
                    let (mut from, mut into) =
                        (from.try_clone().unwrap(), into.try_clone().unwrap());
                    let is_cut = is_cut.clone();
                    std::thread::spawn(move || {
                        let mut bytes = [0; 1 << 14];
                        while let Ok(count @ 1..) = from.read(&mut bytes) {
                            // What is on its way is lost.
                            if is_cut.load(SeqCst) || into.write_all(&bytes[..count]).is_err() {
                                break;
                            }
                        }
                        let _ = (from.shutdown(Shutdown::Both), into.shutdown(Shutdown::Both));
                    });
                }
            }
        });
        Self { port, cut }
    }
}

fn whoever_is_killed(program: &Path) {
    let soak = std::env::var("NEXTEST_PROFILE").is_ok_and(|profile| profile == "soak");
    let rounds = if soak { 20 } else { 3 };
    const EACH: u64 = 700;
    let mut broker = Broker::start(program);
    let proxy = Proxy::start(broker.port);
    let mut recording = Recording::start();
    recording.record(EACH);
    let start = |file: &Path| Publisher::start(file, proxy.port, &[]);
    let file = recording.file();
    let mut publisher = start(&file);
    let published = |broker: &Broker, publisher: &Publisher, n: u64| {
        until(broker, publisher, usize::try_from(n).unwrap()).len()
    };
    for _ in 0..rounds {
        recording.record(EACH);
        publisher.child.kill().unwrap();
        publisher.child.wait().unwrap();
        publisher = start(&file);
        published(&broker, &publisher, recording.n / 2);
        recording.record(EACH);
        broker.kill();
        recording.record(EACH);
        broker.restart();
        published(&broker, &publisher, recording.n / 2);
        recording.record(EACH);
        proxy.cut.store(true, SeqCst);
        recording.record(EACH);
        proxy.cut.store(false, SeqCst);
    }
    let all = recording.ids();
    let messages = until(&broker, &publisher, all.len());
    let found = ids(&messages);
    let wrong = found.iter().zip(&all).position(|(found, all)| found != all);
    assert_eq!(wrong, None, "{}", publisher.log());
    assert_eq!(found.len(), all.len());
    publisher.stop();
}

/// What others do: publish, and note in a file how far that is done. Dies after `count`
/// records.
async fn naive(file: &Path, place: &Path, port: u16, count: usize) {
    let client = async_nats::connect(url(port)).await.unwrap();
    let context = async_nats::jetstream::new(client);
    let noted = fs::read_to_string(place).ok();
    let from = noted.map_or(From::Oldest, |text| From::After(text.parse().unwrap()));
    let mut tail = Tail::open(file, from).unwrap();
    for n in 1..=count {
        let Some(Item::Record(record)) = tail.next().unwrap() else {
            return;
        };
        let sent = context.publish("cln.regtest.02aa.any", record.line.into());
        sent.await.unwrap().await.unwrap();
        // Not at once: a file written for each message is slow.
        if n % 10 == 0 {
            fs::write(place, record.cursor.to_string()).unwrap();
        }
    }
}

/// What finds nothing wrong above finds it here.
fn place_in_a_file(program: &Path) {
    let broker = Broker::start(program);
    let mut recording = Recording::start();
    recording.record(100);
    let mut check = Publisher::start(&recording.file(), broker.port, &["--check"]);
    assert!(check.child.wait().unwrap().success(), "{}", check.log());
    for count in [35, 1000] {
        let place = recording.dir.path().join("place");
        block_on(naive(&recording.file(), &place, broker.port, count));
    }
    let (found, all) = (ids(&broker.messages("cln.>")), recording.ids());
    assert_eq!(found.len(), all.len() + 5);
    assert_eq!(found[30..35], found[35..40]);
    assert_eq!(found[..35], all[..35]);
}

fn second_publisher(program: &Path) {
    let broker = Broker::start(program);
    let mut recording = Recording::start();
    recording.record(10);
    let publisher = Publisher::start(&recording.file(), broker.port, &[]);
    until(&broker, &publisher, 11);
    let second = Publisher::start(&recording.file(), broker.port, &[]).failed();
    assert!(second.contains("another publisher publishes"), "{second}");
    // One on another machine, with a copy.
    let copy = TempDir::new().unwrap();
    let folder = copy.path().join("regtest");
    fs::create_dir(&folder).unwrap();
    fs::copy(recording.file(), folder.join("eventlog.jsonl")).unwrap();
    let elsewhere = Publisher::start(&folder.join("eventlog.jsonl"), broker.port, &[]);
    publisher.stop();
    drop(elsewhere);
    assert_eq!(ids(&broker.messages("cln.>")), recording.ids());
}

fn somebody_else(program: &Path) {
    let broker = Broker::start(program);
    let mut recording = Recording::start();
    recording.record(100);
    let publisher = Publisher::start(&recording.file(), broker.port, &["--topics", "connect"]);
    until(&broker, &publisher, 34);
    publisher.stop();
    block_on(async {
        let client = async_nats::connect(url(broker.port)).await.unwrap();
        let context = async_nats::jetstream::new(client);
        let sent = context
            .publish("cln.regtest.02aa.connect", "{}".into())
            .await
            .unwrap();
        sent.await.unwrap();
    });
    let failed = Publisher::start(&recording.file(), broker.port, &[]).failed();
    assert!(failed.contains("is not from eventlog-publish"), "{failed}");
}

fn what_does_not_fit(program: &Path) {
    let broker = Broker::start(program);
    let mut recording = Recording::start();
    recording.record(1);
    let failed = Publisher::start(&recording.file(), broker.port, &["--no-create", "--check"]);
    let failed = failed.failed();
    assert!(failed.contains("stream CLN"), "{failed}");
    let config = recording.dir.path().join("stream.json");
    let text = r#"{"name":"CLN","subjects":["elsewhere.>"],"retention":"limits","max_consumers":-1,
        "max_msgs":-1,"max_bytes":-1,"discard":"old","max_age":0,"storage":"file","num_replicas":1}"#;
    fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let failed = Publisher::start(&recording.file(), broker.port, &["--stream-config", config]);
    let failed = failed.failed();
    assert!(failed.contains("nothing of this node"), "{failed}");
}
