//! `lab status`

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use cln_lab::registry::{Named, Up};
use cln_lab::{Lab, Node, is_alive, scaled};
use console::style;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::out;
use super::target::{Target, labs};

/// How long a daemon may take to answer.
const ANSWER: Duration = Duration::from_secs(3);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab status                 every lab that is up: nodes, ports, heights
  lab status --name other    one of them
  lab status --json | jq -r '.labs[0].nodes[] | \"\\(.name) \\(.id)\"'")]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Exit status 0 if a lab is up.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut found = labs().await?;
    let all = args.target.is_open();
    if !all {
        let one = args.target.find().await?;
        found.retain(|lab| lab.name.as_str() == one.name.as_deref().unwrap_or_default());
        if found.is_empty() {
            Lab::attach(&one.dir)?; // a lab that has ended is an error, with its reason
            found.push(Named {
                name: one.dir.display().to_string(),
                // Its holder and its start are known only for a named lab.
                up: Some(Up {
                    dir: one.dir,
                    pid: 0,
                    since: 0,
                }),
            });
        }
    }
    let seen = join_all(found.iter().map(look)).await;
    if args.json {
        out::line(format_args!("{:#}", json!({"labs": seen})))?;
    } else if seen.is_empty() {
        out::line("no lab is up: run `lab up`, or `lab up --detach` to get the terminal back")?;
    } else {
        seen.iter().try_for_each(print)?;
    }
    Ok(ExitCode::from(u8::from(seen.is_empty())))
}

async fn look(lab: &Named) -> Value {
    let Some(up) = &lab.up else {
        return json!({"name": lab.name, "state": "starting"});
    };
    let attached = match Lab::attach(&up.dir) {
        Ok(attached) => attached,
        Err(error) => {
            return json!({"name": lab.name, "state": "ending", "why": error.to_string()});
        }
    };
    let bitcoind = attached.bitcoind();
    let chain = async {
        let answer = tokio::time::timeout(
            scaled(ANSWER),
            bitcoind.call::<Value>("getblockchaininfo", vec![]),
        );
        let network = bitcoind.call::<Value>("getnetworkinfo", vec![]);
        match answer.await {
            Ok(Ok(info)) => (info["blocks"].clone(), network.await.unwrap_or_default()),
            _ => (Value::Null, Value::Null),
        }
    };
    let nodes = join_all(attached.nodes().into_iter().map(look_at_node));
    let ((height, network), nodes) = tokio::join!(chain, nodes);
    json!({
        "name": lab.name,
        "state": "up",
        "pid": (up.pid != 0).then_some(up.pid),
        "since": (up.since != 0).then_some(up.since),
        "dir": up.dir,
        "bitcoind": {
            "running": !height.is_null(),
            "state": state(!height.is_null(), is_alive(bitcoind.pid())),
            "pid": bitcoind.pid(),
            "port": bitcoind.rpc_port(),
            "dir": bitcoind.dir(),
            "program": bitcoind.program(),
            "version": network["subversion"],
            "height": height,
        },
        "nodes": nodes,
    })
}

async fn look_at_node(node: &Node) -> Value {
    let info = tokio::time::timeout(scaled(ANSWER), node.call::<Value>("getinfo", json!({}))).await;
    let info = info.ok().and_then(Result::ok).unwrap_or_default();
    let pid = node.pid().await;
    json!({
        "name": node.name(),
        "running": !info.is_null(),
        "state": state(!info.is_null(), pid.is_some()),
        "pid": pid,
        "id": node.id(),
        "port": node.port(),
        "dir": node.dir(),
        "rpc": node.rpc_path(),
        "program": node.program(),
        "version": node.implementation().to_string(),
        "height": info["blockheight"],
        "peers": info["num_peers"],
        "channels": info["num_active_channels"],
    })
}

/// What a daemon is that answers or does not, and whose process is there or not.
fn state(answers: bool, is_there: bool) -> &'static str {
    match (answers, is_there) {
        (true, _) => "up",
        (false, true) => "does not answer",
        (false, false) => "down",
    }
}

fn print(lab: &Value) -> anyhow::Result<()> {
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let name = style(text(&lab["name"])).bold();
    if lab["state"] != "up" {
        return out::line(format_args!("lab {name}: {}", text(&lab["state"])));
    }
    let since = SystemTime::UNIX_EPOCH + Duration::from_secs(lab["since"].as_u64().unwrap_or(0));
    let age = since.elapsed().unwrap_or_default().as_secs();
    let held = match lab["pid"].as_u64() {
        None => String::new(),
        Some(pid) => format!(
            ", for {}, held by process {pid}",
            humantime::format_duration(Duration::from_secs(age))
        ),
    };
    out::line(format_args!(
        "lab {name}: up{held}, in {}",
        text(&lab["dir"])
    ))?;
    let bitcoind = &lab["bitcoind"];
    let row = |name: &str, daemon: &Value, more: String| {
        let (mark, state) = match daemon["state"].as_str() {
            Some("up") | None => (style("●").green(), String::new()),
            Some(state) => (style("○").red(), format!("  {state}")),
        };
        out::line(format_args!(
            "  {mark} {name:<9} pid {:<8} port {:<6} height {:<5}{more}{state}",
            text(&daemon["pid"]),
            text(&daemon["port"]),
            text(&daemon["height"]),
        ))
    };
    row(
        "bitcoind",
        bitcoind,
        format!("  {}", text(&bitcoind["version"])),
    )?;
    for node in lab["nodes"].as_array().into_iter().flatten() {
        let more = format!(
            "  peers {}  channels {}  {}  {}",
            text(&node["peers"]),
            text(&node["channels"]),
            text(&node["version"]),
            text(&node["id"]),
        );
        row(&text(&node["name"]), node, more)?;
    }
    Ok(())
}
