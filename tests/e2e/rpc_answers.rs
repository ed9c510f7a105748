//! Every kind of node gives the same answers: one table of requests and answers
//! (`rpc_answers.json`), asked of lightningd and of the embedded node.
//!
//! A row has `what` it is about, the `method` and its `params` (and `filter`),
//! and the expected `result` or `error`, as patterns (see [`lab_tests::pattern`]).
//! `on` is the node that is asked, by default `l1`; `soon` asks again until the
//! answer matches. Where the embedded node differs, `embedded` has its answer and
//! `why`; a row for one kind `only` has a `why`, too. In all texts `{l1}` is l1's
//! id, `{l1.port}` its port, `{l1.dir}` its directory, `{plugins}` the folder of
//! the scripts. The nodes run with `--developer`, so errors quote wrong values.
//!
//! The answers are those of lightningd v26.06.6.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use cln_lab::{
    Error, Lab, Node, NodeKind, NodeSpec, Plugin, PluginStatus, Probe, eventually, write_executable,
};
use lab_tests::pattern::mismatch;
use lab_tests::socket::Socket;
use lab_tests::{Kinds, Outcome, Suite, write_script, write_scripted};
use serde_json::{Value, json};

/// From this release on lightningd answers as the table says.
const SINCE: (u16, u16) = (26, 4);

pub fn tests(suite: Suite) -> Suite {
    suite
        .since(SINCE, "node", node)
        .since(SINCE, "peers", peers)
        .since(SINCE, "invoices", invoices)
        .since(SINCE, "plugins", plugins)
        // Before, lightningd aborts when an option that a plugin has several times is set.
        .since((26, 6), "configs", configs)
        .test("every_row_is_complete", every_row_is_complete)
}

async fn node(kinds: Kinds) -> Outcome {
    play("node", kinds, lab(kinds, 1, |l1| l1).await?).await
}

async fn peers(kinds: Kinds) -> Outcome {
    play("peers", kinds, lab(kinds, 2, |l1| l1).await?).await
}

async fn invoices(kinds: Kinds) -> Outcome {
    play("invoices", kinds, lab(kinds, 1, |l1| l1).await?).await
}

async fn plugins(kinds: Kinds) -> Outcome {
    let scripts = tempfile::tempdir()?;
    let at_start = write_scripted(&scripts.path().join("at_start"), "not_dynamic", "at_start")?;
    write_plugins(scripts.path())?;
    let lab = lab(kinds, 1, |l1| {
        // Most of them are meant to be refused, or to die.
        l1.plugin(Plugin::path(at_start)).allow_plugin_death("*")
    })
    .await?;
    let folder = lab.l1().dir().join("plugins");
    std::fs::create_dir(&folder)?;
    write_scripted(&folder.join("later"), "good", "later")?;
    play_with("plugins", kinds, lab, scripts.path()).await
}

async fn configs(kinds: Kinds) -> Outcome {
    let scripts = tempfile::tempdir()?;
    let options = write_scripted(&scripts.path().join("options"), "options", "o")?;
    let lab = lab(kinds, 1, |l1| {
        l1.plugin(
            Plugin::path(options)
                .option("o-int", 9)
                .option("o-multi", "a")
                .option("o-multi", "b")
                .option("o-ints", 3)
                .option("o-secret", "hidden"),
        )
        .flag("o-flag")
    })
    .await?;
    play_with("configs", kinds, lab, scripts.path()).await
}

/// A lab whose nodes all run with `--developer`, as every lightningd of a lab does.
async fn lab(
    kinds: Kinds,
    nodes: usize,
    l1: impl FnOnce(NodeSpec) -> NodeSpec,
) -> cln_lab::Result<Lab> {
    let spec = |place| {
        let kind = kinds.kind_of(place);
        let spec = NodeSpec::new().kind(kind);
        match kind {
            NodeKind::Embedded => spec.flag("developer").option("allow-deprecated-apis", true),
            _ => spec,
        }
    };
    let first = Lab::builder().node(l1(spec(0)));
    (1..nodes)
        .fold(first, |lab, n| lab.node(spec(n)))
        .start()
        .await
}

