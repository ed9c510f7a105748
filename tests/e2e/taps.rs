//! Plugins that need no executable: the tap, and those whose handlers run here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use cln_lab::{Error, Keep, Lab, Node, Probe, eventually};
use cln_plugin::Builder;
use cln_plugin::options::{ConfigOption, DefaultStringConfigOption};
use lab_tests::{Kinds, Outcome, Suite, is_alive};
use serde_json::{Value, json};

pub fn tests(suite: Suite) -> Suite {
    suite
        .scenario("a_tap_receives_what_plugins_receive", tap)
        .scenario("a_tap_receives_only_its_topics", tap_topics)
        .scenario_alone("two_taps_receive_the_same", two_taps)
        .scenario_alone("a_tap_ends_with_its_node", tap_ends)
        .scenario_alone("an_unserved_tap_ends_with_its_lab", tap_unserved)
        .scenario_alone("handlers_run_in_the_test", inline)
        .scenario_alone("an_inline_plugin_that_ends_is_removed", inline_ends)
        .scenario_alone("an_inline_plugin_may_be_refused", inline_refused)
}

async fn tap(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let mut tap = lab.tap("l1").await?;
    l1.connect(l2).await?;
    l1.disconnect(l2).await?;
    l1.invoice("1000sat", "inv", "pizza").await?;

    let connect = tap.expect("connect").await?;
    ensure!(connect.payload["id"] == l2.id(), "{connect:?}");
    ensure!(connect.payload["direction"] == "out", "{connect:?}");
    ensure!(connect.received_at.is_some() && connect.seq.is_some());
    let disconnect = tap.expect("disconnect").await?;
    ensure!(
        disconnect.payload == json!({"id": l2.id()}),
        "{disconnect:?}"
    );
    let invoice = tap.expect("invoice_creation").await?;
    ensure!(invoice.payload["label"] == "inv", "{invoice:?}");
    ensure!(disconnect.seq < invoice.seq);
    Ok(lab.stop().await?)
}

async fn tap_topics(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let mut tap = l1.tap_topics(&["disconnect"]).await?;
    l1.connect(l2).await?;
    l1.disconnect(l2).await?;
    tap.expect_in_order(&["disconnect"]).await?;
    ensure!(tap.pending()?.is_empty());
    Ok(lab.stop().await?)
}

async fn two_taps(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
    let topics = ["connect", "disconnect", "invoice_creation"];
    let mut one = lab.l1().tap_topics(&topics).await?;
    let mut two = lab.l1().tap_topics(&topics).await?;
    for n in 0..5 {
        lab.l1().connect(lab.l2()).await?;
        lab.l1().disconnect(lab.l2()).await?;
        lab.l1().invoice("any", &n.to_string(), "").await?;
        let first = one.expect_in_order(&topics).await?;
        let second = two.expect_in_order(&topics).await?;
        for (a, b) in first.iter().zip(second) {
            ensure!(a.payload == b.payload, "{a:?} {b:?}");
        }
    }
    Ok(lab.stop().await?)
}

/// The relay's processes on a node: the script's `cat`s.
async fn relays(node: &Node) -> anyhow::Result<Vec<u32>> {
    let mut processes = node.processes().await?;
    processes.retain(|process| process.command == "cat");
    Ok(processes.iter().map(|process| process.pid).collect())
}

/// Whichever way it ends, no relay is left, and nothing waits for it.
async fn tap_ends(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let mut tap = l1.tap().await?;
    let pids = relays(l1).await?;
    ensure!(pids.len() == 2, "{pids:?}");
    let status = tokio::time::timeout(Duration::from_secs(10), l1.stop()).await??;
    ensure!(status.success(), "{status}");
    tap.expect("shutdown").await?;
    ensure!(!pids.iter().any(|pid| is_alive(*pid)));

    // `plugin stop` ends it, too, and the node keeps running.
    let _tap = l2.tap().await?;
    let pids = relays(l2).await?;
    ensure!(pids.len() == 2, "{pids:?}");
    l2.plugin_stop("tap").await?;
    ended(&pids).await?;
    l2.invoice("any", "after", "").await?;
    Ok(lab.stop().await?)
}

async fn ended(pids: &[u32]) -> Outcome {
    eventually("the relay to end", Duration::from_secs(10), async || {
        let left = pids.iter().filter(|pid| is_alive(**pid)).count();
        Ok(match left {
            0 => Probe::Ready(()),
            n => Probe::NotYet(format!("{n} left")),
        })
    })
    .await?;
    Ok(())
}

