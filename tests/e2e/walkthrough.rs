//! The workshop, part by part, each test in a lab of its own.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use cln_lab::{Error, Event, Events, Plugin, Probe, eventually, msat};
use lab_tests::sandbox::{Sandbox, said};
use lab_tests::terminal::Terminal;
use lab_tests::{Kinds, Outcome, Suite, program, write_script};
use serde_json::{Value, json};

pub fn tests(suite: Suite) -> Suite {
    suite
        .scenario("part_one", part_one)
        .scenario("part_two", part_two)
        .scenario("restart_on_change", restart_on_change)
        .scenario_alone("refused_plugin", refused_plugin)
        .scenario("failing_handler", failing_handler)
        .scenario_alone(
            "from_scratch_ignores_unknown_messages",
            from_scratch_ignores,
        )
        .scenario_alone("lab_workshop_shows_what_the_commands_print", lab_workshop)
        .scenario_alone("lab_workshop_fits_the_screen", screen)
        .scenario_alone("lab_workshop_pauses", pause)
        .scenario_alone("lab_workshop_killed_leaves_nothing", killed)
}

/// A script that starts `from_scratch` with these topics; it records to `FILE.records`.
fn write_myplugin(path: &Path, topics: &[&str]) -> anyhow::Result<()> {
    let text = format!(
        "exec '{}' '{}.records' {}",
        program("from_scratch")?.display(),
        path.display(),
        topics.join(" ")
    );
    write_script(path, &text)?;
    Ok(())
}

fn records_of(plugin: &Path) -> Events {
    Events::open(format!("{}.records", plugin.display()))
}

/// The message after `connect notification: `.
fn message(event: &Event) -> anyhow::Result<Value> {
    let (_, message) = event
        .line
        .split_once(" notification: ")
        .context("no prefix")?;
    Ok(serde_json::from_str(message)?)
}

/// By hand: the message is recorded as lightningd sent it.
async fn part_one(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let myplugin = lab.dir().join("myplugin");
    write_myplugin(&myplugin, &["connect", "disconnect"])?;
    l1.plugin_start(&Plugin::path(&myplugin)).await?;

    let answer = l1.connect(l2).await?;
    l1.disconnect(l2).await?;

    let events = records_of(&myplugin)
        .expect_in_order(&["connect", "disconnect"])
        .await?;
    let connect = message(&events[0])?;
    ensure!(
        connect["jsonrpc"] == "2.0" && connect["method"] == "connect",
        "{connect}"
    );
    ensure!(
        connect.get("id").is_none(),
        "a notification has no id: {connect}"
    );
    let payload = &events[0].payload;
    ensure!(
        payload["id"] == l2.id() && payload["id"] == answer.id.to_string(),
        "{payload}"
    );
    ensure!(payload["direction"] == "out", "{payload}");
    let address = json!({"type": "ipv4", "address": "127.0.0.1", "port": l2.port()});
    ensure!(payload["address"] == address, "{payload}");
    ensure!(
        events[1].payload == json!({"id": l2.id()}),
        "{}",
        events[1].line
    );
    Ok(lab.stop().await?)
}

