//! Records to a webhook: a server of the test's own, which answers as it is asked to.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bitcoin_hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use libtest_mimic::Trial;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::common::{PATIENCE, Place, Publisher, Recording, id, rounds, row};

const SECRET: &[u8] = b"a secret of more than enough bytes";

pub fn trials() -> Vec<Trial> {
    let test = |name: &str, run: fn()| {
        Trial::test(format!("webhook::{name}"), move || {
            run();
            Ok(())
        })
    };
    vec![
        test("each_record_arrives_signed_and_in_order", in_order),
        test("over_tls_to_whom_it_trusts", over_tls),
        test("nothing_is_lost_whatever_is_answered", whatever_is_answered),
        test("nothing_is_lost_whoever_is_killed", whoever_is_killed),
        test("nothing_is_sent_before_a_place_is_noted", not_noted),
        test("what_is_in_flight_is_finished_or_given_up", terminated),
        test("what_does_not_fit_is_said", what_does_not_fit),
    ]
}

/// How the server answers a POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Status(&'static str),
    /// The connection ends.
    Cut,
    /// Nothing comes.
    Silence,
    /// A byte at a time, without an end.
    Drip,
    /// Header after header, without an end.
    Headers,
    /// Taken, with a body that says to be a gigabyte.
    Huge,
    /// Bytes that are no HTTP.
    Noise,
}

pub const OK: Answer = Answer::Status("204 No Content");

/// What came.
#[derive(Debug, Default)]
pub struct Came {
    /// Each POST: the message ids of its records, and how it was answered.
    pub posts: Vec<(Vec<String>, Answer)>,
    /// How the next ones are answered; then [`OK`].
    plan: VecDeque<Answer>,
    /// The answers wait.
    pub held: bool,
}

pub struct Server {
    port: u16,
    came: Arc<Mutex<Came>>,
}

impl Server {
    pub fn start(plan: &[Answer]) -> Self {
        Self::with(plan, None)
    }

    fn with(plan: &[Answer], tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let plan = plan.iter().copied().collect();
        let came = Arc::new(Mutex::new(Came {
            plan,
            ..Came::default()
        }));
        let to = came.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (tls, came) = (tls.clone(), to.clone());
                std::thread::spawn(move || match tls {
                    None => serve(stream, &came),
                    Some(tls) => {
                        serve(
                            StreamOwned::new(ServerConnection::new(tls).unwrap(), stream),
                            &came,
                        );
                    }
                });
            }
        });
        Self { port, came }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook?token=hidden", self.port)
    }

    pub fn came<T>(&self, look: impl FnOnce(&mut Came) -> T) -> T {
        look(&mut self.came.lock().unwrap())
    }

    /// The records of the POSTs that it took.
    pub fn taken(&self) -> Vec<String> {
        self.came(|came| {
            let taken = came.posts.iter().filter(|(_, answer)| took(*answer));
            taken.flat_map(|(ids, _)| ids.clone()).collect()
        })
    }
}

fn took(answer: Answer) -> bool {
    matches!(answer, Answer::Status(status) if status.starts_with('2')) || answer == Answer::Huge
}

fn serve(stream: impl Read + Write, came: &Mutex<Came>) {
    let mut stream = BufReader::new(stream);
    while let Some((head, body)) = request(&mut stream) {
        if head[0].starts_with("HEAD") {
            let _ = stream
                .get_mut()
                .write_all(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n");
            continue;
        }
        assert!(
            head[0].starts_with("POST /hook?token=hidden HTTP/1.1"),
            "{head:?}"
        );
        let ids = verified(&head, &body);
        let answer = {
            let mut came = came.lock().unwrap();
            let answer = came.plan.pop_front().unwrap_or(OK);
            came.posts.push((ids, answer));
            answer
        };
        let started = Instant::now();
        while came.lock().unwrap().held {
            assert!(started.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(5));
        }
        if !respond(stream.get_mut(), answer) {
            return;
        }
    }
}

/// The lines of a request's head, and its body.
fn request(stream: &mut impl BufRead) -> Option<(Vec<String>, String)> {
    let mut head = Vec::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        if let Some(value) = header(&line, "content-length") {
            length = value.parse().unwrap();
        }
        head.push(line);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head, String::from_utf8(body).unwrap()))
}

