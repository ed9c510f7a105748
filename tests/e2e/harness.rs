//! Plugins without a node: the test speaks lightningd's side of the protocol.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cln_lab::corpus::{self, Kind};
use cln_lab::{Error, Events, PluginHarness, msat, scaled};
use lab_tests::{Outcome, Suite, is_alive, program, write_script};
use serde_json::json;
use tempfile::TempDir;

pub fn tests(suite: Suite) -> Suite {
    suite
        .test("a_whole_plugin_life_takes_milliseconds", whole_life)
        .test("a_failing_handler_is_logged_and_survived", failing_handler)
        .test("a_method_answers_with_its_own_error", refusal)
        .test("both_shapes_of_a_notification_can_be_sent", shapes)
        .test("every_release_is_replayed_without_a_node", releases)
        .test("messages_may_come_in_pieces_or_two_at_once", pieces)
        .test("every_message_can_be_taken_in_order", in_order)
        .test("a_plugin_in_any_language_answers_hooks", shell)
        .test("an_unknown_option_is_reported", unknown_option)
        .test(
            "a_plugin_that_exits_is_reported_with_its_stderr",
            last_words,
        )
        .test("invalid_json_is_reported", no_json)
        .test("a_silent_plugin_times_out_and_is_killed", silent)
        .test("a_plugin_that_does_not_exit_is_reported", endless)
}

/// Tells this test binary to hold a plugin until it is killed.
pub const HOLD: &str = "LAB_TESTS_HOLD_PLUGIN";

/// What this program does instead of testing if a test has started it to hold a plugin,
/// one that ignores the end of its input.
pub fn hold_if_asked() -> Option<ExitCode> {
    std::env::var_os(HOLD)?;
    let held = async {
        let plugin = PluginHarness::builder("/bin/sh").arg("-c");
        let _plugin = plugin.arg("while :; do sleep 1; done").spawn().await?;
        std::future::pending::<Outcome>().await
    };
    if let Err(error) = lab_tests::block_on(held) {
        eprintln!("{error:#}");
    }
    Some(ExitCode::FAILURE)
}

/// A plugin of a few lines of shell, in a folder that lives as long as it.
fn script(text: &str) -> anyhow::Result<(PathBuf, TempDir)> {
    let dir = tempfile::Builder::new().prefix("t").tempdir()?;
    let path = dir.path().join("plugin.sh");
    write_script(&path, text)?;
    Ok((path, dir))
}

async fn whole_life() -> Outcome {
    let started = Instant::now();
    let mut plugin = PluginHarness::spawn(program("eventlog")?).await?;
    let manifest = plugin.manifest().await?;
    ensure!(manifest["dynamic"] == true, "{manifest}");
    plugin
        .init(json!({"eventlog-topics": "connect,disconnect"}))
        .await?;
    let mut events = Events::open(plugin.dir().join("eventlog.jsonl"));
    plugin
        .notify("connect", json!({"id": "02aa", "direction": "in"}))
        .await?;
    plugin.notify("disconnect", json!({"id": "02aa"})).await?;
    let seen = events.expect_in_order(&["connect", "disconnect"]).await?;
    ensure!(seen[0].payload["direction"] == "in", "{seen:?}");
    let stats = plugin.call("eventlog-stats", json!({})).await?;
    ensure!(stats.is_object(), "{stats}");
    let pid = plugin.pid().context("it runs")?;
    let status = plugin.close().await?;
    ensure!(status.success() && !is_alive(pid), "{status}");
    ensure!(
        started.elapsed() < scaled(Duration::from_secs(2)),
        "{:?}",
        started.elapsed()
    );
    Ok(())
}

/// What an author's own test looks like.
async fn releases() -> Outcome {
    for release in corpus::ALL {
        let mut plugin = PluginHarness::builder(program("eventlog")?)
            .release(release)
            .spawn()
            .await?;
        plugin
            .init(json!({"eventlog-topics": "connect,invoice_payment"}))
            .await?;
        let mut events = Events::open(plugin.dir().join("eventlog.jsonl"));
        let version = release.version();
        for message in release.notifications("connect") {
            ensure!(plugin.replay(&message).await?.is_none(), "a notification");
            let event = events.expect("connect").await?;
            let expected = message.form.split(' ').next().unwrap_or_default();
            ensure!(
                event.payload["direction"] == expected,
                "{version}: {}",
                event.line
            );
        }
        for message in release.notifications("invoice_payment") {
            plugin.replay(&message).await?;
            let event = events.expect("invoice_payment").await?;
            ensure!(
                msat(&event.payload["msat"]).is_some(),
                "{version}: {}",
                event.line
            );
        }
        let answer = release
            .find(Kind::Answer, "getinfo")
            .next()
            .context("getinfo")?;
        let refused = plugin.replay(&answer).await;
        ensure!(matches!(refused, Err(Error::Usage(_))), "{refused:?}");
        let status = plugin.close().await?;
        ensure!(status.success(), "{version}: {status}");
    }
    // A request is answered under the id that it came with.
    let (path, _dir) = script(
        "#!/bin/sh\nwhile read -r line; do\n\
         id=$(printf '%s' \"$line\" | sed -n 's/.*\"id\" *: *\\(\"[^\"]*\"\\|[0-9]*\\).*/\\1/p')\n\
         [ -n \"$id\" ] && printf '{\"id\":%s,\"result\":{\"result\":\"continue\"}}\\n\\n' \"$id\"\n\
         done\n",
    )?;
    for release in corpus::ALL {
        let mut plugin = PluginHarness::builder(&path)
            .release(release)
            .spawn()
            .await?;
        for message in release.hooks("custommsg") {
            let answer = plugin.replay(&message).await?;
            ensure!(answer == Some(json!({"result": "continue"})), "{answer:?}");
        }
    }
    Ok(())
}

