//! Part one: a plugin without a client library, which first only answers, then
//! subscribes to `connect`, then to `disconnect` as well.

use serde_json::Value;

use super::walkthrough::{Step, Walkthrough};
use super::{folder, word};
use crate::wire::{Passed, Sender, Wire};
use cln_lab::{Event, Events, Lab, Node, Result};

/// What starts the plugin of part one.
const START: &str = "l1-cli plugin start $(lab tee myplugin)";

/// The plugin of part one, from no subscription to two.
pub(super) async fn by_hand(walkthrough: &mut Walkthrough<'_>, lab: &Lab) -> Result<()> {
    let records = lab.l1().network_dir().join("myplugin.txt");
    let mut events = Events::open(&records);
    let mut wire = Wire::open(folder(lab).join("teed/myplugin.wire"));

    let first = answers(walkthrough, lab, &mut wire).await?;
    subscribes(walkthrough, lab, &mut wire, &mut events, first).await?;
    connect(walkthrough, lab, &mut events, "l1 connects again.").await?;
    let why = "This time it is heard. The plugin does not answer: a message without an id is a notification, and \
               JSON-RPC 2.0 says that it must not be answered (jsonrpc.org/specification).";
    disconnect(walkthrough, lab, &mut events, why).await?;
    let why = "All that was heard. The first `disconnect` is not there: lightningd sends a topic only to those \
               who subscribed to it.";
    let command = format!("cat {}", word(&records));
    walkthrough
        .step("records", why, command, async |step| {
            let all = Events::open(&records).pending()?;
            let topics: Vec<&str> = all.iter().map(|event| event.topic.as_str()).collect();
            step.check_eq(
                "three records, in order",
                topics,
                vec!["connect", "connect", "disconnect"],
            );
            step.check_eq("as many lines", step.answer().lines().count(), 3);
            Ok(())
        })
        .await?;
    dies(walkthrough, lab).await
}

/// A plugin that answers, and no more; its process id.
async fn answers(walkthrough: &mut Walkthrough<'_>, lab: &Lab, wire: &mut Wire) -> Result<u32> {
    let why = "A plugin is a program that lightningd starts. It reads requests on stdin and answers on stdout, an \
               empty line after each message. This one answers the two that every plugin is asked.";
    walkthrough
        .step(
            "a plugin that answers",
            why,
            "cp 1-answers.sh myplugin; cat myplugin",
            async |step| {
                step.check_answer("it answers getmanifest", "getmanifest");
                Ok(())
            },
        )
        .await?;
    let why = "Started while the node runs, since its manifest says `dynamic`. `lab tee` puts a tee between the \
               two, so that we can see what they say.";
    let pid = walkthrough
        .step("plugin start", why, START, async |step| {
            is_up(step, lab, "myplugin").await?;
            myplugin(lab).await
        })
        .await?;
    let why = "Request and answer have the same id, whatever it is: a text today, a number in old releases. `init` says where \
               the node is; `{}` means ready.";
    walkthrough
        .step("the wire", why, "lab wire myplugin", async |step| {
            let passed = wire.pending()?;
            step.check_eq(
                "asked, answered, asked, answered",
                exchange(&passed),
                [
                    "lightningd getmanifest",
                    "plugin answers",
                    "lightningd init",
                    "plugin answers",
                ]
                .map(str::to_owned)
                .to_vec(),
            );
            let id = passed.iter().find(|passed| passed.from == Sender::Plugin);
            let id = id.map(Passed::json).unwrap_or_default()["id"].clone();
            step.check_answer(
                "the answer has the request's id",
                &format!("\"id\":{id},\"result\""),
            );
            Ok(())
        })
        .await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let why =
        "l1 connects to l2. lightningd has a notification for that, but nobody has subscribed.";
    walkthrough
        .step("connect", why, "connect 1 2", async |step| {
            let connected = l1.is_connected(l2).await?;
            step.check("l2 is a peer of l1", connected, || "it is not".to_owned());
            Ok(())
        })
        .await?;
    walkthrough
        .step(
            "disconnect",
            "And ends the connection.",
            "l1-cli disconnect $L2_ID",
            async |step| {
                let connected = l1.is_connected(l2).await?;
                step.check("l2 is a peer no longer", !connected, || "it is".to_owned());
                Ok(())
            },
        )
        .await?;
    Ok(pid)
}

