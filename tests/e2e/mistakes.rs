//! A beginner's mistakes, each with what the lab says about it.

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use cln_lab::{Plugin, Probe, eventually};
use lab_tests::sandbox::{Said, Sandbox};
use lab_tests::{Kinds, Outcome, Suite, faulty, write_script};

pub fn tests(suite: Suite) -> Suite {
    suite
        .scenario_alone("plugins_that_do_not_start", refused)
        .scenario_alone("a_plugin_that_does_not_answer", mute)
        .scenario_alone("what_the_node_accepts_silently", silent)
        .scenario_alone("connections_and_labels", connections)
        .scenario_alone("the_library_says_it_too", library)
        .since(
            (25, 2),
            "setconfig_of_a_started_plugin_is_transient",
            transient,
        )
        .unless(faulty(
            &[(23, 11), (24, 2), (24, 5)],
            "crashes when a plugin ends while it starts",
        ))
        .scenario_alone("lab_up_says_it_too", up)
}

/// A plugin in plain shell that answers, and does `$2` with each notification.
const ANSWERS: &str = r#"
answer() { id=${message#*'"id":'}; printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n\n' "${id%%,*}" "$1"; }
while IFS= read -r message; do
    case $message in
    *'"getmanifest"'*) answer '{"dynamic":DYNAMIC,"options":[],"rpcmethods":[],"subscriptions":["TOPIC"]}' ;;
    *'"method":'*'"init"'*) answer '{}' ;;
    *'"method":'*'"connect"'*) HANDLER ;;
    esac
done
"#;

fn answers(dynamic: bool, topic: &str, handler: &str) -> String {
    ANSWERS
        .replace("DYNAMIC", &dynamic.to_string())
        .replace("TOPIC", topic)
        .replace("HANDLER", handler)
}

/// A lab in a sandbox, and `plugin start` of a text.
struct Class {
    sandbox: Sandbox,
}

impl Class {
    fn new(kinds: Kinds) -> anyhow::Result<Class> {
        let sandbox = Sandbox::new()?;
        sandbox.done(&["up", "-d", "--node", kinds.name()])?;
        Ok(Class { sandbox })
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<String> {
        let path = self.sandbox.path(name);
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o700))?;
        Ok(path.to_str().context("a path")?.to_owned())
    }

    fn start(&self, path: &str) -> anyhow::Result<Said> {
        self.sandbox.lab(&["cli", "l1", "plugin", "start", path])
    }

    fn end(self) -> Outcome {
        self.sandbox.done(&["down"]).map(drop)
    }
}

/// The node's answer is on standard output; the plugin's stderr and a hint beside it.
async fn refused(kinds: Kinds) -> Outcome {
    let class = Class::new(kinds)?;
    let python = lab_tests::without("python3").is_none();
    for (name, text, expected) in [
        (
            "syntax.py",
            "#!/usr/bin/env python3\nx = (\n",
            ["SyntaxError: ", "has a syntax error"],
        ),
        (
            "module.py",
            "#!/usr/bin/env python3\nimport pyln_nowhere.x\n",
            ["No module named 'pyln_nowhere'", "install `pyln_nowhere`"],
        ),
        (
            "no-shebang.py",
            "import sys\n",
            ["not found", "names no interpreter"],
        ),
        (
            "crlf.sh",
            "#!/usr/bin/env sh\r\nexit\r\n",
            ["", "sed -i 's/\\r$//'"],
        ),
        (
            "interpreter.py",
            "#!/usr/bin/pyton3\n",
            ["", "names /usr/bin/pyton3, which does not exist"],
        ),
        (
            "env.py",
            "#!/usr/bin/env pyton3\n",
            ["pyton3", "names pyton3, which is not on the PATH"],
        ),
        (
            "quiet.sh",
            "#!/bin/sh\nexit 0\n",
            ["", "it ended without a word"],
        ),
        (
            "error.sh",
            "#!/bin/sh\necho oops >&2\nexit 1\n",
            ["\n    oops\n", "run it in a shell"],
        ),
        (
            "static.sh",
            &format!("#!/bin/sh\n{}", answers(false, "connect", ":")),
            ["", "\"dynamic\": true"],
        ),
        (
            "prints.sh",
            &format!("#!/bin/sh\necho hello\n{}", answers(true, "connect", ":")),
            ["", "only JSON-RPC goes to stdout"],
        ),
        ("empty.py", "", ["", "the file is empty"]),
        (
            "garbage",
            "\u{1}\0\u{2}\0\n",
            ["", "neither a text nor a program"],
        ),
        (
            "dict.py",
            "#!/bin/sh\nread -r line; echo \"{'jsonrpc': '2.0', 'id': 1}\"; read -r line; read -r line\n",
            ["", "`json.dumps(…)` makes JSON"],
        ),
    ] {
        if name.ends_with("y") && text.contains("env python3") && !python {
            continue;
        }
        let said = class.start(&class.write(name, text)?)?;
        ensure!(
            said.code == Some(1) && said.out.contains("\"code\""),
            "{name}: {said:?}"
        );
        for expected in expected {
            ensure!(
                said.err.contains(expected),
                "{name}: no `{expected}`: {said:?}"
            );
        }
        // Only its own: nothing of the plugins before it.
        ensure!(
            name == "error.sh" || !said.err.contains("oops"),
            "{name}: {said:?}"
        );
    }

    let fine = class.write(
        "fine.sh",
        &format!("#!/bin/sh\n{}", answers(true, "connect", ":")),
    )?;
    ensure!(class.start(&fine)?.code == Some(0));
    let twice = class.start(&fine)?;
    ensure!(
        twice.err.contains("runs already") && twice.err.contains("plugin stop fine.sh"),
        "{twice:?}"
    );
    std::fs::set_permissions(&fine, Permissions::from_mode(0o600))?;
    for (path, expected) in [
        (fine.as_str(), format!("chmod +x {fine}")),
        ("fine.sh", "give `$PWD/fine.sh`".to_owned()),
        ("./fine.sh", "give `$PWD/fine.sh`".to_owned()),
        ("/nowhere/fine.sh", "no file at this path".to_owned()),
        ("/tmp", "/tmp is a folder".to_owned()),
    ] {
        let said = class.start(path)?;
        ensure!(
            said.code == Some(1) && said.err.contains(&expected),
            "{path}: {said:?}"
        );
    }
    class.end()
}

