//! Events: what was recorded, awaited raw and as types, and what is reported when it
//! does not come.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cln_lab::{Error, Event, Keep, Lab, Node, Plugin, Probe, eventually, scaled};
use cln_rpc::notifications::{
    ConnectNotification, DisconnectNotification, InvoiceCreationNotification,
};
use lab_tests::{Kinds, Outcome, Suite, program};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

pub fn tests(suite: Suite) -> Suite {
    suite
        .scenario("notifications_are_expected_as_types", typed)
        .scenario_alone("a_cursor_can_start_now", from_now)
        .scenario_alone("expect_none_fails_on_an_event", none)
        .scenario_alone("near_misses_are_reported", near_misses)
        .scenario_alone("a_wait_ends_with_the_plugin", plugin_died)
        .scenario_alone("a_wait_ends_with_the_node", node_died)
        .scenario_alone("a_hanging_plugin_is_reported", plugin_hangs)
}

async fn eventlog(kinds: Kinds, topics: &str) -> anyhow::Result<Lab> {
    let plugin = Plugin::path(program("eventlog")?).option("eventlog-topics", topics);
    Ok(kinds
        .lab(2)
        .plugin(plugin)
        .keep(Keep::Never)
        .start()
        .await?)
}

fn short(lab: &Lab) -> anyhow::Result<cln_lab::Events> {
    Ok(lab.events("l1")?.patience(Duration::from_millis(200)))
}

async fn typed(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let mut tap = lab.tap("l1").await?;
    l1.connect(l2).await?;
    l1.disconnect(l2).await?;
    l1.invoice("1000sat", "inv", "pizza").await?;
    // The types follow the newest lightningd; raw is for all.
    let version = l1.implementation().lightningd();
    if version.is_some_and(|version| !version.at_least(26, 4)) {
        let connect = tap.expect("connect").await?;
        ensure!(connect.payload["id"] == l2.id());
        return Ok(lab.stop().await?);
    }
    let connect = tap.expect_typed::<ConnectNotification>().await?;
    ensure!(connect.id.to_string() == l2.id(), "{connect:?}");
    ensure!(connect.address.port == Some(l2.port()), "{connect:?}");
    let disconnect = tap.expect_typed::<DisconnectNotification>().await?;
    ensure!(disconnect.id.to_string() == l2.id());
    let invoice = tap.expect_typed::<InvoiceCreationNotification>().await?;
    ensure!(invoice.label == "inv", "{invoice:?}");
    ensure!(invoice.msat.context("no amount")?.msat() == 1_000_000);
    Ok(lab.stop().await?)
}

async fn from_now(kinds: Kinds) -> Outcome {
    let lab = eventlog(kinds, "invoice_creation").await?;
    let mut all = lab.events("l1")?;
    lab.l1().invoice("any", "before", "").await?;
    all.expect("invoice_creation").await?;
    let mut new = lab.events("l1")?.from_now()?;
    lab.l1().invoice("any", "after", "").await?;
    let label = |event: Event| event.payload["label"].clone();
    ensure!(label(new.expect("invoice_creation").await?) == "after");
    ensure!(label(lab.events("l1")?.expect("invoice_creation").await?) == "before");
    Ok(lab.stop().await?)
}

async fn none(kinds: Kinds) -> Outcome {
    let lab = eventlog(kinds, "connect,invoice_creation").await?;
    let mut events = lab.events("l1")?;
    lab.l1().invoice("any", "inv", "").await?;
    events
        .expect_none("connect", Duration::from_millis(50))
        .await?;
    // What is not the topic stays to be taken.
    events.expect("invoice_creation").await?;
    lab.l1().connect(lab.l2()).await?;
    let unexpected = events.expect_none("connect", Duration::from_secs(10)).await;
    let error = unexpected.expect_err("it was connected");
    ensure!(error.to_string().contains(lab.l2().id()), "{error}");
    Ok(lab.stop().await?)
}

