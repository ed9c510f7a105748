//! The trace of a lab: what it writes down, and what is read from it.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, ensure};
use cln_lab::trace::{self, Entry, Kind, Level, Trace, Tracing};
use cln_lab::{Keep, Lab, NodeKind, PATIENCE, Plugin, Probe, eventually};
use cln_lab_command::wire::Tee;
use lab_tests::sandbox::Sandbox;
use lab_tests::{Kinds, Outcome, Suite, program, write_script};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

pub fn tests(suite: Suite) -> Suite {
    suite
        .scenario_alone("what_a_lab_does_is_written_down", written_down)
        .scenario_alone("it_can_be_off", off)
        .scenario_alone("the_command_shows_it", command)
        .scenario_alone("it_is_there_after_a_kill", killed)
        .scenario_alone("what_plugins_were_sent_is_in_it", plugins)
        .since((25, 9), "lightningd_saves_what_it_sends_if_asked", full)
}

async fn lab(kinds: Kinds) -> anyhow::Result<Lab> {
    Ok(kinds.lab(2).keep(Keep::Never).start().await?)
}

/// What the lab itself has written so far.
fn written(lab: &Lab) -> anyhow::Result<Vec<Entry>> {
    let text = std::fs::read_to_string(lab.dir().join(trace::FILE))?;
    let parse = |line| serde_json::from_str(line).with_context(|| format!("line `{line}`"));
    text.lines().map(parse).collect()
}

async fn written_down(kinds: Kinds) -> Outcome {
    let lab = lab(kinds).await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    l1.connect(l2).await?;
    let refused = l1.call::<Value>("nosuch", json!({"a": 1.50})).await;
    ensure!(refused.is_err(), "{refused:?}");
    let dying = lab.dir().join("dying.sh");
    write_script(&dying, "echo its last words >&2; exit 1")?;
    let refused = l1.plugin_start(&Plugin::path(&dying)).await;
    ensure!(refused.is_err(), "{refused:?}");
    lab.mine(1).await?;
    l2.kill9().await?;
    l2.start().await?;

    let path = lab.dir().join(trace::FILE);
    let mode = path.metadata()?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    let all = written(&lab)?;
    ensure!(all[0].version == Some(trace::VERSION), "{:?}", all[0]);
    let sorted = all.iter().filter(|entry| entry.kind != Kind::Request);
    ensure!(sorted.is_sorted_by_key(|entry| &entry.at), "{all:?}");
    let find = |what: &str, test: &dyn Fn(&Entry) -> bool| {
        let found = all.iter().position(test);
        found.with_context(|| format!("no {what} in {all:#?}"))
    };
    let started = find("start", &|entry| {
        let version = l1.implementation().to_string();
        entry.kind == Kind::Start
            && entry.to.as_deref() == Some("l1")
            && entry.name == version
            && entry
                .text
                .as_ref()
                .is_some_and(|text| text.contains("--lightning-dir="))
    })?;
    let ready = find("ready", &|entry| {
        entry.kind == Kind::Ready && entry.from == "l1"
    })?;
    let asked = find("request", &|entry| {
        entry.kind == Kind::Request && entry.name == "connect"
    })?;
    let answered = find("answer", &|entry| {
        entry.kind == Kind::Answer && entry.name == "connect"
    })?;
    ensure!(started < ready && ready < asked && asked < answered);
    ensure!(all[asked].id == all[answered].id && all[answered].ms.is_some_and(|ms| ms > 0.0));
    let params = all[asked].data.as_ref().context("parameters")?.get();
    ensure!(params.contains(l2.id()), "{params}");
    find("error", &|entry| {
        let error = entry
            .data
            .as_ref()
            .map(|data| data.get())
            .unwrap_or_default();
        entry.kind == Kind::Answer
            && entry.bad
            && entry.name == "nosuch"
            && error.contains("-32601")
    })?;
    find("words of a plugin that died", &|entry| {
        entry.kind == Kind::Stderr
            && entry.from == "l1"
            && entry.text.as_deref() == Some("its last words")
    })?;
    find("block", &|entry| {
        entry.name == "generatetoaddress" && entry.kind == Kind::Answer
    })?;
    find("end", &|entry| {
        let text = entry.text.as_deref().unwrap_or_default();
        entry.kind == Kind::End && entry.from == "l2" && text.contains("SIGKILL") && !entry.bad
    })?;
    // A wait looks many times: only what it saw change is here.
    let looks = all
        .iter()
        .filter(|entry| entry.name == "getinfo" && entry.kind == Kind::Request);
    ensure!(looks.clone().count() < 60, "{}", looks.count());
    Ok(lab.stop().await?)
}

