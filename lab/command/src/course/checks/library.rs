//! Part two: with a library.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::rc::Rc;

use cln_lab::{IoContext, msat};
use serde_json::{Value, json};

use super::super::bench::process_of;
use super::super::exam::{Exam, Outcome, missed};
use super::super::on_node::FILE;
use super::{PEER, connect_payload, must_record, recorded, subscribed, wrapped};
use crate::hash_of;

/// The payload alone, of both shapes.
pub async fn library(exam: &mut Exam) -> Outcome {
    let plugin = subscribed(exam, &["connect", "disconnect"]).await?;
    let payload = connect_payload(9735);
    let id = json!({"id": PEER});
    let flat = json!({"jsonrpc": "2.0", "method": "connect", "params": payload});
    let messages = [
        wrapped("connect", &payload),
        flat,
        wrapped("disconnect", &id),
    ];
    let done = "connect was sent wrapped, and flat as before v23.08; then disconnect";
    let lines = recorded(exam, plugin, done, &messages).await?;
    must_record(exam, &lines, &["connect", "connect", "disconnect"])?;
    let expected = [&payload, &payload, &id];
    for (line, payload) in lines.iter().zip(expected) {
        let written = line
            .split_once(" notification: ")
            .map_or("", |(_, json)| json);
        if serde_json::from_str::<Value>(written).ok().as_ref() != Some(payload) {
            return missed(done, format!("the payload alone: {payload}"), written);
        }
    }
    exam.held("wrapped or flat: the payload alone is recorded");

    let bench = Rc::clone(&exam.bench);
    let lab = bench.lab().await?;
    let mut running = exam.start(&[]).await?;
    exam.connect(lab).await?;
    let event = exam.line(&mut running, "connect").await?;
    exam.disconnect(lab).await?;
    exam.line(&mut running, "disconnect").await?;
    exam.must(
        event.payload["id"] == lab.l2().id(),
        "connect and disconnect of l1 are recorded",
        lab.l2().id(),
        &event.payload["id"],
    )
}

/// An invoice, whose preimage is a secret.
pub async fn invoice(exam: &mut Exam) -> Outcome {
    let topics = ["connect", "disconnect", "invoice_creation"];
    let plugin = subscribed(exam, &topics).await?;
    let payload = json!({"msat": 1, "preimage": "00".repeat(32), "label": "inv"});
    let message = wrapped("invoice_creation", &payload);
    let lines = recorded(exam, plugin, "invoice_creation was sent", &[message]).await?;
    must_record(exam, &lines, &["invoice_creation"])?;

    let bench = Rc::clone(&exam.bench);
    let l1 = bench.lab().await?.l1();
    let mut running = exam.start(&[]).await?;
    let label = format!("inv-{}", bench.number());
    exam.doing(format!("`invoice 0.001btc {label} pizza` on l1"));
    let invoice = l1.invoice("0.001btc", &label, "pizza").await?;
    let payload = exam.line(&mut running, "invoice_creation").await?.payload;
    let amount = msat(&payload["msat"]);
    exam.must(
        payload["label"] == label && amount == Some(100_000_000),
        "its label and its amount are recorded",
        format!("label {label}, 100000000 msat"),
        &payload,
    )?;
    let hash = payload["preimage"].as_str().and_then(hash_of);
    exam.must(
        hash.as_deref() == Some(&invoice.payment_hash),
        "the preimage's hash is the invoice's",
        &invoice.payment_hash,
        hash.as_deref().unwrap_or("no preimage"),
    )?;
    let path = l1.network_dir().join(FILE);
    let mode = path
        .metadata()
        .doing("look at", &path)?
        .permissions()
        .mode()
        & 0o777;
    exam.must(
        mode == 0o600,
        "only its owner can read the file",
        format!("{FILE} with mode 0600"),
        format!("mode {mode:04o}"),
    )
}

/// One event is lost, not the plugin.
pub async fn error(exam: &mut Exam) -> Outcome {
    let bench = Rc::clone(&exam.bench);
    let l1 = bench.lab().await?.l1();
    let mut running = exam.start(&[]).await?;
    let process = process_of(&running.tee.record);
    let number = bench.number();
    let (burnt, whole) = (format!("burnt-{number}"), format!("whole-{number}"));
    exam.doing(format!("`invoice 1000 {burnt} x` on l1"));
    l1.invoice("1000", &burnt, "x").await?;
    let first = exam.line(&mut running, "invoice_creation").await?;
    exam.logged(&mut running, &burnt).await?;
    exam.held(format!("what went wrong with {burnt} is in l1's log"));
    exam.doing(format!("then `invoice 1000 {whole} x`"));
    l1.invoice("1000", &whole, "x").await?;
    let second = exam.line(&mut running, "invoice_creation").await?;
    let labels = json!([first.payload["label"], second.payload["label"]]);
    exam.must(
        labels == json!([burnt, whole]),
        "both invoices are recorded",
        json!([burnt, whole]),
        labels,
    )?;
    if !process.is_some_and(cln_lab::is_alive) {
        return exam.died(&mut running, "the same process to run");
    }
    exam.held("the same process runs");
    Ok(())
}

