//! `lab check`: plugins that are broken, each in one way, and plugins that are not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use cln_lab::{NodeKind, PATIENCE, Probe, corpus, eventually};
use lab_tests::sandbox::Sandbox;
use lab_tests::{Kinds, Outcome, Suite, is_alive, program, without, write_script};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::other_languages::{activated, plugin};

pub fn tests(mut suite: Suite) -> Suite {
    for case in CASES {
        let name = format!("{}_is_found_where_it_breaks", case.code.to_lowercase());
        suite = suite.test(&name, move || async move { broken(case) });
    }
    for kinds in Kinds::PURE {
        suite = suite.case("on_running_nodes", kinds, None, move || on_nodes(kinds));
    }
    suite
        .test("every_code_has_a_broken_plugin", every_code)
        .test("plugins_of_this_project_have_no_error", good)
        .test(
            "a_silent_method_takes_no_answers_of_others",
            one_method_silent,
        )
        .test("what_it_writes_is_json_xml_and_svg", outputs)
        .test("a_code_is_explained", explained)
        .test("arguments_that_make_no_sense_are_refused", refused)
        .test("a_file_that_cannot_be_written_costs_no_table", unwritable)
        .test("what_lightningd_accepts_is_no_noise", accepted)
        .test("a_slow_reader_is_no_error", slow)
        .test("after_a_stuck_method_it_is_started_again", stuck)
        .test("advice_names_what_to_do", advice)
        .test("ctrl_c_leaves_nothing_behind", interrupted)
        .unless(without("python3"))
        .test("an_answer_that_is_missing_makes_no_error", missing_answer)
        .test("one_that_ends_of_an_answer_is_doubtful", ends_of_an_answer)
        .test("a_plugin_in_python_has_no_error", python)
}

/// What a broken plugin is found to be.
struct Case {
    code: &'static str,
    /// The first release that it breaks on, and the first after that it does not.
    from: &'static str,
    until: &'static str,
    /// `error` or `warning`; another release may see it otherwise.
    level: &'static str,
    /// What stands before `base.sh`.
    script: &'static str,
}

const fn case(
    code: &'static str,
    (from, until): (&'static str, &'static str),
    level: &'static str,
    script: &'static str,
) -> Case {
    Case {
        code,
        from,
        until,
        level,
        script,
    }
}

const EVERY: (&str, &str) = ("v23.02", "v99.01");