fn header<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (is, value) = line.split_once(": ")?;
    is.eq_ignore_ascii_case(name).then_some(value)
}

/// The message ids of the records in a body, which is signed as it has to be.
fn verified(head: &[String], body: &str) -> Vec<String> {
    let find = |name| head.iter().find_map(|line| header(line, name)).unwrap();
    let (webhook_id, time) = (find("webhook-id"), find("webhook-timestamp"));
    let mut engine = HmacEngine::<sha256::Hash>::new(SECRET);
    engine.input(format!("{webhook_id}.{time}.{body}").as_bytes());
    let hash = Hmac::<sha256::Hash>::from_engine(engine).to_byte_array();
    let signed = format!("v1,{}", BASE64_STANDARD.encode(hash));
    assert_eq!(find("webhook-signature"), signed);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    assert!(now.as_secs().abs_diff(time.parse().unwrap()) < 60, "{time}");
    assert_eq!(find("eventlog-schema"), "1");
    let ids: Vec<String> = body
        .lines()
        .map(|line| id(serde_json::from_str::<Place>(line).unwrap().into()))
        .collect();
    assert_eq!(ids.last().map(String::as_str), Some(webhook_id));
    ids
}

/// Answers. False: the connection is of no more use.
fn respond(stream: &mut impl Write, answer: Answer) -> bool {
    let endless = |stream: &mut dyn Write, first: &str, then: &str, pause| {
        let mut sent = stream.write_all(first.as_bytes());
        let started = Instant::now();
        while sent.is_ok() && started.elapsed() < PATIENCE {
            sent = stream
                .write_all(then.as_bytes())
                .and_then(|()| stream.flush());
            std::thread::sleep(Duration::from_millis(pause));
        }
        false
    };
    const HUGE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
    match answer {
        Answer::Status(status) => {
            let rest = match status.starts_with("3") {
                true => "Location: http://127.0.0.1:1/elsewhere\r\nContent-Length: 0\r\n\r\n",
                false if status.starts_with("204") => "\r\n",
                false => "Content-Length: 8\r\n\r\n\u{1b}[31mwhy",
            };
            let text = format!("HTTP/1.1 {status}\r\n{rest}");
            stream
                .write_all(text.as_bytes())
                .and_then(|()| stream.flush())
                .is_ok()
        }
        Answer::Cut => false,
        Answer::Silence => endless(stream, "", "", 10),
        Answer::Drip => endless(stream, "HTTP/1.1 200 OK\r\nX: ", "x", 10),
        Answer::Headers => endless(
            stream,
            "HTTP/1.1 200 OK\r\n",
            &"X: 123456\r\n".repeat(1000),
            0,
        ),
        Answer::Huge => endless(stream, HUGE, &"x".repeat(1 << 16), 0),
        Answer::Noise => {
            let _ = stream.write_all(&[0; 4096]);
            false
        }
    }
}

/// A file with the secret.
pub fn secret(recording: &Recording) -> String {
    let secret = recording.dir.path().join("secret");
    fs::write(&secret, SECRET).unwrap();
    secret.to_str().unwrap().to_owned()
}

pub fn start(recording: &Recording, url: &str, args: &[&str]) -> Publisher {
    let secret = secret(recording);
    let ours = ["--webhook", url, "--webhook-secret-file", &secret];
    Publisher::start(&recording.file(), &[&ours, args].concat())
}

