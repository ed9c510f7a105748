//! A check without a node: the plugin's stdin and stdout are ours.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use cln_lab::{Error, PluginHarness, plugin_hint, scaled};
use nix::errno::Errno;
use nix::unistd::AccessFlags;
use serde_json::{Map, Value, json};

use super::bench::UNBUFFERED;
use super::exam::{Exam, LINES, Outcome, Stop, missed};
use super::verdict::Miss;
use crate::counted;
use crate::wire::Sender;

/// How long a plugin may take for an answer, before the factor.
const PATIENCE: Duration = Duration::from_secs(5);

/// One that has read everything, and sleeps for this long, does not answer any more.
pub(super) const QUIET: Duration = Duration::from_secs(1);

/// What the plugin does next, until the deadline; `None` if it sleeps.
async fn until<T>(
    plugin: &mut PluginHarness,
    deadline: Instant,
    mut next: impl AsyncFnMut(&mut PluginHarness) -> T,
) -> Option<T> {
    loop {
        match tokio::time::timeout(scaled(QUIET), next(plugin)).await {
            Ok(done) => return Some(done),
            Err(_) if Instant::now() < deadline && !plugin.idle(Duration::ZERO).await => {}
            Err(_) => return None,
        }
    }
}

/// The next message, until then.
async fn message(plugin: &mut PluginHarness, deadline: Instant) -> cln_lab::Result<Value> {
    match until(plugin, deadline, PluginHarness::next_message).await {
        Some(answered) => answered,
        // It says what is known of such a plugin.
        None => plugin.next_message_within(Duration::ZERO).await,
    }
}

/// Its exit status; `None` if it does not end.
async fn exit(plugin: &mut PluginHarness) -> Option<ExitStatus> {
    let deadline = Instant::now() + scaled(PATIENCE);
    until(plugin, deadline, PluginHarness::wait_exit)
        .await?
        .ok()
}

impl Exam {
    /// Starts the program without a node.
    pub async fn alone(&mut self) -> Outcome<PluginHarness> {
        self.doing("started");
        let harness = PluginHarness::builder(&self.program)
            .env("PATH", self.bench.path())
            .env(UNBUFFERED.0, UNBUFFERED.1)
            .patience(PATIENCE);
        match harness.spawn().await {
            Ok(plugin) => Ok(plugin),
            Err(error) => {
                self.must_be_executable()?;
                let came = match &error {
                    Error::Io { error, .. } => error.to_string(),
                    other => other.to_string(),
                };
                self.not_run("opening pipe", &came)
            }
        }
    }

    /// There is a file, and it may be executed.
    pub fn must_be_executable(&self) -> Outcome {
        match nix::unistd::access(&self.program, AccessFlags::X_OK) {
            Ok(()) if !self.program.is_dir() => Ok(()),
            Err(Errno::ENOENT) => {
                self.not_run("is not executable: No such file", "there is no such file")
            }
            _ => self.not_run(
                "is not executable: Permission denied",
                "it may not be executed: permission denied",
            ),
        }
    }

    /// The system does not run it: what lightningd would say, what came.
    fn not_run<T>(&self, message: &str, came: &str) -> Outcome<T> {
        let help = plugin_hint(&self.program, message, "");
        Err(Stop::Missed(Box::new(Miss {
            done: format!("`{}` is run", self.program.display()),
            expected: "a program that the system can run".to_owned(),
            came: came.to_owned(),
            help: help.map_or(String::new(), |hint| format!("hint: {hint}")),
        })))
    }