/// After 3 s the one who waits is told what is missing; the plugin is killed here.
async fn mute(kinds: Kinds) -> Outcome {
    let class = Class::new(kinds)?;
    let pid = class.sandbox.path("pid");
    let text = format!(
        "#!/bin/sh\necho $$ >{}\nwhile read -r line; do :; done\n",
        pid.display()
    );
    let mute = class.write("mute.sh", &text)?;
    let mut child = class
        .sandbox
        .spawn(&["cli", "l1", "plugin", "start", &mute])?;
    let stderr = child.stderr.take().context("stderr is piped")?;
    let mut lines = BufReader::new(stderr).lines();
    let waiting = lines.next().context("a line")??;
    ensure!(
        waiting.contains("still waiting") && waiting.contains("mute.sh has not answered"),
        "{waiting}"
    );
    let pid: i32 = std::fs::read_to_string(&pid)?.trim().parse()?;
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    )?;
    ensure!(child.wait()?.code() == Some(1));
    class.end()
}

/// A misspelt topic, an answer to a notification, print(), an end later: the node says
/// nothing of them to the one who asks.
async fn silent(kinds: Kinds) -> Outcome {
    let class = Class::new(kinds)?;
    let misspelt = class.write(
        "misspelt.sh",
        &format!("#!/bin/sh\n{}", answers(true, "conect", ":")),
    )?;
    let said = class.start(&misspelt)?;
    ensure!(
        said.code == Some(0)
            && said.err.contains("no topic `conect`")
            && said.err.contains("did you mean `connect`?"),
        "{said:?}"
    );
    // The notes are on the plugin that was started, not on the one before it.
    let dies = class.write(
        "dies.sh",
        &format!(
            "#!/bin/sh\n{}",
            answers(true, "connect", "echo why >&2; exit 1")
        ),
    )?;
    let said = class.start(&dies)?;
    ensure!(said.code == Some(0) && said.err.is_empty(), "{said:?}");
    let text = format!(
        "#!/bin/sh\n{}",
        answers(
            true,
            "connect",
            r#"printf '{"jsonrpc":"2.0","result":{}}\n\nheard\n'"#
        )
    );
    let talks = class.write("talks.sh", &text)?;
    let untapped = class.sandbox.lab(&["wire", &talks])?;
    ensure!(
        untapped.code == Some(1) && untapped.err.contains("$(lab tee "),
        "{untapped:?}"
    );
    let tee = class.sandbox.done(&["tee", &talks])?;
    ensure!(class.start(tee.trim())?.code == Some(0));
    class.sandbox.done(&["connect", "1", "2"])?;

    let shown = eventually("both mistakes", Duration::from_secs(10), async || {
        let out = class
            .sandbox
            .lab(&["wire", &talks])
            .map_err(std::io::Error::other);
        let out = cln_lab::IoContext::doing(out, "run", "lab wire")?.out;
        Ok(
            if out.contains("must not be answered") && out.contains("no JSON-RPC message") {
                Probe::Ready(out)
            } else {
                Probe::NotYet(out)
            },
        )
    });
    let shown = shown.await?;
    for expected in ["\nlightningd: {", "\nplugin: {", "plugin: heard\nmistake: "] {
        ensure!(shown.contains(expected), "{expected}: {shown}");
    }

    // Whatever the next command is, and once; `plugin list` has it always.
    const DEATH: &str = "plugin dies.sh ended on its own";
    let ask = |args: &[&str]| class.sandbox.lab(&[&["cli", "l1"], args].concat());
    let noted = eventually("a note", Duration::from_secs(10), async || {
        let said = ask(&["getinfo"]).map_err(std::io::Error::other);
        let said = cln_lab::IoContext::doing(said, "run", "lab cli")?;
        Ok(if said.err.contains(DEATH) {
            Probe::Ready(())
        } else {
            Probe::NotYet(said.err)
        })
    });
    noted.await?;
    ensure!(ask(&["getinfo"])?.err.is_empty());
    let listed = ask(&["plugin", "list"])?.err;
    ensure!(
        listed.contains(DEATH) && !listed.contains("talks.sh"),
        "{listed}"
    );
    let stderr = class.sandbox.done(&["logs", "l1", "--stderr"])?;
    ensure!(stderr.contains("why\n"), "{stderr}");
    class.end()
}