/// Every plugin that the table names.
fn write_plugins(folder: &Path) -> anyhow::Result<()> {
    for mode in [
        "disabled",
        "init_disabled",
        "init_exit",
        "not_dynamic",
        "bad_topic",
        "no_object",
        "takes_getinfo",
        "good",
    ] {
        write_scripted(&folder.join(mode), mode, mode)?;
    }
    write_scripted(&folder.join("good2"), "good", "good")?;
    symlink(folder.join("good"), folder.join("link"))?;
    write_script(&folder.join("exits"), "exit 0")?;
    write_script(&folder.join("reads_and_exits"), "read x; exit 0")?;
    // `exec`: what is killed must not leave a child behind.
    write_script(
        &folder.join("rubbish"),
        r"printf 'Hello } world\n\n'; exec sleep 1000",
    )?;
    write_script(
        &folder.join("nearly"),
        r"read x; printf '{not json}\n\n'; exec sleep 1000",
    )?;
    write_script(&folder.join("plain"), "printf Hello; exec sleep 1000")?;
    write_script(
        &folder.join("no_version"),
        r#"printf '{"id":1,"result":{}}\n\n'; exec sleep 1000"#,
    )?;
    write_executable(&folder.join("bytes"), "\x00\x01garbage")?;
    std::fs::write(folder.join("text"), "a text")?;
    std::fs::set_permissions(folder.join("text"), std::fs::Permissions::from_mode(0o600))?;
    let dir = folder.join("dir");
    std::fs::create_dir(&dir)?;
    write_scripted(&dir.join("one"), "good", "one")?;
    write_script(&dir.join("two"), "exit 0")?;
    std::fs::write(dir.join("text"), "a text")?;
    Ok(())
}

async fn play(group: &str, kinds: Kinds, lab: Lab) -> Outcome {
    play_with(group, kinds, lab, Path::new("/nonexistent")).await
}

/// Asks every row of a group, in order; the error lists all that differ.
async fn play_with(group: &str, kinds: Kinds, lab: Lab, plugins: &Path) -> Outcome {
    let plugins = if plugins.exists() {
        plugins.canonicalize()?
    } else {
        plugins.to_owned()
    };
    let embedded = kinds == Kinds::Embedded;
    let at_start = lab.l1().plugin_list().await?;
    let mut differences = Vec::new();
    let mut asked = 0;
    for row in rows(group)? {
        let runs = match row["only"].as_str() {
            None => true,
            Some("embedded") => embedded,
            Some(_) => !embedded,
        };
        if !runs {
            continue;
        }
        asked += 1;
        let row = fill(row, &lab, &plugins);
        let on = lab.node(row["on"].as_str().unwrap_or("l1"))?;
        if let Some(difference) = ask(on, &row, embedded, &at_start).await? {
            differences.push(format!(
                "{}: {} {}\n    {difference}",
                row["what"].as_str().unwrap_or_default(),
                row["method"].as_str().unwrap_or_default(),
                row["params"]
            ));
        }
        // A node that a request has killed answers nothing more.
        lab.check_alive()
            .await
            .with_context(|| format!("after {row}"))?;
    }
    ensure!(
        differences.is_empty(),
        "{} of {asked} answers differ:\n  {}",
        differences.len(),
        differences.join("\n  ")
    );
    Ok(lab.stop().await?)
}

/// Asks one row; `None` if the answer is as expected, but for the plugins that
/// were there `at_start`.
async fn ask(
    on: &Node,
    row: &Value,
    embedded: bool,
    at_start: &[PluginStatus],
) -> anyhow::Result<Option<String>> {
    let expected = match row.get("embedded") {
        Some(differs) if embedded => differs,
        _ => row,
    };
    let look = async || {
        let mut seen = request(on, row).await?;
        if let Ok(Some(Value::Array(plugins))) = seen.as_mut().map(|r| r.get_mut("plugins")) {
            plugins.retain(|p| at_start.iter().all(|known| p["name"] != known.name));
        }
        Ok::<_, Error>(
            match (expected.get("result"), expected.get("error"), seen) {
                (Some(pattern), _, Ok(result)) => mismatch(pattern, &result),
                (_, Some(pattern), Err(error)) => mismatch(pattern, &error),
                (_, Some(_), Ok(result)) => Some(format!("expected an error, seen {result}")),
                (_, _, Err(error)) => Some(format!("expected a result, seen the error {error}")),
                (None, None, _) => Some("the row has neither result nor error".to_owned()),
            },
        )
    };
    if row["soon"] != true {
        return Ok(look().await?);
    }
    let waited = eventually("the answer", Duration::from_secs(10), async || {
        Ok(match look().await? {
            None => Probe::Ready(()),
            Some(difference) => Probe::NotYet(difference),
        })
    })
    .await;
    match waited {
        Ok(()) => Ok(None),
        Err(Error::TimedOut { last_seen, .. }) => Ok(Some(last_seen)),
        Err(other) => Err(other.into()),
    }
}