async fn off(kinds: Kinds) -> Outcome {
    let lab = kinds
        .lab(2)
        .keep(Keep::Never)
        .tracing(Tracing::Off)
        .start()
        .await?;
    lab.l1().connect(lab.l2()).await?;
    ensure!(!lab.dir().join(trace::FILE).exists());
    Ok(lab.stop().await?)
}

async fn command(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    sandbox.done(&["up", "--detach", "--node", kinds.name()])?;
    sandbox.done(&["connect", "1", "2"])?;
    let refused = sandbox.lab(&["cli", "l1", "nosuch"])?;
    ensure!(refused.code == Some(1), "{refused:?}");
    let dir = sandbox.traces("default")?.dir;
    let dir = dir.to_str().context("UTF-8")?;
    let entries = |args: &[&str]| -> anyhow::Result<Vec<Entry>> {
        let printed = sandbox.done(&[&["trace", "--json"], args].concat())?;
        printed
            .lines()
            .map(|line| Ok(serde_json::from_str(line)?))
            .collect()
    };
    let all = entries(&[])?;
    ensure!(all.is_sorted_by_key(|entry| entry.at.clone()), "{all:?}");
    ensure!(entries(&[dir])?.len() >= all.len() && entries(&["default"])?.len() >= all.len());
    let connect = entries(&["--topic", "connect", "--node", "l1"])?;
    let kinds_of: Vec<Kind> = connect.iter().map(|entry| entry.kind).collect();
    ensure!(kinds_of == [Kind::Request, Kind::Answer], "{connect:?}");
    let since = entries(&["--since", &connect[1].at])?;
    ensure!(
        since.len() < all.len()
            && since
                .iter()
                .any(|entry| entry.bad && entry.name == "nosuch")
    );
    let more = entries(&["--log", "debug"])?;
    ensure!(more.len() > all.len());

    let people = sandbox.done(&["trace"])?;
    ensure!(
        people.contains("lab → l1  connect") && people.contains(" ! l1 → lab  nosuch"),
        "{people}"
    );
    let diagram = sandbox.done(&["trace", "--mermaid", "4", "--topic", "connect,nosuch"])?;
    ensure!(
        diagram.starts_with("sequenceDiagram\n    participant ") && diagram.contains("nosuch"),
        "{diagram}"
    );
    ensure!(
        diagram
            .lines()
            .filter(|line| line.contains(">>") || line.contains("--x"))
            .count()
            <= 4
    );
    let page = sandbox.path("page.html");
    let file = page.to_str().context("UTF-8")?;
    sandbox.done(&["trace", "--html", file])?;
    ensure!(page.metadata()?.permissions().mode() & 0o777 == 0o600);
    ensure!(std::fs::read_to_string(&page)?.contains("Unknown command 'nosuch'"));

    for (args, why) in [
        (&["trace", "--node", "l9"][..], "nothing about `l9`"),
        (&["trace", "--since", "soon"], "neither a time"),
        (&["trace", "no-lab"], "no lab named `no-lab`"),
        (&["trace", "/"], "it is not the folder of a lab"),
        (
            &["trace", "--html", "/nonexistent/x.html"],
            "create /nonexistent/x.html",
        ),
    ] {
        let said = sandbox.lab(args)?;
        ensure!(
            said.code != Some(0) && said.err.contains(why),
            "{args:?}: {said:?}"
        );
    }
    sandbox.done(&["down"])?;
    Ok(())
}

/// Killed with all that it holds: what had happened until then is read from its folder.
async fn killed(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    sandbox.done(&["up", "--detach", "--keep", "--node", kinds.name()])?;
    let traces = sandbox.traces("default")?;
    // Somebody asks all the time.
    let mut asks = sandbox.command("sh");
    asks.args([
        "-c",
        "while \"$1\" cli l1 getinfo && \"$1\" stop l2 && \"$1\" start l2; do :; done",
        "sh",
    ]);
    let mut asks = asks
        .arg(sandbox.program())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()?;
    let file = traces.dir.join(trace::FILE);
    eventually("two rounds", PATIENCE, async || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let count = text.matches(r#""stop l2""#).count();
        Ok(if count > 2 {
            Probe::Ready(())
        } else {
            Probe::NotYet(format!("{count} lines"))
        })
    })
    .await?;
    kill(Pid::from_raw(traces.holder as i32), Signal::SIGKILL)?;
    asks.wait()?;
    let dir = traces.dir.to_str().context("UTF-8")?;
    let printed = sandbox.done(&["trace", "--json", dir])?;
    let entries: Vec<Entry> = printed
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    for name in ["getinfo", "stop l2", "stop"] {
        ensure!(
            entries
                .iter()
                .any(|entry| entry.kind == Kind::Request && entry.name == name),
            "no {name} in {printed}"
        );
    }
    std::fs::remove_dir_all(traces.dir)?;
    Ok(())
}

