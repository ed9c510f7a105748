//! Records to a real nats-server: `NATS_SERVER`, or the one on the PATH, or the one in
//! `LAB_NODES_DIR`.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{DeliverPolicy, pull::OrderedConfig};
use async_nats::jetstream::stream::{Info, Stream};
use eventlog::tail::{From, Item, Tail};
use futures_util::StreamExt;
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::common::{PATIENCE, Place, Publisher, Recording, id, rounds, row, signal};
use crate::proxy::Proxy;

pub fn trials() -> Vec<Trial> {
    let test = |name: &str, run: fn(&Path)| crate::with(&format!("nats::{name}"), server(), run);
    vec![
        test(
            "each_record_is_published_once_and_in_order",
            once_and_in_order,
        ),
        test(
            "nothing_is_lost_or_doubled_whoever_is_killed",
            whoever_is_killed,
        ),
        test(
            "who_keeps_his_place_in_a_file_publishes_twice",
            place_in_a_file,
        ),
        test("what_the_broker_lost_is_sent_again", lost_by_the_broker),
        test("a_cluster_that_loses_a_server_loses_no_record", cluster),
        test("what_is_in_flight_is_finished_or_given_up", terminated),
        test("a_second_publisher_is_refused", second_publisher),
        test("a_message_of_somebody_else_is_reported", somebody_else),
        test("what_does_not_fit_is_said", what_does_not_fit),
    ]
}

pub fn server() -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os("NATS_SERVER") {
        return Ok(named.into());
    }
    let folder = std::env::var_os("LAB_NODES_DIR").map(PathBuf::from);
    let private = folder.map(|folder| folder.join("nats/bin/nats-server"));
    if let Some(private) = private.filter(|private| private.is_file()) {
        return Ok(private);
    }
    which::which("nats-server").map_err(|error| format!("nats-server: {error}"))
}

pub fn block_on<T>(task: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(task)
}

pub fn url(port: u16) -> String {
    format!("nats://127.0.0.1:{port}")
}

pub async fn stream(broker: &Broker) -> Result<Stream<Info>, Box<dyn std::error::Error>> {
    let client = async_nats::connect(url(broker.port)).await?;
    Ok(async_nats::jetstream::new(client).get_stream("CLN").await?)
}

/// A broker with a folder and a port of its own.
pub struct Broker {
    program: PathBuf,
    args: Vec<String>,
    dir: TempDir,
    pub port: u16,
    child: Child,
}

impl Broker {
    pub fn start(program: &Path) -> Self {
        let [port] = ports();
        Self::with(program, port, Vec::new())
    }

