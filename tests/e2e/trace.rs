//! The trace of a lab: what it writes down, and what is read from it.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, ensure};
use cln_lab::trace::{self, Entry, Kind};
use cln_lab::{Keep, Lab, Plugin};
use lab_tests::{Kinds, Outcome, Suite, write_script};
use serde_json::{Value, json};

pub fn tests(suite: Suite) -> Suite {
    suite
        .scenario_alone("what_a_lab_does_is_written_down", written_down)
        .scenario_alone("it_can_be_off", off)
}

async fn lab(kinds: Kinds) -> anyhow::Result<Lab> {
    Ok(kinds.lab(2).keep(Keep::Never).start().await?)
}

/// What the lab itself has written so far.
fn written(lab: &Lab) -> anyhow::Result<Vec<Entry>> {
    let text = std::fs::read_to_string(lab.dir().join(trace::FILE))?;
    let parse = |line| serde_json::from_str(line).with_context(|| format!("line `{line}`"));
    text.lines().map(parse).collect()
}

async fn written_down(kinds: Kinds) -> Outcome {
    let lab = lab(kinds).await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    l1.connect(l2).await?;
    let refused = l1.call::<Value>("nosuch", json!({"a": 1.50})).await;
    ensure!(refused.is_err(), "{refused:?}");
    let dying = lab.dir().join("dying.sh");
    write_script(&dying, "echo its last words >&2; exit 1")?;
    let refused = l1.plugin_start(&Plugin::path(&dying)).await;
    ensure!(refused.is_err(), "{refused:?}");
    lab.mine(1).await?;
    l2.kill9().await?;
    l2.start().await?;

    let path = lab.dir().join(trace::FILE);
    let mode = path.metadata()?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    let all = written(&lab)?;
    ensure!(all[0].version == Some(trace::VERSION), "{:?}", all[0]);
    let sorted = all.iter().filter(|entry| entry.kind != Kind::Request);
    ensure!(sorted.is_sorted_by_key(|entry| &entry.at), "{all:?}");
    let find = |what: &str, test: &dyn Fn(&Entry) -> bool| {
        let found = all.iter().position(test);
        found.with_context(|| format!("no {what} in {all:#?}"))
    };
    let started = find("start", &|entry| {
        let version = l1.implementation().to_string();
        entry.kind == Kind::Start
            && entry.to.as_deref() == Some("l1")
            && entry.name == version
            && entry
                .text
                .as_ref()
                .is_some_and(|text| text.contains("--lightning-dir="))
    })?;
    let ready = find("ready", &|entry| {
        entry.kind == Kind::Ready && entry.from == "l1"
    })?;
    let asked = find("request", &|entry| {
        entry.kind == Kind::Request && entry.name == "connect"
    })?;
    let answered = find("answer", &|entry| {
        entry.kind == Kind::Answer && entry.name == "connect"
    })?;
    ensure!(started < ready && ready < asked && asked < answered);
    ensure!(all[asked].id == all[answered].id && all[answered].ms.is_some_and(|ms| ms > 0.0));
    let params = all[asked].data.as_ref().context("parameters")?.get();
    ensure!(params.contains(l2.id()), "{params}");
    find("error", &|entry| {
        let error = entry
            .data
            .as_ref()
            .map(|data| data.get())
            .unwrap_or_default();
        entry.kind == Kind::Answer
            && entry.bad
            && entry.name == "nosuch"
            && error.contains("-32601")
    })?;
    find("words of a plugin that died", &|entry| {
        entry.kind == Kind::Stderr
            && entry.from == "l1"
            && entry.text.as_deref() == Some("its last words")
    })?;
    find("block", &|entry| {
        entry.name == "generatetoaddress" && entry.kind == Kind::Answer
    })?;
    find("end", &|entry| {
        let text = entry.text.as_deref().unwrap_or_default();
        entry.kind == Kind::End && entry.from == "l2" && text.contains("SIGKILL") && !entry.bad
    })?;
    // A wait looks many times: only what it saw change is here.
    let looks = all
        .iter()
        .filter(|entry| entry.name == "getinfo" && entry.kind == Kind::Request);
    ensure!(looks.clone().count() < 60, "{}", looks.count());
    Ok(lab.stop().await?)
}

async fn off(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).keep(Keep::Never).trace(false).start().await?;
    lab.l1().connect(lab.l2()).await?;
    ensure!(!lab.dir().join(trace::FILE).exists());
    Ok(lab.stop().await?)
}
