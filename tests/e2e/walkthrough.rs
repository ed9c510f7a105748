//! The workshop, part by part, each test in a lab of its own.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, ensure};
use cln_lab::{Error, Event, Events, Plugin, msat};
use lab_tests::{Kinds, Outcome, Suite, program, write_script};
use serde_json::{Value, json};

pub fn tests(suite: Suite) -> Suite {
    suite
        .scenario("part_one", part_one)
        .scenario("part_two", part_two)
        .scenario("restart_on_change", restart_on_change)
        .scenario_alone("refused_plugin", refused_plugin)
        .scenario("failing_handler", failing_handler)
        .scenario_alone(
            "from_scratch_ignores_unknown_messages",
            from_scratch_ignores,
        )
}

/// A script that starts `from_scratch` with these topics; it records to `FILE.records`.
fn write_myplugin(path: &Path, topics: &[&str]) -> anyhow::Result<()> {
    let text = format!(
        "exec '{}' '{}.records' {}",
        program("from_scratch")?.display(),
        path.display(),
        topics.join(" ")
    );
    write_script(path, &text)?;
    Ok(())
}

fn records_of(plugin: &Path) -> Events {
    Events::open(format!("{}.records", plugin.display()))
}

/// The message after `connect notification: `.
fn message(event: &Event) -> anyhow::Result<Value> {
    let (_, message) = event
        .line
        .split_once(" notification: ")
        .context("no prefix")?;
    Ok(serde_json::from_str(message)?)
}

/// By hand: the message is recorded as lightningd sent it.
async fn part_one(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let myplugin = lab.dir().join("myplugin");
    write_myplugin(&myplugin, &["connect", "disconnect"])?;
    l1.plugin_start(&Plugin::path(&myplugin)).await?;

    let answer = l1.connect(l2).await?;
    l1.disconnect(l2).await?;

    let events = records_of(&myplugin)
        .expect_in_order(&["connect", "disconnect"])
        .await?;
    let connect = message(&events[0])?;
    ensure!(
        connect["jsonrpc"] == "2.0" && connect["method"] == "connect",
        "{connect}"
    );
    ensure!(
        connect.get("id").is_none(),
        "a notification has no id: {connect}"
    );
    let payload = &events[0].payload;
    ensure!(
        payload["id"] == l2.id() && payload["id"] == answer.id.to_string(),
        "{payload}"
    );
    ensure!(payload["direction"] == "out", "{payload}");
    let address = json!({"type": "ipv4", "address": "127.0.0.1", "port": l2.port()});
    ensure!(payload["address"] == address, "{payload}");
    ensure!(
        events[1].payload == json!({"id": l2.id()}),
        "{}",
        events[1].line
    );
    Ok(lab.stop().await?)
}

/// With a library: three topics, on both sides of a connection, in both formats.
async fn part_two(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let eventlog = program("eventlog")?;
    l1.plugin_start(&Plugin::path(&eventlog)).await?;
    l2.plugin_start(&Plugin::path(&eventlog).option("eventlog-format", "text"))
        .await?;

    l1.connect(l2).await?;
    l1.disconnect(l2).await?;
    let invoice = l1.invoice("0.001btc", "inv", "pizza").await?;

    let mut events = Events::open(l1.network_dir().join("eventlog.jsonl"));
    let seen = events
        .expect_in_order(&["connect", "disconnect", "invoice_creation"])
        .await?;
    let numbers: Vec<_> = seen.iter().map(|event| event.seq).collect();
    ensure!(numbers == [Some(2), Some(3), Some(4)], "{numbers:?}");
    ensure!(
        seen.iter().all(|event| event.received_at.is_some()),
        "{seen:?}"
    );
    ensure!(
        seen[0].payload["direction"] == "out" && seen[0].payload["id"] == l2.id(),
        "{:?}",
        seen[0]
    );
    ensure!(seen[2].payload["label"] == "inv", "{:?}", seen[2]);
    ensure!(
        msat(&seen[2].payload["msat"]) == Some(100_000_000),
        "{:?}",
        seen[2]
    );
    ensure!(seen[2].payload["preimage"].is_string(), "{:?}", seen[2]);
    ensure!(!invoice.bolt11.is_empty());

    // The other side heard the same connection from its end, and of no invoice.
    let text = l2.network_dir().join("eventlog.jsonl");
    let seen = Events::open(&text)
        .expect_in_order(&["connect", "disconnect"])
        .await?;
    ensure!(
        seen[0].payload["direction"] == "in" && seen[0].payload["id"] == l1.id(),
        "{:?}",
        seen[0]
    );
    ensure!(
        seen[1].line == format!("disconnect notification: {}", l1.id()),
        "{}",
        seen[1].line
    );

    for path in [text, l1.network_dir().join("eventlog.jsonl")] {
        let mode = path.metadata()?.permissions().mode() & 0o777;
        ensure!(mode == 0o600, "{}: mode {mode:o}", path.display());
    }
    Ok(lab.stop().await?)
}

