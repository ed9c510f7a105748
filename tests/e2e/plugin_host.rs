//! How a node treats its plugins: the notifications and hooks it sends them, what
//! it passes on for them, what follows their death. The same on lightningd and on
//! the embedded node.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use cln_lab::{Error, Keep, Node, NodeKind, NodeSpec, Plugin, Probe, eventually};
use lab_tests::pattern::mismatch;
use lab_tests::socket::Socket;
use lab_tests::{Kinds, Outcome, Suite, is_alive, write_script, write_scripted};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// How long something may take that is said to happen at once.
const SOON: Duration = Duration::from_secs(10);

pub fn tests(suite: Suite) -> Suite {
    suite
        .since((25, 9), "notifications_as_they_happen", notifications)
        .since(
            (25, 9),
            "an_undeclared_notification_is_a_warning",
            undeclared,
        )
        .since((25, 9), "blocks_in_order", blocks)
        .since((25, 5), "each_logged_line_is_a_notification", log_lines)
        .since((26, 4), "the_hook_rpc_command", rpc_command)
        .scenario("the_hook_peer_connected", peer_connected)
        .scenario_alone("a_dead_plugin_is_removed", death)
        .scenario_alone("progress_messages_reach_the_caller", progress)
        .scenario("an_unknown_even_feature_is_refused", unknown_feature)
        .on(
            &[Kinds::Embedded],
            "no_plugin_outlives_the_embedded_node",
            no_plugin_outlives,
        )
}

/// A plugin named `name` that behaves as `scripted` does in this mode.
fn script(folder: &Path, name: &str, mode: &str) -> anyhow::Result<Plugin> {
    write_scripted(&folder.join(name), mode, name).map(Plugin::path)
}

