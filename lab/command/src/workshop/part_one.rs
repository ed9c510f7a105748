//! Part one: a plugin without a client library, subscribed first to `connect` only,
//! then to `disconnect` as well.

use std::path::Path;

use serde_json::{Value, json};

use super::walkthrough::{Step, Walkthrough};
use super::{Options, Tools, two_nodes};
use cln_lab::{
    Event, Events, Implementation, Lab, Node, NodeKind, Plugin, Result, binaries, quoted,
    write_executable,
};

/// The programs on this machine.
pub(super) async fn versions(walkthrough: &mut Walkthrough<'_>, node: NodeKind) -> Result<()> {
    walkthrough
        .step("versions", "lab doctor", async |step| {
            let bitcoind = binaries::bitcoind()?;
            let mut lines = vec![binaries::system(), binaries::version_line(&bitcoind).await?];
            if node != NodeKind::Embedded
                && let Ok(lightningd) = binaries::lightningd()
            {
                lines.push(binaries::implementation(&lightningd).await?.to_string());
            }
            step.answer(lines.join("\n"));
            Ok(())
        })
        .await
}

/// bitcoind and two nodes.
pub(super) async fn start(walkthrough: &mut Walkthrough<'_>, options: &Options) -> Result<Lab> {
    let lab = walkthrough
        .step("start_ln", "start_ln 2", async |step| {
            let lab = two_nodes(options).await?;
            let mut text = format!("bitcoind, block {}\n", lab.bitcoind().height().await?);
            for node in lab.nodes() {
                text.push_str(&format!(
                    "{}: {}, id {}\n",
                    node.name(),
                    node.implementation(),
                    node.id()
                ));
            }
            for node in lab.nodes() {
                let dir = quoted(&node.dir().display().to_string());
                text.push_str(&format!(
                    "alias {}-cli='lightning-cli --lightning-dir={dir} --network=regtest'\n",
                    node.name()
                ));
            }
            step.answer(text.trim_end());
            if lab
                .nodes()
                .iter()
                .any(|node| matches!(node.implementation(), Implementation::Embedded(_)))
            {
                step.say("these are the lab's embedded nodes, built on LDK; with lightningd on the PATH they would be lightningd");
            }
            let distinct = lab.l1().id() != lab.l2().id();
            step.check(
                "two nodes answer, each with an id of its own",
                distinct,
                || lab.l1().id().to_owned(),
            );
            Ok(lab)
        })
        .await?;
    walkthrough.set_node(lab.l1().implementation().to_string());
    Ok(lab)
}

/// The plugin of part one, from one subscription to two.
pub(super) async fn by_hand(
    walkthrough: &mut Walkthrough<'_>,
    lab: &Lab,
    tools: &Tools,
) -> Result<()> {
    let (l1, l2) = (lab.l1(), lab.l2());
    // lightningd compares a plugin's file with its earlier content: so the topics are
    // in a script of two lines, and not in the compiled program.
    let script = lab.dir().join("myplugin");
    let records = lab.dir().join("myplugin.records");
    let plugin = Plugin::path(&script);
    let mut events = Events::open(&records);

    write_plugin(walkthrough, tools, &script, &records, &["connect"]).await?;
    let first = walkthrough
        .step("plugin start", start_command(&script), async |step| {
            start_plugin(step, lab, &plugin).await?;
            Ok(l1.process_with("from_scratch").await?.pid)
        })
        .await?;
    connect(walkthrough, lab, &mut events).await?;
    walkthrough
        .step("disconnect", disconnect_command(l2), async |step| {
            step.say("the plugin has not subscribed to `disconnect`, so it does not receive it");
            lab.while_alive(l1.disconnect(l2)).await?;
            step.answer(json!({}));
            Ok(())
        })
        .await?;

    write_plugin(
        walkthrough,
        tools,
        &script,
        &records,
        &["connect", "disconnect"],
    )
    .await?;
    walkthrough
        .step("plugin start again", start_command(&script), async |step| {
            step.say(
                "its file has changed, so lightningd ends the old process and starts the new one",
            );
            start_plugin(step, lab, &plugin).await?;
            let second = l1.process_with("from_scratch").await?.pid;
            step.check("another process runs now", second != first, || {
                format!("still pid {first}")
            });
            Ok(())
        })
        .await?;
    connect(walkthrough, lab, &mut events).await?;
    disconnect(walkthrough, lab, &mut events).await?;
    walkthrough
        .step(
            "records",
            format!("cat {}", quoted(&records.display().to_string())),
            async |step| {
                let all = Events::open(&records).pending()?;
                for event in &all {
                    step.recorded(event);
                }
                let topics: Vec<&str> = all.iter().map(|event| event.topic.as_str()).collect();
                step.check_eq(
                    "three records, in order",
                    topics,
                    vec!["connect", "connect", "disconnect"],
                );
                Ok(())
            },
        )
        .await
}

