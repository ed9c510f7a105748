//! A plugin's process and its pipes.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;

use super::fingerprint::Fingerprint;
use super::plugin::Plugin;
use super::{end, incoming};
use crate::json::JsonStream;
use crate::log::Level;
use crate::node::Node;
use crate::options::os_error;
use crate::version::version;

/// How much is read from a plugin at once, in bytes.
const READ: usize = 64 * 1024;

/// How long the pipe of an exited process may stay open (in the hands of a child)
/// before the plugin counts as dead.
const PIPE_AFTER_DEATH: Duration = Duration::from_secs(1);

/// Starts the process and the tasks that serve its pipes.
///
/// # Errors
/// It cannot be started.
pub fn spawn(
    node: &Arc<Node>,
    path: &Path,
    file: Fingerprint,
    important: bool,
) -> Result<Arc<Plugin>, String> {
    let start = |mut command: Command| {
        command
            .env("LIGHTNINGD_PLUGIN", "1")
            .env("LIGHTNINGD_VERSION", version())
            .args(node.config.developer.then_some("--developer"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
    };
    let started = match start(Command::new(path)) {
        // A script without `#!` is for the shell, as with `execvp`, which lightningd
        // uses.
        Err(e) if e.raw_os_error() == Some(Errno::ENOEXEC as i32) => {
            let mut shell = Command::new("/bin/sh");
            shell.arg(path);
            start(shell)
        }
        other => other,
    };
    let mut child = started.map_err(|e| format!("opening pipe: {}", os_error(&e)))?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("opening pipe".into());
    };
    let (tx, rx) = mpsc::unbounded_channel();
    let pid = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .map(Pid::from_raw);
    node.log.debug(
        "plugin-manager",
        format!("started({}) {}", pid.map_or(0, Pid::as_raw), path.display()),
    );
    let plugin = Arc::new(Plugin::new(path, file, important, pid, tx));
    tokio::spawn(write(stdin, rx));
    let reader = tokio::spawn(read(node.clone(), plugin.clone(), stdout));
    tokio::spawn(reap(node.clone(), plugin.clone(), child, reader));
    Ok(plugin)
}

async fn write(mut stdin: ChildStdin, mut lines: mpsc::UnboundedReceiver<Arc<[u8]>>) {
    let mut batch = Vec::new();
    while lines.recv_many(&mut batch, 64).await > 0 {
        for line in batch.drain(..) {
            if stdin.write_all(&line).await.is_err() {
                return;
            }
        }
    }
}

async fn read(node: Arc<Node>, plugin: Arc<Plugin>, mut stdout: ChildStdout) {
    let mut stream = JsonStream::default();
    let mut buf = vec![0; READ];
    loop {
        let len = match stdout.read(&mut buf).await {
            Ok(0) | Err(_) => break,
            Ok(len) => len,
        };
        stream.push(&buf[..len]);
        loop {
            let wrong = match stream.next_message() {
                Ok(Some(message)) => incoming::handle(&node, &plugin, message, &stream).err(),
                Ok(None) => break,
                Err(garbage) => Some(garbage.to_string()),
            };
            if let Some(wrong) = wrong {
                end::end(&node, &plugin, Level::Unusual, &wrong);
                return;
            }
            if plugin.death().is_some() {
                return;
            }
        }
        // Callers get these answers before the end of the output is seen: a plugin
        // may disable itself and exit at once.
        tokio::task::yield_now().await;
    }
    let level = if node.plugins.shutting_down() {
        Level::Debug
    } else {
        Level::Info
    };
    let why = format!("exited {}", plugin.stage().words());
    end::end(&node, &plugin, level, &why);
}

async fn reap(
    node: Arc<Node>,
    plugin: Arc<Plugin>,
    mut child: Child,
    reader: tokio::task::JoinHandle<()>,
) {
    let _ = child.wait().await;
    plugin.set_reaped();
    if tokio::time::timeout(PIPE_AFTER_DEATH, reader)
        .await
        .is_err()
    {
        let why = format!("exited {}", plugin.stage().words());
        end::end(&node, &plugin, Level::Info, &why);
    }
}
