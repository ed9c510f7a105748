//! The command `lab`: what it does with the nodes of a lab that is up.

use std::io::{BufRead, BufReader};

use anyhow::{Context, ensure};
use cln_lab::{binaries, write_executable};
use lab_tests::sandbox::{Said, Sandbox, said};
use lab_tests::{Kinds, Outcome, Suite, without_lightning_cli};
use serde_json::{Value, json};

pub fn tests(suite: Suite) -> Suite {
    suite
        .unless(without_lightning_cli())
        .scenario_alone("cli_prints_what_lightning_cli_prints", cli_compared)
        .unless(None)
        .scenario_alone("cli_prints_progress_messages", cli_messages)
        .scenario_alone("cli_refuses_wrong_usage", cli_usage)
        .scenario_alone("connect_and_disconnect", connect)
        .scenario_alone("bitcoin_cli_and_mine", bitcoin)
        .scenario_alone("logs_are_printed_and_followed", logs)
        .scenario_alone("events_are_printed_and_followed", events)
        .scenario_alone("plugins_and_their_options", plugins)
        .scenario_alone("a_closed_pipe_is_not_an_error", broken_pipe)
        .on(
            &[Kinds::Lightningd],
            "a_payment_crosses_three_nodes",
            payment,
        )
        .on(
            &[Kinds::Lightningd],
            "a_channel_is_opened_and_closed",
            channel,
        )
        .on(&[Kinds::Lightningd], "coins_are_sent", coins)
        .on(
            &[Kinds::Embedded],
            "missing_capabilities_are_reported",
            cannot,
        )
}

fn up(kinds: Kinds, args: &[&str]) -> anyhow::Result<Sandbox> {
    let sandbox = Sandbox::new()?;
    let mut all = vec!["up", "--detach", "--node", kinds.name()];
    all.extend(args);
    sandbox.done(&all)?;
    Ok(sandbox)
}