async fn failing_handler() -> Outcome {
    let mut plugin = PluginHarness::spawn(program("failing_handler")?).await?;
    plugin.init(json!({})).await?;
    plugin.notify("connect", json!({})).await?;
    let log = plugin.expect_log("no_such_member is not a number").await?;
    ensure!(log.message.contains("failing_handler.rs:"), "{log:?}");
    plugin.notify("disconnect", json!({})).await?;
    let log = plugin.expect_log("panicked at").await?;
    ensure!(log.level == "error", "{log:?}");
    plugin
        .notify("invoice_creation", json!({"label": "after"}))
        .await?;
    plugin
        .expect_log("handled invoice_creation: label after")
        .await?;
    ensure!(plugin.close().await?.success());
    Ok(())
}

/// Also an answer to nothing, which no call waits for.
async fn in_order() -> Outcome {
    let (path, _dir) = script(
        r#"read -r message
printf '%s\n\n' '{"method":"log","params":{}}' '{"id":7,"result":1}' '{"method":"mine"}'
read -r message; echo '{"id":null}'"#,
    )?;
    let mut plugin = PluginHarness::spawn(path).await?;
    plugin.raw("\n").await?;
    ensure!(plugin.next_message().await?["method"] == "log");
    ensure!(plugin.next_message().await? == json!({"id": 7, "result": 1}));
    plugin.close_input();
    ensure!(plugin.wait_exit().await?.success());
    let rest = plugin.pending_messages();
    ensure!(
        rest == [json!({"method": "mine"}), json!({"id": null})],
        "{rest:?}"
    );
    ensure!(plugin.pending_messages().is_empty());
    let error = plugin.next_message().await.expect_err("it has ended");
    ensure!(matches!(error, Error::Died { .. }), "{error}");
    Ok(())
}

async fn refusal() -> Outcome {
    let mut plugin = PluginHarness::spawn(program("eventlog")?).await?;
    plugin.init(json!({})).await?;
    let refused = plugin
        .call("eventlog-list", json!({"limit": "many"}))
        .await
        .expect_err("no number");
    ensure!(refused.rpc_code() == Some(-32602), "{refused}");
    Ok(())
}

/// lightningd before v23.08 had no object of the topic's name.
async fn shapes() -> Outcome {
    let plugin = PluginHarness::builder(program("eventlog")?).env("LIGHTNINGD_VERSION", "v23.02.2");
    let mut plugin = plugin.spawn().await?;
    let manifest = plugin.manifest().await?;
    let topics = manifest["subscriptions"].as_array().context("none")?;
    ensure!(!topics.contains(&json!("*")), "{manifest}");
    plugin.init(json!({})).await?;
    plugin
        .notify_flat("disconnect", json!({"id": "02aa"}))
        .await?;
    plugin.notify("disconnect", json!({"id": "02aa"})).await?;
    let mut events = Events::open(plugin.dir().join("eventlog.jsonl"));
    for event in events
        .expect_in_order(&["disconnect", "disconnect"])
        .await?
    {
        ensure!(event.payload == json!({"id": "02aa"}), "{event:?}");
    }
    Ok(())
}

async fn pieces() -> Outcome {
    let mut plugin = PluginHarness::spawn(program("eventlog")?).await?;
    plugin.init(json!({})).await?;
    let mut events = Events::open(plugin.dir().join("eventlog.jsonl"));
    let message = |id: &str| {
        json!({"jsonrpc": "2.0", "method": "disconnect", "params": {"disconnect": {"id": id}}})
            .to_string()
    };
    let (first, second) = (message("1"), message("2"));
    let (head, tail) = first.split_at(30);
    plugin.raw(head).await?;
    plugin.raw(format!("{tail}\n\n{second}\n\n")).await?;
    let seen = events
        .expect_in_order(&["disconnect", "disconnect"])
        .await?;
    ensure!(seen[0].payload["id"] == "1" && seen[1].payload["id"] == "2");
    Ok(())
}

