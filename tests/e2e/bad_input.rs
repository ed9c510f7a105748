//! Input that must not harm a node: malformed, endless, too much, or none at all.
//! Afterwards it answers as before.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use cln_lab::{Node, Plugin, Probe, eventually};
use lab_tests::sandbox::Sandbox;
use lab_tests::socket::Socket;
use lab_tests::{Kinds, Outcome, Suite, program, write_script};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// How long something may take that is said to happen at once.
const SOON: Duration = Duration::from_secs(10);

pub fn tests(suite: Suite) -> Suite {
    suite
        .since((26, 4), "malformed_requests", malformed_requests)
        .scenario_alone("unquoted_words_as_lightning_cli_sends_them", bare_words)
        .scenario_alone("requests_cut_anywhere", cut_anywhere)
        .scenario_alone("ten_thousand_clients", ten_thousand_clients)
        // lightningd takes two minutes for them.
        .on(
            &[Kinds::Embedded],
            "ten_thousand_connections",
            ten_thousand_connections,
        )
        .scenario_alone("clients_that_hang", clients_that_hang)
        .scenario_alone("a_client_that_never_reads", never_reads)
        .scenario_alone("peers_that_send_garbage", peers_that_send_garbage)
        .since((26, 4), "a_plugin_that_floods", flood)
        .on(&[Kinds::Embedded], "a_message_without_end", without_end)
        .test("lab_cli_reports_what_is_no_answer", no_answer)
}

/// The node answers, and is the one it was.
async fn lives(node: &Node) -> Outcome {
    let info: Value = node.call("getinfo", json!({})).await?;
    ensure!(info["id"] == node.id(), "{info}");
    Ok(())
}

/// Requests with the id and the message of their error, in lightningd's words.
const MALFORMED: [(&str, &str, &str); 9] = [
    (
        r#"{"jsonrpc":"2.0","id":1,"method":"getinfo"}"#,
        "1",
        "No params",
    ),
    (r#"{"jsonrpc":"2.0","id":1,"params":[]}"#, "1", "No method"),
    (
        r#"{"jsonrpc":"2.0","method":"getinfo","params":[]}"#,
        "null",
        "No id",
    ),
    (
        r#"{"id":1,"method":"getinfo","params":[]}"#,
        "null",
        r#"JSON-RPC message does not contain "jsonrpc" field: '{"id":1,"method":"getinfo","params":[]}'"#,
    ),
    (
        r#"{"jsonrpc":"1.0","id":1,"method":"getinfo","params":[]}"#,
        "null",
        r#"jsonrpc: "2.0" must be specified in the request"#,
    ),
    (
        r#"{"jsonrpc":"2.0","id":{},"method":"getinfo","params":[]}"#,
        "null",
        "Expected string/primitive for id",
    ),
    (
        r#"{"jsonrpc":"2.0","id":1,"method":5,"params":[]}"#,
        "1",
        "Expected string for method",
    ),
    ("{bad}", "null", "Failed to parse RPC JSON response '{bad}'"),
    (
        r#"[{"jsonrpc":"2.0","id":1,"method":"getinfo","params":[]}]"#,
        "null",
        r#"JSON-RPC message does not contain "jsonrpc" field: '[{"jsonrpc":"2.0","id":1,"method":"getinfo","params":[]}]'"#,
    ),
];

async fn malformed_requests(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
    let l1 = lab.l1();
    let mut wrong = Vec::new();
    for (request, id, message) in MALFORMED {
        let id: Value = serde_json::from_str(id)?;
        let answer = Socket::open(&l1.rpc_path())?.ask(request)?;
        let expected =
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32600, "message": message}});
        if answer != expected {
            wrong.push(format!(
                "{request}\n    expected {expected}\n    seen {answer}"
            ));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));

    // The id comes back as it was, whatever it is.
    for id in [r#""a\"b""#, "true", "null", "-1.50"] {
        let mut socket = Socket::open(&l1.rpc_path())?;
        let answer = socket.ask(format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"nosuch","params":[]}}"#
        ))?;
        ensure!(
            answer["id"] == serde_json::from_str::<Value>(id)?,
            "{answer}"
        );
        ensure!(answer["error"]["code"] == -32601, "{answer}");
    }
    lives(l1).await?;
    Ok(lab.stop().await?)
}

/// lightning-cli takes `127.0.0.1` for a number and sends it without quotes.
async fn bare_words(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
    let l1 = lab.l1();
    let key = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    let answer = Socket::open(&l1.rpc_path())?.ask(format!(
        r#"{{"jsonrpc":"2.0","id":"x","method":"connect","params":["{key}",127.0.0.1,1]}}"#
    ))?;
    ensure!(answer["error"]["code"] == 401, "{answer}");
    Ok(lab.stop().await?)
}

