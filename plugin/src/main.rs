//! The plugin `eventlog`: it reads top to bottom in the order things happen.

use std::io::{PipeWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use cln_plugin::messages::Configuration;
use cln_plugin::{Builder, ConfiguredPlugin, Plugin};
use cln_rpc::ClnRpc;
use cln_topics::Release;
use eventlog::options::{self, Settings, Shared};
use eventlog::params;
use eventlog::progress::Command;
use eventlog::recorder::{Inlet, Recorder};
use eventlog::requests::Requests;
use eventlog::stdin::Routes;
use eventlog::stdout::{INVALID_PARAMS, Stdout};
use eventlog::{help, logger, methods, stdin, topics};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// How long lightningd may take to answer `getinfo`.
const GETINFO: Duration = Duration::from_secs(10);

/// Topics of other plugins to subscribe to, for lightningd before v23.08.
const TOPICS_ENV: &str = "EVENTLOG_TOPICS";

fn main() -> Result<ExitCode> {
    match help::instead(std::env::args_os().skip(1)) {
        None => plugin(),
        Some(text) => {
            let _ = std::io::stdout().write_all(text.as_bytes()); // a reader may be gone
            Ok(ExitCode::SUCCESS)
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn plugin() -> Result<ExitCode> {
    logger::install();
    let sighup = signals()?;

    // Notifications go straight from stdin to the recorder, calls of the methods
    // to `methods`, the rest of the protocol to cln-plugin.
    let (calls, called) = mpsc::unbounded_channel();
    let routes = Routes {
        cln_plugin: &["getmanifest", "init", "setconfig"],
        own: methods::NAMES,
        calls,
    };
    let (requests, gate) = stdin::listen(routes).context("reading stdin")?;

    // `getmanifest` and `init`; neither comes if lightningd only shows its help.
    let sends = Arc::new(Sends::from_env());
    let Some(plugin) = manifest(requests, &sends).configure().await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let configuration = plugin.configuration();
    let folder = Path::new(&configuration.lightning_dir);
    let value = |name: &str| plugin.option_str(name).ok().flatten();
    let (fixed, settings) = match Settings::read(value, folder) {
        Ok(read) => read,
        Err(reason) => return disable(plugin, &reason).await,
    };
    sends.remark_on(&settings);
    remark_on_secrets(&settings);

    // The recorder, before anything can come in.
    let node_id = node_id(&configuration).await;
    let (recorder, finished) = match Recorder::start(fixed, Shared::new(settings), node_id) {
        Ok(started) => started,
        Err(reason) => return disable(plugin, &reason).await,
    };
    tokio::spawn(reopen_on(sighup, recorder.clone()));
    let ends = end_signals()?;
    tokio::spawn(methods::serve(called, recorder.clone()));
    let _plugin = plugin.start(recorder.clone()).await?;
    let flush = recorder.clone();
    let stop = gate.open(Inlet::new(recorder.clone()), move || flush.flush());
    tokio::spawn(end_on(ends, stop, recorder));

    // Until `shutdown`, or the end of the input, and everything is written. To
    // return from here would wait for a method that still reads the file.
    let summary = finished.await.context("the recorder's thread is gone")?;
    std::process::exit(i32::from(summary.lost > 0))
}

/// The plugin before it runs.
type Unstarted = ConfiguredPlugin<Recorder, Requests, Stdout>;

/// What this lightningd sends.
struct Sends {
    release: Option<Release>,
    subscriptions: Vec<String>,
}

impl Sends {
    fn from_env() -> Self {
        let release = topics::release_from_env();
        let more = std::env::var(TOPICS_ENV).unwrap_or_default();
        let more: Vec<String> = more
            .split(',')
            .filter(|topic| !topic.is_empty())
            .map(str::to_owned)
            .collect();
        Self {
            release,
            subscriptions: topics::subscriptions(release, &more),
        }
    }

    /// Logs the topics asked for that it does not send.
    fn remark_on(&self, settings: &Settings) {
        for remark in settings.wanted.remarks(self.release, &self.subscriptions) {
            remark.log();
        }
    }
}

/// The manifest: options, methods, subscriptions.
fn manifest(requests: Requests, sends: &Arc<Sends>) -> Builder<Recorder, Requests, Stdout> {
    let mut builder = Builder::new(requests, Stdout)
        .with_logging(false)
        .dynamic()
        .option(options::FILE)
        .option(options::FORMAT.dynamic())
        .option(options::TOPICS.dynamic())
        .option(options::REDACT.dynamic())
        .option(options::FSYNC.dynamic())
        .option(options::ROTATE_SIZE.dynamic())
        .option(options::ROTATE_KEEP.dynamic())
        .option(options::BUFFER)
        .setconfig_callback({
            let sends = sends.clone();
            move |plugin, call| {
                let changed = setconfig(&plugin, &call, &sends);
                async { changed }
            }
        });
    for method in methods::manifest() {
        builder = builder.rpcmethod_from_builder(method);
    }
    for topic in &sends.subscriptions {
        // For the manifest alone: `stdin` takes the notifications first.
        builder = builder.subscribe(topic, |_: Plugin<Recorder>, _| async { Ok(()) });
    }
    builder
}

/// Nothing is recorded then: lightningd itself logs that at debug level only.
async fn disable(plugin: Unstarted, reason: &str) -> Result<ExitCode> {
    log::error!("eventlog is disabled, nothing is recorded: {reason}");
    plugin.disable(reason).await?;
    Ok(ExitCode::SUCCESS)
}

/// The node's id, from `getinfo`: `init` does not carry it.
async fn node_id(configuration: &Configuration) -> Option<String> {
    let socket = Path::new(&configuration.lightning_dir).join(&configuration.rpc_file);
    let getinfo = async {
        let mut rpc = ClnRpc::new(&socket).await?;
        let info: Value = rpc.call_raw("getinfo", &json!({})).await?;
        info["id"]
            .as_str()
            .map(str::to_owned)
            .context("getinfo gave no id")
    };
    let asked = match tokio::time::timeout(GETINFO, getinfo).await {
        Ok(asked) => asked,
        Err(_) => Err(anyhow::anyhow!("no answer in {GETINFO:?}")),
    };
    asked
        .inspect_err(|error| {
            log::warn!(
                "getinfo on {}: {error:#}; records have no node_id",
                socket.display()
            );
        })
        .ok()
}

/// Takes two signals that would end the process: SIGHUP, which reopens the file,
/// and SIGXFSZ, so that a write past RLIMIT_FSIZE is an error to be handled.
fn signals() -> Result<Signal> {
    // The handler stays when its stream is dropped.
    drop(signal(SignalKind::from_raw(nix::libc::SIGXFSZ)).context("taking SIGXFSZ")?);
    signal(SignalKind::hangup()).context("taking SIGHUP")
}

/// For logrotate: SIGHUP makes the recorder open its file again.
async fn reopen_on(mut sighup: Signal, recorder: Recorder) {
    while sighup.recv().await.is_some() {
        recorder.command(Command::Reopen);
    }
}

/// How long recording continues after SIGTERM or SIGINT, if stdin does not end.
const END: Duration = Duration::from_secs(5);

/// How long what waits may then take to be written.
const DRAIN: Duration = Duration::from_secs(10);

fn end_signals() -> Result<[Signal; 2]> {
    Ok([
        signal(SignalKind::terminate()).context("taking SIGTERM")?,
        signal(SignalKind::interrupt()).context("taking SIGINT")?,
    ])
}

/// A signal that ends the plugin mostly ends lightningd as well (systemd and the
/// terminal send it to both): until stdin ends, everything is still recorded.
async fn end_on([mut terminate, mut interrupt]: [Signal; 2], stop: PipeWriter, recorder: Recorder) {
    let mut either = async || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let name = either().await;
    log::info!("{name}: recording until lightningd ends, {END:?} at most");
    // A second one does not wait.
    let _ = tokio::time::timeout(END, either()).await;
    drop(stop); // what was read is recorded, what was not stays lightningd's
    tokio::time::sleep(DRAIN).await;
    log::error!(
        "{} notifications could not be written in {DRAIN:?}: they are lost",
        recorder.counts().length
    );
    std::process::exit(1)
}

/// Logs that secrets are recorded, if they are.
fn remark_on_secrets(settings: &Settings) {
    if !settings.redacts() {
        log::info!(
            "preimages and other secrets are recorded as they are: \
             eventlog-redact=true leaves them out"
        );
    }
}

/// `setconfig`: an option was changed while the plugin runs.
fn setconfig(plugin: &Plugin<Recorder>, call: &Value, sends: &Sends) -> Result<Value> {
    let shared = plugin.state().settings();
    let name = call["config"].as_str().unwrap_or_default();
    let values: Vec<String> = match &call["val"] {
        Value::Array(values) => values.iter().map(text).collect(),
        Value::Null => Vec::new(),
        one => vec![text(one)],
    };
    let mut settings = Settings::clone(&shared.get());
    settings
        .set(name, &values)
        .map_err(|reason| params::error(INVALID_PARAMS, reason))?;
    if name == options::TOPICS.name {
        sends.remark_on(&settings);
    }
    if shared.get().redacts() {
        remark_on_secrets(&settings);
    }
    shared.replace(settings);
    Ok(json!({}))
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