async fn shell() -> Outcome {
    let (path, _dir) = script(
        r#"
while read -r line; do
    id=${line#*'"id":"'}; id=${id%%'"'*}
    case $line in
        *getmanifest*) result='{"options":[{"name":"who","type":"string","default":"you","description":""}],"rpcmethods":[],"hooks":[{"name":"peer_connected"}],"dynamic":true}' ;;
        *'"init"'*) who=${line#*'"who":"'}; who=${who%%'"'*}; result={} ;;
        *peer_connected*) echo "{\"jsonrpc\":\"2.0\",\"method\":\"greeted\",\"params\":{\"greeted\":{\"who\":\"$who\"}}}"
            result='{"result":"continue"}' ;;
        *) continue ;;
    esac
    echo "{\"jsonrpc\":\"2.0\",\"id\":\"$id\",\"result\":$result}"
done
"#,
    )?;
    let mut plugin = PluginHarness::spawn(&path).await?;
    let manifest = plugin.manifest().await?;
    ensure!(
        manifest["hooks"][0]["name"] == "peer_connected",
        "{manifest}"
    );
    plugin.init(json!({"who": "them"})).await?;
    let answer = plugin
        .hook("peer_connected", json!({"peer": {"id": "02aa"}}))
        .await?;
    ensure!(answer == json!({"result": "continue"}), "{answer}");
    let sent = plugin.expect_notification("greeted").await?;
    ensure!(sent == json!({"greeted": {"who": "them"}}), "{sent}");
    ensure!(plugin.close().await?.success());
    Ok(())
}

async fn unknown_option() -> Outcome {
    let mut plugin = PluginHarness::spawn(program("eventlog")?).await?;
    let error = plugin
        .init(json!({"eventlog-fiel": "x"}))
        .await
        .expect_err("no such option");
    ensure!(matches!(error, Error::Usage(_)), "{error}");
    ensure!(error.to_string().contains("eventlog-file"), "{error}");
    Ok(())
}

async fn last_words() -> Outcome {
    let (path, _dir) = script("echo 'a library is missing' >&2\nexit 3\n")?;
    let mut plugin = PluginHarness::spawn(&path).await?;
    let error = plugin.manifest().await.expect_err("it has ended");
    let text = error.to_string();
    ensure!(matches!(error, Error::Died { .. }), "{text}");
    ensure!(
        text.contains("exit status: 3") && text.contains("a library is missing"),
        "{text}"
    );
    let missing = PluginHarness::spawn("/nowhere/at/all")
        .await
        .expect_err("none");
    ensure!(missing.to_string().contains("/nowhere/at/all"), "{missing}");
    Ok(())
}

async fn no_json() -> Outcome {
    let (path, _dir) = script("read -r line; echo 'Hello {world}'; echo why >&2; read -r line\n")?;
    let mut plugin = PluginHarness::spawn(&path).await?;
    let error = plugin.manifest().await.expect_err("no JSON").to_string();
    ensure!(
        error.contains("this is not JSON: `Hello {world}`"),
        "{error}"
    );
    ensure!(error.contains("why"), "{error}");
    Ok(())
}

async fn silent() -> Outcome {
    let (path, _dir) = script("echo 'I am thinking' >&2; sleep 1000 & wait\n")?;
    let mut plugin = PluginHarness::builder(&path)
        .patience(Duration::from_millis(100))
        .spawn()
        .await?;
    let pid = plugin.pid().context("it runs")?;
    let error = plugin.manifest().await.expect_err("it is silent");
    ensure!(matches!(error, Error::TimedOut { .. }), "{error}");
    ensure!(error.to_string().contains("I am thinking"), "{error}");
    drop(plugin);
    cln_lab::eventually("its group to end", Duration::from_secs(5), async || {
        let ps = std::process::Command::new("ps")
            .args(["-A", "-o", "pgid=,stat=,args="])
            .output();
        let text =
            String::from_utf8_lossy(&ps.map(|ps| ps.stdout).unwrap_or_default()).into_owned();
        let mut left = text.lines().filter(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(&pid.to_string())
                && words.next().is_some_and(|s| !s.starts_with('Z'))
        });
        Ok(match left.next() {
            None => cln_lab::Probe::Ready(()),
            Some(line) => cln_lab::Probe::NotYet(line.to_owned()),
        })
    })
    .await?;
    Ok(())
}

async fn endless() -> Outcome {
    let (path, _dir) = script("exec sleep 1000\n")?;
    let plugin = PluginHarness::builder(&path)
        .patience(Duration::from_millis(100))
        .spawn()
        .await?;
    let error = plugin.close().await.expect_err("it does not end");
    ensure!(matches!(error, Error::TimedOut { .. }), "{error}");
    Ok(())
}
