//! `eventlog` as an operator runs it: in order, none lost, whatever happens to it
//! and to its file.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cln_lab::{Event, Events, Lab, LabBuilder, Node, NodeSpec, Plugin, Probe, eventually};
use lab_tests::{Kinds, Outcome, Suite, program, write_scripted};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::soak;

pub fn tests(suite: Suite) -> Suite {
    suite
        .scenario_alone("notifications_are_recorded_in_order", in_order)
        .scenario_alone("stop_with_a_backlog_loses_nothing", stop_with_backlog)
        .scenario_alone(
            "plugin_stop_with_a_backlog_loses_nothing",
            plugin_stop_with_backlog,
        )
        .scenario_alone("seq_continues_after_a_restart", seq_continues)
        .scenario_alone("a_torn_last_line_is_closed_and_logged", torn_line)
        .scenario_alone("rotation_loses_nothing", rotation)
        .scenario_alone("sighup_reopens_the_file", sighup)
        // `setconfig` came with v23.08.
        .since((23, 8), "secrets_are_left_out_unless_asked_for", secrets)
        .since(
            (23, 8),
            "topics_are_chosen_and_changed_while_running",
            topics,
        )
        .since((23, 8), "what_is_not_json_is_recorded_as_text", not_json)
        .scenario_alone("an_unknown_topic_is_logged_with_the_nearest", unknown_topic)
        .scenario_alone("methods_answer_by_name_and_by_position", methods)
        .scenario_alone("wait_is_answered_by_the_next_event_or_times_out", wait)
        .scenario_alone(
            "bad_values_disable_the_plugin_and_the_node_starts",
            bad_values,
        )
        .scenario_alone("a_file_in_trouble_recovers", trouble)
}

/// A node with eventlog, set so, and with the plugin that floods.
async fn flooded(kinds: Kinds, options: &[(&str, &str)]) -> anyhow::Result<Lab> {
    let lab = custom_topics(kinds.lab(1)).start().await?;
    lab.l1()
        .plugin_start(&Plugin::path(program("flood")?))
        .await?;
    lab.l1().plugin_start(&eventlog(options)?).await?;
    Ok(lab)
}

/// Before v23.08 lightningd has no `*`: eventlog must know another plugin's
/// topics before its manifest.
pub fn custom_topics(lab: LabBuilder) -> LabBuilder {
    lab.env("EVENTLOG_TOPICS", "flood")
}

pub fn eventlog(options: &[(&str, &str)]) -> anyhow::Result<Plugin> {
    let plugin = Plugin::path(program("eventlog")?);
    Ok(options
        .iter()
        .fold(plugin, |plugin, (name, value)| plugin.option(*name, value)))
}

pub async fn flood(node: &Node, count: u64) -> Outcome {
    let answer: Value = node.call("flood", json!({"count": count})).await?;
    ensure!(answer["sent"] == count, "{answer}");
    Ok(())
}

pub fn file(node: &Node) -> PathBuf {
    node.network_dir().join("eventlog.jsonl")
}

/// Every event in the file, in order.
pub fn recorded(path: &Path) -> anyhow::Result<Vec<Event>> {
    let text = std::fs::read_to_string(path)?;
    ensure!(
        text.is_empty() || text.ends_with('\n'),
        "torn: {:?}",
        text.lines().last()
    );
    Ok(text.lines().map(Event::parse).collect::<Result<_, _>>()?)
}

/// Waits until the file has this many lines beside those of starts.
async fn lines(path: &Path, count: usize) -> Outcome {
    let what = format!("{count} lines in {}", path.display());
    eventually(what, Duration::from_secs(20), async || {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let of_start = |line: &&str| line.contains("\"topic\":\"eventlog_started\"");
        let there = whole.lines().filter(|line| !of_start(line)).count();
        Ok(if there >= count {
            Probe::Ready(())
        } else {
            Probe::NotYet(format!("{there} lines"))
        })
    })
    .await?;
    Ok(())
}

/// These floods one after the other, each complete and in order, and no gap in `seq`.
fn check_floods(events: &[Event], floods: &[u64]) -> Outcome {
    let numbers: Vec<u64> = events
        .iter()
        .filter(|event| event.topic == "flood")
        .map(|event| event.payload["n"].as_u64().context("no n"))
        .collect::<anyhow::Result<_>>()?;
    let expected: Vec<u64> = floods.iter().flat_map(|count| 0..*count).collect();
    let differs = numbers.iter().zip(&expected).position(|(a, b)| a != b);
    ensure!(
        numbers == expected,
        "{} of {}, first difference at {differs:?}",
        numbers.len(),
        expected.len()
    );
    for (n, event) in events.iter().enumerate() {
        ensure!(
            event.seq == Some(n as u64 + 1),
            "line {}: {}",
            n + 1,
            event.line
        );
    }
    Ok(())
}

