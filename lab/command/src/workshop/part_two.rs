//! Part two: the same with a client library, a handler that fails, and
//! `invoice_creation`.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::Tools;
use super::part_one::{connect, disconnect, start_command, start_plugin};
use super::walkthrough::Stage;
use crate::hash_of;
use cln_lab::IoContext;
use cln_lab::write_executable;
use cln_lab::{Error, Events, Lab, Plugin, Result};
use cln_lab::{command_line, quoted};

pub(super) async fn with_a_library(stage: &mut Stage<'_>, lab: &Lab, tools: &Tools) -> Result<()> {
    restart(stage, lab).await?;
    refused(stage, lab).await?;

    let l1 = lab.l1();
    let records = l1.network_dir().join("eventlog.txt");
    let eventlog = Plugin::path(&tools.eventlog)
        .option("eventlog-format", "text")
        .option("eventlog-file", "eventlog.txt");
    let mut events = Events::open(&records);
    let options: String = eventlog
        .options()
        .iter()
        .map(|(k, v)| format!(" {k}={v}"))
        .collect();
    stage
        .step(
            "eventlog",
            format!("{}{options}", start_command(&tools.eventlog)),
            async |step| start_plugin(step, lab, &eventlog).await,
        )
        .await?;
    connect(stage, lab, &mut events).await?;
    disconnect(stage, lab, &mut events).await?;

    failing_handler(stage, lab, tools, &mut events).await?;
    invoice(stage, lab, &mut events).await?;
    summary(stage, &records).await
}

/// A plugin that was started by hand ends with its node.
async fn restart(stage: &mut Stage<'_>, lab: &Lab) -> Result<()> {
    let l1 = lab.l1();
    stage
        .step("stop l1", "l1-cli stop", async |step| {
            let pids: Vec<u32> = l1
                .processes()
                .await?
                .iter()
                .map(|process| process.pid)
                .collect();
            l1.stop().await?;
            step.answer("\"Shutdown complete\"");
            let left = pids.iter().filter(|pid| cln_lab::is_alive(**pid)).count();
            step.check("l1 and all its plugins have ended", left == 0, || {
                format!("{left} still run")
            });
            Ok(())
        })
        .await?;
    stage
        .step("start l1", command_line(&l1.start_command()), async |step| {
            let id = l1.id().to_owned();
            l1.start().await?;
            step.say("a plugin started by hand is not started again: only those in its configuration are");
            let listed = l1.plugin_list().await?;
            let gone = !listed.iter().any(|plugin| plugin.name.ends_with("/myplugin"));
            step.check("myplugin is gone", gone, || format!("{listed:?}"));
            step.check_eq("the node's id is the same", l1.id(), &id);
            Ok(())
        })
        .await
}

/// A plugin that ends before it answers `getmanifest`: in the workshop, one
/// whose library was not installed.
async fn refused(stage: &mut Stage<'_>, lab: &Lab) -> Result<()> {
    let script = lab.dir().join("broken");
    let path = script.display().to_string();
    write_executable(
        &script,
        "#!/bin/sh\necho 'a library is missing' >&2\nexit 1\n",
    )?;
    stage
        .step("refused", start_command(&script), async |step| {
            match lab.l1().plugin_start(&Plugin::path(&script)).await {
                Ok(_) => step.check("it is refused", false, || "it was started".to_owned()),
                Err(Error::Rpc { code, message, .. }) => {
                    step.answer(json!({"code": code, "message": message}));
                    step.check_eq("error code -3", code, Some(-3));
                    let expected = format!("{path}: exited before replying to getmanifest");
                    step.check_eq("the reason", message, expected);
                }
                Err(other) => return Err(other),
            }
            Ok(())
        })
        .await
}