/// Nothing is left.
fn down(sandbox: &Sandbox) -> Outcome {
    sandbox.done(&["down"])?;
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

/// Requests whose answers do not depend on when they are made.
const REQUESTS: &[&[&str]] = &[
    &["getinfo"],
    &["getinfo", "-R"],
    &["-F", "getinfo"],
    &["-H", "getinfo"],
    &["-J", "getinfo"],
    &["-l", r#"{"id":true,"address":[{"port":true}]}"#, "getinfo"],
    &["listpeers"],
    &["-k", "listinvoices", "label=x"],
    &["listinvoices", "label=x"],
    &["listinvoices", "x"],
    &["-o", "listinvoices", "label=x"],
    &["plugin", "list"],
    &["plugin", "-k", "subcommand=list"],
    &["help", "-H"],
    &["-J", "help", "invoice"],
    &["-H", "help", "connect"],
    &["listconfigs", "network"],
    &["-F", "listconfigs"],
    &["datastore", "[\"k\"]", "a \"quote\", a \\ and é"],
    &["listdatastore"],
    &["signmessage", "two words"],
    &["sql", "SELECT label FROM invoices"],
    // Errors.
    &["nosuch"],
    &["-R", "nosuch"],
    &["connect"],
    &["connect", "x"],
    &["connect", "x", "127.0.0.1", "007"],
    &["invoice", "1xyz", "a", "b"],
    &["invoice", "--", "-1", "a", "b"],
    &["invoice", "1.5", "a", "b"],
    &["invoice", "true", "a", "b"],
    &["-k", "invoice", "amount_msat=0", "label=a", "description="],
    &["getinfo", "too", "many"],
    &["plugin", "start", "/nonexistent"],
    &[
        "-k",
        "plugin",
        "subcommand=start",
        "plugin=/bin/false",
        "x=[1, {\"y\": null}]",
    ],
];

/// Those that lightning-cli v23.02 takes or shows in another way: it sent digits
/// that begin with 0 as a number, and left `\\"` as it is.
const REQUESTS_SINCE: &[&[&str]] = &[
    &["-H", "listdatastore"],
    &[
        "disconnect",
        "020000000000000000000000000000000000000000000000000000000000000000",
    ],
];

async fn cli_compared(kinds: Kinds) -> Outcome {
    let lightningd = binaries::lightningd()?;
    let reference = binaries::lightning_cli(&lightningd).context("no lightning-cli")?;
    let sandbox = up(kinds, &["--nodes", "1"])?;
    let dir = sandbox.traces("default")?.dir.join("l1");
    let dir = format!("--lightning-dir={}", dir.display());
    let real = |request: &[&str]| {
        let mut command = sandbox.command(&reference);
        said(command.args([&dir, "--network=regtest"]).args(request))
    };
    let mut failures = Vec::new();
    let version = binaries::lightningd_version()
        .await?
        .context("a lightningd")?;
    let since = if version.at_least(26, 6) {
        REQUESTS_SINCE
    } else {
        &[]
    };
    for request in REQUESTS.iter().chain(since) {
        let mut args = vec!["cli", "l1"];
        args.extend(*request);
        // Each in turn, and the real one again: what the first of them changed is
        // then there for both.
        real(request)?;
        let (ours, theirs) = (sandbox.lab(&args)?, real(request)?);
        // A hint about a refused plugin stands beside the answer.
        let quiet = ours.err.is_empty() || ours.code == Some(1) && ours.err.starts_with("hint: ");
        if (ours.code, &ours.out) != (theirs.code, &theirs.out) || !quiet {
            failures.push(format!("{request:?}\nlab cli: {ours:?}\nreal: {theirs:?}"));
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n\n"));

    // The same methods, in the same order.
    let listing = |said: Said| {
        let mut lines: Vec<String> = said.out.lines().map(str::to_owned).collect();
        lines.truncate(lines.len().saturating_sub(2));
        lines
    };
    let (ours, theirs) = (
        listing(sandbox.lab(&["cli", "l1", "help"])?),
        listing(real(&["help"])?),
    );
    // v23.02 prints the first line of each description, too, and categories.
    ensure!(
        ours.len() > 10 && (ours == theirs || !version.at_least(26, 6)),
        "{ours:?}\n{theirs:?}"
    );
    down(&sandbox)
}

async fn cli_usage(kinds: Kinds) -> Outcome {
    let sandbox = up(kinds, &["--nodes", "1"])?;
    for (wrong, what) in [
        (&["-k", "listinvoices", "x"][..], "KEY=VALUE"),
        (&["listinvoices", "{x}"], "{x}"),
        (&["-l", "{", "getinfo"], "--filter"),
    ] {
        let mut args = vec!["cli", "l1"];
        args.extend(wrong);
        let said = sandbox.lab(&args)?;
        ensure!(
            said.code == Some(2) && said.out.is_empty() && said.err.contains(what),
            "{wrong:?}: {said:?}"
        );
    }
    let nobody = sandbox.lab(&["cli", "l9", "getinfo"])?;
    ensure!(
        nobody.code == Some(2) && nobody.err.contains("it has l1"),
        "{nobody:?}"
    );
    down(&sandbox)
}

/// A plugin with a method that sends messages before its answer.
const TALKATIVE: &str = r#"#!/bin/sh
id() { rest=${line#*'"id":'}; printf '%s' "${rest%%,*}"; }
while read -r line; do
    case $line in
    *'"getmanifest"'*)
        printf '{"jsonrpc":"2.0","id":%s,"result":{"dynamic":true,"options":[],"subscriptions":[],"notifications":[],"rpcmethods":[{"name":"talk","usage":"","description":"talk"}]}}\n\n' "$(id)" ;;
    *'"init"'*)
        printf '{"jsonrpc":"2.0","id":%s,"result":{}}\n\n' "$(id)" ;;
    *'"talk"'*)
        for level in debug info unusual; do
            printf '{"jsonrpc":"2.0","method":"message","params":{"id":%s,"level":"%s","message":"a %s word"}}\n\n' "$(id)" $level $level
        done
        printf '{"jsonrpc":"2.0","id":%s,"result":{"format-hint":"simple","said":"that\\nis all"}}\n\n' "$(id)" ;;
    esac
done
"#;

async fn cli_messages(kinds: Kinds) -> Outcome {
    let sandbox = up(kinds, &["--nodes", "1"])?;
    let plugin = sandbox.path("talkative");
    write_executable(&plugin, TALKATIVE)?;
    let path = plugin.to_str().context("path")?;
    sandbox.done(&["cli", "l1", "plugin", "start", path])?;
    for (level, expected) in [
        ("info", "# a info word\n# a unusual word\nthat\nis all\n"),
        (
            "debug",
            "# a debug word\n# a info word\n# a unusual word\nthat\nis all\n",
        ),
        ("none", "that\nis all\n"),
    ] {
        let out = sandbox.done(&["cli", "l1", "-N", level, "talk"])?;
        ensure!(out == expected, "{level}: {out}");
    }
    down(&sandbox)
}

async fn connect(kinds: Kinds) -> Outcome {
    let sandbox = up(kinds, &[])?;
    let answer = sandbox.json(&["connect", "1", "l2"])?;
    let l2 = sandbox.json(&["cli", "2", "getinfo"])?;
    ensure!(
        answer["id"] == l2["id"] && answer["direction"] == "out",
        "{answer}"
    );
    // Both sides, at once.
    for node in ["l1", "l2"] {
        let peers = sandbox.json(&["cli", node, "listpeers"])?;
        ensure!(peers["peers"][0]["connected"] == true, "{node}: {peers}");
    }
    ensure!(sandbox.done(&["disconnect", "1", "2"])? == "{}\n");
    let twice = sandbox.lab(&["disconnect", "1", "2"])?;
    ensure!(
        twice.code == Some(1) && twice.err.contains("l1 is not connected to l2"),
        "{twice:?}"
    );
    down(&sandbox)
}

async fn bitcoin(kinds: Kinds) -> Outcome {
    let sandbox = up(kinds, &[])?;
    ensure!(sandbox.done(&["bitcoin-cli", "getblockcount"])?.trim() == "101");
    ensure!(sandbox.done(&["mine", "6"])? == "107\n");
    for node in ["l1", "l2"] {
        let info = sandbox.json(&["cli", node, "getinfo"])?;
        ensure!(info["blockheight"] == 107, "{node}: {info}");
    }
    let hashes: Value = serde_json::from_str(&sandbox.done(&["bitcoin-cli", "-generate", "1"])?)?;
    ensure!(hashes["blocks"][0].is_string(), "{hashes}");
    // Its exit status is bitcoin-cli's: -32601, so 89 in eight bits.
    let wrong = sandbox.lab(&["bitcoin-cli", "no-such-method"])?;
    ensure!(wrong.code == Some(89), "{wrong:?}");
    down(&sandbox)
}

async fn logs(kinds: Kinds) -> Outcome {
    let sandbox = up(kinds, &[])?;
    let all = sandbox.done(&["logs", "l1"])?;
    let file = sandbox.traces("default")?.dir.join("l1/log");
    ensure!(std::fs::read_to_string(file)?.starts_with(&all) && !all.is_empty());
    let last = sandbox.done(&["logs", "1", "-n", "2"])?;
    ensure!(last.lines().count() == 2, "{last}");
    let several = sandbox.done(&["logs", "l1", "l2", "bitcoind"])?;
    for name in ["l1      | ", "l2      | ", "bitcoind| "] {
        ensure!(several.lines().any(|line| line.starts_with(name)), "{name}");
    }
    // By time, so the node that started last does not come last.
    let times: Vec<&str> = several
        .lines()
        .filter_map(|line| line.split("| ").nth(1)?.get(..19))
        .filter(|time| time.starts_with("20"))
        .collect();
    ensure!(times.is_sorted(), "{several}");

    let mut child = sandbox.spawn(&["logs", "l1", "-f"])?;
    let mut lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
    let mut seen = |text: &str| -> Outcome {
        for line in lines.by_ref() {
            if line?.contains(text) {
                return Ok(());
            }
        }
        anyhow::bail!("the log ended before `{text}`")
    };
    seen("")?;
    let started = sandbox.lab(&["cli", "l1", "plugin", "start", "/bin/false"])?;
    ensure!(started.code == Some(1), "{started:?}");
    seen("false")?;
    down(&sandbox)?;
    // The end of the lab is the end of what follows it.
    let status = child.wait()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

async fn events(kinds: Kinds) -> Outcome {
    let sandbox = up(kinds, &[])?;
    let none = sandbox.lab(&["events", "l1"])?;
    ensure!(
        none.code == Some(1) && none.err.contains("lab events l1 -f"),
        "{none:?}"
    );
    // Following starts what records.
    let mut child = sandbox.spawn(&["events", "l1", "-f", "--topic", "connect,disconnect"])?;
    let mut note = String::new();
    BufReader::new(child.stderr.take().context("stderr is piped")?).read_line(&mut note)?;
    ensure!(note == "note: started eventlog on l1\n", "{note}");
    sandbox.done(&["connect", "1", "2"])?;
    sandbox.done(&["cli", "l1", "invoice", "1000", "inv", "pizza"])?;
    sandbox.done(&["disconnect", "1", "2"])?;
    let mut lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
    let mut next = || -> anyhow::Result<Value> {
        let line = lines.next().context("no more events")??;
        Ok(serde_json::from_str(&line)?)
    };
    ensure!(next()?["topic"] == "connect" && next()?["topic"] == "disconnect");
    let invoices = sandbox.done(&["events", "l1", "--topic", "invoice_creation"])?;
    ensure!(invoices.lines().count() == 1, "{invoices}");
    let all = sandbox.done(&["events", "l1"])?;
    ensure!(all.lines().count() >= 3, "{all}");
    // Another recorder's file.
    let file = sandbox.done(&["events", "l1", "--file", "eventlog.jsonl"])?;
    ensure!(file == all, "{file}\n{all}");
    let missing = sandbox.lab(&["events", "l1", "--file", "no-such-file"])?;
    ensure!(missing.code == Some(1), "{missing:?}");
    down(&sandbox)?;
    ensure!(child.wait()?.success());
    Ok(())
}

/// Plugins that start with the nodes, with a list for a value.
async fn plugins(kinds: Kinds) -> Outcome {
    let sandbox = up(
        kinds,
        &[
            "--plugin",
            "eventlog,eventlog-topics=connect,disconnect,eventlog-file=seen",
        ],
    )?;
    sandbox.done(&["connect", "1", "2"])?;
    sandbox.done(&["cli", "l1", "invoice", "1000", "inv", "pizza"])?;
    sandbox.done(&["disconnect", "1", "2"])?;
    let mut child = sandbox.spawn(&["events", "l1", "-f"])?;
    let mut lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
    for topic in ["eventlog_started", "connect", "disconnect"] {
        let line = lines.next().context("no more events")??;
        let event: Value = serde_json::from_str(&line)?;
        ensure!(event["topic"] == topic, "{event}");
    }
    down(&sandbox)?;
    ensure!(child.wait()?.success());
    Ok(())
}

async fn broken_pipe(kinds: Kinds) -> Outcome {
    let sandbox = up(kinds, &["--nodes", "1"])?;
    for args in [
        &["logs", "l1"][..],
        &["cli", "l1", "help"],
        &["status", "--json"],
        &["doctor"],
        &["topics"],
    ] {
        let mut child = sandbox.spawn(args)?;
        // Closed before anything was read.
        drop(child.stdout.take());
        let said: Said = child.wait_with_output()?.into();
        ensure!(
            said.code == Some(0) && said.err.is_empty(),
            "{args:?}: {said:?}"
        );
    }
    down(&sandbox)?;
    // Nor is a closed terminal: there is a note to print, as nothing is up.
    let mut child = sandbox.spawn(&["down"])?;
    drop(child.stderr.take());
    let status = child.wait()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

async fn payment(kinds: Kinds) -> Outcome {
    let sandbox = up(kinds, &["--nodes", "3", "--channels"])?;
    let status = sandbox.json(&["status", "--json"])?;
    let nodes = status["labs"][0]["nodes"].as_array().context("nodes")?;
    let counts: Vec<&Value> = nodes.iter().map(|node| &node["channels"]).collect();
    ensure!(counts == [&json!(1), &json!(2), &json!(1)], "{counts:?}");

    let paid = sandbox.json(&["pay", "1", "3", "1000sat"])?;
    ensure!(paid["amount_msat"] == 1_000_000, "{paid}");
    ensure!(
        paid["amount_sent_msat"].as_u64() > Some(1_000_000),
        "l2 takes a fee: {paid}"
    );
    let invoices = sandbox.json(&["cli", "l3", "listinvoices"])?;
    let invoice = &invoices["invoices"][0];
    ensure!(
        invoice["status"] == "paid" && invoice["payment_hash"] == paid["payment_hash"],
        "{invoice}"
    );
    let too_much = sandbox.lab(&["pay", "1", "2", "1btc"])?;
    ensure!(
        too_much.code == Some(1) && too_much.err.contains("l1: pay"),
        "{too_much:?}"
    );
    let any = sandbox.lab(&["pay", "1", "2", "any"])?;
    ensure!(any.code == Some(2), "{any:?}");
    down(&sandbox)
}

async fn channel(kinds: Kinds) -> Outcome {
    let sandbox = up(kinds, &[])?;
    let opened = sandbox.json(&["channel", "1", "2", "200000"])?;
    let text = |key: &str| opened[key].as_str().context("text");
    // Its output is spent by the close.
    let (_, output) = text("short_channel_id")?.rsplit_once('x').context("x")?;
    let funding = ["bitcoin-cli", "gettxout", text("funding_txid")?, output];
    ensure!(sandbox.done(&funding)?.contains("0.00200000"));
    let closed = sandbox.json(&["close", "1", "2"])?;
    ensure!(
        closed["txid"].as_str().map(str::len) == Some(64),
        "{closed}"
    );
    ensure!(sandbox.done(&funding)?.is_empty());
    down(&sandbox)
}

async fn coins(kinds: Kinds) -> Outcome {
    let sandbox = up(kinds, &[])?;
    let outputs = |node: &str| -> anyhow::Result<usize> {
        let funds = sandbox.json(&["cli", node, "listfunds"])?;
        Ok(funds["outputs"].as_array().context("outputs")?.len())
    };
    let txid = sandbox.done(&["fund", "l2", "--sat", "123456"])?;
    ensure!(txid.trim().len() == 64, "{txid}");
    ensure!((outputs("l1")?, outputs("l2")?) == (0, 1));
    // More than the wallet has at first: it mines what is missing.
    sandbox.done(&["fund", "--sat", "3000000000"])?;
    ensure!((outputs("l1")?, outputs("l2")?) == (1, 2));
    down(&sandbox)
}

async fn cannot(kinds: Kinds) -> Outcome {
    let sandbox = up(kinds, &[])?;
    for args in [
        &["fund"][..],
        &["channel", "1", "2"],
        &["channel", "--line"],
        &["pay", "1", "2", "1000"],
        &["close", "1", "2"],
    ] {
        let said = sandbox.lab(args)?;
        ensure!(
            said.code == Some(1) && said.out.is_empty() && said.err.contains("embedded"),
            "{args:?}: {said:?}"
        );
    }
    down(&sandbox)?;
    let up = sandbox.lab(&["up", "-d", "--node", kinds.name(), "--channels"])?;
    ensure!(up.code == Some(1) && up.err.contains("embedded"), "{up:?}");
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}
