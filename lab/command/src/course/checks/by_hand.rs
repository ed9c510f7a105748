//! Part one: the protocol by hand.

use std::rc::Rc;

use cln_lab::{IoContext, PluginHarness};
use serde_json::{Value, json};

use super::super::alone::QUIET;
use super::super::bench::process_of;
use super::super::exam::{Exam, Outcome, lines_of, missed};
use super::super::on_node::FILE;
use super::{connect_payload, must_record, must_subscribe, recorded, subscribed, wrapped};

/// The file can be run.
pub async fn lab(exam: &mut Exam) -> Outcome {
    let mut plugin = exam.alone().await?;
    exam.held("the system can run it");
    exam.close(&mut plugin).await?;
    exam.held("it ends without an error when stdin ends");
    Ok(())
}

/// Answers with the id as it came.
pub async fn getmanifest(exam: &mut Exam) -> Outcome {
    for (id, what) in [
        (json!("lab:getmanifest#7"), "a text"),
        (json!(187), "a number"),
    ] {
        let mut plugin = exam.alone().await?;
        exam.manifest(&mut plugin, id.clone()).await?;
        exam.held(format!(
            "getmanifest is answered, with its id, {what}: {id}"
        ));
    }
    Ok(())
}

/// Answers, and reads on until the end of stdin.
pub async fn init(exam: &mut Exam) -> Outcome {
    let mut plugin = exam.alone().await?;
    let id = exam.id("getmanifest");
    let manifest = exam.manifest(&mut plugin, id).await?;
    exam.init(&mut plugin, &manifest, &json!({}), false).await?;
    exam.held("getmanifest and init are answered");
    // More than a pipe holds: written only if it is read.
    let padding = "x".repeat(70_000);
    for n in 1..=2 {
        exam.doing("after init, messages that it need not know");
        let message = wrapped("something_new", &json!({"n": n, "padding": padding}));
        exam.send(&mut plugin, &message).await?;
    }
    let sent = exam.close(&mut plugin).await?;
    exam.must_be_silent(&sent)?;
    exam.held("it reads on, and ends with stdin");
    Ok(())
}

/// Started, listed, stopped while the node runs.
pub async fn dynamic(exam: &mut Exam) -> Outcome {
    let bench = Rc::clone(&exam.bench);
    let l1 = bench.lab().await?.l1();
    let mut running = exam.start(&[]).await?;
    exam.doing("`plugin list`");
    let active = l1.plugin_active(&running.tee.executable).await?;
    exam.must(
        active,
        "`plugin list` shows it as active",
        "it, active",
        "it is not",
    )?;
    exam.doing("`plugin stop`");
    let process = process_of(&running.tee.record);
    let name = running.tee.executable.display().to_string();
    l1.plugin_stop(&name).await?;
    exam.look(&mut running)?;
    exam.gone(process).await?;
    exam.held("`plugin stop` has ended its process");
    Ok(())
}

/// A topic, and a line for each event.
pub async fn connect(exam: &mut Exam) -> Outcome {
    let (plugin, manifest) = exam.up(json!({})).await?;
    // Who is ahead of the course may be.
    if must_subscribe(exam, &manifest, &["connect", "disconnect"]).is_err() {
        must_subscribe(exam, &manifest, &["connect"])?;
    }
    let message = wrapped("connect", &connect_payload(9735));
    let lines = recorded(exam, plugin, "connect was sent", &[message]).await?;
    must_record(exam, &lines, &["connect"])?;

    let bench = Rc::clone(&exam.bench);
    let lab = bench.lab().await?;
    let mut running = exam.start(&[]).await?;
    exam.connect(lab).await?;
    let event = exam.line(&mut running, "connect").await?;
    exam.must(
        event.payload["id"] == lab.l2().id(),
        "the line has l2's id",
        lab.l2().id(),
        &event.payload["id"],
    )
}

/// Two topics, and a restart when the file changes.
pub async fn disconnect(exam: &mut Exam) -> Outcome {
    let plugin = subscribed(exam, &["connect", "disconnect"]).await?;
    let id = json!({"id": super::PEER});
    let messages = [
        wrapped("connect", &connect_payload(9735)),
        wrapped("disconnect", &id),
    ];
    let lines = recorded(exam, plugin, "connect and disconnect were sent", &messages).await?;
    must_record(exam, &lines, &["connect", "disconnect"])?;

    let bench = Rc::clone(&exam.bench);
    let lab = bench.lab().await?;
    let mut running = exam.start(&[]).await?;
    let first = process_of(&running.tee.record);
    // What a save does: another checksum.
    let executable = &running.tee.executable;
    let text = std::fs::read_to_string(executable).doing("read", executable)?;
    cln_lab::write_executable(executable, &format!("{text}# changed\n"))?;
    exam.doing("its file changed, and `plugin start` again");
    lab.l1()
        .plugin_start(&cln_lab::Plugin::path(executable))
        .await?;
    let second = process_of(&running.tee.record);
    exam.look(&mut running)?;
    exam.gone(first).await?;
    exam.must(
        second != first,
        "its file changed: another process, and the old one has ended",
        "another process",
        format!("{second:?}"),
    )?;
    exam.connect(lab).await?;
    exam.line(&mut running, "connect").await?;
    exam.disconnect(lab).await?;
    let event = exam.line(&mut running, "disconnect").await?;
    exam.must(
        event.payload["id"] == lab.l2().id(),
        "connect and disconnect are recorded, in this order",
        lab.l2().id(),
        &event.payload["id"],
    )
}