async fn in_order(kinds: Kinds) -> Outcome {
    const EACH: usize = 20_000;
    let started = Instant::now();
    let floods = soak::rounds(1, 50);
    let lab = flooded(kinds, &[("eventlog-topics", "flood,connect")]).await?;
    let mut recorded = Events::open(file(lab.l1()));
    // That of the start, which is no notification.
    let mut seq = 1;
    let mut last = String::new();
    for _ in 0..floods {
        flood(lab.l1(), EACH as u64).await?;
        let mut next = 0;
        while next < EACH {
            let event = recorded.next().await?;
            seq += 1;
            let ours = event.topic == "flood";
            ensure!(event.seq == Some(seq), "{seq} expected: {}", event.line);
            ensure!(
                !ours || event.payload["n"] == next,
                "{next} expected: {}",
                event.line
            );
            next += usize::from(ours);
            last = event.line;
        }
    }
    let name = format!("custom notifications, {}", kinds.name());
    soak::row(&name, floods * EACH, &[], started)?;
    let last: Value = serde_json::from_str(&last)?;
    let keys: Vec<&String> = last.as_object().context("an object")?.keys().collect();
    ensure!(
        keys == [
            "seq",
            "epoch",
            "received_at",
            "node_id",
            "topic",
            "origin",
            "payload"
        ],
        "{keys:?}"
    );
    ensure!(
        last["node_id"] == lab.l1().id() && last["origin"] == "flood",
        "{last}"
    );
    Ok(lab.stop().await?)
}

async fn stop_with_backlog(kinds: Kinds) -> Outcome {
    let lab = flooded(kinds, &[("eventlog-topics", "flood")]).await?;
    let (l1, path) = (lab.l1(), file(lab.l1()));
    flood(l1, 20_000).await?;
    l1.stop().await?;
    check_floods(&recorded(&path)?, &[20_000])?;
    Ok(lab.stop().await?)
}

async fn plugin_stop_with_backlog(kinds: Kinds) -> Outcome {
    let lab = flooded(kinds, &[("eventlog-topics", "flood")]).await?;
    let (l1, path) = (lab.l1(), file(lab.l1()));
    flood(l1, 20_000).await?;
    l1.plugin_stop("eventlog").await?;
    check_floods(&recorded(&path)?, &[20_000])?;
    Ok(lab.stop().await?)
}

async fn seq_continues(kinds: Kinds) -> Outcome {
    let plugin = eventlog(&[("eventlog-topics", "flood")])?;
    let flooding = Plugin::path(program("flood")?);
    let lab = custom_topics(kinds.lab(1))
        .plugin(plugin.clone())
        .plugin(flooding)
        // Killed below.
        .allow_plugin_death("eventlog")
        .start()
        .await?;
    let l1 = lab.l1();
    flood(l1, 10).await?;
    l1.restart().await?;
    flood(l1, 10).await?;
    lines(&file(l1), 20).await?;
    // A process that is killed has written what it had taken.
    kill(
        Pid::from_raw(l1.process_with("/eventlog").await?.pid as i32),
        Signal::SIGKILL,
    )?;
    eventually("eventlog to be gone", Duration::from_secs(10), async || {
        Ok(if l1.plugin_active(plugin.executable()).await? {
            Probe::NotYet("it is listed".to_owned())
        } else {
            Probe::Ready(())
        })
    })
    .await?;
    l1.plugin_start(&plugin).await?;
    flood(l1, 10).await?;
    lines(&file(l1), 30).await?;
    check_floods(&recorded(&file(l1))?, &[10, 10, 10])?;
    Ok(lab.stop().await?)
}

