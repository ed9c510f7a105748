//! Part two: the same with a client library, a handler that fails, and
//! `invoice_creation`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use super::part_one::{connect, disconnect, is_up};
use super::walkthrough::{Step, Walkthrough};
use super::{Tools, word};
use crate::hash_of;
use cln_lab::{Error, Event, Events, IoContext, Lab, Result, msat};

pub(super) async fn with_a_library(
    walkthrough: &mut Walkthrough<'_>,
    lab: &Lab,
    tools: &Tools,
) -> Result<()> {
    restart(walkthrough, lab).await?;
    refused(walkthrough).await?;

    let records = lab.l1().network_dir().join("eventlog.txt");
    let mut events = Events::open(&records);
    let why = "`eventlog` is this project's own plugin, in Rust on cln-plugin, which reads, answers and dispatches. \
               Its options are given beside its path. `text` writes the lines of the workshop.";
    let command = format!(
        "l1-cli -k plugin subcommand=start plugin={} eventlog-format=text eventlog-file=eventlog.txt",
        word(&tools.eventlog)
    );
    walkthrough
        .step("eventlog", why, command, async |step| {
            is_up(step, lab, "eventlog").await
        })
        .await?;
    connect(walkthrough, lab, &mut events, "As by hand.").await?;
    disconnect(walkthrough, lab, &mut events, "And its end.").await?;
    failing_handler(walkthrough, lab, tools, &mut events).await?;
    let why = "A third topic. The payload has the preimage: who knows it can claim the payment, so such a file is \
               its owner's alone.";
    invoice(walkthrough, lab, &mut events, why, "inv").await?;
    summary(walkthrough, &records).await
}

/// A plugin started by `plugin start` ends with its node.
async fn restart(walkthrough: &mut Walkthrough<'_>, lab: &Lab) -> Result<()> {
    let l1 = lab.l1();
    let pids: Vec<u32> = l1
        .processes()
        .await?
        .iter()
        .map(|process| process.pid)
        .collect();
    let why = "In the session of 2023 l1 was stopped here to be started again from a shell with a Python \
               environment: a node looks for `python3` in the PATH that it was started with. Below, the plugin's \
               first line names that Python instead, and no restart is needed; see what one does.";
    walkthrough
        .step("stop l1", why, "l1-cli stop", async |step| {
            let ended = cln_lab::eventually(
                "l1 and all its plugins to end",
                cln_lab::PATIENCE,
                async || {
                    let left = pids.iter().filter(|pid| cln_lab::is_alive(**pid)).count();
                    Ok(if left == 0 {
                        cln_lab::Probe::Ready(())
                    } else {
                        cln_lab::Probe::NotYet(format!("{left} still run"))
                    })
                },
            );
            let ended = ended.await;
            step.check("l1 and all its plugins end", ended.is_ok(), || {
                format!("{ended:?}")
            });
            Ok(())
        })
        .await?;
    let why = "A plugin started by `plugin start` is not started again; those in the configuration are (`plugin=`, \
               or the folder `plugins`). By hand, with your PATH: `lightningd --lightning-dir=$L1_DIR --daemon`.";
    walkthrough
        .step("start l1", why, "lab start l1", async |step| {
            let listed = l1.plugin_list().await?;
            let gone = !listed
                .iter()
                .any(|plugin| plugin.name.ends_with("/myplugin"));
            step.check("myplugin is gone", gone, || format!("{listed:?}"));
            let info: Value = l1.call("getinfo", serde_json::json!({})).await?;
            step.check_eq(
                "the node's id is the same",
                info["id"].as_str(),
                Some(l1.id()),
            );
            Ok(())
        })
        .await
}