/// Bytes in pieces, several messages at once, and one on several lines.
pub async fn stream(exam: &mut Exam) -> Outcome {
    let (mut plugin, _) = exam.up(json!({})).await?;
    let connect = |port| wrapped("connect", &connect_payload(port));
    let mut first = connect(1);
    // Two bytes of one letter.
    first["params"]["connect"]["alias"] = json!("café");
    let text = format!("{first}\n\n").into_bytes();
    let cut = text
        .iter()
        .position(|byte| *byte == 0xc3)
        .map_or(1, |at| at + 1);
    let spread = serde_json::to_string_pretty(&connect(5)).map_err(std::io::Error::from);
    let spread = spread.doing("write", "a message")?;
    let several = format!("{}\n\n{}\n\n{}\n\n", connect(2), connect(3), connect(4));
    for (what, bytes) in [
        ("the first half of a message was written", &text[..cut]),
        ("the second half was written", &text[cut..]),
        ("three messages were written at once", several.as_bytes()),
        (
            "a message on several lines was written",
            format!("{spread}\n\n").as_bytes(),
        ),
    ] {
        exam.doing(what);
        exam.raw(&mut plugin, bytes).await?;
        // Once it has read that: otherwise it may read two pieces as one.
        plugin.idle(QUIET).await;
    }
    exam.doing("a message in two pieces, three at once, one on several lines");
    let sent = exam.close(&mut plugin).await?;
    exam.must_be_silent(&sent)?;
    let lines = lines_of(&plugin.dir().join(FILE))?;
    let events = must_record(exam, &lines, &["connect"; 5])?;
    let ports: Vec<&Value> = events
        .iter()
        .map(|event| &event.payload["address"]["port"])
        .collect();
    exam.must(
        json!(ports) == json!([1, 2, 3, 4, 5]),
        "in pieces, several at once, on several lines: all recorded, in order",
        "ports 1, 2, 3, 4, 5",
        json!(ports),
    )
}

/// A request that is not known gets an error, a notification nothing.
pub async fn silence(exam: &mut Exam) -> Outcome {
    let (mut plugin, _) = exam.up(json!({})).await?;
    unknown_request(exam, &mut plugin).await?;
    exam.doing("the notifications connect and something_new were sent");
    for topic in ["connect", "something_new"] {
        exam.send(&mut plugin, &wrapped(topic, &connect_payload(9735)))
            .await?;
    }
    let sent = exam.close(&mut plugin).await?;
    exam.must_be_silent(&sent)?;
    exam.held("notifications are not answered");
    Ok(())
}

async fn unknown_request(exam: &mut Exam, plugin: &mut PluginHarness) -> Outcome {
    let id = exam.id("sing");
    let error = json!({"code": -32601, "message": "no such method"});
    let expected = json!({"jsonrpc": "2.0", "id": id, "error": error});
    let answer = exam.ask(plugin, id, "sing", json!({}), &expected).await?;
    exam.must(
        answer["error"]["code"] == -32601,
        "a request that is not known gets the error -32601",
        expected,
        &answer,
    )
}

/// Through the log, not stdout.
pub async fn log(exam: &mut Exam) -> Outcome {
    let id = json!({"id": super::PEER});
    let (mut plugin, _) = exam.up(json!({})).await?;
    exam.doing("connect and disconnect were sent");
    for message in [
        wrapped("connect", &connect_payload(9735)),
        wrapped("disconnect", &id),
    ] {
        exam.send(&mut plugin, &message).await?;
    }
    let sent = exam.close(&mut plugin).await?;
    exam.must_be_silent(&sent)?;
    for topic in ["connect", "disconnect"] {
        let params = json!({"level": "info", "message": format!("recorded {topic}")});
        let expected = json!({"jsonrpc": "2.0", "method": "log", "params": params});
        let mut logs = sent.iter().filter(|message| message["method"] == "log");
        let last = logs.clone().next_back();
        if !logs.any(|log| log["params"] == params) {
            let last = last.map_or("no such message".to_owned(), Value::to_string);
            return missed(exam.done(), expected, last);
        }
    }
    let bench = Rc::clone(&exam.bench);
    let lab = bench.lab().await?;
    let mut running = exam.start(&[]).await?;
    exam.connect(lab).await?;
    exam.logged(&mut running, "recorded connect").await?;
    exam.disconnect(lab).await?;
    exam.logged(&mut running, "recorded disconnect").await?;
    exam.held("both lines are in l1's log");
    Ok(())
}