/// An option, and a method.
pub async fn method(exam: &mut Exam) -> Outcome {
    let (mut plugin, manifest) = exam.up(json!({})).await?;
    exam.doing("getmanifest was asked");
    let has = |list: &str, name: &str| {
        let entries = manifest[list].as_array().into_iter().flatten();
        entries.into_iter().any(|entry| entry["name"] == name)
    };
    exam.must(
        has("options", "events-file"),
        "there is an option `events-file`",
        r#""options": [{"name": "events-file", "type": "string", "default": "myplugin.txt", …}]"#,
        &manifest["options"],
    )?;
    exam.must(
        has("rpcmethods", "eventcount"),
        "there is a method `eventcount`",
        r#""rpcmethods": [{"name": "eventcount", …}]"#,
        &manifest["rpcmethods"],
    )?;
    exam.close(&mut plugin).await?;

    let bench = Rc::clone(&exam.bench);
    let lab = bench.lab().await?;
    let file = lab.dir().join(format!("events-{}.txt", bench.number()));
    let path = file.display().to_string();
    let mut running = exam.start(&[("events-file", &path)]).await?;
    exam.connect(lab).await?;
    exam.line(&mut running, "connect").await?;
    exam.disconnect(lab).await?;
    exam.line(&mut running, "disconnect").await?;
    exam.held("what the option says is where the lines are");
    exam.doing("two lines were written, then `l1-cli eventcount`");
    let answer: Value = match lab.l1().call("eventcount", json!({})).await {
        Ok(answer) => answer,
        Err(error) => {
            exam.look(&mut running)?;
            return missed(exam.done(), json!({"count": 2}), error);
        }
    };
    exam.look(&mut running)?;
    exam.must(
        answer["count"] == 2,
        "eventcount returns 2",
        json!({"count": 2}),
        &answer,
    )
}

/// What is gone after a restart, and how to stay.
pub async fn restart(exam: &mut Exam) -> Outcome {
    for (startup, text) in [(true, "started with the node"), (false, "started by hand")] {
        let mut plugin = exam.alone().await?;
        let id = exam.id("getmanifest");
        let manifest = exam.manifest(&mut plugin, id).await?;
        exam.init(&mut plugin, &manifest, &json!({}), startup)
            .await?;
        exam.doing(format!("init was asked, with `startup` {startup}"));
        exam.close(&mut plugin).await?;
        let logs = plugin.logs();
        let last = logs
            .last()
            .map_or("nothing is logged".to_owned(), |log| log.message.clone());
        let found = logs.iter().any(|log| log.message.contains(text));
        exam.must(found, &format!("it logs `{text}`"), text, last)?;
    }
    let bench = Rc::clone(&exam.bench);
    let l1 = bench.lab().await?.l1();
    let mut running = exam.start(&[]).await?;
    exam.logged(&mut running, "started by hand").await?;
    exam.held("by hand: l1's log says so");

    // One start shows both: the plugin with its tee is another file than this.
    let folder = l1.dir().join("plugins");
    std::fs::create_dir_all(&folder).doing("create folder", &folder)?;
    let name = exam.program.file_name().unwrap_or_default().to_owned();
    let link = folder.join(&name);
    let _ = std::fs::remove_file(&link);
    symlink(&exam.program, &link).doing("make a link in", &folder)?;
    exam.doing("l1 was stopped and started, with the plugin in its folder `plugins`");
    let log = l1.log().from_now()?;
    let restarted = l1.restart().await;
    let _ = std::fs::remove_file(&link);
    restarted?;
    exam.look(&mut running)?;
    let there = l1.plugin_active(&running.tee.executable).await?;
    exam.must(
        !there,
        "after a restart, what was started by hand is gone",
        "it gone",
        "it is there",
    )?;
    let ours = format!("plugin-{}: started with the node", name.to_string_lossy());
    let logged = log.wait_for(&ours).await;
    l1.plugin_stop(&exam.program.display().to_string()).await?;
    match logged {
        Ok(_) => {
            exam.held("what is in l1's folder `plugins` is started with the node");
            Ok(())
        }
        Err(_) => missed(exam.done(), ours, "no such line in l1's log"),
    }
}