/// The result or the error, both as JSON.
async fn request(on: &Node, row: &Value) -> cln_lab::Result<Result<Value, Value>> {
    let method = row["method"].as_str().unwrap_or_default();
    if let Some(filter) = row.get("filter") {
        // No client library sends filters.
        let request = json!({
            "jsonrpc": "2.0", "id": "filter", "method": method, "params": row["params"], "filter": filter
        });
        let mut answer = Socket::open(&on.rpc_path())
            .and_then(|mut socket| socket.ask(request.to_string()))
            .map_err(|e| Error::usage(format!("{e:#}")))?;
        return Ok(match answer.get_mut("error") {
            Some(error) => Err(error.take()),
            None => Ok(answer["result"].take()),
        });
    }
    match on.call(method, &row["params"]).await {
        Ok(result) => Ok(Ok(result)),
        Err(Error::Rpc {
            code: Some(code),
            message,
            data,
            ..
        }) => {
            let mut error = json!({"code": code, "message": message});
            if let Some(data) = data {
                error["data"] = *data;
            }
            Ok(Err(error))
        }
        Err(other) => Err(other),
    }
}

/// The rows of a group.
fn rows(group: &str) -> anyhow::Result<Vec<Value>> {
    let table: Value = serde_json::from_str(include_str!("rpc_answers.json"))?;
    match table.get(group) {
        Some(Value::Array(rows)) => Ok(rows.clone()),
        _ => bail!("no group `{group}` in rpc_answers.json"),
    }
}

/// Puts this lab's own ids, ports and folders in.
fn fill(row: Value, lab: &Lab, plugins: &Path) -> Value {
    match row {
        Value::String(text) => {
            let mut text = text.replace("{plugins}", &plugins.display().to_string());
            for node in lab.nodes() {
                let name = node.name();
                if text == format!("{{{name}.port}}") {
                    return json!(node.port());
                }
                text = text
                    .replace(&format!("{{{name}.port}}"), &node.port().to_string())
                    .replace(
                        &format!("{{{name}.dir}}"),
                        &node.dir().display().to_string(),
                    )
                    .replace(&format!("{{{name}}}"), node.id());
            }
            Value::String(text)
        }
        Value::Array(list) => list.into_iter().map(|v| fill(v, lab, plugins)).collect(),
        Value::Object(members) => {
            let filled = members.into_iter().map(|(k, v)| (k, fill(v, lab, plugins)));
            Value::Object(filled.collect())
        }
        other => other,
    }
}

/// A row that is for one kind, or has another answer for the embedded node, says
/// why; and none has a member that means nothing.
async fn every_row_is_complete() -> Outcome {
    const MEMBERS: [&str; 11] = [
        "what", "on", "method", "params", "filter", "result", "error", "soon", "only", "why",
        "embedded",
    ];
    for group in ["node", "peers", "invoices", "plugins", "configs"] {
        for row in rows(group)? {
            let members = row.as_object().context("a row is an object")?;
            for name in members.keys() {
                ensure!(MEMBERS.contains(&name.as_str()), "`{name}` in {row}");
            }
            for needed in ["what", "method", "params"] {
                ensure!(members.contains_key(needed), "no `{needed}` in {row}");
            }
            let reasons = [
                row.get("only").map(|_| &row["why"]),
                row.get("embedded").map(|e| &e["why"]),
            ];
            for why in reasons.into_iter().flatten() {
                ensure!(
                    why.as_str().is_some_and(|why| !why.is_empty()),
                    "no reason in {row}"
                );
            }
        }
    }
    Ok(())
}
