//! Part three: beyond the workshop.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use cln_lab::{Capability, Event, Follower, IoContext, Probe, eventually, scaled};
use serde_json::{Value, json};
use tokio::process::Command;

use super::super::exam::{Exam, Outcome, lines_of, missed};
use super::super::on_node::FILE;
use super::{connect_payload, must_subscribe, wrapped};
use crate::wire::Sender;

/// A plugin that counts nothing: a test must see it.
const MUTE: &str = include_str!("../../../course/mute.sh");

/// Every topic, and the end at `shutdown`.
pub async fn all(exam: &mut Exam) -> Outcome {
    let (mut plugin, manifest) = exam.up(json!({})).await?;
    must_subscribe(exam, &manifest, &["*"])?;
    exam.doing("connect and something_new were sent, then shutdown");
    for topic in ["connect", "something_new", "shutdown"] {
        let payload = if topic == "shutdown" {
            json!({})
        } else {
            connect_payload(9735)
        };
        exam.send(&mut plugin, &wrapped(topic, &payload)).await?;
    }
    let sent = exam.ended(&mut plugin, "stdin is still open").await?;
    exam.must_be_silent(&sent)?;
    exam.held("it ends at shutdown");
    let lines = lines_of(&plugin.dir().join(FILE))?;
    super::must_record(exam, &lines, &["connect", "something_new"])?;
    exam.held("also a topic that does not exist yet is recorded");

    let bench = Rc::clone(&exam.bench);
    let lab = bench.lab().await?;
    let mut running = exam.start(&[]).await?;
    exam.connect(lab).await?;
    exam.doing("connect, invoice, disconnect");
    let label = format!("all-{}", bench.number());
    lab.l1().invoice("1000", &label, "x").await?;
    lab.l1().disconnect(lab.l2()).await?;
    let mut seen = Vec::new();
    let wanted = ["connect", "invoice_creation", "disconnect"];
    while !seen.iter().any(|topic| topic == "disconnect") {
        let expected = format!("lines for {}", wanted.join(", "));
        let event = exam.any_line(&mut running, &expected).await?;
        seen.push(event.topic);
    }
    let ours: Vec<&String> = seen
        .iter()
        .filter(|topic| wanted.contains(&topic.as_str()))
        .collect();
    exam.must(
        ours == wanted,
        "connect, invoice_creation, disconnect: each once",
        json!(wanted),
        json!(seen),
    )?;
    exam.doing("`plugin stop`");
    let stop = lab
        .l1()
        .plugin_stop(running.tee.executable.to_str().unwrap_or_default());
    match tokio::time::timeout(scaled(Duration::from_secs(3)), stop).await {
        Ok(stopped) => stopped?,
        Err(_) => {
            return missed(
                exam.done(),
                "its end, at shutdown",
                "it still runs after 3 s",
            );
        }
    }
    exam.held("`plugin stop` does not have to wait");
    Ok(())
}

/// The number, the topic, the payload of a line.
fn numbered(exam: &Exam, line: &str) -> Outcome<(u64, Event)> {
    let parsed = line
        .split_once(' ')
        .and_then(|(number, rest)| Some((number.parse().ok()?, Event::parse(rest).ok()?)));
    parsed.map_or_else(
        || {
            missed(
                exam.done(),
                "the line `N TOPIC notification: {…}`",
                format!("the line `{line}`"),
            )
        },
        Ok,
    )
}

