//! Mistakes in plain shell.

use std::path::Path;
use std::process::Command;

use anyhow::ensure;
use lab_tests::Outcome;

use super::mistakes::{Mistake, m};

/// shellcheck has nothing to say about the solutions.
pub async fn shellcheck() -> Outcome {
    let course = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lab/command/course");
    let mut command = Command::new("shellcheck");
    command.arg(course.join("mute.sh"));
    for entry in course.join("sh").read_dir()? {
        command.arg(entry?.path());
    }
    let checked = command.output()?;
    ensure!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stdout)
    );
    Ok(())
}

pub const MISTAKES: &[Mistake] = &[
    m(
        "lab",
        "#!/bin/sh",
        "#!/bin/shell",
        "names /bin/shell, which does not exist",
    ),
    m("lab", "\n", "\r\n", "its lines end as on Windows"),
    m(
        "getmanifest",
        "\"${id%%,*}\" \"$1\"",
        "1 \"$1\"",
        "came:     {\"jsonrpc\":\"2.0\",\"id\":1",
    ),
    m(
        "getmanifest",
        "\"id\":%s",
        "\"id\":\"%s\"",
        "only JSON-RPC goes to stdout",
    ),
    m("init", "init) answer '{}' ;;", "init) exit ;;", "it ended"),
    m(
        "init",
        "while read",
        "echo ready\nwhile read",
        "only JSON-RPC goes to stdout",
    ),
    m(
        "dynamic",
        "\"dynamic\":true",
        "\"dynamic\":false",
        "Not a dynamic plugin",
    ),
    m(
        "dynamic",
        "\"dynamic\":true",
        "\"dynamic\":yes",
        "only JSON-RPC goes to stdout",
    ),
    m(
        "connect",
        "[\"connect\"]",
        "[\"conect\"]",
        "expected: \"subscriptions\": [\"connect\"]",
    ),
    m(
        "connect",
        "%s notification: %s",
        "%s: %s",
        "the line `connect notification",
    ),
    m(
        "disconnect",
        "[\"connect\",\"disconnect\"]",
        "[\"connect\"]",
        "\"subscriptions\": [\"connect\",\"disconnect\"]",
    ),
    m(
        "disconnect",
        "'%s notification: %s\\n' \"$method\"",
        "'connect notification: %s\\n'",
        "the line `disconnect notification",
    ),
    m(
        "stream",
        "message=$message$line\n",
        "message=$line\nreturn 0\n",
        "the line `connect notification: \"method\"",
    ),
    m(
        "stream",
        "message=$message$line\n",
        "message=\"$message\n$line\"\n",
        "came:     the line `connect notification: `",
    ),
    m(
        "silence",
        "if is_request; then refuse; fi",
        "refuse",
        "must not be answered",
    ),
    m("silence", "-32601", "-1", "-32601"),
    m(
        "log",
        "log \"recorded $method\"",
        "echo \"recorded $method\"",
        "only JSON-RPC goes to stdout",
    ),
    m(
        "log",
        "log \"recorded $method\"",
        "echo \"recorded $method\" >&2",
        "no such message",
    ),
    m(
        "library",
        ".params[.method]? // .params",
        ".params[.method]",
        "the line `connect notification: null`",
    ),
    m(
        "library",
        "--unbuffered ",
        "",
        "flush stdout after each message",
    ),
    m("invoice", "umask 077\n", "", "mode 06"),
    m(
        "invoice",
        "\"invoice_creation\"]",
        "\"invoice_created\"]",
        "\"invoice_creation\"",
    ),
    m(
        "error",
        "error=$(check_invoice 2>&1) || log warn \"$error\"",
        "check_invoice || exit 1",
        "burnt-",
    ),
    m("error", "burnt*)", "burned*)", "in l1's log"),
    m(
        "method",
        "    count=$((count + 1))\n",
        "",
        "expected: {\"count\":2}",
    ),
    m("method", ">>\"$events\"", ">>myplugin.txt", "no such line"),
    m(
        "restart",
        "[ \"$(get .configuration.startup)\" = true ]",
        "true",
        "started by hand",
    ),
    m(
        "restart",
        "log info 'started with the node'",
        "echo 'started with the node' >&2",
        "nothing is logged",
    ),
    m(
        "all",
        "if .method == \"shutdown\" then halt else . end |",
        "",
        "it still runs",
    ),
    m(
        "all",
        "[\"*\"]",
        "[\"connect\",\"*\"]",
        "expected: \"subscriptions\": [\"*\"]",
    ),
    m(
        "order",
        "number=$(tail -n 1 \"$events\" | cut -d ' ' -f 1)",
        "number=0",
        "`201 connect",
    ),
    m(
        "order",
        "'%s %s notification: %s\\n' \"$number\"",
        "'%s notification: %s\\n'",
        "N TOPIC notification",
    ),
    m(
        "topic",
        ",\"notifications\":[{\"method\":\"counted\"}]",
        "",
        "\"notifications\": [{\"method\": \"counted\"}]",
    ),
    m(
        "topic",
        "notify counted \"{\\\"count\\\":$count}\"",
        "notify counted '{}'",
        "\"count\":1",
    ),
    m(
        "hook",
        "        *) answer '{\"result\":\"continue\"}' ;;\n",
        "",
        "\"result\":\"continue\"",
    ),
    m("hook", "no-*)", "yes-*)", "\"result\":\"reject\""),
    m("test", "exit 1", "exit 0", "a failure"),
    m(
        "test",
        "[ \"$(count)\" = \"$before\" ]",
        "[ \"$(count)\" -le $((before + 1000)) ]",
        "exit status 0",
    ),
    m(
        "releases",
        "${msat%msat}",
        "$msat",
        "a payment with \"msat\": \"999msat\"",
    ),
    m(
        "releases",
        "\"name\":\"eventcount\"",
        "\"name\":\"xpay\"",
        "has a method `xpay`, on v24.11.2–v26.06.6",
    ),
];