/// With a library: three topics, on both sides of a connection, in both formats.
async fn part_two(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let eventlog = program("eventlog")?;
    l1.plugin_start(&Plugin::path(&eventlog)).await?;
    l2.plugin_start(&Plugin::path(&eventlog).option("eventlog-format", "text"))
        .await?;

    l1.connect(l2).await?;
    l1.disconnect(l2).await?;
    let invoice = l1.invoice("0.001btc", "inv", "pizza").await?;

    let mut events = Events::open(l1.network_dir().join("eventlog.jsonl"));
    let seen = events
        .expect_in_order(&["connect", "disconnect", "invoice_creation"])
        .await?;
    let numbers: Vec<_> = seen.iter().map(|event| event.seq).collect();
    ensure!(numbers == [Some(2), Some(3), Some(4)], "{numbers:?}");
    ensure!(
        seen.iter().all(|event| event.received_at.is_some()),
        "{seen:?}"
    );
    ensure!(
        seen[0].payload["direction"] == "out" && seen[0].payload["id"] == l2.id(),
        "{:?}",
        seen[0]
    );
    ensure!(seen[2].payload["label"] == "inv", "{:?}", seen[2]);
    ensure!(
        msat(&seen[2].payload["msat"]) == Some(100_000_000),
        "{:?}",
        seen[2]
    );
    ensure!(seen[2].payload["preimage"].is_string(), "{:?}", seen[2]);
    ensure!(!invoice.bolt11.is_empty());

    // The other side heard the same connection from its end, and of no invoice.
    let text = l2.network_dir().join("eventlog.jsonl");
    let seen = Events::open(&text)
        .expect_in_order(&["connect", "disconnect"])
        .await?;
    ensure!(
        seen[0].payload["direction"] == "in" && seen[0].payload["id"] == l1.id(),
        "{:?}",
        seen[0]
    );
    ensure!(
        seen[1].line == format!("disconnect notification: {}", l1.id()),
        "{}",
        seen[1].line
    );

    for path in [text, l1.network_dir().join("eventlog.jsonl")] {
        let mode = path.metadata()?.permissions().mode() & 0o777;
        ensure!(mode == 0o600, "{}: mode {mode:o}", path.display());
    }
    Ok(lab.stop().await?)
}

/// `plugin start` of a running plugin restarts it if its file has changed, and
/// is refused if not.
async fn restart_on_change(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let myplugin = lab.dir().join("myplugin");
    let plugin = Plugin::path(&myplugin);
    let mut records = records_of(&myplugin);

    write_myplugin(&myplugin, &["connect"])?;
    l1.plugin_start(&plugin).await?;
    let first = l1.process_with("from_scratch").await?.pid;
    let refused = l1
        .plugin_start(&plugin)
        .await
        .expect_err("it runs already, unchanged");
    ensure!(refused.rpc_code() == Some(-32602), "{refused}");
    l1.connect(l2).await?;
    l1.disconnect(l2).await?;
    records.expect_in_order(&["connect"]).await?;

    write_myplugin(&myplugin, &["connect", "disconnect"])?;
    l1.plugin_start(&plugin).await?;
    let second = l1.process_with("from_scratch").await?.pid;
    ensure!(first != second, "still the same process, pid {first}");
    l1.connect(l2).await?;
    l1.disconnect(l2).await?;
    // Had the first process heard the first `disconnect`, it would stand before these.
    records.expect_in_order(&["connect", "disconnect"]).await?;
    ensure!(records.pending()?.is_empty());
    Ok(lab.stop().await?)
}

/// Plugins that cannot be started are refused, and the node keeps running.
async fn refused_plugin(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
    let l1 = lab.l1();
    let broken = lab.dir().join("broken");
    write_script(&broken, "exit 1")?;
    match l1.plugin_start(&Plugin::path(&broken)).await {
        Err(Error::Rpc {
            code: Some(-3),
            message,
            ..
        }) => {
            ensure!(
                message
                    == format!(
                        "{}: exited before replying to getmanifest",
                        broken.display()
                    )
            );
        }
        other => anyhow::bail!("{other:?}"),
    }
    let missing = l1
        .plugin_start(&Plugin::path("/nowhere/at/all"))
        .await
        .expect_err("there is none");
    ensure!(missing.rpc_code() == Some(-32602), "{missing}");
    ensure!(
        missing.to_string().contains("No such file or directory"),
        "{missing}"
    );

    l1.plugin_start(&Plugin::path(program("eventlog")?)).await?;
    Ok(lab.stop().await?)
}