/// A broken plugin for each code.
const CASES: &[Case] = &[
    case(
        "C0101",
        EVERY,
        "error",
        "on() { [ $kind != manifest ] || exit 3; }",
    ),
    case(
        "C0102",
        ("v23.02", "v24.08"),
        "error",
        r#"methods='{"name":"mine","usage":""}'; on() { false; }"#,
    ),
    case(
        "C0103",
        ("v23.02", "v24.11"),
        "error",
        r#"options='{"name":"mine","description":"","type":"string-conceal"}'; on() { false; }"#,
    ),
    case(
        "C0104",
        ("v24.11", "v99.01"),
        "error",
        r#"methods='{"name":"xpay","usage":"","description":""}'; on() { false; }"#,
    ),
    case(
        "C0105",
        ("v23.02", "v23.08"),
        "error",
        r#"hooks='"recover"'; on() { false; }"#,
    ),
    case(
        "C0106",
        ("v23.02", "v23.08"),
        "warning",
        r#"topics='"*"'; on() { case $message in *'"shutdown"'*) exit ;; esac; false; }"#,
    ),
    case(
        "C0107",
        ("v24.02", "v99.01"),
        "error",
        r#"sends='{"method":"custommsg"}'; on() { false; }"#,
    ),
    // A member of `feature_set` that is new.
    case(
        "C0201",
        ("v25.02", "v99.01"),
        "error",
        r#"on() { case $kind$message in init*bolt12_offer*) exit 1 ;; *) false ;; esac; }"#,
    ),
    case(
        "C0202",
        ("v23.02", "v24.05"),
        "error",
        r#"topics='"warning"'; on() { case $kind in manifest) early=y ;; init) early= ;;
            topic) [ -z "$early" ] || exit 1 ;; esac; false; }"#,
    ),
    case(
        "C0203",
        EVERY,
        "warning",
        r#"on() { [ $kind = init ] && answer '"result":{"disable":"no key"}'; }"#,
    ),
    case(
        "C0204",
        EVERY,
        "warning",
        r#"on() { [ $kind = init ] && answer '"error":{"code":-1,"message":"no key"}'; }"#,
    ),
    case(
        "C0205",
        EVERY,
        "warning",
        r#"on() { [ $kind = init ] && answer '"result":{}' &&
            echo 'Traceback (most recent call last):' >&2; }"#,
    ),
    // Before v23.08 the payload is not wrapped.
    case(
        "C0301",
        ("v23.02", "v23.08"),
        "error",
        r#"on() { case $kind$message in connect*'{"connect":'*) ;; connect*'"connect":{'*) ;;
            connect*) exit 1 ;; *) false ;; esac; }"#,
    ),
    case(
        "C0302",
        ("v23.02", "v23.08"),
        "error",
        r#"on() { case $kind$message in connect*'"connect":{'*) ;;
            connect*) echo 'Traceback (most recent call last):' >&2 ;; *) false ;; esac; }"#,
    ),
    case(
        "C0303",
        EVERY,
        "warning",
        "on() { case $message in *lab_check_unknown*) exit 1 ;; esac; false; }",
    ),
    case(
        "C0304",
        EVERY,
        "warning",
        r#"topics='"sendpay_failure"'; on() { case $message in *'"code":204'*erring_node*) ;;
            *'"code":204'*bolt11*) ;; *'"code":204'*) exit 1 ;; esac; false; }"#,
    ),
    case(
        "C0305",
        ("v25.09", "v99.01"),
        "warning",
        r#"topics='"coin_movement"'; on() { case $kind$message in topic*'"tags"'*) ;;
            topic*) exit 1 ;; *) false ;; esac; }"#,
    ),
    case(
        "C0306",
        EVERY,
        "error",
        "on() { [ $kind = connect ] && sleep 100; }",
    ),
    case(
        "C0401",
        EVERY,
        "error",
        r#"hooks='"peer_connected"'; on() { [ $kind = request ]; }"#,
    ),
    case(
        "C0402",
        EVERY,
        "error",
        r#"hooks='"custommsg"'
            on() { [ $kind = request ] && answer '"error":{"code":-1,"message":"no"}'; }"#,
    ),
    case(
        "C0403",
        ("v24.05", "v99.01"),
        "error",
        r#"hooks='"htlc_accepted"'
            on() { [ $kind = request ] && answer '"result":{"result":"fail"}'; }"#,
    ),
    case(
        "C0404",
        EVERY,
        "error",
        r#"hooks='"openchannel"'; on() { [ $kind != request ] || exit 1; false; }"#,
    ),
    // Before v23.11 amounts are strings.
    case(
        "C0405",
        ("v23.02", "v23.11"),
        "error",
        r#"hooks='"invoice_payment"'; on() { case $message in *'"msat":"'*)
            echo 'Traceback (most recent call last):' >&2 ;; esac; false; }"#,
    ),
    case(
        "C0501",
        EVERY,
        "error",
        r#"methods='{"name":"mine","usage":"","description":""}'
            on() { [ $kind != request ] || exit 1; false; }"#,
    ),
    case(
        "C0502",
        EVERY,
        "warning",
        r#"methods='{"name":"mine","usage":"","description":""}'
            on() { [ $kind = request ]; }"#,
    ),
    case(
        "C0503",
        ("v23.08", "v99.01"),
        "error",
        r#"options='{"name":"mine","description":"","type":"string","default":"x","dynamic":true}'
            on() { [ $kind != request ] || exit 1; false; }"#,
    ),
    case(
        "C0601",
        EVERY,
        "error",
        "on() { [ $kind = connect ] && echo 'a peer!'; }",
    ),
    case(
        "C0602",
        ("v23.02", "v23.11"),
        "error",
        r#"on() { [ $kind = connect ] &&
            printf '{"jsonrpc":"2.0","id":null,"result":{}}\n\n'; }"#,
    ),
    case(
        "C0603",
        EVERY,
        "error",
        r#"on() { [ $kind = init ] || return 1; id=${message#*'"id":'}
            printf '{"id":%s,"result":{}}\n\n' "${id%%,*}"; }"#,
    ),
    case(
        "C0604",
        EVERY,
        "error",
        r#"read() { message=$(dd bs=65536 count=1 2>/dev/null) && [ -n "$message" ]; }
            on() { case $message in *'}') false ;; *) exit 1 ;; esac; }"#,
    ),
    case(
        "C0605",
        EVERY,
        "error",
        "n=0; on() { [ $kind = connect ] && n=$((n + 1)) && { [ $n -lt 100 ] || exit 1; }; }",
    ),
    case(
        "C0606",
        ("v23.11", "v99.01"),
        "error",
        "on() { false; }; trap 'sleep 100' EXIT",
    ),
    case(
        "C0607",
        EVERY,
        "warning",
        r#"topics='"shutdown"'; on() { false; }"#,
    ),
    case(
        "C0608",
        ("v23.02", "v25.05"),
        "error",
        r#"on() { [ $kind = connect ] && printf '%s\n\n' \
            '{"jsonrpc":"2.0","method":"log","params":{"level":"trace","message":"x"}}'; }"#,
    ),
    case(
        "C0609",
        EVERY,
        "warning",
        r#"on() { [ $kind = connect ] && printf '%s\n\n' \
            '{"jsonrpc":"2.0","method":"my_topic","params":{}}'; }"#,
    ),
];