async fn torn_line(kinds: Kinds) -> Outcome {
    let lab = flooded(kinds, &[("eventlog-topics", "flood")]).await?;
    let l1 = lab.l1();
    flood(l1, 3).await?;
    lines(&file(l1), 3).await?;
    l1.plugin_stop("eventlog").await?;
    // As after a power cut in the midst of the last line.
    let text = std::fs::read_to_string(file(l1))?;
    std::fs::write(file(l1), &text[..text.len() - 20])?;
    l1.plugin_start(&eventlog(&[("eventlog-topics", "flood")])?)
        .await?;
    l1.log().wait_for("its last line has no end").await?;
    flood(l1, 2).await?;
    lines(&file(l1), 5).await?;
    let text = std::fs::read_to_string(file(l1))?;
    let read: Vec<Option<Event>> = text.lines().map(|line| Event::parse(line).ok()).collect();
    let whole: Vec<&Event> = read.iter().flatten().collect();
    // Two whole ones, the torn one on a line of its own, two new ones after it.
    ensure!(
        read.iter().filter(|event| event.is_none()).count() == 1,
        "{text}"
    );
    ensure!(read[3].is_none(), "{text}");
    let numbers: Vec<_> = whole
        .iter()
        .filter(|e| e.topic == "flood")
        .map(|e| &e.payload["n"])
        .collect();
    ensure!(numbers == [0, 1, 0, 1], "{text}");
    let seqs: Vec<_> = whole.iter().filter_map(|event| event.seq).collect();
    ensure!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "{text}");
    Ok(lab.stop().await?)
}

async fn rotation(kinds: Kinds) -> Outcome {
    let options = [
        ("eventlog-topics", "flood"),
        ("eventlog-rotate-size", "200KiB"),
        ("eventlog-rotate-keep", "100"),
    ];
    let lab = flooded(kinds, &options).await?;
    let l1 = lab.l1();
    flood(l1, 5_000).await?;
    l1.plugin_stop("eventlog").await?;
    let mut events = Vec::new();
    let mut files = 0;
    for n in (1..=100).rev() {
        let path = l1.network_dir().join(format!("eventlog.jsonl.{n}"));
        if path.exists() {
            files += 1;
            ensure!(
                path.metadata()?.len() <= 200 * 1024,
                "{}: too large",
                path.display()
            );
            events.extend(recorded(&path)?);
        }
    }
    events.extend(recorded(&file(l1))?);
    ensure!(files >= 3, "rotated {files} times");
    check_floods(&events, &[5_000])?;
    Ok(lab.stop().await?)
}

async fn sighup(kinds: Kinds) -> Outcome {
    let lab = flooded(kinds, &[("eventlog-topics", "flood")]).await?;
    let (l1, path) = (lab.l1(), file(lab.l1()));
    flood(l1, 5).await?;
    lines(&path, 5).await?;
    let moved = path.with_extension("moved");
    std::fs::rename(&path, &moved)?;
    kill(
        Pid::from_raw(l1.process_with("/eventlog").await?.pid as i32),
        Signal::SIGHUP,
    )?;
    eventually(
        "the file to be there again",
        Duration::from_secs(10),
        async || {
            Ok(if path.exists() {
                Probe::Ready(())
            } else {
                Probe::NotYet("it is not".to_owned())
            })
        },
    )
    .await?;
    flood(l1, 5).await?;
    // The first line of the new file records that it was opened again.
    lines(&path, 6).await?;
    let mut events = recorded(&moved)?;
    events.extend(recorded(&path)?);
    check_floods(&events, &[5, 5])?;
    Ok(lab.stop().await?)
}

async fn secrets(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
    let l1 = lab.l1();
    l1.plugin_start(&eventlog(&[])?).await?;
    let redacted = l1.invoice("1000", "redacted", "d").await?;
    let mut events = Events::open(file(l1));
    let event = events.expect("invoice_creation").await?;
    // The preimage's hash is the payment hash.
    let expected = format!("sha256:{}", redacted.payment_hash);
    ensure!(event.payload["preimage"] == expected, "{}", event.line);

    let set: Value = l1
        .call(
            "setconfig",
            json!({"config": "eventlog-redact", "val": false}),
        )
        .await?;
    ensure!(set["config"]["config"] == "eventlog-redact", "{set}");
    l1.invoice("1000", "plain", "d").await?;
    let event = events.expect("invoice_creation").await?;
    let preimage = event.payload["preimage"].as_str().context("no preimage")?;
    ensure!(
        preimage.len() == 64 && preimage.chars().all(|c| c.is_ascii_hexdigit()),
        "{}",
        event.line
    );
    Ok(lab.stop().await?)
}