async fn near_misses(kinds: Kinds) -> Outcome {
    let lab = eventlog(kinds, "connect,invoice_creation").await?;
    let mut events = short(&lab)?;
    let error = events.expect("connect").await.expect_err("not connected");
    ensure!(
        error.to_string().contains("nothing further recorded"),
        "{error}"
    );
    for label in ["one", "two"] {
        lab.l1().invoice("any", label, "").await?;
    }
    lab.l1().connect(lab.l2()).await?;
    // Until all three are there.
    let mut all = lab.events("l1")?;
    for topic in ["invoice_creation", "invoice_creation", "connect"] {
        all.expect(topic).await?;
    }
    let three = |payload: &serde_json::Value| payload["label"] == "three";
    let error = events
        .expect_where("invoice_creation", "labelled three", three)
        .await
        .expect_err("there are two");
    let text = error.to_string();
    let (same, others) = text.split_once("of others:").context("two parts")?;
    ensure!(
        same.contains("labelled three") && same.contains("3 recorded instead"),
        "{text}"
    );
    ensure!(
        same.contains("\"one\"") && same.contains("\"two\""),
        "{text}"
    );
    ensure!(
        !same.contains("direction") && others.contains("direction"),
        "{text}"
    );
    // A wait that timed out is in the lab's report.
    let report = lab.report();
    ensure!(
        report.contains("labelled three") && report.contains("eventlog.jsonl"),
        "{report}"
    );
    Ok(lab.stop().await?)
}

fn signal(pid: u32, signal: Signal) -> Outcome {
    Ok(kill(Pid::from_raw(pid as i32), signal)?)
}

async fn plugin_pid(node: &Node) -> anyhow::Result<u32> {
    Ok(node.process_with("/eventlog").await?.pid)
}

async fn plugin_died(kinds: Kinds) -> Outcome {
    let lab = eventlog(kinds, "connect").await?;
    let mut events = lab.events("l1")?;
    signal(plugin_pid(lab.l1()).await?, Signal::SIGKILL)?;
    let started = Instant::now();
    let error = events.expect("connect").await.expect_err("it is dead");
    ensure!(
        matches!(&error, Error::PluginDied { plugin, node, .. } if plugin == "eventlog" && node == "l1"),
        "{error}"
    );
    ensure!(
        started.elapsed() < scaled(Duration::from_secs(5)),
        "{:?}",
        started.elapsed()
    );
    let error = lab.stop().await.expect_err("nobody allowed it");
    ensure!(matches!(error, Error::Gate(_)), "{error}");
    Ok(())
}

async fn node_died(kinds: Kinds) -> Outcome {
    let lab = eventlog(kinds, "connect").await?;
    let mut events = lab.events("l1")?;
    // What was recorded before is found.
    lab.l1().connect(lab.l2()).await?;
    let mut recorded = lab.events("l1")?;
    recorded.expect("connect").await?;
    signal(lab.l1().pid().await.context("it runs")?, Signal::SIGKILL)?;
    events.expect("connect").await?;
    let error = events.expect("connect").await.expect_err("it is dead");
    ensure!(
        matches!(&error, Error::Died { name, .. } if name == "l1"),
        "{error}"
    );
    ensure!(lab.stop().await.is_err());
    Ok(())
}

/// Neither dead nor alive: the time-out says so.
async fn plugin_hangs(kinds: Kinds) -> Outcome {
    let lab = eventlog(kinds, "invoice_creation").await?;
    let pid = plugin_pid(lab.l1()).await?;
    signal(pid, Signal::SIGSTOP)?;
    // A busy machine takes a moment to stop all its threads.
    eventually("it to be stopped", Duration::from_secs(5), async || {
        let ps = Command::new("ps")
            .args(["-o", "stat=", "-p", &pid.to_string()])
            .output();
        let state =
            String::from_utf8_lossy(&ps.map(|ps| ps.stdout).unwrap_or_default()).into_owned();
        Ok(if state.starts_with('T') {
            Probe::Ready(())
        } else {
            Probe::NotYet(state)
        })
    })
    .await?;
    lab.l1().invoice("any", "inv", "").await?;
    let error = short(&lab)?
        .expect("invoice_creation")
        .await
        .expect_err("it hangs");
    let text = error.to_string();
    ensure!(
        text.contains("stopped by a signal") && text.contains(&pid.to_string()),
        "{text}"
    );
    signal(pid, Signal::SIGCONT)?;
    let event = lab.events("l1")?.expect("invoice_creation").await?;
    ensure!(event.payload["label"] == json!("inv"), "{event:?}");
    Ok(lab.stop().await?)
}