/// Numbers without a gap, across restarts.
pub async fn order(exam: &mut Exam) -> Outcome {
    const COUNT: u64 = 200;
    let folder = tempfile::tempdir().doing("create", "a folder")?;
    let file = folder.path().join("events.txt");
    let options = json!({"events-file": file});
    let (mut plugin, _) = exam.up(options.clone()).await?;
    exam.doing(format!(
        "{COUNT} times connect and a shutdown, in one write"
    ));
    let mut burst = String::new();
    for n in 1..=COUNT {
        burst.push_str(&format!(
            "{}\n\n",
            wrapped("connect", &connect_payload(n as u16))
        ));
    }
    burst.push_str(&format!("{}\n\n", wrapped("shutdown", &json!({}))));
    exam.raw(&mut plugin, burst.as_bytes()).await?;
    exam.ended(&mut plugin, "stdin is still open").await?;
    let lines = lines_of(&file)?;
    for (n, line) in (1..=COUNT).zip(&lines) {
        let (number, event) = numbered(exam, line)?;
        let port = &event.payload["address"]["port"];
        if number != n || *port != n {
            return missed(
                exam.done(),
                format!("line {n}: `{n} connect …`, port {n}"),
                line,
            );
        }
    }
    exam.must(
        lines.len() as u64 == COUNT,
        &format!("{COUNT} lines, in order, numbered from 1"),
        format!("{COUNT} lines"),
        format!("{} lines", lines.len()),
    )?;
    for next in COUNT + 1..=COUNT + 2 {
        let (mut plugin, _) = exam.up(options.clone()).await?;
        exam.doing("after a restart, one connect");
        let mut lines = Follower::from_now(&file);
        exam.send(&mut plugin, &wrapped("connect", &connect_payload(1)))
            .await?;
        let written = eventually("a line", Duration::from_secs(3), async || {
            Ok(lines
                .lines()?
                .pop()
                .map_or(Probe::NotYet(String::new()), Probe::Ready))
        });
        let Ok(line) = written.await else {
            return missed(
                exam.done(),
                format!("line {next}"),
                "no line, while stdin is open",
            );
        };
        let (number, _) = numbered(exam, &line)?;
        exam.must(
            number == next,
            &format!("a new process continues with {next}"),
            format!("`{next} connect notification: …`"),
            format!("`{line}`"),
        )?;
        // Killed.
        drop(plugin);
    }
    Ok(())
}

/// A topic that another plugin hears.
pub async fn topic(exam: &mut Exam) -> Outcome {
    let (mut plugin, manifest) = exam.up(json!({})).await?;
    exam.doing("getmanifest was asked");
    let list = manifest["notifications"].as_array().into_iter().flatten();
    let announced = list.into_iter().any(|entry| entry["method"] == "counted");
    exam.must(
        announced,
        "the manifest announces `counted`",
        r#""notifications": [{"method": "counted"}]"#,
        manifest.get("notifications").unwrap_or(&Value::Null),
    )?;
    let payload = json!({"msat": 1, "preimage": "00".repeat(32), "label": "x"});
    exam.doing("invoice_creation was sent");
    exam.send(&mut plugin, &wrapped("invoice_creation", &payload))
        .await?;
    let is_ours = |message: &Value| message["method"] == "counted";
    let mut sent = Vec::new();
    // Before its stdin ends: a library may lose then what it has not sent yet.
    while !sent.iter().any(is_ours) {
        let Ok(message) = plugin.next_message().await else {
            break;
        };
        exam.said(Sender::Plugin, message.to_string(), None);
        sent.push(message);
    }
    sent.extend(exam.close(&mut plugin).await?);
    let ours = sent.iter().find(|message| is_ours(message));
    let expected = json!({"jsonrpc": "2.0", "method": "counted", "params": {"count": 1}});
    let Some(ours) = ours else {
        return missed(exam.done(), expected, "no such message");
    };
    if ours.get("id").is_some() || count_in(&ours["params"]).is_none() {
        return missed(exam.done(), expected, ours);
    }
    exam.held("it sends `counted` with a number");

    let bench = Rc::clone(&exam.bench);
    let l1 = bench.lab().await?.l1();
    let mut running = exam.start(&[]).await?;
    let mut tap = l1.tap_topics(&["counted"]).await?;
    exam.doing("`invoice` on l1, with another plugin subscribed to `counted`");
    l1.invoice("1000", &format!("topic-{}", bench.number()), "x")
        .await?;
    let heard = tap.expect("counted").await;
    exam.look(&mut running)?;
    match heard {
        Ok(event) => exam.must(
            count_in(&event.payload).is_some(),
            "another plugin on l1 hears it",
            "a payload with `count`",
            &event.payload,
        ),
        Err(_) => missed(exam.done(), "it to hear `counted`", "nothing"),
    }
}

/// The count in a payload, which may be wrapped in its topic.
fn count_in(payload: &Value) -> Option<u64> {
    let inner = payload.get("counted").unwrap_or(payload);
    inner["count"].as_u64()
}