/// A plugin of shell, in the sandbox.
fn script(sandbox: &Sandbox, broken: &str) -> anyhow::Result<PathBuf> {
    let path = sandbox.path("plugin.sh");
    write_script(
        &path,
        &format!("{broken}\n{}", include_str!("check/base.sh")),
    )
}

/// By release: codes with their levels.
type Found = BTreeMap<String, Vec<(String, String)>>;

/// What `lab check` finds, quickly, and its exit status.
fn findings(
    sandbox: &Sandbox,
    plugin: &Path,
    args: &[&str],
) -> anyhow::Result<(Option<i32>, Found)> {
    let plugin = plugin.to_str().context("not UTF-8")?;
    let quick = ["--json", "--burst", "200", "--jobs", "7"];
    let said = sandbox.lab(&[&["check", plugin], &quick[..], args].concat())?;
    let report: Value = serde_json::from_str(&said.out).context(said.err)?;
    let mut found = BTreeMap::new();
    for release in report["releases"].as_array().context("releases")? {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of = release["findings"].as_array().context("findings")?;
        let codes = of.iter().map(|f| (text(&f["code"]), text(&f["level"])));
        found.insert(text(&release["release"]), codes.collect());
    }
    Ok((said.code, found))
}

fn broken(case: &Case) -> Outcome {
    let sandbox = Sandbox::new()?;
    let plugin = script(&sandbox, case.script)?;
    let (code, found) = findings(&sandbox, &plugin, &["--patience", "2"])?;
    ensure!(found.len() == corpus::ALL.len(), "{found:?}");
    let release = |text: &str| {
        text.parse::<cln_topics::Release>()
            .map_err(anyhow::Error::msg)
    };
    let (from, until) = (release(case.from)?, release(case.until)?);
    for (version, seen) in &found {
        let breaks = (from..until).contains(&release(version)?);
        // Where it is less than an error, or more, the other level is seen.
        let errors = seen.iter().filter(|(_, level)| level == case.level);
        let codes: Vec<&str> = errors.map(|(code, _)| &code[..]).collect();
        let expected: &[&str] = if breaks { &[case.code] } else { &[] };
        ensure!(
            codes == expected,
            "{version}: {seen:?}, expected {expected:?}"
        );
        ensure!(
            seen.iter().all(|(code, _)| code == case.code),
            "{version}: {seen:?}"
        );
    }
    let status = i32::from(case.level == "error");
    ensure!(code == Some(status), "exit status {code:?}");
    Ok(())
}

async fn every_code() -> Outcome {
    let sandbox = Sandbox::new()?;
    let listed = sandbox.done(&["check", "--codes"])?;
    let codes: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let broken: Vec<&str> = CASES.iter().map(|case| case.code).collect();
    let broken = [&broken[..], &ON_NODE.map(|(code, ..)| code)].concat();
    ensure!(codes == broken, "{codes:?}");
    Ok(())
}