async fn topics(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    l1.plugin_start(&eventlog(&[(
        "eventlog-topics",
        "disconnect, block_added",
    )])?)
    .await?;
    let mut events = Events::open(file(l1));
    l1.connect(l2).await?;
    l1.disconnect(l2).await?;
    events.expect_in_order(&["disconnect"]).await?;
    lab.bitcoind().mine(1).await?;
    // An older lightningd looks for blocks every 30 s.
    l1.wait_height(lab.bitcoind().height().await?).await?;
    events.expect_in_order(&["block_added"]).await?;

    let refused: cln_lab::Result<Value> = l1
        .call(
            "setconfig",
            json!({"config": "eventlog-format", "val": "xml"}),
        )
        .await;
    let refused = refused.expect_err("no such format");
    ensure!(refused.rpc_code() == Some(-32602), "{refused}");
    l1.call::<Value>(
        "setconfig",
        json!({"config": "eventlog-topics", "val": "connect, invoice_creation"}),
    )
    .await?;
    l1.connect(l2).await?;
    l1.disconnect(l2).await?;
    l1.connect(l2).await?;
    l1.invoice("any", "chosen", "d").await?;
    events
        .expect_in_order(&["connect", "connect", "invoice_creation"])
        .await?;
    // As `lightning-cli setconfig eventlog-topics disconnect` sends it.
    l1.call::<Value>("setconfig", json!(["eventlog-topics", "disconnect"]))
        .await?;
    l1.disconnect(l2).await?;
    events.expect_in_order(&["disconnect"]).await?;
    Ok(lab.stop().await?)
}

/// A node hands on a plugin's params as they are written, with an empty line in them.
async fn not_json(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
    let l1 = lab.l1();
    let other = write_scripted(&lab.dir().join("other"), "good", "other")?;
    l1.plugin_start(&Plugin::path(other)).await?;
    l1.plugin_start(&eventlog(&[("eventlog-topics", "*")])?)
        .await?;
    l1.call::<Value>("other-odd", json!([])).await?;
    l1.call::<Value>("other-emit", json!([])).await?;
    let mut events = Events::open(file(l1));
    let odd: Value = serde_json::from_str(&events.expect("scripted").await?.line)?;
    ensure!(
        odd["not_json"] == true && odd["origin"] == "other",
        "it says so: {odd}"
    );
    ensure!(odd["payload"] == "[\"a\tb\",\n\n007,1{]", "{odd}");
    let next = events.expect("scripted").await?;
    ensure!(next.payload == json!({"a": [1, 2]}), "{next:?}");
    Ok(lab.stop().await?)
}

async fn unknown_topic(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
    let l1 = lab.l1();
    l1.plugin_start(&eventlog(&[("eventlog-topics", "conect")])?)
        .await?;
    let line = l1.log().wait_for("conect").await?;
    ensure!(
        line.contains("plugin-eventlog") && line.contains("`connect`"),
        "{line}"
    );
    Ok(lab.stop().await?)
}

async fn methods(kinds: Kinds) -> Outcome {
    let lab = flooded(kinds, &[("eventlog-topics", "flood,invoice_creation")]).await?;
    let l1 = lab.l1();
    flood(l1, 5).await?;
    l1.invoice("any", "i", "d").await?;
    lines(&file(l1), 6).await?;

    let seqs = |answer: &Value| -> Vec<u64> {
        let events = answer["events"].as_array().cloned().unwrap_or_default();
        events
            .iter()
            .filter_map(|event| event["seq"].as_u64())
            .collect()
    };
    let all: Value = l1.call("eventlog-list", json!({})).await?;
    ensure!(seqs(&all) == [7, 6, 5, 4, 3, 2, 1], "{all}");
    let some: Value = l1
        .call("eventlog-list", json!(["flood", 2, 3, "last"]))
        .await?;
    ensure!(seqs(&some) == [2, 3, 4] && some["more"] == true, "{some}");
    let same: Value = l1
        .call(
            "eventlog-list",
            json!({"topic": "flood", "since": 2, "limit": 3, "newest": "last"}),
        )
        .await?;
    ensure!(same == some, "{same}");

    let stats: Value = l1.call("eventlog-stats", json!({})).await?;
    ensure!(
        stats["recorded"] == 6 && stats["dropped"] == 0 && stats["last_seq"] == 7,
        "{stats}"
    );
    ensure!(stats["file"] == file(l1).display().to_string(), "{stats}");

    for (params, word) in [
        (json!({"limit": "many"}), "limit"),
        (json!({"newest": "middle"}), "newest"),
        (json!({"no_such": 1}), "no_such"),
    ] {
        let error = l1
            .call::<Value>("eventlog-list", &params)
            .await
            .expect_err("bad parameters");
        ensure!(
            error.rpc_code() == Some(-32602) && error.to_string().contains(word),
            "{params}: {error}"
        );
    }
    let rotated: Value = l1.call("eventlog-rotate", json!({})).await?;
    ensure!(
        rotated["rotated_to"] == format!("{}.1", file(l1).display()),
        "{rotated}"
    );
    let help: Value = l1.call("help", json!(["eventlog-list"])).await?;
    ensure!(
        help.to_string()
            .contains("eventlog-list [topic] [since] [limit] [newest]"),
        "{help}"
    );
    Ok(lab.stop().await?)
}

