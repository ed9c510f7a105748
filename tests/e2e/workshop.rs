//! The command `lab workshop`: what it shows, asks and leaves.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use cln_lab::{Error, Probe, eventually};
use cln_lab_command::workshop::STEPS;
use lab_tests::sandbox::{Sandbox, said};
use lab_tests::terminal::Terminal;
use lab_tests::{Kinds, Outcome, Suite};
use serde_json::Value;

pub fn tests(suite: Suite) -> Suite {
    suite
        .scenario_alone("it_shows_what_the_commands_print", lab_workshop)
        .scenario_alone("it_fits_the_screen", screen)
        .scenario_alone("it_pauses", pause)
        .scenario_alone("killed_it_leaves_nothing", killed)
        .test("a_step_beyond_the_last_is_an_error", beyond)
}

/// The command: exit status 0, one JSON object, every step in it, nothing left; and each
/// answer is what its command prints when a person types it.
async fn lab_workshop(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let report = sandbox.json(&["workshop", "--json", "--node", kinds.name()])?;
    ensure!(report["ok"] == true, "{report:#}");
    let steps = report["steps"].as_array().context("no steps")?;
    let has_all = steps.iter().any(|step| step["name"] == "events.py");
    ensure!(!has_all || steps.len() == STEPS, "{} steps", steps.len());
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
        // A plugin's death is told once it is seen: in this answer, or in the next.
        let told = |line: &&str| line.starts_with("note: plugin ");
        let lines: Vec<&str> = text.lines().filter(|line| !told(line)).collect();
        let text = lines.join("\n").trim_end().replace(folder, "FOLDER");
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
    ensure!(numbers == ["6", "7"] && !two.contains("$ stop_ln"), "{two}");
    ensure!(two.contains("✓ 8 steps"), "{two}");
    for wrong in ["0", "3..2", "x", "9-13"] {
        let said = sandbox.lab(&["workshop", "--step", wrong])?;
        ensure!(said.code == Some(2), "{said:?}");
        ensure!(wrong != "9-13" || said.err.contains("N..M"), "{said:?}");
    }
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

/// How many steps there are is known at the end.
async fn beyond() -> Outcome {
    let sandbox = Sandbox::new()?;
    let step = (STEPS + 1).to_string();
    let said = sandbox.lab(&["workshop", "--node", "embedded", "--step", &step])?;
    let error = format!("there is no step {step}: the steps are 1 to {STEPS}\n");
    ensure!(
        said.code == Some(2) && said.err.contains(&error) && said.out.is_empty(),
        "{said:?}"
    );
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
        // Asked again.
        ("2. ", "x"),
        ("q: quit", ""),
        ("q: quit", "s"),
        ("workshop$ ", "l1-cli -F getinfo | grep -c '^id='; exit\n"),
    ] {
        terminal.wait_for(awaited)?;
        terminal.write(typed)?;
    }
    terminal.wait_for("\n1\r\n")?;
    terminal.wait_for("q: quit")?;
    terminal.write("q")?;
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
