//! What runs it sees of it: numbers, and systemd.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use libtest_mimic::Trial;
use regex::Regex;

use crate::common::{PATIENCE, Publisher, Recording};
use crate::webhook::{self, Answer, OK, Server};

pub fn trials() -> Vec<Trial> {
    let test = |name: &str, run: fn()| {
        Trial::test(format!("service::{name}"), move || {
            run();
            Ok(())
        })
    };
    let analyze =
        which::which("systemd-analyze").map_err(|error| format!("systemd-analyze: {error}"));
    vec![
        test("metrics_say_what_is_published_and_what_is_not", metrics),
        test("metrics_stay_on_this_machine", metrics_stay_here),
        test("systemd_hears_of_start_and_end", notified),
        crate::with("service::systemd_takes_the_unit", analyze, unit),
    ]
}

/// What the metrics' port answers.
fn ask(publisher: &Publisher, request: &str) -> String {
    const AT: &str = "metrics at http://";
    publisher.until("a port", || publisher.log().contains(AT));
    let log = publisher.log();
    let (_, address) = log.split_once(AT).unwrap();
    let (address, _) = address.split_once("/metrics").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer); // it may be cut
    answer
}

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

/// A metric now; `None` if it is missing. The page is read as Prometheus would.
fn metric(publisher: &Publisher, name: &str) -> Option<f64> {
    let answer = ask(publisher, GET);
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains("Content-Type: text/plain; version=0.0.4"),
        "{head}"
    );
    let sample = r#"^(\w+)\{sink="webhook",network="regtest",node_id="02aa"\} ([0-9.e+]+)$"#;
    let sample = Regex::new(sample).unwrap();
    let lines: Vec<&str> = page.lines().collect();
    assert_eq!(lines.len() % 3, 0, "{page}");
    let mut found = None;
    for metric in lines.chunks(3) {
        let value = sample.captures(metric[2]).expect(metric[2]);
        assert!(
            metric[0].starts_with(&format!("# HELP {} ", &value[1])),
            "{page}"
        );
        let kind = if value[1].ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        assert_eq!(metric[1], format!("# TYPE {} {kind}", &value[1]));
        if value[1] == format!("eventlog_publish_{name}") {
            found = Some(value[2].parse().unwrap());
        }
    }
    found
}

fn metrics() {
    let server = Server::start(&[Answer::Status("500 Internal Server Error"), OK]);
    server.came(|came| came.held = true);
    let mut recording = Recording::start();
    recording.record(30);
    let all = recording.ids();
    let args = ["--metrics", "127.0.0.1:0", "--topics", "connect"];
    let publisher = webhook::start(&recording, &server.url(), &args);
    let now = |name: &str| metric(&publisher, name);
    publisher.until("a POST", || !server.came(|came| came.posts.is_empty()));
    let bytes = fs::metadata(recording.file()).unwrap().len();
    // The first record, of the start, is not asked for.
    assert_eq!(now("behind_records"), Some(31.0));
    assert_eq!(now("behind_bytes"), Some(bytes as f64));
    assert_eq!(
        (now("published_total"), now("connected")),
        (Some(0.0), Some(0.0))
    );
    assert_eq!(now("last_publish_timestamp_seconds"), None);
    server.came(|came| came.held = false);
    publisher.until("all", || now("published_total") == Some(10.0));
    publisher.until("those of other topics", || {
        now("behind_records") == Some(0.0)
    });
    assert_eq!(now("behind_bytes"), Some(0.0));
    for name in ["connected", "refused_total", "reconnects_total"] {
        assert_eq!(now(name), Some(1.0), "{name}");
    }
    let last = Duration::from_secs_f64(now("last_publish_timestamp_seconds").unwrap());
    let last = SystemTime::UNIX_EPOCH + last;
    assert!(last.elapsed().unwrap() < PATIENCE);
    assert_eq!(server.taken().len(), all.len() / 3);
    publisher.stop();
}

fn metrics_stay_here() {
    let server = Server::start(&[]);
    let mut recording = Recording::start();
    recording.record(1);
    for address in ["0.0.0.0:9999", "[::]:9999", "192.0.2.1:9999", "9999"] {
        let refused = webhook::start(&recording, &server.url(), &["--metrics", address]).failed();
        assert!(
            refused.contains("loopback address") || refused.contains("ADDRESS:PORT"),
            "{refused}"
        );
    }
    let publisher = webhook::start(&recording, &server.url(), &["--metrics", "127.0.0.1:0"]);
    // Somebody who says nothing keeps nobody else from an answer.
    let log = || publisher.log();
    publisher.until("a port", || log().contains("metrics at"));
    let (_, port) = log()
        .split_once("127.0.0.1:")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let (port, _) = port.split_once('/').unwrap();
    let silent: Vec<_> = (0..10)
        .map(|_| TcpStream::connect(format!("127.0.0.1:{port}")).unwrap())
        .collect();
    assert!(ask(&publisher, "GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(ask(&publisher, "POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert_eq!(ask(&publisher, &"x".repeat(1 << 20)), "");
    assert_eq!(metric(&publisher, "gaps_total"), Some(0.0));
    drop(silent);
    let other = format!("127.0.0.1:{port}");
    let taken = [
        "--metrics",
        &other,
        "--cursor-file",
        "/dev/shm/eventlog-publish.none",
    ];
    let taken = webhook::start(&recording, &server.url(), &taken).failed();
    assert!(taken.contains(&format!("--metrics {other}: ")), "{taken}");
    publisher.stop();
}

fn notified() {
    let mut recording = Recording::start();
    recording.record(1);
    let socket = recording.dir.path().join("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    systemd.set_read_timeout(Some(PATIENCE)).unwrap();
    let server = Server::start(&[]);
    let secret = webhook::secret(&recording);
    let args = ["--webhook", &server.url(), "--webhook-secret-file", &secret];
    let publisher = Publisher::with(&recording.file(), &args, |command| {
        command.env("NOTIFY_SOCKET", &socket);
    });
    let said = || {
        let mut bytes = [0; 1000];
        let count = systemd.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    };
    assert_eq!(said(), "READY=1\n");
    let status = said();
    assert!(status.starts_with("STATUS=http://127.0.0.1:"), "{status}");
    publisher.stop();
    assert_eq!(said(), "STOPPING=1\n");
}

fn unit(analyze: &Path) {
    let dir = tempfile::TempDir::new().unwrap();
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("eventlog-publish.service");
    let text = fs::read_to_string(unit).unwrap();
    // Where it is installed there is nothing here.
    let text = text.replace(
        "/usr/local/bin/eventlog-publish $",
        concat!(env!("CARGO_BIN_EXE_eventlog-publish"), " $"),
    );
    let here: PathBuf = dir.path().join("eventlog-publish.service");
    fs::write(&here, text).unwrap();
    // It also complains of other units that this one wants.
    let complaint = "eventlog-publish.service:";
    for (args, wrong) in [
        (&["verify"][..], complaint),
        (&["security", "--offline=true", "--threshold=20"], "UNSAFE"),
    ] {
        let run = Command::new(analyze).args(args).arg(&here).output();
        let run = run.unwrap();
        let said = [run.stderr, run.stdout].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(run.status.success() && !said.contains(wrong), "{said}");
    }
}