/// Requests one after another on one connection, a few bytes at a time.
async fn cut_anywhere(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
    let l1 = lab.l1();
    let mut all = String::new();
    for n in 0..50 {
        let gap = ["", "\n", " \n\n\t"][n % 3];
        all +=
            &format!(r#"{{"jsonrpc":"2.0","id":{n},"method":"help","params":["getinfo"]}}{gap}"#);
    }
    let mut socket = Socket::open(&l1.rpc_path())?;
    for piece in all.as_bytes().chunks(7) {
        socket.send(piece)?;
    }
    for n in 0..50 {
        let answer = socket.receive()?;
        ensure!(
            answer["id"] == n && answer.get("result").is_some(),
            "{answer}"
        );
    }
    Ok(lab.stop().await?)
}

async fn ten_thousand_clients(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
    let l1 = lab.l1();
    let before = open_files(l1).await?;
    for n in 0..10_000 {
        let mut client = connect(l1)?;
        match n % 3 {
            0 => {}
            1 => client.write_all(b"{\"jsonrpc\":\"2.0\",")?,
            _ => {
                client
                    .write_all(br#"{"jsonrpc":"2.0","id":1,"method":"help","params":["stop"]}"#)?;
                client.read_exact(&mut [0; 16])?;
            }
        }
    }
    lives(l1).await?;
    no_files_left(l1, before).await?;
    Ok(lab.stop().await?)
}

fn connect(node: &Node) -> anyhow::Result<UnixStream> {
    let client = UnixStream::connect(node.rpc_path())?;
    client.set_read_timeout(Some(cln_lab::scaled(SOON)))?;
    Ok(client)
}

async fn ten_thousand_connections(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let before = open_files(l1).await?;
    for n in 0..10_000_u32 {
        let mut peer = TcpStream::connect(("127.0.0.1", l1.port()))?;
        if n % 3 == 0 {
            // It may have hung up on this one already.
            let _ = peer.write_all(&n.to_be_bytes().repeat(20));
        }
    }
    lives(l1).await?;
    l2.connect(l1).await?;
    no_files_left(l1, before).await?;
    Ok(lab.stop().await?)
}

/// How many files the node has open, where the system reports it (Linux).
async fn open_files(node: &Node) -> anyhow::Result<Option<usize>> {
    let pid = node.pid().await.context("no pid")?;
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()
        .map(Iterator::count))
}

/// Waits until the node has about as many files open as before.
async fn no_files_left(node: &Node, before: Option<usize>) -> Outcome {
    let Some(before) = before else { return Ok(()) };
    eventually("all connections to be closed", SOON, async || {
        let open = open_files(node).await.ok().flatten().unwrap_or(usize::MAX);
        Ok(if open <= before + 10 {
            Probe::Ready(())
        } else {
            Probe::NotYet(format!("{open} files open, {before} before"))
        })
    })
    .await?;
    Ok(())
}

async fn clients_that_hang(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
    let l1 = lab.l1();
    let mut hanging = Vec::new();
    for _ in 0..200 {
        let mut client = connect(l1)?;
        client.write_all(br#"{"jsonrpc":"2.0","id":1,"method":"getin"#)?;
        hanging.push(client);
        lives(l1).await?;
    }
    drop(hanging);
    lives(l1).await?;
    Ok(lab.stop().await?)
}

/// A client that asks and asks is not read from any more once enough answers
/// wait for it.
async fn never_reads(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
    let l1 = lab.l1();
    let mut client = connect(l1)?;
    client.set_write_timeout(Some(cln_lab::scaled(Duration::from_secs(1))))?;
    let request = br#"{"jsonrpc":"2.0","id":1,"method":"help","params":[]}"#.repeat(100);
    let mut sent = 0;
    let stopped = loop {
        match client.write(&request) {
            Ok(len) => sent += len,
            Err(e) => break e,
        }
        ensure!(sent < 100_000_000, "it takes requests without end");
    };
    ensure!(
        matches!(stopped.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{stopped}"
    );
    lives(l1).await?;
    drop(client);
    lives(l1).await?;
    Ok(lab.stop().await?)
}

async fn peers_that_send_garbage(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let noise: Vec<u8> = (0..5000_u32).map(|n| ((n * 7919) >> 3) as u8).collect();
    for rubbish in [
        &b""[..],
        &[0; 50],
        &noise[..50],
        &noise,
        b"GET / HTTP/1.0\r\n\r\n",
        b"\x00 and a version that is right, but nothing else is",
    ] {
        let mut peer = TcpStream::connect(("127.0.0.1", l1.port()))?;
        peer.write_all(rubbish)?;
    }
    // Rubbish in answer, too.
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let answers = noise.clone();
    let liar = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.write_all(&answers)?;
        // Until the node hangs up.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        Ok(())
    });
    let key = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    let answer = l1
        .call::<Value>(
            "connect",
            json!({"id": key, "host": "127.0.0.1", "port": port}),
        )
        .await;
    match answer {
        Err(cln_lab::Error::Rpc {
            code: Some(401),
            message,
            ..
        }) => ensure!(
            message
                == format!(
                    "All addresses failed: 127.0.0.1:{port}: Cryptographic handshake: Protocol error. "
                )
                || message.contains("peer closed connection"),
            "{message}"
        ),
        other => bail!("{other:?}"),
    }
    liar.join()
        .map_err(|_| anyhow::anyhow!("the liar panicked"))??;
    lives(l1).await?;
    l2.connect(l1).await?;
    l1.disconnect(l2).await?;
    Ok(lab.stop().await?)
}

/// A plugin that writes log lines without end and never answers does not keep
/// the node from answering others.
async fn flood(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
    let l1 = lab.l1();
    let path = lab.dir().join("flood");
    // It ends after some seconds of work, whatever the node does.
    let scripted = program("scripted")?;
    write_script(
        &path,
        &format!("ulimit -t 5; exec '{}' flood", scripted.display()),
    )?;
    let plugin = Plugin::path(&path);
    let start = l1.plugin_start(&plugin);
    let meanwhile = async {
        l1.log().wait_for("plugin-flood: and on").await?;
        for n in 0..10 {
            let listed = l1.plugin_list().await?;
            let floods = listed.iter().any(|p| Path::new(&p.name).ends_with("flood"));
            ensure!(floods, "it ended before answer {n}");
        }
        let plugin = l1.process_with("scripted flood").await?;
        Ok(kill(Pid::from_raw(plugin.pid as i32), Signal::SIGKILL)?)
    };
    let (started, answered) = tokio::join!(start, meanwhile);
    answered.context("the node did not answer while the plugin flooded it")?;
    match started {
        Err(cln_lab::Error::Rpc {
            code: Some(-3),
            message,
            ..
        }) => ensure!(
            message.ends_with("flood: exited before replying to getmanifest"),
            "{message}"
        ),
        other => bail!("{other:?}"),
    }
    lives(l1).await?;
    Ok(lab.stop().await?)
}

/// lightningd reads on until memory is full; the embedded node has a limit.
async fn without_end(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
    let l1 = lab.l1();
    let mut client = connect(l1)?;
    client.write_all(br#"{"jsonrpc":"2.0","id":""#)?;
    let megabyte = vec![b'x'; 1_000_000];
    let refused = (0..100).find_map(|n| client.write_all(&megabyte).err().map(|e| (n, e)));
    let (megabytes, _) = refused.context("it takes a message of 100 megabytes")?;
    ensure!(megabytes >= 15, "refused after {megabytes} megabytes");
    lives(l1).await?;
    Ok(lab.stop().await?)
}

/// What the command `lab` says of a node that does not speak JSON-RPC.
async fn no_answer() -> Outcome {
    let sandbox = Sandbox::new()?;
    sandbox.done(&["up", "-d", "--nodes", "1", "--node", "embedded"])?;
    let status = sandbox.json(&["status", "--json"])?;
    let path = status["labs"][0]["nodes"][0]["rpc"]
        .as_str()
        .context("a path")?;
    sandbox.done(&["stop", "l1"])?;
    // The node has removed it, or left it.
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    let long = format!("[{}]", "1,".repeat(100_000) + "1");
    for (answer, expected) in [
        ("5\n\n", "is not JSON: `5"),
        ("[1]\n\n", "`[1]` is no answer"),
        (&long, "is no answer"),
        ("{\"method\":[1{]}\n\n", "is not JSON"),
        ("{\"id\"", "ended within it"),
        ("", "closed the connection"),
    ] {
        let mut cli = sandbox.spawn(&["cli", "l1", "getinfo"])?;
        let (mut node, _) = listener.accept()?;
        node.read_exact(&mut [0; 8])?;
        node.write_all(answer.as_bytes())?;
        node.shutdown(std::net::Shutdown::Write)?;
        // All that it sends is read, so that the close is no reset.
        node.read_to_end(&mut Vec::new())?;
        ensure!(!cli.wait()?.success(), "{answer:.20}");
        let mut err = String::new();
        cli.stderr
            .take()
            .context("piped")?
            .read_to_string(&mut err)?;
        ensure!(
            err.contains("l1") && err.contains(expected) && err.len() < 1000,
            "{answer:.20}: {err:.2000}"
        );
    }
    Ok(())
}
