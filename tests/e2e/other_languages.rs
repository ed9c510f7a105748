//! The same small plugin in Python, with pyln-client, and in plain shell: the lab
//! asks no plugin what it is written in.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use cln_lab::{Events, Plugin, PluginHarness, write_executable};
use lab_tests::sandbox::{Sandbox, said};
use lab_tests::{Kinds, Outcome, Suite, python, without};
use serde_json::json;

pub fn tests(suite: Suite) -> Suite {
    let no_python = without("python3").or_else(|| {
        let missing = pyln().err()?;
        let why = format!("{missing:#}");
        Some(why.lines().next().unwrap_or_default().to_owned())
    });
    suite
        .scenario_alone("shell_through_the_library", |kinds| library(SHELL, kinds))
        .scenario_alone("shell_through_the_command", |kinds| command(SHELL, kinds))
        .test("shell_through_the_harness", || harness(SHELL))
        .test("shell_refuses_what_it_cannot_read", shell_refuses)
        .unless(without("shellcheck"))
        .test("shellcheck_finds_nothing", shellcheck)
        .unless(no_python)
        .scenario_alone("python_through_the_library", |kinds| library(PYTHON, kinds))
        .scenario_alone("python_through_the_command", |kinds| command(PYTHON, kinds))
        .test("python_through_the_harness", || harness(PYTHON))
}

const SHELL: &str = "events.sh";
const PYTHON: &str = "events.py";

/// What both record, in order.
const TOPICS: [&str; 3] = ["connect", "disconnect", "invoice_creation"];

pub fn plugin(name: &str) -> anyhow::Result<PathBuf> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = tests.parent().context("no parent")?;
    Ok(root.join("contrib/plugins").join(name))
}

/// A Python with pyln-client.
fn pyln() -> anyhow::Result<PathBuf> {
    python::with(&["pyln-client==26.6.6"])
}

/// The PATH on which `python3` is the one with pyln-client, as after
/// `. venv/bin/activate`: the plugin itself is left as it is.
pub fn activated(name: &str) -> anyhow::Result<String> {
    let path = std::env::var("PATH")?;
    if name != PYTHON {
        return Ok(path);
    }
    let python = pyln()?;
    let folder = python.parent().context("no folder")?;
    Ok(format!("{}:{path}", folder.display()))
}

async fn library(name: &str, kinds: Kinds) -> Outcome {
    // The lab runs in this process, whose PATH is not to be changed.
    let folder = tempfile::tempdir()?;
    let wrapper = folder.path().join("plugin");
    let text = format!(
        "#!/bin/sh\nPATH='{}' exec '{}'\n",
        activated(name)?,
        plugin(name)?.display()
    );
    write_executable(&wrapper, &text)?;
    let records = folder.path().join("records");
    let plugin = Plugin::path(&wrapper).option("events-file", records.display());

    let lab = kinds.lab(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    l1.plugin_start(&plugin).await?;
    l1.connect(l2).await?;
    l1.disconnect(l2).await?;
    let label = r#"a "label", \ and "method":"init""#;
    l1.invoice("0.001btc", label, "pizza").await?;
    let events = Events::open(&records).expect_in_order(&TOPICS).await?;
    ensure!(
        events[0].payload["id"] == l2.id() && events[0].payload["direction"] == "out",
        "{}",
        events[0].line
    );
    ensure!(events[1].payload["id"] == l2.id(), "{}", events[1].line);
    ensure!(events[2].payload["label"] == label, "{}", events[2].line);
    // It ends when its input does, and is started again like any other.
    l1.plugin_stop("plugin").await?;
    l1.plugin_start(&plugin).await?;
    Ok(lab.stop().await?)
}

async fn command(name: &str, kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let spec = format!("{},events-file=seen", plugin(name)?.display());
    let script = r#"
        lab connect 1 2 >/dev/null && lab disconnect 1 2 >/dev/null
        lab cli l1 invoice 0.001btc inv pizza >/dev/null
        lab events l1 --file seen -f --topic connect,disconnect,invoice_creation | head -n 3
    "#;
    let mut exec = sandbox.command(sandbox.program());
    exec.args(["exec", "--node", kinds.name(), "--plugin", &spec])
        .args(["--", "sh", "-c", script])
        .env("PATH", activated(name)?);
    let said = said(&mut exec)?;
    ensure!(said.code == Some(0), "{said:?}");
    let topics: Vec<&str> = said
        .out
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    ensure!(topics == TOPICS, "{said:?}");
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

async fn harness(name: &str) -> Outcome {
    let mut plugin = PluginHarness::builder(plugin(name)?)
        .env("PATH", &activated(name)?)
        .spawn()
        .await?;
    let manifest = plugin.manifest().await?;
    ensure!(
        manifest["dynamic"] == true && manifest["options"][0]["name"] == "events-file",
        "{manifest}"
    );
    ensure!(manifest["subscriptions"] == json!(TOPICS), "{manifest}");
    plugin.init(json!({"events-file": "seen"})).await?;
    // A relative file is relative to where the plugin runs.
    let mut events = Events::open(plugin.dir().join("seen"));

    // As lightningd sends it now, and as it did before v23.08.
    let connect = json!({"id": "02aa", "direction": "in", "address": {"type": "ipv4"}});
    plugin.notify("connect", connect.clone()).await?;
    plugin.notify_flat("connect", connect.clone()).await?;
    plugin
        .notify_flat("disconnect", json!({"id": "02aa"}))
        .await?;
    let seen = events
        .expect_in_order(&["connect", "connect", "disconnect"])
        .await?;
    ensure!(
        seen[0].payload == connect && seen[1].payload == connect,
        "{seen:?}"
    );
    let label = r#"x","method":"getmanifest","id":1,"y":"é"#;
    let invoice = json!({"label": label, "preimage": "00", "msat": 1});
    plugin.notify("invoice_creation", invoice.clone()).await?;
    ensure!(events.expect("invoice_creation").await?.payload == invoice);
    // A topic it did not ask for is none of its business. (pyln-client ends on one;
    // lightningd sends none.)
    if name == SHELL {
        plugin.notify("block_added", json!({"height": 1})).await?;
    }
    plugin.notify("disconnect", json!({"id": "02bb"})).await?;
    ensure!(events.next().await?.payload["id"] == "02bb");
    ensure!(events.pending()?.is_empty());
    let status = plugin.close().await?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// What it cannot read it refuses, rather than to write somewhere else.
async fn shell_refuses() -> Outcome {
    let mut plugin = PluginHarness::spawn(plugin(SHELL)?).await?;
    plugin.manifest().await?;
    let answer = plugin.init(json!({"events-file": "a\\b"})).await?;
    let why = answer["disable"].as_str().context("it is not disabled")?;
    ensure!(why.contains("events-file"), "{why}");
    Ok(())
}

async fn shellcheck() -> Outcome {
    let said = said(std::process::Command::new("shellcheck").arg(plugin(SHELL)?))?;
    ensure!(said.code == Some(0), "{}", said.out);
    Ok(())
}