/// Writes the two lines that start `from_scratch` with these topics.
async fn write_plugin(
    walkthrough: &mut Walkthrough<'_>,
    tools: &Tools,
    script: &Path,
    records: &Path,
    topics: &[&str],
) -> Result<()> {
    let program = quoted(&tools.from_scratch.display().to_string());
    let file = quoted(&records.display().to_string());
    let text = format!("#!/bin/sh\nexec {program} {file} {}\n", topics.join(" "));
    let command = format!(
        "cat > {} <<'END'\n{text}END",
        quoted(&script.display().to_string())
    );
    walkthrough
        .step("write myplugin", command, async |step| {
            step.say(&format!(
                "its answer to getmanifest: \"subscriptions\": {}",
                json!(topics)
            ));
            write_executable(script, &text)
        })
        .await
}

pub(super) fn start_command(plugin: &Path) -> String {
    format!(
        "l1-cli plugin start {}",
        quoted(&plugin.display().to_string())
    )
}

pub(super) fn disconnect_command(peer: &Node) -> String {
    format!("l1-cli disconnect {}", peer.id())
}

/// Starts a plugin on l1 and checks that it is listed as active and dynamic.
pub(super) async fn start_plugin(step: &mut Step<'_>, lab: &Lab, plugin: &Plugin) -> Result<()> {
    let listed = lab.while_alive(lab.l1().plugin_start(plugin)).await?;
    let path = plugin
        .executable()
        .canonicalize()
        .unwrap_or_else(|_| plugin.executable().to_owned());
    let ours = listed.iter().find(|listed| Path::new(&listed.name) == path);
    let plugins: Vec<Value> = listed
        .iter()
        .map(|p| json!({"name": p.name, "active": p.active, "dynamic": p.dynamic}))
        .collect();
    step.answer(json!({"command": "start", "plugins": plugins}));
    let up = ours.is_some_and(|plugin| plugin.active && plugin.dynamic);
    step.check("it is active and dynamic", up, || format!("{ours:?}"));
    Ok(())
}

/// `connect 1 2`, and what the plugin records.
pub(super) async fn connect(
    walkthrough: &mut Walkthrough<'_>,
    lab: &Lab,
    events: &mut Events,
) -> Result<Event> {
    let (l1, l2) = (lab.l1(), lab.l2());
    walkthrough
        .step("connect", "connect 1 2", async |step| {
            let answer: Value = {
                let params = json!({"id": l2.id(), "host": "127.0.0.1", "port": l2.port()});
                lab.while_alive(l1.call("connect", params)).await?
            };
            step.answer(answer);
            let event = lab.while_alive(events.expect("connect")).await?;
            step.recorded(&event);
            check_connect(step, &event, l2);
            Ok(event)
        })
        .await
}

fn check_connect(step: &mut Step<'_>, event: &Event, peer: &Node) {
    step.check_eq(
        "recorded: the peer's id",
        event.payload["id"].as_str(),
        Some(peer.id()),
    );
    step.check_eq(
        "recorded: the direction",
        event.payload["direction"].as_str(),
        Some("out"),
    );
    let port = event.payload["address"]["port"].as_u64();
    step.check_eq("recorded: the peer's port", port, Some(peer.port().into()));
}

/// `l1-cli disconnect …`, and what the plugin records.
pub(super) async fn disconnect(
    walkthrough: &mut Walkthrough<'_>,
    lab: &Lab,
    events: &mut Events,
) -> Result<Event> {
    let (l1, l2) = (lab.l1(), lab.l2());
    walkthrough
        .step("disconnect", disconnect_command(l2), async |step| {
            lab.while_alive(l1.disconnect(l2)).await?;
            step.answer(json!({}));
            let event = lab.while_alive(events.expect("disconnect")).await?;
            step.recorded(&event);
            step.check_eq(
                "recorded: the peer's id",
                event.payload["id"].as_str(),
                Some(l2.id()),
            );
            Ok(event)
        })
        .await
}