/// The task that serves the tap is gone with its runtime; the lab stops, even so.
async fn tap_unserved(kinds: Kinds) -> Outcome {
    let lab: Lab = kinds.lab(1).keep(Keep::Never).start().await?;
    let l1 = lab.l1();
    std::thread::scope(|scope| {
        let tapped = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime
                .block_on(l1.tap())
                .map(drop)
                .map_err(anyhow::Error::from)
        });
        tapped.join().expect("no panic")
    })?;
    // With its writer gone the relay ends, as a plugin that exits.
    l1.log().wait_for("plugin-tap: Killing plugin").await?;
    ended(&relays(l1).await?).await?;
    let status = l1.stop().await?;
    ensure!(status.success(), "{status}");
    Ok(lab.stop().await?)
}

const GREETING: DefaultStringConfigOption =
    ConfigOption::new_str_with_default("greeting", "hello", "What to say");

async fn inline(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let connects = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&connects);
    let plugin = l1
        .inline_plugin("greeter")
        .option("greeting", "moin")
        .start(|reader, writer| {
            Builder::new(reader, writer)
                .option(GREETING)
                .rpcmethod("greet", "Greets", async |plugin, _| {
                    let plugin: cln_plugin::Plugin<Arc<AtomicU32>> = plugin;
                    Ok(json!(plugin.option(&GREETING)?))
                })
                .subscribe("connect", async |plugin, _| {
                    plugin.state().fetch_add(1, Ordering::SeqCst);
                    Ok(())
                })
                .dynamic()
                .with_logging(false)
                .start(seen)
        })
        .await??
        .context("`--help`")?;

    let greeting: Value = l1.call("greet", json!({})).await?;
    ensure!(greeting == "moin", "{greeting}");
    l1.connect(l2).await?;
    eventually(
        "the handler to run here",
        Duration::from_secs(5),
        async || {
            Ok(match connects.load(Ordering::SeqCst) {
                1 => Probe::Ready(()),
                n => Probe::NotYet(format!("it ran {n} times")),
            })
        },
    )
    .await?;
    let listed = l1.plugin_list().await?;
    ensure!(
        listed
            .iter()
            .any(|p| p.name.ends_with("/greeter") && p.active)
    );

    // `join` must be waiting before the end comes, or it waits for ever.
    let (joined, stopped) = tokio::join!(plugin.join(), l1.plugin_stop("greeter"));
    joined?;
    stopped?;
    let gone = l1.call::<Value>("greet", json!({})).await;
    ensure!(
        gone.as_ref().err().and_then(Error::rpc_code) == Some(-32601),
        "{gone:?}"
    );
    Ok(lab.stop().await?)
}

/// Dropping the streams is the plugin's exit.
async fn inline_ends(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
    let l1 = lab.l1();
    let streams = l1
        .inline_plugin("short")
        .start(|reader, writer| async move {
            use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
            let (mut lines, mut writer) = (BufReader::new(reader).lines(), writer);
            for _ in 0..2 {
                let mut line = String::new();
                while line.is_empty() {
                    line = lines.next_line().await?.context("the end")?;
                }
                let asked: Value = serde_json::from_str(&line)?;
                let result = match asked["method"].as_str() {
                    Some("getmanifest") => {
                        json!({"options": [], "rpcmethods": [], "dynamic": true})
                    }
                    _ => json!({}),
                };
                let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": result});
                writer.write_all(format!("{answer}\n\n").as_bytes()).await?;
            }
            anyhow::Ok((lines, writer))
        })
        .await??;
    ensure!(relays(l1).await?.len() == 2);
    drop(streams);
    l1.log().wait_for("plugin-short: Killing plugin").await?;
    let left = relays(l1).await?;
    ended(&left).await?;
    Ok(lab.stop().await?)
}

async fn inline_refused(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
    // Not dynamic, so that it cannot be started while the node runs.
    let refused = lab
        .l1()
        .inline_plugin("static")
        .start(|reader, writer| Builder::new(reader, writer).with_logging(false).start(()))
        .await;
    let error = refused.err().context("it was started")?;
    ensure!(
        error.to_string().contains("Not a dynamic plugin"),
        "{error}"
    );
    let named = lab
        .l1()
        .inline_plugin("no/slash")
        .start(|_, _| async {})
        .await;
    ensure!(matches!(named, Err(Error::Usage(_))), "{named:?}");
    ended(&relays(lab.l1()).await?).await?;
    Ok(lab.stop().await?)
}