/// Payments rejected by label.
pub async fn hook(exam: &mut Exam) -> Outcome {
    let (mut plugin, manifest) = exam.up(json!({})).await?;
    exam.doing("getmanifest was asked");
    let hooks = manifest["hooks"].as_array().into_iter().flatten();
    let named = hooks
        .into_iter()
        .any(|hook| *hook == "invoice_payment" || hook["name"] == "invoice_payment");
    exam.must(
        named,
        "the manifest has the hook invoice_payment",
        r#""hooks": [{"name": "invoice_payment"}]"#,
        manifest.get("hooks").unwrap_or(&Value::Null),
    )?;
    for (label, result) in [("no-1", "reject"), ("yes-1", "continue")] {
        let id = exam.id("invoice_payment");
        let payment = json!({"label": label, "preimage": "00".repeat(32), "msat": 1000});
        let expected = json!({"jsonrpc": "2.0", "id": id, "result": {"result": result}});
        let params = json!({"payment": payment});
        let answer = exam
            .ask(&mut plugin, id, "invoice_payment", params, &expected)
            .await?;
        exam.doing(format!("a payment for the label {label}"));
        exam.must(
            answer["result"]["result"] == result,
            &format!("label {label}: {result}"),
            expected,
            &answer,
        )?;
    }
    exam.close(&mut plugin).await?;

    let bench = Rc::clone(&exam.bench);
    let l1 = bench.lab().await?.l1();
    let mut running = exam.start(&[]).await?;
    if !l1.supports(Capability::Payments) {
        exam.held("l1 is an embedded node, which has no payments: not tried there");
        return Ok(());
    }
    let number = bench.number();
    for (label, pays) in [
        (format!("no-{number}"), false),
        (format!("yes-{number}"), true),
    ] {
        exam.doing(format!("l1 pays its own invoice {label}"));
        let invoice = l1.invoice("1000", &label, "x").await?;
        let paid = l1.pay(&invoice.bolt11).await;
        exam.look(&mut running)?;
        let came = match &paid {
            Ok(_) => "it is paid".to_owned(),
            Err(error) => error.to_string(),
        };
        let expected = if pays { "it is paid" } else { "it fails" };
        exam.must(
            paid.is_ok() == pays,
            &format!("l1 pays {label}: {expected}"),
            expected,
            came,
        )?;
    }
    Ok(())
}

/// The learner's test passes on his plugin, and not on one that counts nothing.
pub async fn test(exam: &mut Exam) -> Outcome {
    if !exam.test.exists() {
        return missed(
            "looked for your test",
            format!("an executable file {}", exam.test.display()),
            "there is none",
        );
    }
    let bench = Rc::clone(&exam.bench);
    let lab = bench.lab().await?;
    let tee = bench.tee(&exam.program).await?;
    let good = run_test(exam, &tee.executable).await;
    let process = super::super::bench::process_of(&tee.record);
    bench.clear(&tee.executable, process).await?;
    let (ok, said) = good?;
    exam.doing("your test, with your plugin");
    exam.must(
        ok,
        "your test succeeds with your plugin",
        "exit status 0",
        said,
    )?;

    let mute = lab.dir().join("mute");
    cln_lab::write_executable(&mute, MUTE)?;
    let mute = mute.canonicalize().doing("find", &mute)?;
    let bad = run_test(exam, &mute).await;
    if lab.l1().plugin_active(&mute).await? {
        lab.l1().plugin_stop(&mute.display().to_string()).await?;
    }
    bench.clear(&mute, None).await?;
    let (ok, said) = bad?;
    exam.doing("your test, with a plugin that counts nothing");
    exam.must(
        !ok,
        "it fails with one that counts nothing",
        "a failure",
        said,
    )
}

/// Runs the test on a plugin: whether it succeeded, and what it said.
async fn run_test(exam: &mut Exam, plugin: &Path) -> Outcome<(bool, String)> {
    const LIMIT: Duration = Duration::from_secs(20);
    let bench = Rc::clone(&exam.bench);
    let lab = bench.lab().await?;
    let mut command = Command::new(&exam.test);
    command
        .env("PATH", bench.path())
        .env("PLUGIN", plugin)
        .env("LAB", bench.program())
        .env("LAB_DIR", lab.dir())
        .env_remove("LAB_NAME")
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    let done = format!("`{}` was run", exam.test.display());
    let output = match tokio::time::timeout(scaled(LIMIT), command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return missed(done, "a program that the system can run", error),
        Err(_) => {
            return missed(
                done,
                "its end",
                format!("it runs for {} s", LIMIT.as_secs()),
            );
        }
    };
    let mut said = output.status.to_string();
    for text in [&output.stdout, &output.stderr] {
        let text = String::from_utf8_lossy(text);
        if let Some(line) = text.trim_end().lines().last() {
            said.push_str(&format!("; {line}"));
        }
    }
    Ok((output.status.success(), said))
}