/// A handler that fails is a line in the log, not the end of the plugin.
async fn failing_handler(
    stage: &mut Stage<'_>,
    lab: &Lab,
    tools: &Tools,
    events: &mut Events,
) -> Result<()> {
    let l1 = lab.l1();
    let plugin = Plugin::path(&tools.failing_handler);
    let pid = stage
        .step(
            "failing handler",
            start_command(&tools.failing_handler),
            async |step| {
                step.say("its handler of `connect` returns an error, that of `disconnect` panics");
                start_plugin(step, lab, &plugin).await?;
                Ok(step.process(l1, "failing_handler").await?.pid)
            },
        )
        .await?;
    let log = l1.log().from_now()?;
    connect(stage, lab, events).await?;
    disconnect(stage, lab, events).await?;
    stage
        .step("its log", "l1-log | grep failing_handler", async |step| {
            // What went wrong, and where: the source file and the number of its line.
            for (topic, what) in [
                ("connect", "no_such_member is not a number"),
                ("disconnect", "panicked at"),
            ] {
                let line = lab.while_alive(log.wait_for(what)).await?;
                let told = line.contains("failing_handler.rs:");
                step.check(
                    &format!("{topic}: what went wrong, and where"),
                    told,
                    || line.clone(),
                );
            }
            step.answer(log.lines_with("plugin-failing_handler: ")?.join("\n"));
            Ok(())
        })
        .await?;
    stage
        .step(
            "still alive",
            "ps -ax | grep failing_handler",
            async |step| {
                let process = step.process(l1, "failing_handler").await?;
                step.answer(format!("{} {}", process.pid, process.command));
                step.check_eq("the same process runs", process.pid, pid);
                let active = l1.plugin_active(plugin.executable()).await?;
                step.check("lightningd lists it as active", active, || {
                    "it does not".to_owned()
                });
                Ok(())
            },
        )
        .await
}

/// A third topic: an invoice is made.
async fn invoice(stage: &mut Stage<'_>, lab: &Lab, events: &mut Events) -> Result<()> {
    stage
        .step(
            "invoice",
            "l1-cli invoice 0.001btc inv pizza",
            async |step| {
                let params =
                    json!({"amount_msat": "0.001btc", "label": "inv", "description": "pizza"});
                let answer: Value = lab.while_alive(lab.l1().call("invoice", params)).await?;
                step.answer(answer.clone());
                let event = lab.while_alive(events.expect("invoice_creation")).await?;
                step.recorded(&event);
                // A string with its unit before v23.11, a number since.
                let msat = match &event.payload["msat"] {
                    Value::String(text) => text.trim_end_matches("msat").parse().ok(),
                    number => number.as_u64(),
                };
                step.check_eq("recorded: the amount", msat, Some(100_000_000));
                step.check_eq(
                    "recorded: the label",
                    event.payload["label"].as_str(),
                    Some("inv"),
                );
                let preimage = event.payload["preimage"].as_str().unwrap_or_default();
                let expected = answer["payment_hash"].as_str().map(str::to_owned);
                step.check_eq(
                    "recorded: the preimage, which hashes to the payment hash",
                    hash_of(preimage),
                    expected,
                );
                Ok(())
            },
        )
        .await
}

/// All that eventlog recorded.
async fn summary(stage: &mut Stage<'_>, records: &std::path::Path) -> Result<()> {
    let command = format!("cat {}", quoted(&records.display().to_string()));
    stage
        .step("records", command, async |step| {
            let all = Events::open(records).pending()?;
            for event in &all {
                step.recorded(event);
            }
            let topics: Vec<&str> = all.iter().map(|event| event.topic.as_str()).collect();
            let expected = vec![
                "connect",
                "disconnect",
                "connect",
                "disconnect",
                "invoice_creation",
            ];
            step.check_eq("five records, in order", topics, expected);
            let mode = records
                .metadata()
                .doing("look at", records)?
                .permissions()
                .mode()
                & 0o777;
            step.check("only its owner may read them", mode == 0o600, || {
                format!("mode {mode:o}")
            });
            Ok(())
        })
        .await
}