/// A handler's error and a handler's panic are lines in the node's log; the
/// plugin keeps running and handling.
async fn failing_handler(kinds: Kinds) -> Outcome {
    let lab = kinds
        .lab(2)
        .allow_broken("plugin-failing_handler")
        .start()
        .await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let plugin = Plugin::path(program("failing_handler")?);
    l1.plugin_start(&plugin).await?;
    let before = l1.process_with("failing_handler").await?.pid;

    l1.connect(l2).await?;
    l1.disconnect(l2).await?;
    for what in ["no_such_member is not a number", "panicked at"] {
        let line = l1.log().wait_for(what).await?;
        ensure!(
            line.contains("plugin-failing_handler") && line.contains("failing_handler.rs:"),
            "{line}"
        );
    }
    l1.invoice("any", "after", "still here").await?;
    l1.log()
        .wait_for("handled invoice_creation: label after")
        .await?;

    ensure!(l1.process_with("failing_handler").await?.pid == before);
    ensure!(l1.plugin_active(plugin.executable()).await?);
    Ok(lab.stop().await?)
}

/// An unknown topic is no reason for lightningd to refuse a plugin, and
/// a message it did not expect none for the plugin to end.
async fn from_scratch_ignores(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let myplugin = lab.dir().join("myplugin");
    write_myplugin(&myplugin, &["no_such_topic", "connect"])?;
    l1.plugin_start(&Plugin::path(&myplugin)).await?;
    l1.connect(l2).await?;
    records_of(&myplugin).expect_in_order(&["connect"]).await?;
    ensure!(l1.plugin_active(&myplugin).await?);
    Ok(lab.stop().await?)
}

/// The command: exit status 0, one JSON object, every step in it, nothing left; and each
/// answer is what its command prints when a person types it.
async fn lab_workshop(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let report = sandbox.json(&["workshop", "--json", "--node", kinds.name()])?;
    ensure!(report["ok"] == true, "{report:#}");
    let steps = report["steps"].as_array().context("no steps")?;
    for step in steps {
        ensure!(
            step["ok"] == true && step["ms"].is_u64() && step["status"].is_i64(),
            "{step:#}"
        );
        let texts = ["command", "explanation", "part", "answer"];
        ensure!(
            texts.iter().all(|name| step[name].is_string()) && step["explanation"] != "",
            "{step:#}"
        );
    }
    let recorded: Vec<&str> = steps
        .iter()
        .flat_map(|step| step["recorded"].as_array().into_iter().flatten())
        .filter_map(|event| event["topic"].as_str())
        .collect();
    let pair = ["connect", "disconnect"];
    let rust = [&["connect"][..], &pair, &pair, &pair, &["invoice_creation"]].concat();
    ensure!(recorded.starts_with(&rust), "{recorded:?}");
    let python = [&pair[..], &["invoice_creation", "connect"]].concat();
    let has_python = steps.iter().any(|step| step["name"] == "events.py");
    let rest = &recorded[rust.len()..];
    ensure!(
        rest == if has_python { &python[..] } else { &[] },
        "{recorded:?}"
    );
    ensure!(report["lab"].is_null(), "{report:#}");
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    by_hand(&sandbox, kinds, steps).await
}