async fn connections(kinds: Kinds) -> Outcome {
    let class = Class::new(kinds)?;
    let lab = |arguments: &[&str]| class.sandbox.lab(arguments);
    let own = lab(&["connect", "1", "1"])?;
    ensure!(
        own.code == Some(2) && own.err.contains("l1 cannot be its own peer"),
        "{own:?}"
    );
    let far = lab(&["connect", "1", "5"])?;
    ensure!(
        far.code == Some(2) && far.err.contains("it has l1, l2"),
        "{far:?}"
    );
    let apart = lab(&["disconnect", "1", "2"])?;
    ensure!(
        apart.code == Some(1) && apart.err.contains("l1 is not connected to l2"),
        "{apart:?}"
    );
    class
        .sandbox
        .done(&["cli", "l1", "invoice", "1sat", "inv", "pizza"])?;
    let label = lab(&["cli", "l1", "invoice", "1sat", "inv", "pizza"])?;
    ensure!(
        label.code == Some(1) && label.err.contains("needs a label of its own"),
        "{label:?}"
    );
    class.sandbox.done(&["stop", "l2"])?;
    for (from, to) in [("1", "2"), ("2", "1")] {
        let down = lab(&["connect", from, to])?;
        ensure!(
            down.code == Some(1)
                && down
                    .err
                    .contains("l2 is down: start it with `lab start l2`"),
            "{down:?}"
        );
    }
    class.end()
}

/// The error of `Node::plugin_start` has the plugin's stderr and the hint.
async fn library(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
    let broken = lab.dir().join("broken.sh");
    write_script(&broken, "echo 'no such library' >&2; exit 1")?;
    let error = lab
        .l1()
        .plugin_start(&Plugin::path(&broken))
        .await
        .expect_err("it ended");
    let text = error.to_string();
    ensure!(
        text.contains("\n  its stderr:\n      no such library\n  hint: "),
        "{text}"
    );
    ensure!(
        error
            .rpc_message()
            .is_some_and(|message| !message.contains("library"))
    );
    Ok(lab.stop().await?)
}

/// So does that of a lab whose plugin ends while its nodes start.
async fn up(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let broken = sandbox.path("broken.sh");
    write_script(Path::new(&broken), "echo 'no such library' >&2; exit 1")?;
    let plugin = broken.to_str().context("a path")?;
    let said = sandbox.lab(&["up", "-d", "--node", kinds.name(), "--plugin", plugin])?;
    ensure!(
        said.code == Some(1) && said.err.contains("no such library") && said.err.contains("hint: "),
        "{said:?}"
    );

    // While one does not answer, the one who waits is told.
    write_script(Path::new(&broken), "while read -r line; do :; done")?;
    let mut child = sandbox.spawn(&["up", "-d", "--node", kinds.name(), "--plugin", plugin])?;
    let stderr = child.stderr.take().context("stderr is piped")?;
    let waiting = BufReader::new(stderr).lines().next().context("a line")??;
    ensure!(
        waiting.contains("still starting") && waiting.contains("broken.sh"),
        "{waiting}"
    );
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(child.id() as i32),
        nix::sys::signal::Signal::SIGTERM,
    )?;
    ensure!(child.wait()?.code() == Some(143));
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

/// The advice of eventlog's README on `setconfig` leaves a node that starts again.
async fn transient(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
    let l1 = lab.l1();
    l1.plugin_start(&Plugin::path(lab_tests::program("eventlog")?))
        .await?;
    let readme = include_str!("../../plugin/README.md");
    let (_, advice) = readme
        .split_once("lightning-cli -k\nsetconfig ")
        .context("no advice")?;
    let (advice, _) = advice.split_once('`').context("no end")?;
    let params: serde_json::Map<String, serde_json::Value> = advice
        .split_whitespace()
        .filter_map(|word| word.split_once('='))
        .map(|(name, value)| {
            let json = value
                .parse::<bool>()
                .map_or_else(|_| value.into(), serde_json::Value::from);
            (name.to_owned(), json)
        })
        .collect();
    ensure!(params.len() == 3, "{advice}");
    l1.call::<serde_json::Value>("setconfig", params).await?;
    l1.restart().await?;
    Ok(lab.stop().await?)
}