/// By its tee a plugin's whole wire is known, also of one that has died; by a tap and
/// eventlog what they recorded.
async fn plugins(kinds: Kinds) -> Outcome {
    let lab = kinds
        .lab(2)
        .allow_plugin_death("dying.sh")
        .keep(Keep::Never)
        .start()
        .await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let dying = lab.dir().join("dying.sh");
    let script = r#"
id() { printf %s "$1" | grep -o '"id" *: *\("[^"]*"\|[0-9]*\)' | head -n 1 | sed 's/^"id" *: *//'; }
while read -r line; do
    case $line in
    *getmanifest*) printf '{"jsonrpc":"2.0","id":%s,"result":{"options":[],"rpcmethods":[],"dynamic":true,"subscriptions":["connect"]}}' "$(id "$line")" ;;
    *'"init"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{}}' "$(id "$line")" ;;
    *connect*) echo 'its last words' >&2; exit 1 ;;
    esac
done"#;
    write_script(&dying, script)?;
    let tee = Tee::create(&dying, &program("lab")?)?;
    l1.plugin_start(&Plugin::path(&tee.executable)).await?;
    l1.plugin_start(&Plugin::path(program("eventlog")?)).await?;
    let mut tap = l1.tap_topics(&["connect"]).await?;
    l1.connect(l2).await?;
    tap.expect("connect").await?;
    lab.events("l1")?.expect("connect").await?;
    l1.log().wait_for("plugin-dying.sh: Killing plugin").await?;

    let trace = Trace::read(lab.dir(), Level::Unusual)?;
    let all = &trace.entries;
    let find = |what: &str, test: &dyn Fn(&&Entry) -> bool| {
        let found = all.iter().find(test);
        found.with_context(|| format!("no {what} in {all:#?}"))
    };
    for recorder in ["dying.sh", "eventlog", "tap"] {
        let lane = format!("l1/{recorder}");
        let sent = find(recorder, &|entry| {
            entry.kind == Kind::Notification
                && entry.from == "l1"
                && entry.to.as_deref() == Some(&lane)
                && entry.name == "connect"
        })?;
        let payload = sent.data.as_ref().context("a payload")?;
        ensure!(payload.get().contains(l2.id()), "{}", payload.get());
        find("its start", &|entry| {
            entry.kind == Kind::Start && entry.to.as_deref() == Some(&lane)
        })?;
    }
    let answer = find("answer", &|entry| {
        entry.kind == Kind::Answer && entry.from == "l1/dying.sh" && entry.name == "getmanifest"
    })?;
    find("request", &|entry| {
        entry.kind == Kind::Request && entry.id == answer.id && entry.from == "l1"
    })?;
    // Once, and as the plugin's.
    let words: Vec<&Entry> = all
        .iter()
        .filter(|entry| entry.text.as_deref() == Some("its last words"))
        .collect();
    ensure!(
        words.len() == 1 && words[0].from == "l1/dying.sh" && words[0].kind == Kind::Stderr,
        "{words:?}"
    );
    find("its end", &|entry| {
        entry.kind == Kind::End && entry.bad && entry.from == "l1/dying.sh"
    })?;
    find("connection", &|entry| {
        entry.kind == Kind::Connect && entry.from == "l1" && entry.to.as_deref() == Some("l2")
    })?;
    l1.disconnect(l2).await?;
    eventually("the end of the connection", PATIENCE, async || {
        let trace = Trace::read(lab.dir(), Level::Unusual)?;
        let ended =
            |entry: &Entry| entry.kind == Kind::Disconnect && entry.to.as_deref() == Some("l2");
        Ok(if trace.entries.iter().any(ended) {
            Probe::Ready(())
        } else {
            Probe::NotYet("none".to_owned())
        })
    })
    .await?;
    Ok(lab.stop().await?)
}

async fn full(kinds: Kinds) -> Outcome {
    let lab = kinds
        .lab(2)
        .tracing(Tracing::Full)
        .keep(Keep::Never)
        .start()
        .await?;
    lab.l1()
        .plugin_start(&Plugin::path(program("eventlog")?))
        .await?;
    lab.l1().connect(lab.l2()).await?;
    lab.events("l1")?.expect("connect").await?;
    let trace = Trace::read(lab.dir(), Level::Unusual)?;
    let saved = trace.entries.iter().any(|entry| {
        entry.kind == Kind::Notification
            && entry.name == "connect"
            && entry.to.as_deref() == Some("l1/plugins")
    });
    // Only lightningd can.
    ensure!(
        saved == (kinds.kind_of(0) == NodeKind::Lightningd),
        "{:#?}",
        trace.entries
    );
    Ok(lab.stop().await?)
}