/// The same plugin, with one subscription.
async fn subscribes(
    walkthrough: &mut Walkthrough<'_>,
    lab: &Lab,
    wire: &mut Wire,
    events: &mut Events,
    first: u32,
) -> Result<()> {
    let why = "To subscribe: name the topic in the manifest, and write down what comes.";
    let command = "cp 2-connect.sh myplugin; diff 1-answers.sh 2-connect.sh | grep '^>'";
    walkthrough
        .step("+ connect", why, command, async |step| {
            step.check_answer("the manifest names it", r#""subscriptions":["connect"]"#);
            Ok(())
        })
        .await?;
    let why = "Its file has changed: lightningd ends the old process and starts a new one. (Of an unchanged file \
               it says `Invalid argument`.)";
    walkthrough
        .step("plugin start, again", why, START, async |step| {
            is_up(step, lab, "myplugin").await?;
            let second = myplugin(lab).await?;
            step.check("another process runs now", second != first, || {
                format!("still pid {first}")
            });
            // Read before: its two requests.
            let sent = sent_until_restart(wire)?;
            step.check_eq("the old one was sent nothing of it", sent, vec![]);
            Ok(())
        })
        .await?;
    let why = "And now it is heard. Before v23.08 the payload was `params` itself, now it is `params.connect`. \
               Old tutorials break there; `params.get(\"connect\", params)` takes both.";
    connect(walkthrough, lab, events, why).await?;
    let why = "What was sent: `method` is the topic, and there is no id.";
    let command = "lab wire myplugin --pretty -n 1";
    walkthrough
        .step("the notification", why, command, async |step| {
            let message = step.answer().trim_start_matches("lightningd: ");
            let message: Value = serde_json::from_str(message).unwrap_or_default();
            let seen = (message["method"].as_str(), message.get("id"));
            step.check_eq(
                "the method is the topic; no id",
                seen,
                (Some("connect"), None),
            );
            Ok(())
        })
        .await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let why = "A topic that nobody has subscribed to.";
    walkthrough
        .step(
            "disconnect",
            why,
            "l1-cli disconnect $L2_ID",
            async |step| {
                let connected = l1.is_connected(l2).await?;
                step.check("l2 is a peer no longer", !connected, || "it is".to_owned());
                Ok(())
            },
        )
        .await?;
    let why = "Now `disconnect`, too: one more name in `subscriptions`, one more case in the loop.";
    let command = "cp 3-disconnect.sh myplugin; diff 2-connect.sh 3-disconnect.sh";
    walkthrough
        .step(
            "+ disconnect",
            why,
            format!("{command} | grep '^>'"),
            async |step| {
                step.check_answer("the manifest names both", r#"["connect","disconnect"]"#);
                Ok(())
            },
        )
        .await?;
    walkthrough
        .step(
            "plugin start, again",
            "Restarted once more.",
            START,
            async |step| {
                is_up(step, lab, "myplugin").await?;
                let sent = sent_until_restart(wire)?;
                step.check_eq(
                    "its predecessor was not sent the `disconnect`",
                    sent,
                    vec!["connect".to_owned()],
                );
                Ok(())
            },
        )
        .await
}

/// The methods of what lightningd sent to the process before the last one.
fn sent_until_restart(wire: &mut Wire) -> Result<Vec<String>> {
    let start =
        |passed: &Passed| passed.from == Sender::Tee && passed.text().starts_with("started");
    let all = wire.pending()?;
    let last = all.iter().rposition(start).unwrap_or(all.len());
    let before = all[..last].iter().rposition(start).unwrap_or(0);
    let sent = all[before..last]
        .iter()
        .filter(|passed| passed.from == Sender::Lightningd);
    Ok(sent
        .map(|passed| {
            passed.json()["method"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
        .collect())
}

/// A plugin that ends when its handler fails.
async fn dies(walkthrough: &mut Walkthrough<'_>, lab: &Lab) -> Result<()> {
    let why = "What if a handler fails? This one computes `1 + foo`, and nobody catches the error.";
    walkthrough
        .step(
            "a frail plugin",
            why,
            "diff 2-connect.sh frail.sh | grep '^>'; l1-cli plugin start $PWD/frail.sh",
            async |step| {
                step.check_answer("it is started", "frail.sh");
                Ok(())
            },
        )
        .await?;
    let why = "The answer is as ever: a notification tells, it does not ask.";
    let l1 = lab.l1();
    walkthrough
        .step(
            "connect",
            why,
            "connect 1 2; l1-cli disconnect $L2_ID",
            async |step| {
                let line = lab
                    .while_alive(l1.log().wait_for("plugin-frail.sh: Killing plugin"))
                    .await?;
                step.check(
                    "the plugin is killed",
                    line.contains("exited during normal operation"),
                    || line.clone(),
                );
                Ok(())
            },
        )
        .await?;
    let why = "But the plugin is gone, with one line in the log. Why it ended, only its stderr says, which is the \
               node's: in your shell, `l1-log --stderr`.";
    walkthrough
        .step(
            "gone",
            why,
            "l1-log | grep 'frail.sh: Killing'; l1-log --stderr | tail -n 1",
            async |step| {
                step.check_answer("lightningd's line", "exited during normal operation");
                step.check_answer("the plugin's own", "expr: ");
                let gone = !l1
                    .plugin_list()
                    .await?
                    .iter()
                    .any(|plugin| plugin.name.ends_with("/frail.sh"));
                step.check("it is not listed any more", gone, || "it is".to_owned());
                let alive = l1
                    .plugin_list()
                    .await?
                    .iter()
                    .any(|plugin| plugin.name.ends_with("/myplugin"));
                step.check("myplugin lives", alive, || "it does not".to_owned());
                Ok(())
            },
        )
        .await
}

/// Who sent what: requests by their method, answers, in order.
fn exchange(passed: &[Passed]) -> Vec<String> {
    let name = |passed: &Passed| {
        let message = passed.json();
        let who = match passed.from {
            Sender::Lightningd => "lightningd",
            Sender::Plugin => "plugin",
            Sender::Stderr | Sender::Tee => return None,
        };
        let what = message["method"].as_str().unwrap_or("answers");
        Some(format!("{who} {what}"))
    };
    passed.iter().filter_map(name).collect()
}

/// The process id of part one's plugin.
async fn myplugin(lab: &Lab) -> Result<u32> {
    // Not the tee's, which names its record.
    Ok(lab.l1().process_with("workshop/myplugin").await?.pid)
}

/// Checks that the plugin of this file name is listed as active and dynamic.
pub(super) async fn is_up(step: &mut Step, lab: &Lab, name: &str) -> Result<()> {
    let listed = lab.l1().plugin_list().await?;
    let ours = listed
        .iter()
        .find(|plugin| plugin.name.ends_with(&format!("/{name}")));
    let up = ours.is_some_and(|plugin| plugin.active && plugin.dynamic);
    step.check("it is active and dynamic", up, || format!("{ours:?}"));
    Ok(())
}

/// `connect 1 2`, and what the plugin records.
pub(super) async fn connect(
    walkthrough: &mut Walkthrough<'_>,
    lab: &Lab,
    events: &mut Events,
    why: &str,
) -> Result<Event> {
    walkthrough
        .step("connect", why, "connect 1 2", async |step| {
            let event = lab.while_alive(events.expect("connect")).await?;
            step.recorded(&event);
            check_connect(step, &event, lab.l2());
            Ok(event)
        })
        .await
}

fn check_connect(step: &mut Step, event: &Event, peer: &Node) {
    let seen = (
        event.payload["id"].as_str(),
        event.payload["direction"].as_str(),
        event.payload["address"]["port"].as_u64(),
    );
    let expected = (Some(peer.id()), Some("out"), Some(peer.port().into()));
    step.check_eq(
        "recorded: the peer's id, the direction, its port",
        seen,
        expected,
    );
}

/// `l1-cli disconnect …`, and what the plugin records.
pub(super) async fn disconnect(
    walkthrough: &mut Walkthrough<'_>,
    lab: &Lab,
    events: &mut Events,
    why: &str,
) -> Result<Event> {
    walkthrough
        .step(
            "disconnect",
            why,
            "l1-cli disconnect $L2_ID",
            async |step| {
                let event = lab.while_alive(events.expect("disconnect")).await?;
                step.recorded(&event);
                let id = event.payload["id"].as_str().or(event.payload.as_str());
                step.check_eq("recorded: the peer's id", id, Some(lab.l2().id()));
                Ok(event)
            },
        )
        .await
}