async fn wait(kinds: Kinds) -> Outcome {
    let lab = flooded(kinds, &[("eventlog-topics", "flood,invoice_creation")]).await?;
    let l1 = lab.l1();
    let wait = || {
        l1.call::<Value>(
            "eventlog-wait",
            json!({"topic": "invoice_creation", "after": 0}),
        )
    };
    // Many wait for the same, others for what does not come.
    let waiting = async { tokio::try_join!(wait(), wait(), wait()) };
    let event = async {
        flood(l1, 3).await?;
        l1.invoice("any", "awaited", "d").await?;
        anyhow::Ok(())
    };
    let (answers, done) = tokio::join!(waiting, event);
    done?;
    let (one, two, three) = answers?;
    ensure!(one == two && two == three, "{one} {two} {three}");
    ensure!(one["payload"]["label"] == "awaited", "{one}");
    let error = l1
        .call::<Value>("eventlog-wait", json!({"topic": "connect", "timeout": 1}))
        .await
        .expect_err("nothing comes");
    ensure!(error.rpc_code() == Some(2000), "{error}");
    Ok(lab.stop().await?)
}

async fn bad_values(kinds: Kinds) -> Outcome {
    for (option, value) in [
        ("eventlog-format", "xml"),
        ("eventlog-rotate-size", "big"),
        ("eventlog-buffer", "1"),
        ("eventlog-file", "a-folder/"),
    ] {
        let spec = NodeSpec::new()
            .kind(kinds.kind_of(0))
            .plugin(Plugin::path(program("flood")?))
            .option("plugin", program("eventlog")?.display())
            .option(option, value)
            .allow_broken("eventlog is disabled");
        let lab = Lab::builder().node(spec).start().await?;
        let line = lab.l1().log().wait_for(&format!("{option}={value}")).await;
        let line = line.with_context(|| format!("{option}={value}"))?;
        // At a level that is shown by default.
        ensure!(
            line.contains("**BROKEN**") && line.contains("eventlog is disabled"),
            "{line}"
        );
        let listed = lab.l1().plugin_list().await?;
        ensure!(
            !listed
                .iter()
                .any(|plugin| plugin.name.ends_with("/eventlog")),
            "{option}: {listed:?}"
        );
        lab.stop().await?;
    }
    Ok(())
}

async fn trouble(kinds: Kinds) -> Outcome {
    let lab = flooded(kinds, &[("eventlog-topics", "flood")]).await?;
    let (l1, path) = (lab.l1(), file(lab.l1()));
    flood(l1, 5).await?;
    lines(&path, 5).await?;

    // Somebody moves the file away and puts a folder in its place.
    let moved = path.with_extension("moved");
    std::fs::rename(&path, &moved)?;
    std::fs::create_dir(&path)?;
    kill(
        Pid::from_raw(l1.process_with("/eventlog").await?.pid as i32),
        Signal::SIGHUP,
    )?;
    l1.log().wait_for("a directory").await?;
    flood(l1, 5).await?;
    let stats: Value = l1.call("eventlog-stats", json!({})).await?;
    ensure!(stats["trouble"].is_string(), "{stats}");

    std::fs::remove_dir(&path)?;
    lines(&path, 5).await?;
    let mut events = recorded(&moved)?;
    events.extend(recorded(&path)?);
    check_floods(&events, &[5, 5])?;
    let stats: Value = l1.call("eventlog-stats", json!({})).await?;
    ensure!(
        stats["trouble"].is_null() && stats["dropped"] == 0,
        "{stats}"
    );
    Ok(lab.stop().await?)
}