/// The notifications of these topics that the plugin `name` has received so far.
async fn notifications_so_far(
    node: &Node,
    name: &str,
    topics: &[&str],
) -> cln_lab::Result<Vec<Value>> {
    let received: Value = node.call(&format!("{name}-received"), json!([])).await?;
    let all = received["notifications"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let wanted = |n: &Value| topics.iter().any(|topic| n["method"] == *topic);
    Ok(all.into_iter().filter(wanted).collect())
}

/// The same, once there are at least `count`.
async fn notified(
    node: &Node,
    name: &str,
    topics: &[&str],
    count: usize,
) -> cln_lab::Result<Vec<Value>> {
    let what = format!("{count} notifications for {name}");
    eventually(what, SOON, async || {
        let seen = notifications_so_far(node, name, topics).await?;
        Ok(if seen.len() >= count {
            Probe::Ready(seen)
        } else {
            Probe::NotYet(format!("{seen:?}"))
        })
    })
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

/// A plugin is notified of what the node, its peers and another plugin do, in order.
async fn notifications(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    l1.plugin_start(&script(lab.dir(), "tap", "tap")?).await?;
    let other = script(lab.dir(), "other", "good")?;
    l1.plugin_start(&other).await?;
    l1.connect(l2).await?;
    l1.disconnect(l2).await?;
    l1.invoice("0.001btc", "a", "d").await?;
    l1.invoice("any", "b", "d").await?;
    l1.call::<Value>("other-emit", json!([])).await?;
    l1.plugin_stop("other").await?;
    let off = script(lab.dir(), "off", "disabled")?;
    let refusal = refused(l1.plugin_start(&off).await)?;
    ensure!(refusal.0 == -3, "{refusal:?}");

    let of = |topic: &str, payload: Value| json!({"jsonrpc": "2.0", "method": topic, "params": {topic: payload}});
    let path = other.executable();
    let expected = [
        // Of itself, too.
        of("plugin_started", json!({"plugin_name": "tap", "…": ""})),
        of(
            "plugin_started",
            json!({"plugin_name": "other", "plugin_path": path, "…": ""}),
        ),
        of(
            "connect",
            json!({"id": l2.id(), "direction": "out", "…": ""}),
        ),
        of("disconnect", json!({"id": l2.id()})),
        of(
            "invoice_creation",
            json!({"msat": 100_000_000, "label": "a", "preimage": "<hex>"}),
        ),
        of(
            "invoice_creation",
            json!({"label": "b", "preimage": "<hex>"}),
        ),
        json!({"jsonrpc": "2.0", "method": "scripted", "origin": "other", "params": {"a": [1, 2]}}),
        of("plugin_stopped", json!({"plugin_name": "other", "…": ""})),
        // One that never ran has stopped, too.
        of(
            "plugin_stopped",
            json!({"plugin_name": "off", "methods": [], "…": ""}),
        ),
    ];
    let mut topics: Vec<_> = expected
        .iter()
        .filter_map(|n| n["method"].as_str())
        .collect();
    topics.extend(["block_added", "shutdown"]);
    let seen = notified(l1, "tap", &topics, expected.len()).await?;
    ensure!(seen.len() == expected.len(), "{seen:?}");
    for (expected, seen) in expected.iter().zip(&seen) {
        ensure!(
            mismatch(expected, seen).is_none(),
            "expected {expected}, seen {seen}"
        );
    }
    let methods = &seen[1]["params"]["plugin_started"]["methods"];
    ensure!(methods[0] == "other-hi", "{methods}");
    Ok(lab.stop().await?)
}

/// A notification that its plugin has not declared is a warning.
async fn undeclared(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
    let l1 = lab.l1();
    l1.plugin_start(&script(lab.dir(), "tap", "tap")?).await?;
    l1.plugin_start(&script(lab.dir(), "other", "good")?)
        .await?;
    l1.call::<Value>("other-undeclared", json!([])).await?;
    let expected = json!({
        "source": "plugin-other", "level": "warn", "log": "…\"undeclared\"…",
        "time": "…", "timestamp": "…"
    });
    eventually("the warning", SOON, async || {
        let seen = notifications_so_far(l1, "tap", &["warning", "undeclared"]).await?;
        let found = seen
            .iter()
            .any(|n| mismatch(&expected, &n["params"]["warning"]).is_none());
        Ok(if found && seen.iter().all(|n| n["method"] == "warning") {
            Probe::Ready(())
        } else {
            Probe::NotYet(format!("{seen:?}"))
        })
    })
    .await?;
    Ok(lab.stop().await?)
}

/// A plugin is notified of each block, in order, however many come at once.
async fn blocks(kinds: Kinds) -> Outcome {
    /// More than the embedded node remembers of the chain.
    const BLOCKS: usize = 110;
    let lab = kinds.lab(1).start().await?;
    let l1 = lab.l1();
    l1.plugin_start(&script(lab.dir(), "tap", "tap")?).await?;
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
    let blocks = eventually("the blocks", SOON * 6, async || {
        let new: Vec<_> = notifications_so_far(l1, "tap", &["block_added"])
            .await?
            .iter()
            .map(|n| n["params"]["block_added"].clone())
            .filter(|block| block["height"].as_u64() > Some(before))
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
async fn log_lines(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
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

    let logged = notified(l1, "tap", &["log"], 5).await?;
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
async fn rpc_command(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
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
    let received: Value = l1.call("hooks-received", json!([])).await?;
    let asked = received["requests"].as_array().context("no requests")?;
    ensure!(asked.len() == 4, "{received}");
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

/// The hook `peer_connected` turns a peer away before anybody is notified of it.
async fn peer_connected(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
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
    let connects = notified(l1, "door", &["connect"], 2).await?;
    ensure!(connects.len() == 2, "{connects:?}");
    Ok(lab.stop().await?)
}

/// The peers of which the hook `peer_connected` asked the plugin `door`, in order.
async fn asked_of_peers(node: &Node) -> cln_lab::Result<Vec<Value>> {
    let received: Value = node.call("door-received", json!([])).await?;
    let requests = received["requests"].as_array().into_iter().flatten();
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
async fn death(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).allow_plugin_death("mortal").start().await?;
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

/// `message` and `progress` reach the caller, if it asked for them.
async fn progress(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
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

/// A peer with an unknown mandatory feature is refused, whichever side connects;
/// both nodes keep running.
async fn unknown_feature(kinds: Kinds) -> Outcome {
    let scripts = tempfile::tempdir()?;
    let feature = script(scripts.path(), "feature", "feature")?;
    let spec = |place| NodeSpec::new().kind(kinds.kind_of(place));
    let lab = cln_lab::Lab::builder()
        .node(spec(0))
        .node(spec(1).plugin(feature))
        .node(spec(0))
        .start()
        .await?;
    let [l1, l2, l3] = lab.nodes()[..] else {
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

/// A plugin in plain shell that ignores signals and the end of its input, and adds
/// its process id to the file `pids`.
fn write_stubborn(path: &Path, pids: &Path) -> anyhow::Result<PathBuf> {
    let manifest = r#"{"options":[],"rpcmethods":[],"subscriptions":[],"dynamic":true}"#;
    let answer = |result: &str| {
        format!(
            "id=$(sed -n 's/.*\"id\":\"\\([^\"]*\\)\".*/\\1/p;q' <<X\n$line\nX\n); \
             printf '{{\"jsonrpc\":\"2.0\",\"id\":\"%s\",\"result\":{result}}}\\n\\n' \"$id\""
        )
    };
    write_script(
        path,
        &format!(
            "trap '' TERM INT HUP\necho $$ >> '{}'\nread -r line\n{}\nread -r gap\nread -r line\n{}\n\
             exec sleep 1000",
            pids.display(),
            answer(manifest),
            answer("{}")
        ),
    )
}

/// A plugin that does not end on its own is killed when the node ends; lightningd
/// leaves it behind.
async fn no_plugin_outlives(kinds: Kinds) -> Outcome {
    let scripts = tempfile::tempdir()?;
    let pids = scripts.path().join("pids");
    let deaf = write_stubborn(&scripts.path().join("deaf"), &pids)?;
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
            kinds == Kinds::Embedded && l1.plugin_active(&deaf).await?,
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
