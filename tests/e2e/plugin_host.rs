//! How a node treats its plugins: what it tells them, what it lets them do, what
//! becomes of it when they end. The same on lightningd and on the embedded node.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use cln_lab::{Error, Keep, Node, NodeKind, NodeSpec, Plugin, Probe, eventually};
use lab_tests::socket::Socket;
use lab_tests::{Cast, Outcome, Suite, is_alive, program, write_script};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// How long something may take that is said to happen at once.
const SOON: Duration = Duration::from_secs(10);

pub fn tests(suite: Suite) -> Suite {
    suite
        .since((25, 9), "notifications_as_they_happen", notifications)
        .since((24, 5), "each_logged_line_is_a_notification", log_lines)
        .since((26, 4), "the_hook_rpc_command", rpc_command)
        .scenario("the_hook_peer_connected", peer_connected)
        .scenario_alone("a_dead_plugin_is_removed", death)
        .scenario_alone("progress_messages_reach_the_caller", progress)
        .scenario("an_unknown_even_feature_is_refused", unknown_feature)
        .on(
            &[Cast::Embedded],
            "no_plugin_outlives_the_embedded_node",
            no_plugin_outlives,
        )
}

/// A plugin named `name` that behaves as `scripted` does in this mode.
fn script(folder: &Path, name: &str, mode: &str) -> anyhow::Result<Plugin> {
    let scripted = program("scripted")?;
    write_script(
        &folder.join(name),
        &format!("exec '{}' {mode} {name}", scripted.display()),
    )
    .map(Plugin::path)
}