/// A broken plugin for each code of `--node`: what it is found to do, and the scenario.
const ON_NODE: [(&str, &str, &str, &str); 2] = [
    (
        "C0701",
        "error",
        "connect",
        "on() { [ $kind != connect ] || exit 1; false; }",
    ),
    (
        "C0702",
        "warning",
        "hook_openchannel",
        r#"topics= hooks='"openchannel"'
            on() { [ $kind = request ] && answer '"result":{"result":"reject"}'; }"#,
    ),
];

/// On running nodes: plugins that are broken, and one that is not.
async fn on_nodes(kinds: Kinds) -> Outcome {
    let kind = kinds.kind_of(0);
    let sandbox = Sandbox::new()?;
    let check = |script_text: &str| {
        let plugin = script(&sandbox, script_text)?;
        let plugin = plugin.to_str().context("not UTF-8")?;
        let said = sandbox.lab(&[
            "check",
            plugin,
            &format!("--node={}", kinds.name()),
            "--json",
        ])?;
        let report: Value = serde_json::from_str(&said.out).context(said.err)?;
        let release = report["releases"][0].clone();
        Ok::<_, anyhow::Error>((said.code, release))
    };
    for (code, level, scenario, text) in ON_NODE {
        if code == "C0702" && kind == NodeKind::Embedded {
            continue; // it has no hooks
        }
        let (status, release) = check(text)?;
        let found = release["findings"].as_array().context("findings")?;
        let is_this = |f: &Value| f["code"] == code && f["level"] == level;
        ensure!(
            !found.is_empty() && found.iter().all(is_this),
            "{code}: {release:#}"
        );
        ensure!(
            found.iter().any(|f| f["subject"] == scenario),
            "{code}: {release:#}"
        );
        ensure!(status == Some(i32::from(level == "error")), "{status:?}");
    }
    let good = "methods='{\"name\":\"mine\",\"usage\":\"\",\"description\":\"\"}'; on() { false; }";
    let (status, release) = check(good)?;
    let stages = &release["stages"];
    ensure!(
        status == Some(0) && release["findings"] == json!([]) && stages["node"] == "ok",
        "{release:#}"
    );
    ensure!(stages["methods"] == "ok", "{release:#}");
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

/// No error on any release.
fn is_good(plugin: &Path) -> Outcome {
    let sandbox = Sandbox::new()?;
    let (code, found) = findings(&sandbox, plugin, &[])?;
    let errors: Vec<_> = found
        .iter()
        .filter(|(_, seen)| seen.iter().any(|(_, level)| level == "error"))
        .collect();
    ensure!(
        errors.is_empty() && code == Some(0),
        "{}: {errors:?}",
        plugin.display()
    );
    ensure!(found.len() == corpus::ALL.len(), "{found:?}");
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

async fn good() -> Outcome {
    for name in ["eventlog", "failing_handler"] {
        is_good(&program(name)?)?;
    }
    let sandbox = Sandbox::new()?;
    let from_scratch = program("from_scratch")?;
    let text = format!(
        "exec '{}' events.txt connect disconnect",
        from_scratch.display()
    );
    is_good(&write_script(&sandbox.path("plugin.sh"), &text)?)?;
    for name in [
        "events.sh",
        "workshop/2-connect.sh",
        "workshop/3-disconnect.sh",
    ] {
        is_good(&plugin(name)?)?;
    }
    is_good(&script(&sandbox, "on() { false; }")?)
}

async fn python() -> Outcome {
    let sandbox = Sandbox::new()?;
    let (path, events) = (activated("events.py")?, plugin("events.py")?);
    let text = format!("PATH='{path}' exec '{}'", events.display());
    is_good(&write_script(&sandbox.path("plugin.sh"), &text)?)
}

/// A plugin that is not told something on the RPC socket, and fails for want of it.
const ASKS: &str = r#"asked=
on() {
    [ "$kind$asked" = connect ] || return 1
    asked=yes
    python3 - "$PWD/lightning-rpc" <<'END' || exit 1
import json, socket, sys
rpc = socket.socket(socket.AF_UNIX)
rpc.connect(sys.argv[1])
rpc.sendall(b'{"jsonrpc":"2.0","id":"1","method":"feerates","params":{"style":"perkw"}}')
answer = b''
while not answer.endswith(b'\n\n'):
    answer += rpc.recv(4096)
sys.exit('result' not in json.loads(answer))
END
}
"#;

/// One that ends, a moment after `init`, of what the node answered.
const ENDS: &str = r#"on() {
    [ $kind = init ] || return 1
    answer '"result":{}'
    python3 - "$PWD/lightning-rpc" <<'END'
import socket, sys, time
rpc = socket.socket(socket.AF_UNIX)
rpc.connect(sys.argv[1])
rpc.sendall(b'{"jsonrpc":"2.0","id":"1","method":"listpeerchannels","params":{}}')
rpc.recv(4096)
time.sleep(0.1)
END
    exit 1
}
"#;

async fn ends_of_an_answer() -> Outcome {
    let sandbox = Sandbox::new()?;
    let plugin = script(&sandbox, ENDS)?;
    let (code, found) = findings(&sandbox, &plugin, &["--release", "v26.06"])?;
    let seen: Vec<_> = found.values().flatten().collect();
    ensure!(
        code == Some(0) && seen == [&("C0201".to_owned(), "warning".to_owned())],
        "{seen:?}"
    );
    Ok(())
}

async fn missing_answer() -> Outcome {
    let sandbox = Sandbox::new()?;
    let plugin = script(&sandbox, ASKS)?;
    let (code, found) = findings(&sandbox, &plugin, &["--release", "v26.06"])?;
    let seen: Vec<_> = found.values().flatten().collect();
    ensure!(
        code == Some(0) && seen == [&("C0301".to_owned(), "warning".to_owned())],
        "{seen:?}"
    );
    let answers = sandbox.path("answers.json");
    std::fs::write(&answers, json!({"feerates": {"perkw": {}}}).to_string())?;
    let rpc = answers.to_str().context("not UTF-8")?;
    let (_, found) = findings(&sandbox, &plugin, &["--release", "v26.06", "--rpc", rpc])?;
    ensure!(found.values().all(Vec::is_empty), "{found:?}");
    Ok(())
}

/// One method of several is never answered, the others are, after it: no stray answers.
async fn one_method_silent() -> Outcome {
    let sandbox = Sandbox::new()?;
    let method = |name: &str| format!(r#"{{"name":"{name}","usage":"","description":""}}"#);
    let methods = [method("mine-a"), method("mine-b")].join(",");
    let text = format!(
        r#"methods='{methods}'; on() {{ case $message in *'"mine-a"'*) [ $kind = request ] ;;
            *) false ;; esac; }}"#
    );
    let plugin = script(&sandbox, &text)?;
    let args = ["--release", "v26.06", "--patience", "1"];
    let (_, found) = findings(&sandbox, &plugin, &args)?;
    let seen: Vec<_> = found
        .values()
        .flatten()
        .map(|(code, _)| &code[..])
        .collect();
    ensure!(seen == ["C0502"], "{seen:?}");
    Ok(())
}