    pub fn with(program: &Path, port: u16, args: Vec<String>) -> Self {
        let dir = TempDir::new().unwrap();
        let child = spawn(program, &dir, port, &args);
        Self {
            program: program.to_owned(),
            args,
            dir,
            port,
            child,
        }
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn restart(&mut self) {
        self.child = spawn(&self.program, &self.dir, self.port, &self.args);
    }

    /// What the stream holds: message ids and subjects.
    pub fn messages(&self, filter: &str) -> Vec<(String, String)> {
        block_on(async {
            let stream = stream(self).await.unwrap();
            let started = Instant::now();
            // A cluster that has lost its leader has none for a while.
            let consumer = loop {
                let config = OrderedConfig {
                    filter_subject: filter.to_owned(),
                    deliver_policy: DeliverPolicy::All,
                    ..OrderedConfig::default()
                };
                match stream.create_consumer(config).await {
                    Ok(consumer) => break consumer,
                    Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
                }
            };
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

/// Free ports: another test may take one meanwhile, then the server fails to start.
fn ports<const N: usize>() -> [u16; N] {
    let free = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    free.map(|one| one.local_addr().unwrap().port())
}

fn spawn(program: &Path, dir: &TempDir, port: u16, args: &[String]) -> Child {
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
        .args(args)
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

pub fn start(file: &Path, broker: &Broker, args: &[&str]) -> Publisher {
    let url = url(broker.port);
    Publisher::start(file, &[&["--nats", &url], args].concat())
}

/// Waits until the stream has so many messages of the node.
pub fn until(broker: &Broker, publisher: &Publisher, count: usize) -> Vec<(String, String)> {
    let started = Instant::now();
    loop {
        let present = block_on(async {
            let stream = stream(broker).await.ok()?;
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

pub fn ids(messages: &[(String, String)]) -> Vec<String> {
    messages.iter().map(|(id, _)| id.clone()).collect()
}

fn once_and_in_order(program: &Path) {
    let broker = Broker::start(program);
    let mut recording = Recording::start();
    recording.record(3000);
    let publisher = start(&recording.file(), &broker, &["--durable"]);
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

fn whoever_is_killed(program: &Path) {
    let (started, rounds) = (Instant::now(), rounds(3));
    const EACH: u64 = 700;
    let mut broker = Broker::start(program);
    let proxy = Proxy::start(broker.port);
    let mut recording = Recording::start();
    recording.record(EACH);
    let start = |file: &Path| Publisher::start(file, &["--nats", &url(proxy.port)]);
    let file = recording.file();
    let mut publisher = start(&file);
    let published = |broker: &Broker, publisher: &Publisher, n: u64| {
        until(broker, publisher, usize::try_from(n).unwrap()).len()
    };
    for _ in 0..rounds {
        recording.record(EACH);
        publisher.kill();
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
    row(
        "killed or cut: publisher, nats-server, network",
        rounds,
        started,
    );
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
    let mut check = start(&recording.file(), &broker, &["--check"]);
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
    let publisher = start(&recording.file(), &broker, &[]);
    until(&broker, &publisher, 11);
    let second = start(&recording.file(), &broker, &[]).failed();
    assert!(second.contains("another publisher publishes"), "{second}");
    // One on another machine, with a copy.
    let copy = TempDir::new().unwrap();
    let folder = copy.path().join("regtest");
    fs::create_dir(&folder).unwrap();
    fs::copy(recording.file(), folder.join("eventlog.jsonl")).unwrap();
    let elsewhere = start(&folder.join("eventlog.jsonl"), &broker, &[]);
    publisher.stop();
    drop(elsewhere);
    assert_eq!(ids(&broker.messages("cln.>")), recording.ids());
}

fn somebody_else(program: &Path) {
    let broker = Broker::start(program);
    let mut recording = Recording::start();
    recording.record(100);
    let publisher = start(&recording.file(), &broker, &["--topics", "connect"]);
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
    let failed = start(&recording.file(), &broker, &[]).failed();
    assert!(failed.contains("is not from eventlog-publish"), "{failed}");
}

fn what_does_not_fit(program: &Path) {
    let broker = Broker::start(program);
    let mut recording = Recording::start();
    recording.record(1);
    let failed = start(&recording.file(), &broker, &["--no-create", "--check"]);
    let failed = failed.failed();
    assert!(failed.contains("stream CLN"), "{failed}");
    let config = recording.dir.path().join("stream.json");
    let text = r#"{"name":"CLN","subjects":["elsewhere.>"],"retention":"limits","max_consumers":-1,
        "max_msgs":-1,"max_bytes":-1,"discard":"old","max_age":0,"storage":"file","num_replicas":1}"#;
    for (seen, change, said) in [
        ("", "", "nothing of this node"),
        ("limits", "workqueue", "retention is WorkQueue"),
        (
            "\"max_msgs\"",
            "\"max_msgs_per_subject\":10,\"max_msgs\"",
            "max_msgs_per_subject",
        ),
        (
            "\"max_age\":0",
            "\"max_age\":0,\"duplicate_window\":1000000000",
            "duplicate_window is 1s",
        ),
    ] {
        let mut text = text.to_owned();
        if !seen.is_empty() {
            text = text.replace("elsewhere", "cln").replace(seen, change);
        }
        fs::write(&config, text).unwrap();
        let args = ["--stream-config", config.to_str().unwrap(), "--check"];
        let failed = start(&recording.file(), &broker, &args).failed();
        assert!(failed.contains(said), "{failed}");
        block_on(async {
            let client = async_nats::connect(url(broker.port)).await.unwrap();
            let context = async_nats::jetstream::new(client);
            context.delete_stream("CLN").await.unwrap();
        });
    }
}

/// One server does what one of several may: it loses a message and keeps the next.
fn lost_by_the_broker(program: &Path) {
    let mut broker = Broker::start(program);
    let mut recording = Recording::start();
    recording.record(1000);
    let publisher = start(&recording.file(), &broker, &[]);
    until(&broker, &publisher, 1001);
    publisher.stop();
    block_on(async {
        let stream = stream(&broker).await.unwrap();
        let last = stream.get_last_raw_message_by_subject("cln.>").await;
        let last = last.unwrap();
        let confirmed = last.headers.get("Eventlog-Confirmed").unwrap().as_str();
        let (confirmed, _) = confirmed.split_once(' ').unwrap();
        let confirmed: u64 = confirmed.parse().unwrap();
        assert!(
            confirmed + 2 < last.sequence,
            "{confirmed} of {}",
            last.sequence
        );
        for lost in [confirmed + 1, last.sequence - 1] {
            assert!(stream.delete_message(lost).await.unwrap());
        }
    });
    // They were not acknowledged before the publisher was killed.
    fs::remove_file(recording.file().with_extension("jsonl.nats.cursor")).unwrap();
    // Else it remembers their ids.
    broker.kill();
    broker.restart();
    let publisher = start(&recording.file(), &broker, &[]);
    until(&broker, &publisher, 1001);
    let log = publisher.stop();
    assert_eq!(log.matches("was missing in the stream").count(), 2, "{log}");
    // Now the last message is not the latest record.
    for _ in 0..2 {
        recording.record(10);
        let all = recording.ids();
        let publisher = start(&recording.file(), &broker, &[]);
        let mut found = ids(&until(&broker, &publisher, all.len()));
        publisher.stop();
        found.sort_by_key(|id| all.iter().position(|one| one == id));
        assert_eq!(found, all);
    }
}

fn terminated(program: &Path) {
    let broker = Broker::start(program);
    let proxy = Proxy::start(broker.port);
    let mut recording = Recording::start();
    recording.record(10);
    let mut all = recording.ids();
    for finished in [true, false] {
        let publisher = Publisher::start(&recording.file(), &["--nats", &url(proxy.port)]);
        recording.record(1);
        until(&broker, &publisher, all.len() + 1);
        signal(&broker.child, Signal::SIGSTOP);
        let before = proxy.sent.load(SeqCst);
        recording.record(10);
        publisher.until("they are sent", || proxy.sent.load(SeqCst) > before);
        let started = Instant::now();
        publisher.terminate();
        if finished {
            signal(&broker.child, Signal::SIGCONT);
            publisher.ended();
            all = recording.ids();
            assert_eq!(ids(&broker.messages("cln.>")), all);
        } else {
            let log = publisher.ended();
            let took = started.elapsed().as_secs();
            assert!((5..15).contains(&took), "{took} s: {log}");
            signal(&broker.child, Signal::SIGCONT);
        }
    }
    let publisher = start(&recording.file(), &broker, &[]);
    all = recording.ids();
    assert_eq!(ids(&until(&broker, &publisher, all.len())), all);
    publisher.stop();
}

/// Three servers on one machine, a stream with three replicas; its leader is killed.
fn cluster(program: &Path) {
    let (started, rounds) = (Instant::now(), rounds(1));
    const EACH: u64 = 1000;
    let routes: [u16; 3] = ports();
    let all_routes = routes.map(url).join(",");
    let mut servers: Vec<Broker> = std::iter::zip(ports::<3>(), routes)
        .map(|(port, route)| {
            let args = ["--name", &port.to_string(), "--cluster_name", "three"];
            let routing = ["--cluster", &url(route), "--routes", &all_routes];
            let args = [args, routing].concat().into_iter().map(str::to_owned);
            Broker::with(program, port, args.collect())
        })
        .collect();
    let urls: Vec<String> = servers.iter().map(|server| url(server.port)).collect();
    let mut recording = Recording::start();
    recording.record(EACH);
    let args = ["--nats", &urls.join(","), "--replicas", "3"];
    let publisher = Publisher::start(&recording.file(), &args);
    let mut all = recording.ids();
    until(&servers[0], &publisher, all.len());
    for _ in 0..rounds {
        let leader = block_on(async {
            let stream = stream(&servers[0]).await.ok()?;
            stream.cached_info().cluster.as_ref()?.leader.clone()
        });
        let leader = leader.expect("a leader");
        recording.record(EACH);
        let at = servers
            .iter()
            .position(|server| server.port.to_string() == leader);
        let at = at.expect("one of them");
        servers[at].kill();
        recording.record(EACH);
        all = recording.ids();
        let mut found = ids(&until(&servers[(at + 1) % 3], &publisher, all.len()));
        // Its order is kept with a window of one.
        found.sort_by_key(|id| all.iter().position(|one| one == id));
        let wrong = found.iter().zip(&all).position(|(found, all)| found != all);
        assert_eq!(
            (wrong, found.len()),
            (None, all.len()),
            "{}",
            publisher.log()
        );
        servers[at].restart();
        // It has to have all again before another may be killed.
        publisher.until("three that are current", || {
            let current = block_on(async {
                let stream = stream(&servers[(at + 1) % 3]).await.ok()?;
                let cluster = stream.cached_info().cluster.clone()?;
                Some(
                    cluster
                        .replicas
                        .iter()
                        .filter(|one| one.current && !one.offline)
                        .count(),
                )
            });
            current == Some(2)
        });
    }
    let log = publisher.stop();
    assert!(!log.contains("cannot be made"), "{log}");
    row("a leader of three nats-servers killed", rounds, started);
}
