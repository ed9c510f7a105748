//! `lab` in a shell: the workshop's words of contrib/lab.sh and `lab env`,
//! completions, colours.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use lab_tests::sandbox::{Said, Sandbox, said};
use lab_tests::{Kinds, Outcome, Suite, without};
use nix::pty::openpty;

pub fn tests(suite: Suite) -> Suite {
    suite
        .unless(without("bash"))
        .scenario_alone("workshop_commands_in_bash", |kinds| words("bash", kinds))
        .scenario_alone("env_defines_and_undefines_in_bash", |kinds| {
            env("bash", kinds)
        })
        .test("completions_in_bash", || {
            completions("bash", BASH_COMPLETES)
        })
        .test("lab_sh_is_found_whatever_cdpath_is", cdpath)
        .unless(without("zsh"))
        .scenario_alone("workshop_commands_in_zsh", |kinds| words("zsh", kinds))
        .scenario_alone("env_defines_and_undefines_in_zsh", |kinds| {
            env("zsh", kinds)
        })
        .test("completions_in_zsh", || completions("zsh", ZSH_COMPLETES))
        .unless(without("shellcheck"))
        .test("shellcheck_finds_nothing", shellcheck)
        .unless(None)
        .test("colours_only_on_terminals_that_want_them", colours)
        .scenario_alone("progress_only_on_terminals", progress)
}

/// The repository's root.
fn root() -> anyhow::Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(here.parent().context("no parent")?.to_owned())
}

/// Runs a script in a shell that stops at the first error, with nothing set up.
fn script(
    sandbox: &Sandbox,
    shell: &str,
    kinds: Option<Kinds>,
    text: &str,
) -> anyhow::Result<Said> {
    let mut command = sandbox.command(shell);
    if shell == "zsh" {
        command.arg("-f");
    } else {
        command.args(["--norc", "--noprofile"]);
    }
    if let Some(kinds) = kinds {
        command.env("LAB_NODE", kinds.name());
    }
    command
        .args(["-eu", "-c", text])
        .env("ROOT", root()?)
        .env("LAB_BUILT", sandbox.program());
    said(&mut command)
}

async fn words(shell: &str, kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    // All in a row, or those that are named; each costs an old lightningd minutes.
    let fund = match (kinds == Kinds::Lightningd, shell) {
        (false, _) => "echo 1",
        (true, "bash") => {
            r"fund_nodes >/dev/null
            l3-cli -F listpeerchannels | grep -c '\]\.state=CHANNELD_NORMAL'"
        }
        (true, _) => {
            r"fund_nodes 1 3 >/dev/null
            l3-cli -F listpeerchannels | grep -c '\]\.state=CHANNELD_NORMAL'"
        }
    };
    // An alias of the same name, as the script of lightning's own repository
    // leaves one, does not get in the way.
    let text = format!(
        r#"
        alias connect=false l1-cli=false
        LAB=$LAB_BUILT
        . "$ROOT/contrib/lab.sh"
        start_ln 3
        start_ln 3 | head -1
        connect 1 2 | grep '"direction"'
        l2-cli -F listpeers | grep connected
        l1-log | grep -c .
        bt-cli getblockcount
        {fund}
        stop_ln
        if test -n "${{L1_ID:-}}" || l1-cli getinfo || connect 1 2; then echo 'still there'; exit 1; fi
        destroy_ln
        start_ln 1 >/dev/null
        destroy_ln
        "#
    );
    let said = script(&sandbox, shell, Some(kinds), &text)?;
    ensure!(said.code == Some(0), "{said:?}");
    for expected in [
        "  start_ln 3: start three nodes, l1, l2, l3\n",
        "\tl1-cli, l1-log,\n\tl2-cli, l2-log,\n\tl3-cli, l3-log,\n",
        "lab default is already up\n",
        "   \"direction\": \"out\",\n",
        "peers[0].connected=true\n",
        "\n101\n",
        "\n1\n",
        "lab `default` is down\n",
    ] {
        ensure!(said.out.contains(expected), "{expected}: {said:?}");
    }
    // No ~/.bitcoin, no ~/.lightning, no leftover.
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);

    words_help(&sandbox, shell, kinds)?;

    // Commands that fail say so by their exit status, too.
    let text = r#"
        LAB=$LAB_BUILT
        . "$ROOT/contrib/lab.sh" >/dev/null
        start_ln x || echo "start_ln $?"
        start_ln 1 2 || echo "start_ln $?"
        stop_ln || echo "stop_ln $?"
        fund_nodes 1 || echo "fund_nodes $?"
        destroy_ln && echo "destroy_ln $?"
    "#;
    let wrong = script(&sandbox, shell, Some(kinds), text)?;
    let expected = "start_ln 2\nstart_ln 2\nstop_ln 1\nfund_nodes 2\ndestroy_ln 0\n";
    ensure!(wrong.code == Some(0) && wrong.out == expected, "{wrong:?}");
    Ok(())
}