async fn outputs() -> Outcome {
    let sandbox = Sandbox::new()?;
    let plugin = script(
        &sandbox,
        CASES
            .iter()
            .find(|c| c.code == "C0301")
            .context("a case")?
            .script,
    )?;
    let (xml, svg) = (sandbox.path("junit.xml"), sandbox.path("badge.svg"));
    let said = sandbox.lab(&[
        "check",
        plugin.to_str().context("not UTF-8")?,
        "--burst",
        "200",
        "--junit",
        xml.to_str().context("not UTF-8")?,
        "--badge",
        svg.to_str().context("not UTF-8")?,
    ])?;
    ensure!(said.code == Some(1), "{said:?}");
    for part in [
        "v23.02.2  ✓         ✓         ✓         ✓         ✗",
        "✗ C0301 it ended after `connect` (in)",
        "on        v23.02.2–v23.05.2",
        r#"sent      {"jsonrpc":"2.0","method":"connect","params":{"id":"#,
        "✗ plugin.sh: 1 error, 0 warnings on 14 releases; ",
    ] {
        ensure!(said.out.contains(part), "{part:?} is not in\n{}", said.out);
    }
    // Any parser will do; this one is everywhere that the plugin in Python is tested.
    let parsed = "import sys, xml.etree.ElementTree as tree
suites = tree.parse(sys.argv[1]).getroot()
print(len(suites), sum(int(s.get('failures')) for s in suites),
      len(suites.findall('.//failure')), len(suites.findall('.//testcase')))
print(tree.parse(sys.argv[2]).getroot().find('{http://www.w3.org/2000/svg}title').text)";
    if without("python3").is_none() {
        let said = lab_tests::sandbox::said(
            sandbox
                .command("python3")
                .args(["-c", parsed])
                .arg(&xml)
                .arg(&svg),
        )?;
        let expected = format!("14 2 2 {}\nlightningd: v23.08.1–v26.06.6\n", 14 * 7);
        ensure!(said.out == expected, "{said:?}");
    }
    Ok(())
}