/// What the plugin `name` was told of these topics so far.
async fn told(node: &Node, name: &str, topics: &[&str]) -> cln_lab::Result<Vec<Value>> {
    let told: Value = node.call(&format!("{name}-told"), json!([])).await?;
    let all = told["notifications"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let wanted = |n: &Value| topics.iter().any(|topic| n["method"] == *topic);
    Ok(all.into_iter().filter(wanted).collect())
}

/// Waits until it was told of so many.
async fn told_of(
    node: &Node,
    name: &str,
    topics: &[&str],
    count: usize,
) -> cln_lab::Result<Vec<Value>> {
    eventually(
        format!("{name} to be told {count} times"),
        SOON,
        async || {
            let told = told(node, name, topics).await?;
            Ok(if told.len() >= count {
                Probe::Ready(told)
            } else {
                Probe::NotYet(format!("{told:?}"))
            })
        },
    )
    .await
}

/// The code and words of an error.
fn refused<T: std::fmt::Debug>(answer: cln_lab::Result<T>) -> anyhow::Result<(i32, String)> {
    match answer {
        Err(Error::Rpc {
            code: Some(code),
            message,
            ..
        }) => Ok((code, message)),
        other => anyhow::bail!("not refused: {other:?}"),
    }
}

/// One plugin is told what another one does, and the node, in order.
async fn notifications(cast: Cast) -> Outcome {
    const TOPICS: [&str; 8] = [
        "connect",
        "disconnect",
        "invoice_creation",
        "scripted",
        "plugin_started",
        "plugin_stopped",
        "block_added",
        "shutdown",
    ];
    /// More than the embedded node remembers of the chain.
    const BLOCKS: usize = 110;
    let lab = cast.lab(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    l1.plugin_start(&script(lab.dir(), "tap", "tap")?).await?;
    let other = script(lab.dir(), "other", "good")?;
    l1.plugin_start(&other).await?;
    l1.connect(l2).await?;
    l1.disconnect(l2).await?;
    l1.invoice("0.001btc", "a", "d").await?;
    l1.invoice("any", "b", "d").await?;
    l1.call::<Value>("other-emit", json!([])).await?;
    l1.call::<Value>("other-undeclared", json!([])).await?;
    l1.plugin_stop("other").await?;
    let refusal = refused(
        l1.plugin_start(&script(lab.dir(), "off", "disabled")?)
            .await,
    )?;
    ensure!(refusal.0 == -3, "{refusal:?}");

    let seen = told_of(l1, "tap", &TOPICS, 9).await?;
    let methods: Vec<_> = seen.iter().filter_map(|n| n["method"].as_str()).collect();
    ensure!(
        methods
            == [
                // Of itself, too.
                "plugin_started",
                "plugin_started",
                "connect",
                "disconnect",
                "invoice_creation",
                "invoice_creation",
                "scripted",
                "plugin_stopped",
                // One that never ran has stopped, too.
                "plugin_stopped",
            ],
        "{methods:?}"
    );
    let started = &seen[1]["params"]["plugin_started"];
    ensure!(started["plugin_name"] == "other", "{started}");
    ensure!(
        started["plugin_path"] == other.executable().display().to_string(),
        "{started}"
    );
    ensure!(started["methods"][0] == "other-hi", "{started}");
    let connect = &seen[2]["params"]["connect"];
    ensure!(
        connect["id"] == l2.id() && connect["direction"] == "out",
        "{connect}"
    );
    ensure!(
        seen[3]["params"] == json!({"disconnect": {"id": l2.id()}}),
        "{}",
        seen[3]
    );
    let created = &seen[4]["params"]["invoice_creation"];
    ensure!(
        created["msat"] == 100_000_000 && created["label"] == "a",
        "{created}"
    );
    ensure!(
        created["preimage"].as_str().is_some_and(|p| p.len() == 64),
        "{created}"
    );
    ensure!(
        seen[5]["params"]["invoice_creation"].get("msat").is_none(),
        "{}",
        seen[5]
    );
    let custom =
        json!({"jsonrpc": "2.0", "method": "scripted", "origin": "other", "params": {"a": [1, 2]}});
    ensure!(seen[6] == custom, "{}", seen[6]);
    ensure!(
        seen[8]["params"]["plugin_stopped"]["methods"] == json!([]),
        "{}",
        seen[8]
    );

    let warnings = told(l1, "tap", &["warning"]).await?;
    let warning = warnings
        .iter()
        .map(|w| &w["params"]["warning"])
        .find(|w| w["source"] == "plugin-other")
        .context("no warning of other's undeclared topic")?;
    ensure!(warning["level"] == "warn", "{warning}");
    ensure!(
        warning["log"]
            .as_str()
            .is_some_and(|log| log.contains("\"undeclared\"")),
        "{warning}"
    );
    for stamp in ["time", "timestamp"] {
        ensure!(warning[stamp].is_string(), "{warning}");
    }

    // Each block, in order, however many come at once.
    let address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    let before = lab.bitcoind().height().await?;
    let mined: Vec<String> = lab
        .bitcoind()
        .call("generatetoaddress", vec![json!(BLOCKS), json!(address)])
        .await?;
    let expected: Vec<_> = (before + 1..)
        .zip(&mined)
        .map(|(height, hash)| json!({"hash": hash, "height": height}))
        .collect();
    // lightningd runs bitcoin-cli for each.
    let blocks = eventually("the blocks", SOON * 3, async || {
        let told = told(l1, "tap", &["block_added"]).await?;
        let new: Vec<_> = told
            .iter()
            .map(|b| b["params"]["block_added"].clone())
            .filter(|b| b["height"].as_u64() > Some(before))
            .collect();
        Ok(match new.len() {
            BLOCKS.. => Probe::Ready(new),
            seen => Probe::NotYet(format!("{seen} of {BLOCKS}")),
        })
    })
    .await?;
    ensure!(blocks == expected, "{blocks:?}");
    Ok(lab.stop().await?)
}

/// Each line that a plugin logs is a line of the node's log, and a notification.
async fn log_lines(cast: Cast) -> Outcome {
    let lab = cast.lab(1).start().await?;
    let l1 = lab.l1();
    l1.plugin_start(&script(lab.dir(), "tap", "tap")?).await?;
    l1.plugin_start(&script(lab.dir(), "bad", "good")?).await?;
    l1.call::<Value>("bad-traceback", json!([])).await?;
    let lines = l1.log().lines_with("UNUSUAL plugin-bad: ")?;
    let said: Vec<_> = lines
        .iter()
        .filter_map(|line| line.split_once("plugin-bad: ").map(|(_, said)| said))
        .collect();
    ensure!(
        said == ["Traceback:", "  File \"x\"", "", "ValueError: no"],
        "{lines:?}"
    );
    let time = lines[0].split_once(' ').context("no time")?.0;
    ensure!(time.len() == 24 && time.ends_with('Z'), "{}", lines[0]);

    let logged = told_of(l1, "tap", &["log"], 5).await?;
    let of_bad: Vec<_> = logged
        .iter()
        .map(|n| &n["params"]["log"])
        .filter(|entry| entry["source"] == "plugin-bad" && entry["level"] == "unusual")
        .filter_map(|entry| entry["log"].as_str())
        .collect();
    ensure!(of_bad == said, "{of_bad:?}");
    Ok(lab.stop().await?)
}

/// The hook `rpc_command` replaces a request, or answers it.
async fn rpc_command(cast: Cast) -> Outcome {
    let lab = cast.lab(1).start().await?;
    let l1 = lab.l1();
    l1.plugin_start(&script(lab.dir(), "hooks", "hooks")?)
        .await?;
    let none: Value = l1.call("listpeers", json!({})).await?;
    ensure!(none == json!({"peers": []}), "{none}");
    let replaced: Value = l1.call("listpeers", json!(["replace"])).await?;
    ensure!(replaced["help"][0]["command"] == "getinfo ", "{replaced}");
    let custom: Value = l1.call("listpeers", json!(["result"])).await?;
    ensure!(custom == json!({"custom": 1}), "{custom}");
    let error = refused(l1.call::<Value>("listpeers", json!(["error"])).await)?;
    ensure!(error == (-99, "no way".to_owned()), "{error:?}");

    // Only what its filter names, and the whole request.
    l1.call::<Value>("listinvoices", json!({})).await?;
    let told: Value = l1.call("hooks-told", json!([])).await?;
    let asked = told["requests"].as_array().context("no requests")?;
    ensure!(asked.len() == 4, "{told}");
    let first = &asked[0]["rpc_command"];
    ensure!(
        first["method"] == "listpeers" && first["params"] == json!({}) && first["jsonrpc"] == "2.0",
        "{first}"
    );
    ensure!(first.get("id").is_some(), "{first}");
    l1.plugin_stop("hooks").await?;
    let error = refused(l1.call::<Value>("listpeers", json!(["result"])).await)?;
    ensure!(error.0 == -32602, "{error:?}");
    Ok(lab.stop().await?)
}

/// The hook `peer_connected` turns a peer away before anybody is told of it.
async fn peer_connected(cast: Cast) -> Outcome {
    let lab = cast.lab(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    l1.plugin_start(&script(lab.dir(), "door", "hooks")?)
        .await?;
    l1.connect(l2).await?;
    l1.disconnect(l2).await?;
    gone(l2, l1).await?;
    l1.call::<Value>("door-ban", json!([true])).await?;
    let to_l2 = json!({"id": l2.id(), "host": "127.0.0.1", "port": l2.port()});
    let error = refused(l1.call::<Value>("connect", to_l2).await)?;
    ensure!(error.0 == 402, "{error:?}");
    gone(l2, l1).await?;
    // The other way round the other side has it for a moment, at most. A link that
    // ends before l1 asks its plugin is made again: l1 must have turned one away.
    let to_l1 = json!({"id": l1.id(), "host": "127.0.0.1", "port": l1.port()});
    let within = Duration::from_secs(10);
    eventually("l1 to turn l2 away", within, async || {
        let _ = l2.call::<Value>("connect", &to_l1).await;
        gone(l2, l1).await?;
        Ok(match asked_of_peers(l1).await?.len() {
            3 => Probe::Ready(()),
            asked => Probe::NotYet(format!("asked {asked} times")),
        })
    })
    .await?;
    ensure!(!l1.is_connected(l2).await?, "l1 has l2 as a peer");
    l1.call::<Value>("door-ban", json!([false])).await?;
    l2.connect(l1).await?;

    let peers = asked_of_peers(l1).await?;
    ensure!(peers.len() == 4, "{peers:?}");
    let out = &peers[0];
    ensure!(
        out["id"] == l2.id()
            && out["direction"] == "out"
            && out["addr"] == format!("127.0.0.1:{}", l2.port()),
        "{out}"
    );
    ensure!(peers[3]["direction"] == "in", "{}", peers[3]);
    let connects = told_of(l1, "door", &["connect"], 2).await?;
    ensure!(connects.len() == 2, "{connects:?}");
    Ok(lab.stop().await?)
}

/// What the plugin `door` was asked by the hook `peer_connected`, in order.
async fn asked_of_peers(node: &Node) -> cln_lab::Result<Vec<Value>> {
    let told: Value = node.call("door-told", json!([])).await?;
    let requests = told["requests"].as_array().into_iter().flatten();
    Ok(requests.filter_map(|r| r.get("peer").cloned()).collect())
}

/// Waits until `node` does not have `peer` as a connected peer.
async fn gone(node: &Node, peer: &Node) -> cln_lab::Result<()> {
    eventually(
        format!("{} to lose {}", node.name(), peer.name()),
        SOON,
        async || {
            Ok(if node.is_connected(peer).await? {
                Probe::NotYet("still a peer".to_owned())
            } else {
                Probe::Ready(())
            })
        },
    )
    .await
}

/// A plugin that is killed is gone from the list, its methods with it.
async fn death(cast: Cast) -> Outcome {
    let lab = cast.lab(1).allow_plugin_death("mortal").start().await?;
    let l1 = lab.l1();
    let plugin = script(lab.dir(), "mortal", "good")?;
    l1.plugin_start(&plugin).await?;
    let hi: Value = l1.call("mortal-hi", json!([])).await?;
    let pid = hi["pid"]
        .as_i64()
        .and_then(|pid| i32::try_from(pid).ok())
        .context("no pid")?;
    kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    eventually("the node to notice", SOON, async || {
        Ok(if l1.plugin_active(plugin.executable()).await? {
            Probe::NotYet("still active".to_owned())
        } else {
            Probe::Ready(())
        })
    })
    .await?;
    let error = refused(l1.call::<Value>("mortal-hi", json!([])).await)?;
    ensure!(
        error == (-32601, "Unknown command 'mortal-hi'".to_owned()),
        "{error:?}"
    );
    l1.log()
        .wait_for("plugin-mortal: Killing plugin: exited during normal operation")
        .await?;
    l1.plugin_start(&plugin).await?;
    l1.call::<Value>("mortal-hi", json!([])).await?;
    Ok(lab.stop().await?)
}

/// `message` and `progress` reach who asked, if it asked for them.
async fn progress(cast: Cast) -> Outcome {
    let lab = cast.lab(1).start().await?;
    let l1 = lab.l1();
    l1.plugin_start(&script(lab.dir(), "slow", "good")?).await?;
    let ask = r#"{"jsonrpc":"2.0","id":"me","method":"slow-progress","params":[]}"#;
    let done = json!({"jsonrpc": "2.0", "id": "me", "result": {"done": true}});
    let mut silent = Socket::open(&l1.rpc_path())?;
    ensure!(silent.ask(ask)? == done, "without notifications");

    let mut told = Socket::open(&l1.rpc_path())?;
    told.ask(r#"{"jsonrpc":"2.0","id":1,"method":"notifications","params":[true]}"#)?;
    let message = told.ask(ask)?;
    ensure!(
        message["method"] == "message"
            && message["params"] == json!({"id": "me", "level": "info", "message": "half way"}),
        "{message}"
    );
    ensure!(told.receive()? == done, "with notifications");
    Ok(lab.stop().await?)
}

/// A peer that wants what nobody has is refused, whoever begins; both live on.
async fn unknown_feature(cast: Cast) -> Outcome {
    let scripts = tempfile::tempdir()?;
    let feature = script(scripts.path(), "feature", "feature")?;
    let spec = |place| NodeSpec::new().kind(cast.kind_of(place));
    let lab = cln_lab::Lab::builder()
        .node(spec(0))
        .node(spec(1).plugin(feature))
        .node(spec(0))
        .start()
        .await?;
    let [l1, l2, l3] = lab.nodes() else {
        anyhow::bail!("three nodes were asked for")
    };
    for (a, b) in [(l1, l2), (l2, l1)] {
        let to = json!({"id": b.id(), "host": "127.0.0.1", "port": b.port()});
        // Who wants the feature may have the other as a peer for a moment.
        let _ = a.call::<Value>("connect", to).await;
        gone(a, b).await?;
        gone(b, a).await?;
    }
    l1.connect(l3).await?;
    l3.disconnect(l1).await?;
    Ok(lab.stop().await?)
}

/// A plugin that does not go by itself is killed when the node ends; lightningd
/// leaves it behind.
async fn no_plugin_outlives(cast: Cast) -> Outcome {
    let scripts = tempfile::tempdir()?;
    let pids = scripts.path().join("pids");
    let stubborn = |name: &str, then: &str| {
        let manifest = r#"{"options":[],"rpcmethods":[],"subscriptions":[],"dynamic":true}"#;
        let answer = |result: &str| {
            format!(
                "id=$(sed -n 's/.*\"id\":\"\\([^\"]*\\)\".*/\\1/p;q' <<X\n$line\nX\n); \
                 printf '{{\"jsonrpc\":\"2.0\",\"id\":\"%s\",\"result\":{result}}}\\n\\n' \"$id\""
            )
        };
        write_script(
            &scripts.path().join(name),
            &format!(
                "trap '' TERM INT HUP\necho $$ >> '{}'\nread -r line\n{}\nread -r gap\nread -r line\n{}\n{then}",
                pids.display(),
                answer(manifest),
                answer("{}")
            ),
        )
    };
    let deaf = stubborn("deaf", "exec sleep 1000")?;
    for end in ["stop", "SIGTERM", "SIGINT"] {
        let _ = std::fs::remove_file(&pids);
        let lab = cln_lab::Lab::builder()
            // The signals end a node behind the lab's back.
            .keep(Keep::Never)
            .node(
                NodeSpec::new()
                    .kind(NodeKind::Embedded)
                    .plugin(Plugin::path(&deaf)),
            )
            .start()
            .await?;
        let l1 = lab.l1();
        ensure!(
            cast == Cast::Embedded && l1.plugin_active(&deaf).await?,
            "{end}"
        );
        let pid = l1.pid().await.context("no pid")?;
        match end {
            "stop" => drop(l1.stop().await?),
            signal => {
                let signal: Signal = signal.parse()?;
                kill(Pid::from_raw(i32::try_from(pid)?), signal)?;
                eventually(format!("the node to go at {signal}"), SOON, async || {
                    Ok(if is_alive(pid) {
                        Probe::NotYet("it runs".to_owned())
                    } else {
                        Probe::Ready(())
                    })
                })
                .await?;
            }
        }
        let started = std::fs::read_to_string(&pids)?;
        ensure!(!started.trim().is_empty(), "the plugin did not start");
        for plugin in started.lines() {
            ensure!(!is_alive(plugin.parse()?), "{plugin} lives on after {end}");
        }
        drop(lab);
    }
    Ok(())
}
