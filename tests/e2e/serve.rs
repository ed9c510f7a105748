//! `lab serve` and `lab add`: a lab for a program in another language.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use cln_lab::{Probe, eventually};
use lab_tests::sandbox::Sandbox;
use lab_tests::{Kinds, Outcome, Suite, is_alive};
use serde_json::{Value, json};

pub fn tests(suite: Suite) -> Suite {
    suite
        .scenario_alone("a_program_has_labs", labs)
        .scenario_alone("nothing_is_left_when_its_input_ends", input_ends)
        .scenario_alone("answers_that_nobody_reads_stop_nothing", unread)
        .scenario_alone("lab_add_adds_a_node", add)
        .test("what_it_does_not_understand_is_answered", wrong_lines)
}

/// A running `lab serve`. It is killed when dropped.
struct Serve {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Serve {
    fn start(sandbox: &Sandbox, kinds: Kinds) -> anyhow::Result<Serve> {
        let mut child = sandbox
            .command(sandbox.program())
            .arg("serve")
            .env("LAB_NODE", kinds.name())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("a pipe")?;
        let mut serve = Serve {
            stdin: child.stdin.take(),
            stdout: BufReader::new(stdout),
            child,
        };
        let hello = serve.answer()?;
        ensure!(
            hello["serve"] == 1 && hello["version"].is_string(),
            "{hello}"
        );
        ensure!(hello["node"].is_string(), "{hello}");
        Ok(serve)
    }

    fn answer(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        serde_json::from_str(&line).context(line)
    }

    fn send(&mut self, line: &str) -> anyhow::Result<Value> {
        let stdin = self.stdin.as_mut().context("open")?;
        stdin.write_all(format!("{line}\n").as_bytes())?;
        self.answer()
    }