/// `plugin start` of a running plugin restarts it if its file has changed, and
/// is refused if not.
async fn restart_on_change(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let myplugin = lab.dir().join("myplugin");
    let plugin = Plugin::path(&myplugin);
    let mut records = records_of(&myplugin);

    write_myplugin(&myplugin, &["connect"])?;
    l1.plugin_start(&plugin).await?;
    let first = l1.process_with("from_scratch").await?.pid;
    let refused = l1
        .plugin_start(&plugin)
        .await
        .expect_err("it runs already, unchanged");
    ensure!(refused.rpc_code() == Some(-32602), "{refused}");
    l1.connect(l2).await?;
    l1.disconnect(l2).await?;
    records.expect_in_order(&["connect"]).await?;

    write_myplugin(&myplugin, &["connect", "disconnect"])?;
    l1.plugin_start(&plugin).await?;
    let second = l1.process_with("from_scratch").await?.pid;
    ensure!(first != second, "still the same process, pid {first}");
    l1.connect(l2).await?;
    l1.disconnect(l2).await?;
    // Had the first process heard the first `disconnect`, it would stand before these.
    records.expect_in_order(&["connect", "disconnect"]).await?;
    ensure!(records.pending()?.is_empty());
    Ok(lab.stop().await?)
}

/// Plugins that cannot be started are refused, and the node keeps running.
async fn refused_plugin(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
    let l1 = lab.l1();
    let broken = lab.dir().join("broken");
    write_script(&broken, "exit 1")?;
    match l1.plugin_start(&Plugin::path(&broken)).await {
        Err(Error::Rpc {
            code: Some(-3),
            message,
            ..
        }) => {
            ensure!(
                message
                    == format!(
                        "{}: exited before replying to getmanifest",
                        broken.display()
                    )
            );
        }
        other => anyhow::bail!("{other:?}"),
    }
    let missing = l1
        .plugin_start(&Plugin::path("/nowhere/at/all"))
        .await
        .expect_err("there is none");
    ensure!(missing.rpc_code() == Some(-32602), "{missing}");
    ensure!(
        missing.to_string().contains("No such file or directory"),
        "{missing}"
    );

    l1.plugin_start(&Plugin::path(program("eventlog")?)).await?;
    Ok(lab.stop().await?)
}

/// A handler's error and a handler's panic are lines in the node's log; the
/// plugin keeps running and handling.
async fn failing_handler(kinds: Kinds) -> Outcome {
    let lab = kinds
        .lab(2)
        .allow_broken("plugin-failing_handler")
        .start()
        .await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let plugin = Plugin::path(program("failing_handler")?);
    l1.plugin_start(&plugin).await?;
    let before = l1.process_with("failing_handler").await?.pid;

    l1.connect(l2).await?;
    l1.disconnect(l2).await?;
    for what in ["no_such_member is not a number", "panicked at"] {
        let line = l1.log().wait_for(what).await?;
        ensure!(
            line.contains("plugin-failing_handler") && line.contains("failing_handler.rs:"),
            "{line}"
        );
    }
    l1.invoice("any", "after", "still here").await?;
    l1.log()
        .wait_for("handled invoice_creation: label after")
        .await?;

    ensure!(l1.process_with("failing_handler").await?.pid == before);
    ensure!(l1.plugin_active(plugin.executable()).await?);
    Ok(lab.stop().await?)
}

/// An unknown topic is no reason for lightningd to refuse a plugin, and
/// a message it did not expect none for the plugin to end.
async fn from_scratch_ignores(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let myplugin = lab.dir().join("myplugin");
    write_myplugin(&myplugin, &["no_such_topic", "connect"])?;
    l1.plugin_start(&Plugin::path(&myplugin)).await?;
    l1.connect(l2).await?;
    records_of(&myplugin).expect_in_order(&["connect"]).await?;
    ensure!(l1.plugin_active(&myplugin).await?);
    Ok(lab.stop().await?)
}