/// The words help before there is a lab, and beside one.
fn words_help(sandbox: &Sandbox, shell: &str, kinds: Kinds) -> Outcome {
    let text = r#"
        LAB=$LAB_BUILT
        . "$ROOT/contrib/lab.sh" >/dev/null
        connect 1 2 || echo "connect $?"
        lab --version
        start_ln >/dev/null
        start_ln 3 >/dev/null
        (unset LAB_NAME LAB_NODES; . "$ROOT/contrib/lab.sh"; l1-cli getinfo || echo "l1-cli $?")
        stop_ln
        stop_ln || echo "stop_ln $?"
    "#;
    let helped = script(sandbox, shell, Some(kinds), text)?;
    ensure!(helped.code == Some(0), "{helped:?}");
    for expected in [
        "connect 1\nlab ",
        "lab default is up: `start_ln` takes it up in this shell\nl1-cli 1\n",
        "lab `default` is down\nstop_ln 1\n",
    ] {
        ensure!(helped.out.contains(expected), "{expected}: {helped:?}");
    }
    for expected in [
        "connect: no lab is up: run `start_ln` first\n",
        "it has 2 nodes, not 3: for those, `stop_ln` first, then `start_ln 3`\n",
        "l1-cli: lab default is up, but not taken up in this shell: run `start_ln` here, too\n",
        "no lab is up: `start_ln` starts one\n",
    ] {
        ensure!(helped.err.contains(expected), "{expected}: {helped:?}");
    }
    // Run instead of sourced, it defines nothing, and says so.
    let run = lab_tests::sandbox::said(sandbox.command(shell).arg(root()?.join("contrib/lab.sh")))?;
    ensure!(
        run.code == Some(1) && run.err.contains("run `source "),
        "{run:?}"
    );
    Ok(())
}

async fn env(shell: &str, kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    sandbox.done(&["up", "-d", "--node", kinds.name(), "--name", "other"])?;
    let text = r#"
        eval "$("$LAB_BUILT" env --name other)"
        test "$LAB_NAME" = other
        test "$LAB_NODES" = 'l1 l2'
        test "$(l1-cli -F getinfo | sed -n 's/^id=//p')" = "$L1_ID"
        test -S "$L2_RPC"
        connect 1 2 >/dev/null
        l1-cli -F listpeers | grep -q "id=$L2_ID"
        test "$(bt-cli getblockcount)" = 101
        eval "$("$LAB" env --unset)"
        test -z "${LAB_NAME:-}${L1_ID:-}${LAB_NODES:-}"
        if type l1-cli connect; then exit 1; fi
        echo done
    "#;
    let said = script(&sandbox, shell, None, text)?;
    ensure!(
        said.code == Some(0) && said.out.ends_with("done\n"),
        "{said:?}"
    );
    sandbox.done(&["down"])?;
    Ok(())
}

/// What Tab offers after `connect l`, and that `lab` itself is known.
const BASH_COMPLETES: &str = r#"
    LAB=$LAB_BUILT
    . "$ROOT/contrib/lab.sh" >/dev/null
    LAB_NODES='l1 l2 other'
    COMP_WORDS=(connect l) COMP_CWORD=1
    _lab_nodes
    echo "${COMPREPLY[*]}"
    complete -p connect lab >/dev/null
