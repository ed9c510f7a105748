//! Part two once more, in Python on pyln-client, where there is Python.

use std::path::Path;

use super::folder;
use super::part_one::{connect, disconnect, is_up};
use super::part_two::invoice;
use super::walkthrough::Walkthrough;
use crate::pyln;
use cln_lab::{Events, Lab, Result};

pub(super) async fn with_pyln_client(walkthrough: &mut Walkthrough<'_>, lab: &Lab) -> Result<()> {
    walkthrough.part("Part two, in Python");
    let folder = folder(lab);
    if !pyln::is_possible() {
        let why = "There is no python3 with venv here, so Rust alone has to do.";
        let command = "python3 -c 'import venv, ensurepip'";
        return walkthrough
            .failing_step("no Python", why, command, async |_| Ok(()))
            .await;
    }
    let lock = pyln::link(&folder)?;
    let why = "pyln-client, from PyPI, in an environment of its own (kept for the next time). \
               If it cannot be had, Rust alone has to do.";
    let installed = walkthrough
        .either_step("pyln-client", why, pyln::INSTALL)
        .await?;
    drop(lock);
    if !installed {
        return Ok(());
    }
    plugin(walkthrough, lab, &folder).await
}

async fn plugin(walkthrough: &mut Walkthrough<'_>, lab: &Lab, folder: &Path) -> Result<()> {
    let why = "contrib/plugins/events.py, with the environment's Python in its first line. The decorator enters the \
               function into a table by topic; `run()` reads, and calls what is in the table.";
    let command = "sed \"1s|.*|#!$PWD/.venv/bin/python3|\" events.py >events && chmod +x events; grep -A 6 '^def record' events; grep -A 2 '\"connect\")$' events";
    walkthrough
        .step("events.py", why, command, async |step| {
            step.check_answer("it takes both shapes", "params.get(topic, params)");
            Ok(())
        })
        .await?;
    walkthrough
        .step(
            "plugin start",
            "As any other.",
            "l1-cli plugin start $PWD/events",
            async |step| is_up(step, lab, "events").await,
        )
        .await?;
    let mut events = Events::open(lab.l1().network_dir().join("events.txt"));
    connect(walkthrough, lab, &mut events, "Its handler is called.").await?;
    disconnect(walkthrough, lab, &mut events, "And that of `disconnect`.").await?;
    invoice(
        walkthrough,
        lab,
        &mut events,
        "The third topic.",
        "inv-python",
    )
    .await?;

    let why = "A handler with `1 + \"foo\"`, in Python.";
    let command = "sed \"1s|.*|#!$PWD/.venv/bin/python3|\" failing.py >failing && chmod +x failing; tail -n 6 failing; l1-cli plugin start $PWD/failing >/dev/null";
    walkthrough
        .step("a failing handler", why, command, async |step| {
            is_up(step, lab, "failing").await
        })
        .await?;
    let log = lab.l1().log().from_now()?;
    connect(walkthrough, lab, &mut events, "Both are called.").await?;
    lab.while_alive(log.wait_for("TypeError: unsupported operand"))
        .await?;
    let why = "pyln-client catches the error, writes its traceback to the node's log, and goes on.";
    let command = "l1-log | grep 'plugin-failing:' | cut -d ' ' -f 2-";
    let failing = folder.join("failing");
    walkthrough
        .step("the traceback", why, command, async |step| {
            step.check_answer("what went wrong", "TypeError: unsupported operand");
            step.check_answer("and where", "in on_connect");
            let active = lab.l1().plugin_active(&failing).await?;
            step.check("the plugin lives", active, || "it does not".to_owned());
            Ok(())
        })
        .await
}