/// Waits until it took the records, whatever came twice; they are in order in each attempt.
fn until(server: &Server, publisher: &Publisher, all: &[String]) {
    let last = all.last().unwrap();
    publisher.until("the last record", || server.taken().contains(last));
    let mut taken = 0;
    for (ids, answer) in server.came(|came| came.posts.clone()) {
        let begin = all.iter().position(|id| *id == ids[0]).unwrap();
        assert!(begin <= taken, "{} before {}", ids[0], all[taken]);
        assert_eq!(ids, all[begin..begin + ids.len()]);
        if took(answer) {
            taken = taken.max(begin + ids.len());
        }
    }
    assert_eq!(taken, all.len());
}

fn in_order() {
    let server = Server::start(&[]);
    let mut recording = Recording::start();
    recording.record(300);
    let publisher = start(&recording, &server.url(), &[]);
    let mut all = recording.ids();
    until(&server, &publisher, &all);
    let log = publisher.stop();
    assert!(log.contains("301 records published"), "{log}");
    assert!(!log.contains("hidden"), "{log}");
    assert_eq!(server.taken(), all);
    assert!(server.came(|came| came.posts.iter().all(|(ids, _)| ids.len() == 1)));
    let cursor = recording
        .dir
        .path()
        .join("regtest/eventlog.jsonl.webhook.cursor");
    assert_eq!(
        fs::metadata(&cursor).unwrap().permissions().mode() & 0o777,
        0o600
    );
    // It goes on behind what was noted; now with many records in one POST.
    recording.record(3000);
    let publisher = start(&recording, &server.url(), &["--window", "100"]);
    all = recording.ids();
    until(&server, &publisher, &all);
    publisher.stop();
    assert_eq!(server.taken(), all);
    let most = server.came(|came| came.posts.iter().map(|(ids, _)| ids.len()).max());
    assert!((2..=100).contains(&most.unwrap()), "{most:?}");
}

