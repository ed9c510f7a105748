//! The course as one takes it: keys, saves, hints, progress, a reset, and back again.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, ensure};
use cln_lab::write_executable;
use cln_lab_command::course::{Language, STEPS, TEST};
use lab_tests::sandbox::{Said, Sandbox, said};
use lab_tests::terminal::Terminal;
use lab_tests::{Kinds, Outcome};

use super::{print_times, write};

/// `lab learn` in this folder.
fn learn(sandbox: &Sandbox, kinds: Kinds, folder: &Path) -> anyhow::Result<Terminal> {
    let mut command = sandbox.command(sandbox.program());
    command.args(["learn", "--node", kinds.name()]).arg(folder);
    Terminal::spawn(command)
}

/// The whole course in a terminal.
pub async fn walk(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let folder = sandbox.path("mine");
    let (plugin, test) = (folder.join("plugin.py"), folder.join("test.py"));
    let python = Language::named("python").context("no Python")?;
    let mut terminal = learn(&sandbox, kinds, &folder)?;
    let shown = terminal.wait_for("1. Two nodes")?;
    let node = if kinds == Kinds::Embedded {
        "embedded-"
    } else {
        "lightningd v"
    };
    ensure!(
        shown.contains(node),
        "it does not say what the nodes are: {shown}"
    );

    let mut took = Vec::new();
    let mut saved = |terminal: &mut Terminal, step, verdict: &str| -> anyhow::Result<()> {
        let since = Instant::now();
        terminal.wait_for(verdict)?;
        took.push((step, since.elapsed()));
        Ok(())
    };
    terminal.wait_for("q quit")?;
    let mut mode = plugin.metadata()?.permissions();
    mode.set_mode(0o755);
    std::fs::set_permissions(&plugin, mode)?;
    saved(&mut terminal, "lab", "Step 1 of ")?;
    terminal.write("n")?;
    terminal.wait_for("2. Who are you?")?;

    // A wrong one, all hints, the right one.
    let solution = python.solution("getmanifest");
    write(&plugin, &solution.replace("request[\"id\"]", "7"))?;
    saved(&mut terminal, "getmanifest", "Not yet")?;
    terminal.write("hhh")?;
    for hint in ["Hint 1 of 3", "Hint 2 of 3", "Hint 3 of 3", "+ def answer"] {
        terminal.wait_for(hint)?;
    }
    write(&plugin, solution)?;
    saved(&mut terminal, "getmanifest", "Step 2 of ")?;
    terminal.write("w")?;
    terminal.wait_for("to the plugin")?;
    terminal.wait_for(r#""method":"getmanifest""#)?;
    terminal.wait_for("all of it: ")?;
    let wire = folder.join("wire.txt");
    ensure!(wire.metadata()?.permissions().mode() & 0o777 == 0o600);
    ensure!(std::fs::read_to_string(&wire)?.contains("lab:getmanifest"));
    terminal.write("l")?;
    terminal.wait_for(&format!("2 of {} passed", STEPS.len()))?;
    terminal.write("p")?;
    terminal.wait_for("1. Two nodes")?;
    terminal.write("n")?;
    terminal.wait_for("2. Who are you?")?;

    // A reset keeps what was written.
    terminal.write("r")?;
    terminal.wait_for("what the course starts with; yours is kept as")?;
    terminal.wait_for("plugin.py.kept-1")?;
    ensure!(std::fs::read_to_string(folder.join("plugin.py.kept-1"))? == solution);
    ensure!(std::fs::read_to_string(&plugin)? == python.before("getmanifest"));

    // A shell with the words, and back.
    terminal.write("s")?;
    terminal.wait_for("learn$ ")?;
    terminal.write("l1-cli -F getinfo | grep -c '^id='; command -v python3; exit\n")?;
    terminal.wait_for("\n1\r\n")?;
    terminal.wait_for("mine/.venv/bin/python3\r\n")?;
    // The step is shown again, and a save is seen though no key is pressed.
    terminal.wait_for("q quit")?;
    write(&plugin, solution)?;
    saved(&mut terminal, "getmanifest", "Step 2 of ")?;

    // Nobody else works in this folder meanwhile.
    let dir = folder.to_str().context("a path")?;
    let second = sandbox.lab(&["learn", "--check", "init", dir])?;
    ensure!(
        second.code == Some(1) && second.err.contains("already, as process "),
        "{second:?}"
    );

    // The end, and from where it was.
    terminal.write("nq")?;
    terminal.wait_for("3. Here is your node")?;
    terminal.wait_for("continues where you are")?;
    terminal.end()?;
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    let mut terminal = learn(&sandbox, kinds, &folder)?;
    terminal.wait_for("3. Here is your node")?;
    for step in &STEPS[2..] {
        terminal.wait_for("q quit")?;
        let text = python.solution(step.slug);
        let file = if step.slug == TEST { &test } else { &plugin };
        write(file, text)?;
        let passed = format!("Step {} of ", step.number());
        saved(&mut terminal, step.slug, &passed)?;
        terminal.write("n")?;
    }
    terminal.write("l")?;
    terminal.wait_for(&format!("{0} of {0} passed", STEPS.len()))?;
    terminal.write("q")?;
    terminal.end()?;
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    print_times("from save to verdict in a terminal", kinds, took);

    // `q` ends it also while one is checked that never answers.
    let chatter = sandbox.path("chatter.py");
    write_executable(&chatter, CHATTER)?;
    let other = || -> anyhow::Result<Terminal> {
        let mut command = sandbox.command(sandbox.program());
        command.args(["learn", "--lang", "other", "--node", kinds.name()]);
        command
            .arg("--plugin")
            .arg(&chatter)
            .arg(sandbox.path("other"));
        let mut terminal = Terminal::spawn(command)?;
        terminal.wait_for("q quit")?;
        Ok(terminal)
    };
    let mut terminal = other()?;
    terminal.write("n\nq")?;
    let shown = terminal.wait_for("continues where you are")?;
    ensure!(!shown.contains("Not yet"), "{shown}");
    terminal.end()?;

    // Ctrl-\ leaves the terminal as it was.
    let (ended, shows_keys) = other()?.end_by(nix::sys::signal::Signal::SIGQUIT)?;
    ensure!(
        ended.code() == Some(131) && shows_keys,
        "{ended}, {shows_keys}"
    );
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

/// Without a terminal: exit status 0 or 1, and 2 for what makes no sense.
pub async fn check(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let folder = sandbox.path("mine");
    let dir = folder.to_str().context("a path")?;
    let check = |step: &str| sandbox.lab(&["learn", "--check", step, "--node", kinds.name(), dir]);
    for step in ["getmanifest", "dynamic"] {
        let said = check(step)?;
        ensure!(
            said.code == Some(1) && said.out.contains("chmod +x"),
            "{said:?}"
        );
    }
    let python = Language::named("python").context("no Python")?;
    write(&folder.join("plugin.py"), python.solution("dynamic"))?;
    for step in ["2", "init", "dynamic"] {
        let said = check(step)?;
        ensure!(
            said.code == Some(0) && said.out.contains("is passed"),
            "{said:?}"
        );
    }
    let progress = std::fs::read_to_string(folder.join(".lab-learn.json"))?;
    let progress: serde_json::Value = serde_json::from_str(&progress)?;
    ensure!(
        progress["passed"] == serde_json::json!(["getmanifest", "init", "dynamic"]),
        "{progress}"
    );
    let said = check("connect")?;
    ensure!(
        said.code == Some(1) && said.out.contains("expected: "),
        "{said:?}"
    );
    // There are neither saves nor keys.
    ensure!(
        !["save", "`h`", "`n`", "`w`"]
            .iter()
            .any(|word| said.out.contains(word)),
        "{said:?}"
    );
    floods(&sandbox, kinds)?;
    chatters(&sandbox, kinds)?;
    pages(&sandbox)?;
    unbuffered(&sandbox, kinds)?;

    // Any executable.
    let other = sandbox.path("other");
    let other = other.to_str().context("a path")?;
    let plugin = folder.join("plugin.py");
    let plugin = plugin.to_str().context("a path")?;
    let args = [
        "learn", "--lang", "other", "--plugin", plugin, "--check", "init", "--json", other,
    ];
    let verdict = sandbox.json(&args)?;
    ensure!(
        verdict["miss"].is_null() && verdict["wire"].is_array(),
        "{verdict}"
    );

    for wrong in [
        &["learn", "--check", "nothing", dir][..],
        &["learn", "--lang", "other", dir],
        &["learn", "--lang", "cobol", dir],
    ] {
        let said = sandbox.lab(wrong)?;
        ensure!(said.code == Some(2), "{wrong:?}: {said:?}");
    }
    let said = sandbox.lab(&["learn", dir])?;
    ensure!(
        said.code == Some(1) && said.err.contains("--check STEP"),
        "{said:?}"
    );
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

/// Checks a step with this text as the plugin, in a folder of its own.
fn check_other(sandbox: &Sandbox, kinds: Kinds, step: &str, text: &str) -> anyhow::Result<Said> {
    let plugin = sandbox.path("other.py");
    write_executable(&plugin, text)?;
    let mut command = sandbox.command(sandbox.program());
    // As some have it in their shell.
    command.env("PYTHONUNBUFFERED", "1");
    command.args([
        "learn",
        "--lang",
        "other",
        "--check",
        step,
        "--node",
        kinds.name(),
    ]);
    command.arg("--plugin").arg(&plugin).arg(sandbox.path(step));
    said(&mut command)
}

/// What a plugin writes too much of is cut, and looked at only once.
fn floods(sandbox: &Sandbox, kinds: Kinds) -> Outcome {
    const FLOOD: &str = r#"#!/usr/bin/env python3
import json, sys
sys.stderr.write("stderr " * 2_000_000)
for line in sys.stdin:
    if line.strip():
        result = {"options": [], "rpcmethods": [], "dynamic": True, "more": "y " * 5_000_000}
        print(json.dumps({"jsonrpc": "2.0", "id": json.loads(line)["id"], "result": result}),
              end="\n\n", flush=True)
"#;
    for step in ["connect", "dynamic"] {
        let said = check_other(sandbox, kinds, step, FLOOD)?;
        ensure!(
            said.code.is_some() && said.out.lines().count() <= 20,
            "{said:?}"
        );
    }
    Ok(())
}

/// One that always logs, and never answers.
const CHATTER: &str = r#"#!/usr/bin/env python3
line = '{"jsonrpc":"2.0","method":"log","params":{"level":"info","message":"still here"}}\n\n'
while True:
    print(line * 100, end="", flush=True)
"#;

/// What is no answer prolongs no wait, and is not all kept.
fn chatters(sandbox: &Sandbox, kinds: Kinds) -> Outcome {
    let said = check_other(sandbox, kinds, "getmanifest", CHATTER)?;
    ensure!(
        said.code == Some(1) && said.out.contains("no answer in "),
        "{said:?}"
    );
    // Of what is no JSON the first line is quoted, to its end.
    let noisy = "#!/bin/sh\nread -r _; printf 'got a\\nrequest\\n\\n'; cat >/dev/null\n";
    let noise = check_other(sandbox, kinds, "getmanifest", noisy)?;
    ensure!(noise.out.contains("`got a…`;"), "{noise:?}");
    write_executable(&sandbox.path("other.py"), CHATTER)?;

    let other = sandbox.path("getmanifest");
    let other = other.to_str().context("a path")?;
    let said = sandbox.lab(&["learn", "--check", "getmanifest", "--json", other])?;
    let verdict: serde_json::Value = serde_json::from_str(&said.out)?;
    let wire = verdict["wire"].as_array().context("no wire")?;
    let note = wire[0]["text"].as_str().unwrap_or_default();
    ensure!(
        wire.len() <= 2001 && note.ends_with("earlier messages are left out"),
        "{note}"
    );
    Ok(())
}

/// The pages go where nothing else is.
fn pages(sandbox: &Sandbox) -> Outcome {
    let folder = sandbox.path("pages");
    let dir = folder.to_str().context("a path")?;
    let args = ["learn", "--markdown", dir];
    std::fs::create_dir(&folder)?;
    let readme = folder.join("README.md");
    std::fs::write(&readme, "# Mine\n")?;
    let said = sandbox.lab(&args)?;
    ensure!(
        said.code == Some(2) && std::fs::read_to_string(&readme)? == "# Mine\n",
        "{said:?}"
    );
    ensure!(folder.read_dir()?.count() == 1);
    std::fs::remove_file(&readme)?;
    for _ in 0..2 {
        sandbox.done(&args)?;
        ensure!(folder.read_dir()?.count() == STEPS.len() + 1);
    }
    Ok(())
}

/// An answer that stays in a buffer is one that stays there on a node, too, whatever the
/// learner's shell has set.
fn unbuffered(sandbox: &Sandbox, kinds: Kinds) -> Outcome {
    const BUFFERED: &str = r#"#!/usr/bin/env python3
import json, sys
for line in sys.stdin:
    if line.strip():
        result = {"options": [], "rpcmethods": [], "dynamic": True}
        print(json.dumps({"jsonrpc": "2.0", "id": json.loads(line)["id"], "result": result}) + "\n")
"#;
    for (step, says) in [
        ("getmanifest", "flush stdout after each message"),
        ("dynamic", "still waiting"),
    ] {
        let said = check_other(sandbox, kinds, step, BUFFERED)?;
        ensure!(said.code == Some(1) && said.out.contains(says), "{said:?}");
    }
    Ok(())
}