"#;
const ZSH_COMPLETES: &str = r#"
    autoload -Uz compinit
    compinit -u -D
    LAB=$LAB_BUILT
    . "$ROOT/contrib/lab.sh" >/dev/null
    test "${_comps[lab]}" = _lab
    LAB_NODES='l1 l2 other'
    compadd() { shift; for word in "$@"; do case $word in l*) echo "$word"; esac; done }
    "${_comps[connect]}" | tr '\n' ' ' | sed 's/ $//'
"#;

async fn completions(shell: &str, text: &str) -> Outcome {
    let sandbox = Sandbox::new()?;
    let said = script(&sandbox, shell, None, text)?;
    ensure!(
        said.code == Some(0) && said.out.trim() == "l1 l2",
        "{said:?}"
    );
    Ok(())
}

async fn cdpath() -> Outcome {
    let sandbox = Sandbox::new()?;
    let text = r#"
        mkdir -p "$1/contrib" "$1/target/debug"
        cp "$ROOT/contrib/lab.sh" "$1/contrib/"
        ln -s "$LAB_BUILT" "$1/target/debug/lab"
        cd "$1"
        CDPATH=$1
        . contrib/lab.sh >/dev/null
        test "$LAB" = "$1/target/debug/lab"
    "#;
    let mut bash = sandbox.command("bash");
    bash.args(["--norc", "--noprofile", "-eu", "-c", text, "bash"])
        .arg(sandbox.path("copy"))
        .env("ROOT", root()?)
        .env("LAB_BUILT", sandbox.program());
    let said = said(&mut bash)?;
    ensure!(said.code == Some(0), "{said:?}");
    Ok(())
}

async fn shellcheck() -> Outcome {
    let scripts = ["contrib/lab.sh", "contrib/get-bitcoind"];
    let said = said(
        std::process::Command::new("shellcheck")
            .args(scripts)
            .current_dir(root()?),
    )?;
    ensure!(said.code == Some(0), "{}", said.out);
    Ok(())
}

/// What a program says on a terminal, both streams together.
fn on_terminal(command: &mut std::process::Command) -> anyhow::Result<String> {
    let terminal = openpty(None, None)?;
    let mut child = command
        .env("TERM", "xterm-256color")
        .stdout(File::from(terminal.slave.try_clone()?))
        .stderr(File::from(terminal.slave))
        .spawn()?;
    // The command keeps its ends of the terminal until it is used again.
    command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let mut said = Vec::new();
    let mut master = File::from(terminal.master);
    let mut buffer = [0; 4096];
    // A terminal that nobody writes to any more is an error on Linux, an end elsewhere.
    while let Ok(length @ 1..) = master.read(&mut buffer) {
        said.extend_from_slice(&buffer[..length]);
    }
    child.wait()?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

async fn colours() -> Outcome {
    let sandbox = Sandbox::new()?;
    let mut doctor = sandbox.command(sandbox.program());
    doctor.arg("doctor").env_remove("NO_COLOR");
    let coloured = on_terminal(&mut doctor)?;
    ensure!(coloured.contains("\x1b[32m"), "{coloured:?}");
    let plain = on_terminal(doctor.env("NO_COLOR", "1"))?;
    ensure!(
        plain.contains("lightningd") && !plain.contains('\x1b'),
        "{plain:?}"
    );
    Ok(())
}

async fn progress(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let mut up = sandbox.command(sandbox.program());
    up.args(["up", "-d", "--node", kinds.name()]);
    let said = on_terminal(&mut up)?;
    ensure!(said.contains("starting bitcoind and 2 nodes"), "{said:?}");
    // On one that wants no colours, still a sign of life.
    let mut down = sandbox.command(sandbox.program());
    let said = on_terminal(down.arg("down").env("NO_COLOR", "1"))?;
    ensure!(
        said.contains("is down") && !said.contains("\x1b[32m"),
        "{said:?}"
    );
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}
