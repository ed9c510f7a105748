//! `lab serve`

use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context;
use cln_lab::control::Control;
use cln_lab::{Implementation, Lab, LabBuilder, NodeKind, NodeSpec};
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::{oneshot, watch};

use super::out;

#[derive(Debug, clap::Args)]
#[command(after_help = r#"
Examples:
  lab serve    for a program that keeps its standard input open
  (echo '{"do":"up","nodes":[{}]}'; sleep 5) | lab serve

Lines of JSON on standard input and output. It says which program it is:
  {"serve":1,"version":"0.1.0","node":"lightningd v26.06.6"}
and takes requests for labs, answered as they are up:
  {"id":1,"do":"up","nodes":[{"options":[["fee-base","10"]]}],"bitcoind":[["txindex","1"]]}
  {"id":1,"done":{"dir":"/tmp/cln-lab-x"}}
  {"id":2,"do":"up","nodes":"two"}
  {"id":2,"failed":"invalid type: string \"two\", expected a sequence "}
`gates`, true by default: whether `down` fails for a BROKEN line, a crash, a dead plugin.

Everything else is asked of the lab itself, on DIR/lab.sock, a line a connection:
  {"do":"add","spec":{"name":"l3","plugins":[{"path":"/p","options":[["x","1"]]}],"env":[["A","b"]]}}
  {"do":"start","node":"l3"}   stop, kill9; {"do":"wait","node":"l3","seconds":5} for its end
  {"do":"configure","node":"l3","spec":{}}   from its next start on
  {"do":"stopbitcoind"}   {"do":"startbitcoind","options":[["blockfilterindex","1"]]}
  {"do":"report"}   {"do":"down"}   {"do":"down","keep":true}
  {"done":null}   or an exit status, or a text   {"refused":"why"}   {"failed":"why, but it is done"}
DIR/lab.json says where each node is. The end of standard input ends all labs, and nothing is left."#)]
pub struct Args {}

#[derive(Debug, Deserialize)]
struct Line {
    #[serde(default)]
    id: Value,
    #[serde(flatten)]
    request: Value,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
enum Request {
    /// Start a lab.
    Up {
        #[serde(default)]
        nodes: Vec<NodeSpec>,
        #[serde(default)]
        bitcoind: Vec<(String, String)>,
        #[serde(default = "yes")]
        gates: bool,
    },
}

/// How long what was answered last may take to be read, after the end of standard input.
const MOMENT: Duration = Duration::from_secs(1);

fn yes() -> bool {
    true
}

impl Request {
    fn builder(self) -> LabBuilder {
        let Request::Up {
            nodes,
            bitcoind,
            gates,
        } = self;
        let lab = nodes.into_iter().fold(Lab::builder(), LabBuilder::node);
        let lab = bitcoind
            .into_iter()
            .fold(lab, |lab, (name, value)| lab.bitcoind_option(name, value));
        if gates { lab } else { lab.without_gates() }
    }
}

/// Returns when standard input has ended, and every lab with it.
pub async fn run(_: Args) -> anyhow::Result<()> {
    let node = NodeKind::from_env()?.find().await;
    let (print, written) = printer();
    print.send(json!({
        "serve": 1,
        "version": env!("CARGO_PKG_VERSION"),
        "node": node.as_ref().ok().map(|(_, is)| Implementation::to_string(is)),
    }))?;
    let (open, _) = watch::channel(());
    let mut lines = BufReader::new(tokio::io::stdin()).split(b'\n');
    let mut hosted = FuturesUnordered::new();
    loop {
        tokio::select! {
            line = lines.next_segment() => match line.context("read standard input")? {
                Some(line) => hosted.push(host(line, print.clone(), open.subscribe())),
                None => break,
            },
            Some(()) = hosted.next() => {}
        }
    }
    drop((open, print));
    while hosted.next().await.is_some() {}
    // What nobody reads is not waited for.
    let _ = tokio::time::timeout(MOMENT, written).await;
    Ok(())
}

/// Prints lines in a thread of its own: one that nobody reads must not stop the labs. The
/// other end is closed once all is written, or nobody reads any more.
fn printer() -> (mpsc::Sender<Value>, oneshot::Receiver<()>) {
    let (print, lines) = mpsc::channel();
    let (done, written) = oneshot::channel();
    std::thread::spawn(move || {
        let _done: oneshot::Sender<()> = done;
        for line in lines {
            if out::line(line).is_err() {
                return;
            }
        }
    });
    (print, written)
}

/// Starts the lab that a line asks for, and serves it until its end is asked for, or
/// `open` is closed.
async fn host(line: Vec<u8>, print: mpsc::Sender<Value>, mut open: watch::Receiver<()>) {
    let mut id = Value::Null;
    // Also where `open` is closed meanwhile: half a lab cannot be discarded.
    let (lab, control) = match start(&line, &mut id).await {
        Ok(started) => started,
        Err(error) => {
            // If nobody reads it, standard input ends as well.
            let _ = print.send(json!({"id": id, "failed": format!("{error:#}")}));
            return;
        }
    };
    let _ = print.send(json!({"id": id, "done": {"dir": lab.dir()}}));
    tokio::select! {
        down = control.serve(&lab) => {
            let keep = down.keep;
            let stopped = end(lab, keep).await;
            down.answer(&stopped).await;
        }
        _ = open.changed() => lab.discard(),
    }
}

async fn start(line: &[u8], id: &mut Value) -> anyhow::Result<(Lab, Control)> {
    let line: Line = serde_json::from_slice(line)?;
    *id = line.id;
    let request: Request = serde_json::from_value(line.request)?;
    let lab = request.builder().start().await?;
    let control = Control::open(&lab)?;
    Ok((lab, control))
}

async fn end(mut lab: Lab, keep: bool) -> cln_lab::Result<()> {
    if keep {
        lab.keep_folder();
    }
    lab.end_by_hand().await?;
    lab.stop().await
}
