//! Part two: the same with a client library, a handler that fails, and
//! `invoice_creation`.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::Tools;
use super::part_one::{connect, disconnect, start_command, start_plugin};
use super::walkthrough::Walkthrough;
use crate::hash_of;
use cln_lab::{
    Error, Events, IoContext, Lab, Plugin, Result, command_line, msat, quoted, write_executable,
};

pub(super) async fn with_a_library(
    walkthrough: &mut Walkthrough<'_>,
    lab: &Lab,
    tools: &Tools,
) -> Result<()> {
    restart(walkthrough, lab).await?;
    refused(walkthrough, lab).await?;

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
    walkthrough
        .step(
            "eventlog",
            format!("{}{options}", start_command(&tools.eventlog)),
            async |step| start_plugin(step, lab, &eventlog).await,
        )
        .await?;
    connect(walkthrough, lab, &mut events).await?;
    disconnect(walkthrough, lab, &mut events).await?;

    failing_handler(walkthrough, lab, tools, &mut events).await?;
    invoice(walkthrough, lab, &mut events).await?;
    summary(walkthrough, &records).await
}

/// A plugin started by `plugin start` ends with its node.
async fn restart(walkthrough: &mut Walkthrough<'_>, lab: &Lab) -> Result<()> {
    let l1 = lab.l1();
    walkthrough
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
    walkthrough
        .step("start l1", command_line(&l1.start_command()), async |step| {
            let id = l1.id().to_owned();
            l1.start().await?;
            step.say("a plugin started by `plugin start` is not started again, unlike those in the configuration");
            let listed = l1.plugin_list().await?;
            let gone = !listed.iter().any(|plugin| plugin.name.ends_with("/myplugin"));
            step.check("myplugin is gone", gone, || format!("{listed:?}"));
            step.check_eq("the node's id is the same", l1.id(), &id);
            Ok(())
        })
        .await
}

/// A plugin that ends before it answers `getmanifest`, for example because a library
/// is not installed.
async fn refused(walkthrough: &mut Walkthrough<'_>, lab: &Lab) -> Result<()> {
    let script = lab.dir().join("broken");
    let path = script.display().to_string();
    write_executable(
        &script,
        "#!/bin/sh\necho 'a library is missing' >&2\nexit 1\n",
    )?;
    walkthrough
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

/// A handler that fails causes a line in the log, and does not end the plugin.
async fn failing_handler(
    walkthrough: &mut Walkthrough<'_>,
    lab: &Lab,
    tools: &Tools,
    events: &mut Events,
) -> Result<()> {
    let l1 = lab.l1();
    let plugin = Plugin::path(&tools.failing_handler);
    let pid = walkthrough
        .step(
            "failing handler",
            start_command(&tools.failing_handler),
            async |step| {
                step.say("its handler of `connect` returns an error, that of `disconnect` panics");
                start_plugin(step, lab, &plugin).await?;
                Ok(l1.process_with("failing_handler").await?.pid)
            },
        )
        .await?;
    let log = l1.log().from_now()?;
    connect(walkthrough, lab, events).await?;
    disconnect(walkthrough, lab, events).await?;
    walkthrough
        .step("its log", "l1-log | grep failing_handler", async |step| {
            for (topic, what) in [
                ("connect", "no_such_member is not a number"),
                ("disconnect", "panicked at"),
            ] {
                let line = lab.while_alive(log.wait_for(what)).await?;
                let located = line.contains("failing_handler.rs:");
                step.check(
                    &format!("{topic}: what went wrong, and where"),
                    located,
                    || line.clone(),
                );
            }
            step.answer(log.lines_with("plugin-failing_handler: ")?.join("\n"));
            Ok(())
        })
        .await?;
    walkthrough
        .step(
            "still alive",
            "ps -ax | grep failing_handler",
            async |step| {
                let process = l1.process_with("failing_handler").await?;
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

/// A third topic: an invoice is created.
async fn invoice(walkthrough: &mut Walkthrough<'_>, lab: &Lab, events: &mut Events) -> Result<()> {
    walkthrough
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
                let amount = msat(&event.payload["msat"]);
                step.check_eq("recorded: the amount", amount, Some(100_000_000));
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

/// Everything that eventlog recorded.
async fn summary(walkthrough: &mut Walkthrough<'_>, records: &std::path::Path) -> Result<()> {
    let command = format!("cat {}", quoted(&records.display().to_string()));
    walkthrough
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
            step.check("only the owner can read them", mode == 0o600, || {
                format!("mode {mode:o}")
            });
            Ok(())
        })
        .await
}