async fn explained() -> Outcome {
    let sandbox = Sandbox::new()?;
    let text = sandbox.done(&["check", "--explain", "c0402"])?;
    ensure!(
        text.contains("7838") && text.contains("What to do"),
        "{text}"
    );
    let unknown = sandbox.lab(&["check", "--explain", "C9"])?;
    ensure!(
        unknown.code == Some(2) && unknown.err.contains("--codes"),
        "{unknown:?}"
    );
    Ok(())
}

async fn refused() -> Outcome {
    let sandbox = Sandbox::new()?;
    let plugin = script(&sandbox, "on() { false; }")?;
    let plugin = plugin.to_str().context("not UTF-8")?;
    let large = sandbox.path("large");
    std::fs::File::create(&large)?.set_len((16 << 20) + 1)?;
    let large = large.to_str().context("not UTF-8")?;
    for (args, part) in [
        (&["/no/such/plugin"][..], "no such executable"),
        (&[plugin, "--release", "v20.01"], "v23.02.2"),
        (&[plugin, "--topics", "conect"], "lab topics"),
        (&[plugin, "--option", "mine=1"], "no option `mine`"),
        (&[plugin, "--option", "mine"], "NAME=VALUE"),
        (&[plugin, "--patience", "0"], "seconds"),
        (&[plugin, "--release", ""], "is no range"),
        (&[plugin, "--release", "v24.11..v25.02..v26"], "is no range"),
        (&[plugin, "--rpc", "/no/such/file"], "/no/such/file"),
        (&[plugin, "--rpc", "/dev/zero"], "not a regular file"),
        (&[plugin, "--rpc", plugin], "no JSON object"),
        (&[plugin, "--rpc", large], "larger than 16 MiB"),
        (&[plugin, "--node", "--rpc", "x"], "cannot be used with"),
        (&[plugin, "--node", "--burst", "1"], "cannot be used with"),
        (&[large], "chmod +x"),
        (&[], "PLUGIN"),
    ] {
        let said = sandbox.lab(&[&["check"], args].concat())?;
        ensure!(
            said.code == Some(2) && said.err.contains(part),
            "{args:?}: {said:?}"
        );
    }
    Ok(())
}