/// A plugin that ends before it answers `getmanifest`, for example because a library
/// is not installed.
async fn refused(walkthrough: &mut Walkthrough<'_>) -> Result<()> {
    let why = "With libraries comes a new mistake: one is missing. lightningd only sees that the plugin ended; the \
               reason is on stderr, which the lab shows below the answer.";
    walkthrough
        .failing_step(
            "refused",
            why,
            "cat broken.sh; l1-cli plugin start $PWD/broken.sh",
            async |step| {
                step.check_answer("error code -3", "\"code\": -3");
                step.check_answer(
                    "lightningd's reason",
                    "broken.sh: exited before replying to getmanifest",
                );
                step.check_answer("the plugin's own", "its stderr:");
                Ok(())
            },
        )
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
    let why = "And a handler that fails, in a library? Here that of `connect` returns an error, that of \
               `disconnect` panics (plugin/examples/failing_handler.rs).";
    let command = format!("l1-cli plugin start {}", word(&tools.failing_handler));
    let pid = walkthrough
        .step("failing handlers", why, command, async |step| {
            is_up(step, lab, "failing_handler").await?;
            Ok(l1.process_with("failing_handler").await?.pid)
        })
        .await?;
    let log = l1.log().from_now()?;
    connect(walkthrough, lab, events, "Both plugins are sent it.").await?;
    let why = "The same; then both failures are in the log.";
    disconnect(walkthrough, lab, events, why).await?;
    for what in ["no_such_member is not a number", "panicked at"] {
        lab.while_alive(log.wait_for(what)).await?;
    }
    let why = "Each error is logged with file and line: the plugin puts them there, the library carries them.";
    walkthrough
        .step(
            "its log",
            why,
            "l1-log | grep plugin-failing_handler:",
            async |step| {
                step.check_answer("connect: what went wrong", "no_such_member is not a number");
                step.check_answer("disconnect: where", "failing_handler.rs:");
                Ok(())
            },
        )
        .await?;
    let why =
        "The frail plugin of part one died of its error. This one lives: the library caught it.";
    let command = "pgrep -fl -P $(cat $L1_DIR/lightningd-regtest.pid) failing_handler";
    walkthrough
        .step("still alive", why, command, async |step| {
            step.check_answer("the same process runs", &format!("{pid} "));
            let active = l1.plugin_active(&tools.failing_handler).await?;
            step.check("lightningd lists it as active", active, || {
                "it does not".to_owned()
            });
            Ok(())
        })
        .await
}

/// A third topic: an invoice is created.
pub(super) async fn invoice(
    walkthrough: &mut Walkthrough<'_>,
    lab: &Lab,
    events: &mut Events,
    why: &str,
    label: &str,
) -> Result<()> {
    let command = format!("l1-cli invoice 0.001btc {label} pizza");
    walkthrough
        .step("invoice", why, command, async |step| {
            let event = lab.while_alive(events.expect("invoice_creation")).await?;
            step.recorded(&event);
            check_invoice(step, &event, label)
        })
        .await
}

fn check_invoice(step: &mut Step, event: &Event, label: &str) -> Result<()> {
    let answer: Value = serde_json::from_str(step.answer())
        .map_err(|error| Error::usage(format!("the answer is not JSON: {error}")))?;
    let seen = (
        msat(&event.payload["msat"]),
        event.payload["label"].as_str(),
    );
    step.check_eq(
        "recorded: amount and label",
        seen,
        (Some(100_000_000), Some(label)),
    );
    let preimage = event.payload["preimage"].as_str().unwrap_or_default();
    let expected = answer["payment_hash"].as_str().map(str::to_owned);
    step.check_eq(
        "recorded: the preimage, which hashes to the payment hash",
        hash_of(preimage),
        expected,
    );
    Ok(())
}

/// Everything that eventlog recorded.
async fn summary(walkthrough: &mut Walkthrough<'_>, records: &Path) -> Result<()> {
    let why = "In the order in which lightningd sent them.";
    walkthrough
        .step(
            "records",
            why,
            format!("cat {}", word(records)),
            async |step| {
                let all = Events::open(records).pending()?;
                let topics: Vec<&str> = all.iter().map(|event| event.topic.as_str()).collect();
                let expected = vec![
                    "connect",
                    "disconnect",
                    "connect",
                    "disconnect",
                    "invoice_creation",
                ];
                step.check_eq("five records, in order", topics, expected);
                let metadata = records.metadata().doing("look at", records)?;
                let mode = metadata.permissions().mode() & 0o777;
                step.check("only the owner can read them", mode == 0o600, || {
                    format!("mode {mode:o}")
                });
                Ok(())
            },
        )
        .await
}
