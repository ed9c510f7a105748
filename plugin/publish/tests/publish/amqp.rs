//! Records to a real rabbitmq-server: `RABBITMQ_SERVER`, or the one on the PATH; epmd, which
//! it needs, is beside it or on the PATH.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use lapin::options::*;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::common::{PATIENCE, Place, Publisher, Recording, id, rounds, row};
use crate::nats::block_on;
use crate::proxy::Proxy;

pub fn trials() -> Vec<Trial> {
    let test = |name: &str, run: fn(&Path)| crate::with(&format!("amqp::{name}"), server(), run);
    vec![
        test("each_record_is_routed_in_order", routed),
        test("nothing_is_lost_whoever_is_killed", whoever_is_killed),
    ]
}

fn server() -> Result<PathBuf, String> {
    match std::env::var_os("RABBITMQ_SERVER") {
        Some(named) => Ok(named.into()),
        None => {
            which::which("rabbitmq-server").map_err(|error| format!("rabbitmq-server: {error}"))
        }
    }
}

/// A broker with a folder and ports of its own.
struct Broker {
    program: PathBuf,
    dir: TempDir,
    /// Of the broker, its distribution and epmd.
    ports: [u16; 3],
    epmd: Child,
    broker: Child,
}

impl Broker {
    fn start(program: &Path) -> Self {
        let dir = TempDir::new().unwrap();
        let free = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = free.each_ref().map(|one| one.local_addr().unwrap().port());
        drop(free);
        let beside = program.with_file_name("epmd");
        let epmd = if beside.exists() {
            beside
        } else {
            PathBuf::from("epmd")
        };
        let epmd = Command::new(epmd)
            .args(["-address", "127.0.0.1", "-port", &ports[2].to_string()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut broker = Self {
            program: program.to_owned(),
            broker: spawn(program, &dir, ports),
            dir,
            ports,
            epmd,
        };
        broker.until_up();
        broker
    }

    fn kill(&mut self) {
        killpg(
            Pid::from_raw(self.broker.id().try_into().unwrap()),
            Signal::SIGKILL,
        )
        .unwrap();
        self.broker.wait().unwrap();
    }

    fn restart(&mut self) {
        self.broker = spawn(&self.program, &self.dir, self.ports);
        self.until_up();
    }

    fn until_up(&mut self) {
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.ports[0])).is_err() {
            let ended = self.broker.try_wait().unwrap();
            let log = fs::read_to_string(self.dir.path().join("out")).unwrap_or_default();
            assert!(
                ended.is_none() && started.elapsed() < PATIENCE,
                "{ended:?}: {log}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn url(&self) -> String {
        url(self.ports[0])
    }

    /// Does this with a channel.
    fn ask<T>(&self, work: impl AsyncFnOnce(Channel) -> T) -> T {
        block_on(async {
            let properties = ConnectionProperties::default();
            let connection = Connection::connect(&self.url(), properties).await.unwrap();
            let done = work(connection.create_channel().await.unwrap()).await;
            let _ = connection.close(200, "done".into()).await; // with the channel in it
            done
        })
    }

    /// Makes an exchange, and a queue for what goes there with a routing key.
    fn bind(&self, exchange: &str, kind: ExchangeKind, queue: &str, key: &str) {
        self.ask(async |channel| {
            let none = FieldTable::default;
            let durable = ExchangeDeclareOptions {
                durable: true,
                ..Default::default()
            };
            channel
                .exchange_declare(exchange.into(), kind, durable, none())
                .await
                .unwrap();
            let durable = QueueDeclareOptions {
                durable: true,
                ..Default::default()
            };
            channel
                .queue_declare(queue.into(), durable, none())
                .await
                .unwrap();
            let options = QueueBindOptions::default();
            let bound =
                channel.queue_bind(queue.into(), exchange.into(), key.into(), options, none());
            bound.await.unwrap();
        });
    }

    /// Takes what is in a queue: message ids and routing keys.
    fn take(&self, queue: &str) -> Vec<(String, String)> {
        self.ask(async |channel| {
            let mut found = Vec::new();
            let options = BasicGetOptions { no_ack: true };
            while let Some(message) = channel.basic_get(queue.into(), options).await.unwrap() {
                let record: Place = serde_json::from_slice(&message.data).unwrap();
                let properties = &message.properties;
                let message_id = properties
                    .message_id()
                    .as_ref()
                    .unwrap()
                    .as_str()
                    .to_owned();
                assert_eq!(message_id, id(record.into()));
                assert_eq!(*properties.delivery_mode(), Some(2));
                found.push((message_id, message.routing_key.as_str().to_owned()));
            }
            found
        })
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = killpg(
            Pid::from_raw(self.broker.id().cast_signed()),
            Signal::SIGKILL,
        );
        let _ = (self.broker.wait(), self.epmd.kill(), self.epmd.wait());
    }
}

fn spawn(program: &Path, dir: &TempDir, ports: [u16; 3]) -> Child {
    let path = |name: &str| dir.path().join(name);
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(path("out"))
        .unwrap();
    let [port, distribution, epmd] = ports.map(|port| port.to_string());
    Command::new(program)
        .env("HOME", dir.path())
        .env("RABBITMQ_NODENAME", format!("t{port}@localhost"))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port)
        .env("RABBITMQ_DIST_PORT", distribution)
        .env("ERL_EPMD_PORT", epmd)
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_MNESIA_BASE", path("data"))
        .env("RABBITMQ_LOG_BASE", path("log"))
        .env("RABBITMQ_LOGS", "-")
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins"))
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .process_group(0)
        .spawn()
        .unwrap()
}

fn url(port: u16) -> String {
    format!("amqp://127.0.0.1:{port}/%2f")
}

/// Waits until a publisher has said, at its end, that it published so many.
fn published(publisher: Publisher, count: usize) {
    let cursor = || publisher.log();
    publisher.until("a connection", || cursor().contains("connected"));
    let log = publisher.stop();
    assert!(log.contains(&format!("{count} records published")), "{log}");
}

fn routed(program: &Path) {
    let broker = Broker::start(program);
    broker.bind("cln.events", ExchangeKind::Topic, "all", "#");
    broker.bind(
        "cln.events",
        ExchangeKind::Topic,
        "invoices",
        "cln.*.*.invoice_creation",
    );
    let mut recording = Recording::start();
    recording.record(900);
    let all = recording.ids();
    let place = recording
        .dir
        .path()
        .join("regtest/eventlog.jsonl.amqp.cursor");
    let last = all.last().unwrap().rsplit('/').next().unwrap().to_owned();
    let publisher = Publisher::start(&recording.file(), &["--amqp", &broker.url()]);
    let noted = || {
        fs::read_to_string(&place).is_ok_and(|text| text.trim_end().ends_with(&format!(":{last}")))
    };
    publisher.until("all are confirmed", noted);
    published(publisher, 901);
    let (found, keys): (Vec<_>, Vec<_>) = broker.take("all").into_iter().unzip();
    assert_eq!(found, all);
    assert_eq!(keys[1], "cln.regtest.02aa.connect");
    let invoices = broker.take("invoices");
    assert_eq!(invoices.len(), 300);
    assert!(
        invoices
            .iter()
            .all(|(_, key)| key == "cln.regtest.02aa.invoice_creation")
    );
    // As Blockstream's event-plugin: a direct exchange, one queue, no routing key.
    broker.bind("direct", ExchangeKind::Direct, "one", "");
    let cursor = recording.dir.path().join("another");
    let args = [
        "--amqp",
        &broker.url(),
        "--amqp-exchange",
        "direct",
        "--amqp-routing-key",
        "",
    ];
    let args = [&args[..], &["--cursor-file", cursor.to_str().unwrap()]].concat();
    let publisher = Publisher::start(&recording.file(), &args);
    let noted = || {
        fs::read_to_string(&cursor).is_ok_and(|text| text.trim_end().ends_with(&format!(":{last}")))
    };
    publisher.until("all are confirmed", noted);
    publisher.stop();
    let found: Vec<String> = broker.take("one").into_iter().map(|(id, _)| id).collect();
    assert_eq!(found, all);
    // What no queue wants is said to be dropped.
    recording.record(1);
    let args = ["--amqp", &broker.url(), "--amqp-exchange", "new"];
    let args = [&args[..], &["--cursor-file", cursor.to_str().unwrap()]].concat();
    let publisher = Publisher::start(&recording.file(), &args);
    publisher.until("it says so", || {
        publisher.log().contains("such records are dropped")
    });
    publisher.stop();
    let failed = [
        "--amqp",
        &broker.url(),
        "--amqp-exchange",
        "none",
        "--no-create",
        "--check",
    ];
    let failed = Publisher::start(&recording.file(), &failed).failed();
    assert!(failed.contains("exchange none"), "{failed}");
}

fn whoever_is_killed(program: &Path) {
    let (started, rounds) = (Instant::now(), rounds(2));
    const EACH: u64 = 300;
    let mut broker = Broker::start(program);
    broker.bind("cln.events", ExchangeKind::Topic, "all", "#");
    let proxy = Proxy::start(broker.ports[0]);
    let mut recording = Recording::start();
    let place = recording
        .dir
        .path()
        .join("regtest/eventlog.jsonl.amqp.cursor");
    let start = |file: &Path| Publisher::start(file, &["--amqp", &url(proxy.port)]);
    let mut publisher = start(&recording.file());
    let noted = |publisher: &Publisher, all: &[String]| {
        let seq = |text: &str| {
            text.trim_end()
                .rsplit([':', '/'])
                .next()?
                .parse::<u64>()
                .ok()
        };
        let last = seq(all.last().unwrap());
        let noted = || fs::read_to_string(&place).ok().and_then(|text| seq(&text));
        publisher.until("all are confirmed", || noted() >= last);
    };
    for _ in 0..rounds {
        recording.record(EACH);
        publisher.kill();
        publisher = start(&recording.file());
        noted(&publisher, &recording.ids());
        recording.record(EACH);
        broker.kill();
        recording.record(EACH);
        broker.restart();
        noted(&publisher, &recording.ids());
        recording.record(EACH);
        proxy.cut.store(true, SeqCst);
        recording.record(EACH);
        proxy.cut.store(false, SeqCst);
    }
    let all = recording.ids();
    noted(&publisher, &all);
    publisher.stop();
    let mut next = 0;
    let mut twice = 0;
    for (id, _) in broker.take("all") {
        let at = all.iter().position(|one| *one == id).unwrap();
        assert!(at <= next, "{id} before {}", all[next]);
        twice += usize::from(at < next);
        next = next.max(at + 1);
    }
    assert_eq!(next, all.len(), "{twice} twice");
    row(
        "killed or cut: publisher, rabbitmq-server, network",
        rounds,
        started,
    );
}