async fn interrupted() -> Outcome {
    let sandbox = Sandbox::new()?;
    let started = sandbox.path("started");
    let broken = format!(
        "on() {{ [ $kind = init ] && echo $$ >>'{}'; }}",
        started.display()
    );
    let plugin = script(&sandbox, &broken)?;
    let mut lab = sandbox.spawn(&["check", plugin.to_str().context("not UTF-8")?])?;
    let pids = eventually("two plugins", PATIENCE, async || {
        let text = std::fs::read_to_string(&started).unwrap_or_default();
        let pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        Ok(if pids.is_empty() {
            Probe::NotYet(text)
        } else {
            Probe::Ready(pids)
        })
    })
    .await?;
    kill(Pid::from_raw(lab.id() as i32), Signal::SIGINT)?;
    let status = lab.wait()?;
    ensure!(status.code() == Some(130), "{status}");
    ensure!(!pids.iter().any(|pid| is_alive(*pid)), "{pids:?}");
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

/// The table is printed, whatever becomes of the files.
async fn unwritable() -> Outcome {
    let sandbox = Sandbox::new()?;
    let plugin = script(&sandbox, "on() { false; }")?;
    let plugin = plugin.to_str().context("not UTF-8")?;
    for file in ["--junit", "--badge"] {
        let said = sandbox.lab(&["check", plugin, "--release", "v26.06", file, "/nowhere/x"])?;
        ensure!(
            said.code == Some(2)
                && said.out.contains("plugin.sh: 0 errors")
                && said.err.contains("/nowhere/x"),
            "{said:?}"
        );
    }
    Ok(())
}

/// What a plugin with a method does when that is called, on the newest release.
fn method(sandbox: &Sandbox, does: &str, args: &[&str]) -> anyhow::Result<Vec<String>> {
    let text = format!(
        r#"methods='{{"name":"mine","usage":"","description":""}}'
            on() {{ [ $kind = request ] || return 1; {does}; }}"#
    );
    let plugin = script(sandbox, &text)?;
    let (_, found) = findings(sandbox, &plugin, &[&["--release", "v26.06"], args].concat())?;
    Ok(found
        .into_values()
        .flatten()
        .map(|(code, _)| code)
        .collect())
}

/// What serde_json cannot hold is an answer, as it is for lightningd; what is no UTF-8 is none.
async fn accepted() -> Outcome {
    let sandbox = Sandbox::new()?;
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for result in [r#"{"x":"\ud800"}"#, r#"{"x":1e400}"#, &deep] {
        let seen = method(&sandbox, &format!("answer '\"result\":{result}'"), &[])?;
        ensure!(seen.is_empty(), "{result}: {seen:?}");
    }
    let binary = r#"printf '{"jsonrpc":"2.0","id":1,"result":"\377"}\n\n'"#;
    let seen = method(&sandbox, binary, &[])?;
    ensure!(seen == ["C0601"], "{seen:?}");
    Ok(())
}

/// One that takes its time with each notification, with a long pipe of its own before that.
async fn slow() -> Outcome {
    let sandbox = Sandbox::new()?;
    let text = format!(
        r#"methods='{{"name":"mine","usage":"","description":""}}'
            on() {{ [ $kind = connect ] && sleep 0.1; }}
            main() {{ {} }}; cat | main"#,
        include_str!("check/base.sh")
    );
    let plugin = write_script(&sandbox.path("slow.sh"), &text)?;
    let args = ["--release", "v26.06", "--burst", "10000"];
    let said =
        sandbox.lab(&[&["check", plugin.to_str().context("not UTF-8")?], &args[..]].concat())?;
    ensure!(
        said.code == Some(0) && said.out.contains("! C0605 it is slow: 20 notifications"),
        "{said:?}"
    );
    Ok(())
}

/// A method that it never comes back from costs the later stages nothing.
async fn stuck() -> Outcome {
    let sandbox = Sandbox::new()?;
    let seen = method(&sandbox, "sleep 1000", &["--patience", "1"])?;
    ensure!(seen == ["C0502"], "{seen:?}");
    Ok(())
}

async fn advice() -> Outcome {
    let sandbox = Sandbox::new()?;
    std::fs::create_dir_all(sandbox.path(".venv/bin"))?;
    let missing = "on() { echo \"ModuleNotFoundError: No module named 'pyln'\" >&2; exit 1; }";
    for (text, part) in [
        (
            r#"hooks='"invoice_paymnet"'; on() { false; }"#,
            "is `invoice_payment` meant?",
        ),
        (
            "on() { [ $kind != init ] || exit 1; false; }",
            "byte for byte",
        ),
        (missing, "/.venv/bin:$PATH"),
        // On every release, and yet no warning.
        (
            r#"on() {
                [ $kind != connect ] || printf '%s\n' 'Traceback (most recent call last):' \
                    "TypeError: on_connect() got an unexpected keyword argument 'id'" >&2
                false
            }"#,
            "keyword argument 'id'; take `**kwargs` as well",
        ),
    ] {
        let plugin = script(&sandbox, text)?;
        let plugin = plugin.to_str().context("not UTF-8")?;
        let said = sandbox.lab(&["check", plugin, "--release", "v26.06"])?;
        let words: Vec<&str> = said.out.split_whitespace().collect();
        ensure!(
            said.code == Some(1) && words.join(" ").contains(part),
            "{said:?}"
        );
    }
    Ok(())
}