    fn up(&mut self, nodes: Value) -> anyhow::Result<PathBuf> {
        let answer = self.send(&json!({"id": 7, "do": "up", "nodes": nodes}).to_string())?;
        ensure!(answer["id"] == 7, "{answer}");
        let dir = answer["done"]["dir"].as_str().context(answer.to_string())?;
        Ok(PathBuf::from(dir))
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks the lab in this folder.
fn ask(dir: &Path, request: Value) -> anyhow::Result<Value> {
    let mut stream = UnixStream::connect(dir.join("lab.sock"))?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    serde_json::from_str(&line).context(line)
}

fn node(dir: &Path, name: &str) -> anyhow::Result<Value> {
    let described: Value = serde_json::from_slice(&std::fs::read(dir.join("lab.json"))?)?;
    let nodes = described["nodes"].as_array().context("nodes")?.iter();
    let mut nodes = nodes.filter(|node| node["name"] == name);
    nodes.next().cloned().context(described.to_string())
}

async fn labs(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let mut serve = Serve::start(&sandbox, kinds)?;
    let first = serve.up(json!([]))?;
    let second = serve.up(json!([{"options": [["alias", "one"]]}]))?;
    let done = json!({"done": null});

    let spec = json!({"name": "n-1", "env": [["A", "b"]]});
    ensure!(ask(&first, json!({"do": "add", "spec": spec}))? == done);
    let added = node(&first, "n-1")?;
    ensure!(added["pid"].is_null() && added["id"] == "", "{added}");
    ensure!(ask(&first, json!({"do": "start", "node": "n-1"}))? == done);
    let up = node(&first, "n-1")?;
    ensure!(up["pid"].is_number() && up["id"].as_str().is_some_and(|id| id.len() == 66));
    let again = ask(&first, json!({"do": "start", "node": "n-1"}))?;
    ensure!(
        again["refused"]
            .as_str()
            .is_some_and(|why| why.contains("running already"))
    );
    let wait = json!({"do": "wait", "node": "n-1", "seconds": 0.01});
    ensure!(ask(&first, wait)?["refused"].is_string());
    let configure =
        json!({"do": "configure", "node": "n-1", "spec": {"options": [["alias", "x"]]}});
    ensure!(ask(&first, configure)? == done);
    ensure!(ask(&first, json!({"do": "stop", "node": "n-1"}))? == json!({"done": 0}));
    ensure!(ask(&first, json!({"do": "stopbitcoind"}))? == json!({"done": 0}));
    let start = json!({"do": "startbitcoind", "options": [["txindex", "1"]]});
    ensure!(ask(&first, start)? == done);
    let report = ask(&first, json!({"do": "report"}))?;
    ensure!(
        report["done"]
            .as_str()
            .is_some_and(|text| text.contains("n-1")),
        "{report}"
    );

    ensure!(ask(&first, json!({"do": "down"}))? == done);
    ensure!(!first.exists() && second.exists());
    ensure!(ask(&second, json!({"do": "down", "keep": true}))? == done);
    ensure!(second.join("l1/log").exists());
    std::fs::remove_dir_all(second)?;
    drop(serve.stdin.take());
    ensure!(serve.child.wait()?.success());
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

async fn input_ends(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    for killed in [false, true] {
        let mut serve = Serve::start(&sandbox, kinds)?;
        let dir = serve.up(json!([{}, {}]))?;
        let pids: Vec<u32> = ["l1", "l2"]
            .iter()
            .map(|name| Ok(node(&dir, name)?["pid"].as_u64().context("a pid")? as u32))
            .collect::<anyhow::Result<_>>()?;
        if killed {
            serve.child.kill()?;
        } else {
            drop(serve.stdin.take());
        }
        eventually(
            "everything to be gone",
            Duration::from_secs(20),
            async || {
                let left = pids.iter().filter(|pid| is_alive(**pid)).count();
                Ok(if left == 0 && !dir.exists() {
                    Probe::Ready(())
                } else {
                    Probe::NotYet(format!("{left} nodes, folder: {}", dir.exists()))
                })
            },
        )
        .await?;
    }
    // While a lab starts, and with nobody to read the answer.
    let mut serve = Serve::start(&sandbox, kinds)?;
    let mut stdin = serve.stdin.take().context("open")?;
    stdin.write_all(b"{\"do\":\"up\",\"nodes\":[{},{}]}\n")?;
    drop((
        stdin,
        std::mem::replace(&mut serve.stdout, empty(&sandbox)?),
    ));
    ensure!(serve.child.wait()?.success());
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

/// The output of a program that has none.
fn empty(sandbox: &Sandbox) -> anyhow::Result<BufReader<ChildStdout>> {
    let mut child = sandbox.command("true").stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().context("a pipe")?;
    child.wait()?;
    Ok(BufReader::new(stdout))
}

/// Answers that nobody reads stop neither its labs nor its end.
async fn unread(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let mut serve = Serve::start(&sandbox, kinds)?;
    let dir = serve.up(json!([]))?;
    let wrong = json!({"id": "x".repeat(10_000), "do": "dance"});
    let stdin = serve.stdin.as_mut().context("open")?;
    for _ in 0..50 {
        writeln!(stdin, "{wrong}")?;
    }
    let report = ask(&dir, json!({"do": "report"}))?;
    ensure!(report["done"].is_string(), "{report}");
    drop(serve.stdin.take());
    ensure!(serve.child.wait()?.success());
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

async fn add(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    sandbox.done(&["up", "--detach", "--nodes", "1", "--node", kinds.name()])?;
    let said = sandbox.done(&["add", "--option", "alias=two"])?;
    ensure!(said.contains("l2 is up"), "{said}");
    sandbox.done(&["add", "carol", "--env", "A=b"])?;
    sandbox.done(&["connect", "1", "2"])?;
    sandbox.done(&["connect", "l2", "carol"])?;
    let info = sandbox.done(&["cli", "l2", "getinfo"])?;
    ensure!(info.contains("\"alias\": \"two\""), "{info}");
    sandbox.done(&["restart", "carol"])?;
    for (args, why) in [
        (&["add", "l1"][..], "named `l1` already"),
        (&["add", "a/b"], "use letters"),
        (&["add", "--env", "x"], "not NAME=VALUE"),
        (&["add", "--option", "no-such-option"], "no-such-option"),
    ] {
        let said = sandbox.lab(args)?;
        ensure!(said.code != Some(0) && said.err.contains(why), "{said:?}");
    }
    sandbox.done(&["down"])?;
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

async fn wrong_lines() -> Outcome {
    let sandbox = Sandbox::new()?;
    let mut serve = Serve::start(&sandbox, Kinds::Embedded)?;
    for (line, id, why) in [
        ("x", Value::Null, "expected value"),
        (r#"{"id":1}"#, json!(1), "missing field `do`"),
        (r#"{"id":"a","do":"fly"}"#, json!("a"), "fly"),
        (r#"{"do":"up","nodes":"two"}"#, Value::Null, "two"),
        (
            r#"{"do":"up","nodes":[{"colour":"red"}]}"#,
            Value::Null,
            "colour",
        ),
        (
            r#"{"do":"up","bitcoind":[["rpcport","1"]]}"#,
            Value::Null,
            "rpcport",
        ),
    ] {
        let answer = serve.send(line)?;
        ensure!(answer["id"] == id, "{line}: {answer}");
        let failed = answer["failed"].as_str().context(answer.to_string())?;
        ensure!(failed.contains(why), "{line}: {failed}");
    }
    let stdin = serve.stdin.as_mut().context("open")?;
    stdin.write_all(b"{\"id\":\"\xff\"}\n")?;
    let answer = serve.answer()?;
    ensure!(answer["failed"].is_string(), "{answer}");
    let dir = serve.up(json!([]))?;
    ensure!(ask(&dir, json!({"do": "down"}))? == json!({"done": null}));
    Ok(())
}