/// Types all commands in a shell with nothing but `source contrib/lab.sh`.
async fn by_hand(sandbox: &Sandbox, kinds: Kinds, steps: &[Value]) -> Outcome {
    const MARK: &str = "the-next-one";
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("no parent")?;
    let answer = |n: usize| steps[n]["answer"].as_str().unwrap_or_default();
    let folder = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("  folder "));
        line.map(str::to_owned).context("start_ln names no folder")
    };
    let theirs = folder(answer(1))?;
    let mut script = format!(
        "source '{}/contrib/lab.sh' >/dev/null\nLAB_NAME=workshop-1\n",
        root.display()
    );
    let mut node = "";
    for step in steps {
        let command = step["command"].as_str().unwrap_or_default();
        // What the workshop does, and checks, without a command: it makes its folder, and
        // waits for what happens later than an answer.
        match step["name"].as_str() {
            Some("the files") => {
                script.push_str(
                    "here=${L1_DIR%/l1}; mkdir $here/workshop
                     cp $ROOT/contrib/plugins/workshop/* $ROOT/contrib/plugins/events.py $here/workshop\n",
                );
            }
            Some("pyln-client") => script.push_str("ln -s $VENV .venv\n"),
            Some("gone") => node = "log=': Killing plugin: exited during'",
            Some("its log") => node = "log='panicked at'",
            Some("the traceback") => node = "log='TypeError: '",
            Some("records") => {
                let lines = step["answer"].as_str().unwrap_or_default().lines().count();
                let read = command.replace(&theirs, "$here");
                script.push_str(&format!(
                    "for n in $(seq 200); do [ $({read} | wc -l) -ge {lines} ] && break; sleep 0.05; done\n"
                ));
            }
            _ => {}
        }
        if !node.is_empty() {
            script.push_str(&format!(
                "{node}; for n in $(seq 200); do grep -q \"$log\" $L1_DIR/log && break; sleep 0.05; done\n"
            ));
            node = "";
        }
        if step["name"] == "start l1" {
            script.push_str(
                "for n in $(seq 200); do kill -0 $(cat $L1_DIR/lightningd-regtest.pid) 2>/dev/null || break; sleep 0.05; done\n",
            );
        }
        let command = command.replace(&theirs, "$here");
        script.push_str(&format!(
            "{{ {command}\n}} </dev/null 2>&1; printf '\\n{MARK} %d\\n' $?\n"
        ));
    }
    let nodes_dir = cln_lab::binaries::nodes_dir().context("no home")?;
    let mut bash = sandbox.command("bash");
    bash.args(["--norc", "--noprofile", "-c", &script])
        .env("LAB", sandbox.program())
        .env("LAB_NODE", kinds.name())
        .env("ROOT", root)
        .env("VENV", nodes_dir.join("venv-workshop"));
    let said = said(&mut bash)?;
    let ours = folder(&said.out)?;
    // Ids, times, numbers and the folder are new each time.
    let digits = regex::Regex::new("[[:alnum:]_.:+-]*[0-9][[:alnum:]_.:+-]*")?;
    let masked = |text: &str, folder: &str| {
        let text = text.trim_end().replace(folder, "FOLDER");
        digits.replace_all(&text, "0").into_owned()
    };
    let mark = format!("\n{MARK} ");
    let mut answers = said.out.split(&mark);
    let mut seen = answers.next().unwrap_or_default();
    for (n, rest) in answers.enumerate() {
        let (status, next) = rest.split_once('\n').unwrap_or((rest, ""));
        let expected = masked(answer(n), &theirs);
        let typed = masked(seen, &ours);
        ensure!(
            typed == expected && status.parse::<i64>().ok() == steps[n]["status"].as_i64(),
            "step {}, `{}`, by hand with exit status {status}:\n{typed}\nin the workshop:\n{expected}",
            n + 1,
            steps[n]["command"]
        );
        seen = next;
    }
    Ok(())
}

/// At most 20 lines a step, 80 columns wide, ids shortened; the transcript has all.
async fn screen(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let transcript = sandbox.path("W.md");
    let path = transcript.to_str().context("a path")?;
    let shown = sandbox.done(&["workshop", "--node", kinds.name(), "--transcript", path])?;
    let id = regex::Regex::new("0[23][0-9a-f]{64}")?;
    ensure!(!id.is_match(&shown), "{shown}");
    let title = regex::Regex::new(r"(?m)^(\d+)\. ")?;
    let starts: Vec<usize> = title.find_iter(&shown).map(|title| title.start()).collect();
    let steps = starts.len();
    for (n, start) in starts.iter().enumerate() {
        let end = starts.get(n + 1).copied().unwrap_or(shown.len());
        let step = shown[*start..end]
            .split("\nPart ")
            .next()
            .unwrap_or_default();
        let step = step.split("all held").next().unwrap_or_default().trim_end();
        // And the empty line before it.
        ensure!(
            step.lines().count() < 20,
            "{} lines:\n{step}",
            step.lines().count() + 1
        );
        for line in step.lines() {
            ensure!(line.chars().count() <= 80, "{line}");
        }
    }
    let text = std::fs::read_to_string(&transcript)?;
    ensure!(
        steps > 30 && text.matches("\n### ").count() == steps,
        "{steps} steps: {text}"
    );
    ensure!(
        id.is_match(&text) && text.contains("\n$ connect 1 2\n{\n"),
        "{text}"
    );
    ensure!(
        text.contains("- [x] ") && !text.contains("- [ ] "),
        "{text}"
    );
    ensure!(transcript.metadata()?.permissions().mode() & 0o777 == 0o600);

    // Some of it: what is before is played in silence.
    let two = sandbox.done(&["workshop", "--node", kinds.name(), "--step", "6..7"])?;
    let numbers: Vec<&str> = two
        .lines()
        .filter_map(|line| title.captures(line)?.get(1).map(|m| m.as_str()))
        .collect();
    ensure!(
        numbers == ["6", "7", "8"] && two.contains("$ stop_ln"),
        "{two}"
    );
    ensure!(two.contains("✓ 8 steps"), "{two}");
    for wrong in ["0", "3..2", "x"] {
        let said = sandbox.lab(&["workshop", "--step", wrong])?;
        ensure!(said.code == Some(2), "{said:?}");
    }
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

/// Enter goes on, s opens a shell with the words, q ends it all.
async fn pause(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let mut command = sandbox.command(sandbox.program());
    command.args(["workshop", "--pause", "--node", kinds.name()]);
    let mut terminal = Terminal::spawn(command)?;
    for (awaited, typed) in [
        ("q: quit", "\n"),
        ("q: quit", "s\n"),
        ("workshop$ ", "l1-cli -F getinfo | grep -c '^id='; exit\n"),
    ] {
        terminal.wait_for(awaited)?;
        terminal.write(typed)?;
    }
    terminal.wait_for("\n1\r\n")?;
    terminal.wait_for("q: quit")?;
    terminal.write("q\n")?;
    terminal.wait_for("all held")?;
    terminal.end()?;
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);

    // Ctrl-C at the question, with a lab up.
    let mut command = sandbox.command(sandbox.program());
    command.args(["workshop", "--pause", "--node", kinds.name()]);
    let mut terminal = Terminal::spawn(command)?;
    for typed in ["\n", "\n", ""] {
        terminal.wait_for("q: quit")?;
        terminal.write(typed)?;
    }
    ensure!(!sandbox.left()?.is_empty(), "no lab");
    ensure!(terminal.interrupt()?.code() == Some(130));
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);

    let piped = sandbox.lab(&["workshop", "--pause"])?;
    ensure!(
        piped.code == Some(2) && piped.err.contains("terminal"),
        "{piped:?}"
    );
    Ok(())
}

/// The lab ends even if nothing can be done about it any more.
async fn killed(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let mut child = sandbox.spawn(&["workshop", "--node", kinds.name()])?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    for line in BufReader::new(stdout).lines() {
        if line?.contains("$ connect 1 2") {
            break;
        }
    }
    ensure!(!sandbox.left()?.is_empty());
    child.kill()?;
    child.wait()?;
    eventually("the lab to end", Duration::from_secs(30), async || {
        let left = sandbox
            .left()
            .map_err(|error| Error::usage(format!("{error:#}")))?;
        Ok(if left.is_empty() {
            Probe::Ready(())
        } else {
            Probe::NotYet(format!("{left:?}"))
        })
    })
    .await?;
    Ok(())
}