    /// Writes exactly this.
    pub async fn raw(&mut self, plugin: &mut PluginHarness, text: &[u8]) -> Outcome {
        self.said(Sender::Lightningd, String::from_utf8_lossy(text), None);
        let written = tokio::time::timeout(scaled(PATIENCE), plugin.raw(text)).await;
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => self.no_answer(plugin, "it to read on", &error).await,
            Err(_) => missed(
                self.done(),
                "it to read on",
                "it does not read its stdin any more",
            ),
        }
    }

    pub async fn send(&mut self, plugin: &mut PluginHarness, message: &Value) -> Outcome {
        self.raw(plugin, format!("{message}\n\n").as_bytes()).await
    }

    /// An id that was not used yet, a text as lightningd's.
    pub fn id(&mut self, method: &str) -> Value {
        json!(format!("lab:{method}#{}", self.bench.number()))
    }

    /// Sends a request with this id; the answer, which must have the same.
    pub async fn ask(
        &mut self,
        plugin: &mut PluginHarness,
        id: Value,
        method: &str,
        params: Value,
        expected: &Value,
    ) -> Outcome<Value> {
        self.doing(format!("{method} was asked with the id {id}"));
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.send(plugin, &request).await?;
        let mut expected = expected.clone();
        expected["id"] = id.clone();
        // Whatever else it sends meanwhile does not prolong it.
        let patience = scaled(PATIENCE);
        let deadline = Instant::now() + patience;
        let mut others = 0;
        loop {
            let message = match message(plugin, deadline).await {
                Ok(message) => message,
                Err(error) => return self.no_answer(plugin, &expected.to_string(), &error).await,
            };
            self.said(Sender::Plugin, message.to_string(), None);
            if message["method"].is_string() && message.get("id").is_none() {
                others += 1;
                if Instant::now() >= deadline {
                    let others = counted(others, "notification");
                    let came = format!("no answer in {patience:.0?}, but {others}");
                    return missed(self.done(), expected, came);
                }
                // One that always has more must not keep all else from running.
                tokio::task::consume_budget().await;
                continue;
            }
            // lightningd kills a plugin that leaves out what protocol it speaks.
            if message.get("id") != Some(&id) || message["jsonrpc"] != "2.0" {
                return missed(self.done(), expected, message);
            }
            return Ok(message);
        }
    }

    /// Asks for the manifest: the result.
    pub async fn manifest(&mut self, plugin: &mut PluginHarness, id: Value) -> Outcome<Value> {
        let expected =
            json!({"jsonrpc": "2.0", "id": id, "result": {"options": [], "rpcmethods": []}});
        let params = json!({"allow-deprecated-apis": false});
        let mut answer = self
            .ask(plugin, id, "getmanifest", params, &expected)
            .await?;
        let result = answer["result"].take();
        if !(result["options"].is_array() && result["rpcmethods"].is_array()) {
            answer["result"] = result;
            return missed(self.done(), expected, answer);
        }
        Ok(result)
    }

    /// Sends `init`, as a node does: with the manifest's defaults.
    pub async fn init(
        &mut self,
        plugin: &mut PluginHarness,
        manifest: &Value,
        options: &Value,
        startup: bool,
    ) -> Outcome {
        let mut values = Map::new();
        for option in manifest["options"].as_array().into_iter().flatten() {
            let name = option["name"].as_str().unwrap_or_default();
            let value = options.get(name).or(option.get("default"));
            if let Some(value) = value.filter(|value| !value.is_null()) {
                values.insert(name.to_owned(), value.clone());
            }
        }
        let params = json!({
            "options": values,
            "configuration": {
                "lightning-dir": plugin.dir(),
                "rpc-file": "lightning-rpc",
                "startup": startup,
                "network": "regtest",
                "feature_set": {"init": "", "node": "", "channel": "", "invoice": ""},
            },
        });
        let id = self.id("init");
        let expected = json!({"jsonrpc": "2.0", "id": id, "result": {}});
        let answer = self.ask(plugin, id, "init", params, &expected).await?;
        // Whatever it is: some libraries say null.
        if answer.get("result").is_none() {
            return missed(self.done(), expected, answer);
        }
        Ok(())
    }

    /// Started without a node, both requests answered; also the manifest.
    pub async fn up(&mut self, options: Value) -> Outcome<(PluginHarness, Value)> {
        let mut plugin = self.alone().await?;
        let id = self.id("getmanifest");
        let manifest = self.manifest(&mut plugin, id).await?;
        self.init(&mut plugin, &manifest, &options, false).await?;
        Ok((plugin, manifest))
    }

    /// Closes its stdin; everything that it still sends until its end, which must be a
    /// good one.
    pub async fn close(&mut self, plugin: &mut PluginHarness) -> Outcome<Vec<Value>> {
        plugin.close_input();
        self.ended(plugin, "stdin was closed").await
    }

    /// Waits for its end, for this reason; what it sent until then.
    pub async fn ended(&mut self, plugin: &mut PluginHarness, why: &str) -> Outcome<Vec<Value>> {
        const END: &str = "it to end, with exit status 0";
        let ended = exit(plugin).await;
        let rest = plugin.pending_messages();
        let end = plugin.next_message_within(Duration::ZERO).await;
        for message in &rest {
            self.said(Sender::Plugin, message.to_string(), None);
        }
        let done = if self.done().is_empty() {
            why.to_owned()
        } else {
            format!("{}; then {why}", self.done())
        };
        if let Err(error @ Error::Answer { .. }) = &end {
            return self
                .no_answer(plugin, "messages alone on stdout", error)
                .await;
        }
        match ended {
            Some(status) if status.success() => Ok(rest),
            Some(status) => self.with_stderr(plugin, &done, END, &format!("it ended: {status}")),
            None => self.with_stderr(plugin, &done, END, "it still runs"),
        }
    }

    pub fn with_stderr<T>(
        &mut self,
        plugin: &PluginHarness,
        done: &str,
        expected: &str,
        came: &str,
    ) -> Outcome<T> {
        let stderr = plugin.stderr();
        let lines: Vec<&str> = stderr.lines().collect();
        let mut help = String::new();
        let tail = &lines[lines.len().saturating_sub(LINES)..];
        if !tail.is_empty() {
            help.push_str("its stderr:\n  ");
            help.push_str(&tail.join("\n  "));
        }
        // Later it is not the start that went wrong.
        let spoke = self.wire().iter().any(|said| said.from == Sender::Plugin);
        let message = "exited before replying";
        if !spoke
            && came.starts_with("it ended")
            && let Some(hint) = plugin_hint(&self.program, message, &stderr)
        {
            help.push_str(&format!("\nhint: {hint}"));
        }
        Err(Stop::Missed(Box::new(Miss {
            done: done.to_owned(),
            expected: expected.to_owned(),
            came: came.to_owned(),
            help: help.trim().to_owned(),
        })))
    }

    /// No message came: why.
    async fn no_answer<T>(
        &mut self,
        plugin: &mut PluginHarness,
        expected: &str,
        error: &Error,
    ) -> Outcome<T> {
        let done = self.done();
        let came = match error {
            Error::Died { status, .. } => format!("it ended: {status}"),
            Error::Answer { why, .. } => {
                let mut why = why.lines().next().unwrap_or_default().to_owned();
                // What it quotes may be several lines.
                if why.matches('`').count() % 2 == 1 {
                    why.push_str("…`");
                }
                if why.contains("not JSON") {
                    self.said(Sender::Plugin, why.as_str(), None);
                    format!("{why}; only JSON-RPC goes to stdout")
                } else {
                    why
                }
            }
            Error::TimedOut { .. } => {
                // One whose answer is in a buffer writes it when it ends.
                plugin.close_input();
                let _ = exit(plugin).await;
                match plugin.pending_messages().first() {
                    Some(late) => format!(
                        "{late}, but only when stdin was closed: flush stdout after each message"
                    ),
                    None => "nothing, nor at its end".to_owned(),
                }
            }
            other => other.to_string(),
        };
        self.with_stderr(plugin, &done, expected, &came)
    }
}