fn over_tls() {
    let file = |name: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/publish/tls");
        folder.join(name)
    };
    let cert = CertificateDer::from_pem_file(file("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(file("key.pem")).unwrap();
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .unwrap();
    let server = Server::with(&[], Some(Arc::new(config)));
    let url = server.url().replace("http:", "https:");
    let mut recording = Recording::start();
    recording.record(3);
    let publisher = start(&recording, &url, &[]);
    publisher.until("it does not trust", || {
        publisher.log().contains("invalid peer certificate")
    });
    publisher.stop();
    assert_eq!(server.taken().len(), 0);
    let trusted = file("cert.pem");
    let publisher = start(&recording, &url, &["--tls-ca", trusted.to_str().unwrap()]);
    let all = recording.ids();
    until(&server, &publisher, &all);
    publisher.stop();
}

fn whatever_is_answered() {
    const BAD: [Answer; 11] = [
        Answer::Status("500 Internal Server Error"),
        Answer::Status("429 Too Many Requests"),
        Answer::Status("404 Not Found"),
        Answer::Status("302 Found"),
        Answer::Status("101 Switching Protocols"),
        Answer::Cut,
        Answer::Silence,
        Answer::Drip,
        Answer::Headers,
        Answer::Huge,
        Answer::Noise,
    ];
    let plan: Vec<Answer> = BAD.iter().flat_map(|bad| [*bad, OK]).collect();
    let server = Server::start(&plan);
    let mut recording = Recording::start();
    recording.record(plan.len() as u64);
    let publisher = start(&recording, &server.url(), &["--webhook-timeout", "300ms"]);
    let all = recording.ids();
    until(&server, &publisher, &all);
    let log = publisher.stop();
    assert!(
        log.contains("answered 500") && !log.contains('\u{1b}'),
        "{log}"
    );
    // Each bad answer but one, of the record that was taken, had another attempt.
    let posts = server.came(|came| came.posts.len());
    assert_eq!(posts, all.len() + BAD.len() - 1, "{log}");
}

fn whoever_is_killed() {
    let (started, rounds) = (Instant::now(), rounds(3));
    let plan = [
        OK,
        OK,
        Answer::Cut,
        OK,
        OK,
        OK,
        Answer::Status("503 Service Unavailable"),
    ];
    let server = Server::start(&[]);
    let mut recording = Recording::start();
    let mut publisher = start(&recording, &server.url(), &["--window", "20"]);
    for _ in 0..rounds {
        server.came(|came| came.plan.extend(plan));
        recording.record(300);
        let before = server.came(|came| came.posts.len());
        publisher.until("some", || {
            server.came(|came| came.posts.len()) >= before + 5
        });
        publisher.kill();
        publisher = start(&recording, &server.url(), &["--window", "20"]);
    }
    until(&server, &publisher, &recording.ids());
    publisher.stop();
    row("killed or refused: publisher, webhook", rounds, started);
}

fn not_noted() {
    let server = Server::start(&[]);
    let mut recording = Recording::start();
    recording.record(5);
    // As with a full disk.
    let in_its_way = recording
        .dir
        .path()
        .join("regtest/eventlog.jsonl.webhook.cursor.new");
    fs::create_dir(&in_its_way).unwrap();
    let publisher = start(&recording, &server.url(), &[]);
    publisher.until("it says so", || {
        publisher.log().contains("nothing is sent until")
    });
    assert_eq!(server.taken().len(), 1);
    fs::remove_dir(&in_its_way).unwrap();
    let all = recording.ids();
    until(&server, &publisher, &all);
    publisher.stop();
    assert_eq!(server.taken(), all);
}

fn terminated() {
    let server = Server::start(&[]);
    let mut recording = Recording::start();
    recording.record(5);
    for finished in [true, false] {
        server.came(|came| came.held = true);
        let posts = server.came(|came| came.posts.len());
        let publisher = start(&recording, &server.url(), &["--webhook-timeout", "2s"]);
        publisher.until("a POST", || server.came(|came| came.posts.len()) > posts);
        publisher.terminate();
        if finished {
            server.came(|came| came.held = false);
        }
        let log = publisher.ended();
        assert_eq!(log.contains("1 records published"), finished, "{log}");
        server.came(|came| came.held = false);
    }
    let publisher = start(&recording, &server.url(), &[]);
    let all = recording.ids();
    until(&server, &publisher, &all);
    publisher.stop();
    // The one that was given up came twice.
    assert_eq!(server.taken().len(), all.len() + 1);
}

fn what_does_not_fit() {
    let server = Server::start(&[]);
    let mut recording = Recording::start();
    recording.record(1);
    let refused = |url: &str, args: &[&str]| start(&recording, url, args).failed();
    let no_url = refused("localhost/hook", &[]);
    assert!(no_url.contains("it is no https://HOST/PATH"), "{no_url}");
    let both = refused(&server.url(), &["--nats", "nats://127.0.0.1:1"]);
    assert!(both.contains("cannot be used with"), "{both}");
    let none = Publisher::start(&recording.file(), &["--webhook", &server.url()]).failed();
    assert!(none.contains("--webhook-secret-file"), "{none}");
    let mut check = start(&recording, &server.url(), &["--check"]);
    assert!(check.child.wait().unwrap().success(), "{}", check.log());
    let gone = refused("http://127.0.0.1:1/hook", &["--check"]);
    assert!(gone.contains("http://127.0.0.1:1: "), "{gone}");
    let cursor = recording.dir.path().join("cursor");
    fs::write(&cursor, "").unwrap();
    let args = ["--cursor-file", cursor.to_str().unwrap()];
    let empty = refused(&server.url(), &args);
    assert!(empty.contains("cursor: write the last record"), "{empty}");
    fs::write(&cursor, "00000000000000aa:7").unwrap();
    let unknown = refused(&server.url(), &args);
    assert!(unknown.contains("no record of the epoch"), "{unknown}");
    assert_eq!(server.taken().len(), 0);
}
