//! A plugin without a node: the test speaks lightningd's side of the protocol.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::corpus::{Corpus, Kind, Message};
use crate::error::IoContext;
use crate::lab::folder::Folder;
use crate::lock::lock;
use crate::node::NETWORK;
use crate::process::child::Child;
use crate::process::daemon::command_line;
use crate::process::listing::{is_alive, is_asleep};
use crate::wait::{poll, remember};
use crate::wire::MessageReader;
use crate::{Error, Keep, PATIENCE, Probe, Result, eventually, scaled};

/// The plugin's `LIGHTNINGD_VERSION`, unless the test sets another.
const VERSION: &str = "v26.06.6";

/// More of a plugin's standard error, in bytes, is not kept: its end is.
const STDERR: usize = 64 * 1024;

/// More messages, or log lines, that nobody takes are not kept: the last are.
const MOST: usize = 100_000;

/// How long what follows from an end may take.
const MOMENT: Duration = Duration::from_secs(1);

/// A running plugin with the test in place of lightningd, on its standard input and
/// output, with no node and no bitcoind. A test takes milliseconds, and can send what
/// lightningd never would.
///
/// ```no_run
/// # async fn test() -> cln_lab::Result<()> {
/// use cln_lab::PluginHarness;
/// use serde_json::json;
///
/// let mut plugin = PluginHarness::spawn("target/debug/eventlog").await?;
/// let manifest = plugin.manifest().await?;
/// assert_eq!(manifest["dynamic"], true);
/// plugin.init(json!({"eventlog-format": "text"})).await?;
/// plugin.notify("disconnect", json!({"id": "02aa"})).await?;
/// let status = plugin.close().await?;
/// assert!(status.success());
/// # Ok(()) }
/// ```
///
/// It accepts what lightningd accepts. What no [`Value`] can hold, such as `1e400` or
/// `"\ud800"`, is a string in an answer, as it is written.
///
/// Every error quotes the end of the plugin's standard error. Dropping the harness
/// kills the plugin.
#[derive(Debug)]
pub struct PluginHarness {
    child: Child,
    command: String,
    stdin: Option<ChildStdin>,
    received: Arc<Mutex<Received>>,
    /// Something was received since the last look.
    news: Arc<Notify>,
    readers: [JoinHandle<()>; 2],
    folder: Folder,
    next_id: u64,
    manifest: Option<Value>,
    patience: Duration,
    release: Option<&'static Corpus>,
}

/// What the plugin has sent.
#[derive(Debug, Default)]
struct Received {
    /// All of it that `next_message` has not taken, in order; of very many, the last.
    all: VecDeque<Value>,
    answers: Vec<Value>,
    /// Of very many, the last.
    logs: VecDeque<PluginLog>,
    notifications: VecDeque<(String, Value)>,
    malformed: Vec<Value>,
    stderr: Vec<u8>,
    /// What it wrote to its standard output that is no message; it may well be running.
    noise: Option<String>,
    /// Why nothing more comes on its standard output.
    ended: Option<String>,
}

/// A line that a plugin asks lightningd to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginLog {
    /// `debug`, `info`, `warn` or `error`, as the plugin spells it.
    pub level: String,
    /// The line.
    pub message: String,
}

/// Describes how to start a plugin; [`HarnessBuilder::spawn`] starts it.
#[derive(Debug)]
pub struct HarnessBuilder {
    command: std::process::Command,
    patience: Duration,
    release: Option<&'static Corpus>,
}

impl HarnessBuilder {
    /// Speaks as this release did: [`PluginHarness::manifest`] and [`PluginHarness::init`]
    /// send what it sent, and the environment is the one it sets.
    #[must_use]
    pub fn release(mut self, release: &'static Corpus) -> HarnessBuilder {
        let environment = release.find(Kind::Environment, "").next();
        let variables = environment
            .map(|variables| variables.json())
            .unwrap_or_default();
        for (name, value) in variables.as_object().into_iter().flatten() {
            self.command.env(name, value.as_str().unwrap_or_default());
        }
        self.release = Some(release);
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> HarnessBuilder {
        self.command.arg(arg);
        self
    }

    /// Sets an environment variable; `LIGHTNINGD_VERSION` is v26.06.6 by default.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> HarnessBuilder {
        self.command.env(name, value);
        self
    }

    /// Sets how long the plugin may take for anything: 10 s by default, scaled by
    /// [`crate::timeout_factor`].
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> HarnessBuilder {
        self.patience = patience;
        self
    }

    /// Starts the plugin in a folder of its own, as lightningd does: in the
    /// network directory, with `LIGHTNINGD_PLUGIN` set. Nothing is sent to it yet.
    ///
    /// # Errors
    /// If it cannot be run.
    pub async fn spawn(mut self) -> Result<PluginHarness> {
        let (folder, reaper) = Folder::create(Keep::Never)?;
        let network_dir = folder.path().join(NETWORK);
        std::fs::create_dir(&network_dir).doing("create folder", &network_dir)?;
        let command = command_line(&self.command);
        self.command
            .current_dir(&network_dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = Child::spawn(self.command, &reaper).doing("run", &command)?;
        let process = &mut child.process;
        let (Some(stdin), Some(stdout), Some(stderr)) = (
            process.stdin.take(),
            process.stdout.take(),
            process.stderr.take(),
        ) else {
            unreachable!("all three are piped");
        };
        let stdin = ChildStdin::from_std(stdin).doing("write to", &command)?;
        let stdout = ChildStdout::from_std(stdout).doing("read from", &command)?;
        let mut stderr = ChildStderr::from_std(stderr).doing("read from", &command)?;
        let received = Arc::new(Mutex::new(Received::default()));
        let news = Arc::new(Notify::new());
        let messages = MessageReader::new(stdout);
        let listener = tokio::spawn(listen(messages, Arc::clone(&received), Arc::clone(&news)));
        let sink = Arc::clone(&received);
        let stderr = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = stderr.read(&mut buffer).await {
                let stderr = &mut lock(&sink).stderr;
                stderr.extend_from_slice(&buffer[..n]);
                // Seldom, as it moves what is kept.
                if stderr.len() > 2 * STDERR {
                    stderr.drain(..stderr.len() - STDERR);
                }
            }
        });
        Ok(PluginHarness {
            child,
            command,
            stdin: Some(stdin),
            received,
            news,
            readers: [listener, stderr],
            folder,
            next_id: 0,
            manifest: None,
            patience: self.patience,
            release: self.release,
        })
    }
}

/// Sorts what the plugin sends until it closes its standard output.
async fn listen(
    mut messages: MessageReader<ChildStdout>,
    received: Arc<Mutex<Received>>,
    news: Arc<Notify>,
) {
    loop {
        let next = messages.next_accepted().await;
        // One that floods leaves time to whoever takes what it sends.
        tokio::task::consume_budget().await;
        let mut received = lock(&received);
        match next {
            Ok(Some(message)) => {
                push(&mut received.all, message.clone());
                received.sort(message);
            }
            Ok(None) => received.ended = Some("it closed its standard output".to_owned()),
            Err(error) => {
                received.noise = Some(error.to_string());
                received.ended = Some(format!("it wrote to its standard output: {error}"));
            }
        }
        news.notify_one();
        if received.ended.is_some() {
            return;
        }
    }
}

/// One that floods does not fill the memory.
fn push<T>(received: &mut VecDeque<T>, item: T) {
    if received.len() == MOST {
        received.pop_front();
    }
    received.push_back(item);
}

impl Received {
    /// As lightningd: what has an id is an answer.
    fn sort(&mut self, mut message: Value) {
        let params = &message["params"];
        if message.get("id").is_some() {
            self.answers.push(message);
            return;
        }
        match (message["method"].as_str(), params["message"].as_str()) {
            (Some("log"), Some(text)) => {
                let level = params["level"].as_str().unwrap_or("info").to_owned();
                let message = text.to_owned();
                push(&mut self.logs, PluginLog { level, message });
            }
            (Some(topic), _) if topic != "log" && !params.is_null() => {
                let topic = topic.to_owned();
                let params = message["params"].take();
                self.notifications.push_back((topic, params));
            }
            _ => self.malformed.push(message),
        }
    }
}

impl PluginHarness {
    /// Starts the plugin at this path; for arguments and environment see
    /// [`PluginHarness::builder`].
    ///
    /// # Errors
    /// If it cannot be run.
    pub async fn spawn(path: impl AsRef<Path>) -> Result<PluginHarness> {
        PluginHarness::builder(path).spawn().await
    }

    /// Describes how to start the plugin at this path, for example with arguments.
    pub fn builder(path: impl AsRef<Path>) -> HarnessBuilder {
        let path = path.as_ref();
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut command = std::process::Command::new(path);
        command
            .env("LIGHTNINGD_PLUGIN", "1")
            .env("LIGHTNINGD_VERSION", VERSION);
        HarnessBuilder {
            command,
            patience: PATIENCE,
            release: None,
        }
    }

    /// Asks for its manifest, `getmanifest`: options, methods, subscriptions, hooks.
    ///
    /// # Errors
    /// If it answers with an error, with anything but JSON, or not at all.
    pub async fn manifest(&mut self) -> Result<Value> {
        let manifest = match self.recorded(Kind::Manifest) {
            Some(request) => self.ask(request.json()).await?,
            None => {
                let params = json!({"allow-deprecated-apis": true});
                self.call("getmanifest", params).await?
            }
        };
        self.manifest = Some(manifest.clone());
        Ok(manifest)
    }

    /// Sends `init` with the values of these options, an object, and with the
    /// defaults of the others; asks for the manifest first, unless that was done. A
    /// plugin that does not want to run answers `{"disable": "why"}`.
    ///
    /// # Errors
    /// As [`PluginHarness::manifest`]; [`Error::Usage`] for an option that is not in
    /// the manifest.
    pub async fn init(&mut self, options: Value) -> Result<Value> {
        let manifest = match &self.manifest {
            Some(manifest) => manifest.clone(),
            None => self.manifest().await?,
        };
        let options = settings(&manifest, &options)?;
        if let Some(request) = self.recorded(Kind::Init) {
            let mut request = request.json();
            request["params"]["options"] = options;
            request["params"]["configuration"]["lightning-dir"] = json!(self.dir());
            return self.ask(request).await;
        }
        let params = json!({
            "options": options,
            "configuration": {
                "lightning-dir": self.dir(),
                "rpc-file": "lightning-rpc",
                "startup": true,
                "network": NETWORK,
                "feature_set": {"init": "", "node": "", "channel": "", "invoice": ""},
            },
        });
        self.call("init", params).await
    }

    /// Sends a notification as lightningd does from v23.08 on, with the payload under
    /// the topic's name: `params` is `{topic: payload}`.
    pub async fn notify(&mut self, topic: &str, payload: Value) -> Result<()> {
        let mut params = Map::new();
        params.insert(topic.to_owned(), payload);
        self.notify_flat(topic, Value::Object(params)).await
    }

    /// Sends a notification with exactly these `params`: before v23.08, they are the
    /// payload.
    pub async fn notify_flat(&mut self, topic: &str, params: Value) -> Result<()> {
        self.send(&json!({"jsonrpc": "2.0", "method": topic, "params": params}))
            .await
    }

    /// The first recorded message of this kind, if the harness speaks as a release.
    fn recorded(&self, kind: Kind) -> Option<Message> {
        self.release?
            .messages()
            .find(|message| message.kind == kind)
    }

    /// Sends a recorded message byte for byte; waits for the answer if it is a request.
    ///
    /// # Errors
    /// As [`PluginHarness::call`]; [`Error::Usage`] for what lightningd does not send to a
    /// plugin: the answers of its methods, the environment, the help text.
    pub async fn replay(&mut self, message: &Message) -> Result<Option<Value>> {
        if matches!(message.kind, Kind::Answer | Kind::Environment | Kind::Help) {
            return Err(Error::usage(format!(
                "replay of `{}`: {} is nothing that a plugin is sent",
                message.name, message.kind
            )));
        }
        self.raw(format!("{}\n\n", message.message)).await?;
        let json = message.json();
        match json.get("id") {
            Some(id) => self.answer_to(&message.name, id).await.map(Some),
            None => Ok(None),
        }
    }

    /// Sends this request and waits for the answer.
    async fn ask(&mut self, request: Value) -> Result<Value> {
        self.send(&request).await?;
        let method = request["method"].as_str().unwrap_or_default();
        self.answer_to(method, &request["id"]).await
    }

    /// Waits for the answer to the request with this id, which was sent with
    /// [`PluginHarness::raw`]: the whole message, with `result` or `error`.
    ///
    /// # Errors
    /// [`Error::Died`] if it ends instead; [`Error::TimedOut`].
    pub async fn response(&mut self, method: &str, id: &Value) -> Result<Value> {
        let received = Arc::clone(&self.received);
        let what = format!("an answer to `{method}`");
        self.wait(&what, || {
            let mut received = lock(&received);
            let at = received.answers.iter().position(|a| a["id"] == *id)?;
            Some(received.answers.remove(at))
        })
        .await
    }

    /// Calls a method of the plugin and waits for the answer.
    ///
    /// # Errors
    /// [`Error::Rpc`] with the plugin's code and message; [`Error::Died`] if it ends
    /// instead; [`Error::TimedOut`].
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        self.next_id += 1;
        // As lightningd's ids, a string.
        let id = json!(format!("cln-lab:{method}#{}", self.next_id));
        self.ask(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            .await
    }

    async fn answer_to(&mut self, method: &str, id: &Value) -> Result<Value> {
        let mut answer = self.response(method, id).await?;
        match answer["error"].take() {
            Value::Null => Ok(answer["result"].take()),
            mut error => Err(Error::Rpc {
                node: self.command.clone(),
                method: method.to_owned(),
                code: error["code"].as_i64().and_then(|code| code.try_into().ok()),
                message: error["message"].as_str().unwrap_or_default().to_owned(),
                data: Some(error["data"].take())
                    .filter(|data| !data.is_null())
                    .map(Box::new),
                help: String::new(),
            }),
        }
    }

    /// Calls a hook and waits for the answer, for example `{"result": "continue"}`
    /// (CLN's documentation, "Hooks"). On the wire it is a call like any other.
    ///
    /// # Errors
    /// As [`PluginHarness::call`].
    pub async fn hook(&mut self, name: &str, payload: Value) -> Result<Value> {
        self.call(name, payload).await
    }

    /// Waits for a line of the plugin's log that contains `text`; lines before it are
    /// skipped.
    ///
    /// # Errors
    /// [`Error::TimedOut`] with the lines that came instead; [`Error::Died`].
    pub async fn expect_log(&mut self, text: &str) -> Result<PluginLog> {
        let received = Arc::clone(&self.received);
        self.wait(&format!("a log line with `{text}`"), || {
            let mut received = lock(&received);
            let at = received
                .logs
                .iter()
                .position(|l| l.message.contains(text))?;
            received.logs.drain(..=at).next_back()
        })
        .await
    }

    /// Waits for a notification that the plugin itself sends; its `params`. Those
    /// before it are skipped.
    pub async fn expect_notification(&mut self, topic: &str) -> Result<Value> {
        let received = Arc::clone(&self.received);
        self.wait(&format!("a `{topic}` notification from the plugin"), || {
            let mut received = lock(&received);
            let at = received.notifications.iter().position(|n| n.0 == topic)?;
            Some(received.notifications.drain(..=at).next_back()?.1)
        })
        .await
    }

    /// Writes exactly these bytes to its standard input: half a message, two at once,
    /// or no JSON at all.
    pub async fn raw(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        let Some(stdin) = &mut self.stdin else {
            return Err(Error::usage(format!(
                "{}: its input is closed",
                self.command
            )));
        };
        let started = Instant::now();
        match timeout_at(
            started + scaled(self.patience),
            stdin.write_all(bytes.as_ref()),
        )
        .await
        {
            Ok(Ok(())) => Ok(()),
            // It has closed its input: most likely it has ended.
            Ok(Err(_)) => Err(self.ended("it no longer reads its input").await),
            Err(_) => Err(self.timed_out("the plugin to read its input", started)),
        }
    }

    /// Waits for the next message of any kind: an answer, whatever its id, a log line, a
    /// notification. Each is taken once.
    ///
    /// # Errors
    /// As [`PluginHarness::call`], if none comes.
    pub async fn next_message(&mut self) -> Result<Value> {
        self.next_message_within(self.patience).await
    }

    /// The same, with a patience of its own, which is scaled as every one is.
    ///
    /// # Errors
    /// As [`PluginHarness::call`], if none comes.
    pub async fn next_message_within(&mut self, patience: Duration) -> Result<Value> {
        let received = Arc::clone(&self.received);
        self.wait_within(patience, "a message", || lock(&received).all.pop_front())
            .await
    }

    /// The messages that came and that [`PluginHarness::next_message`] has not taken.
    pub fn pending_messages(&mut self) -> Vec<Value> {
        lock(&self.received).all.drain(..).collect()
    }

    /// How many bytes of what was sent it has not read.
    pub fn unread(&self) -> usize {
        self.stdin.as_ref().map_or(0, unread)
    }

    /// Closes its standard input, as lightningd does when it ends; the plugin should then
    /// end, too: [`PluginHarness::wait_exit`].
    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Waits until it has read all that was sent and sleeps, with the processes it
    /// started: until it waits for more. False if that does not come `within` this time,
    /// as with one that always computes, and where there is no `/proc`.
    pub async fn idle(&mut self, within: Duration) -> bool {
        const PAUSE: Duration = Duration::from_millis(1);
        let deadline = Instant::now() + scaled(within);
        loop {
            if self.unread() == 0 && is_asleep(self.child.id()) {
                // What it wrote before it slept is read before this returns.
                tokio::task::yield_now().await;
                return true;
            }
            if Instant::now() >= deadline || self.child.status().is_some() {
                return false;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Drops the answers to requests with these ids: nobody waits for them any more.
    pub fn forget(&mut self, ids: &[&Value]) {
        let mut received = lock(&self.received);
        received
            .answers
            .retain(|answer| !ids.contains(&&answer["id"]));
    }

    /// Takes the answers that no request here was waiting for: to notifications, or with
    /// an id that nobody sent.
    pub fn take_strays(&mut self) -> Vec<Value> {
        std::mem::take(&mut lock(&self.received).answers)
    }

    /// Takes its log lines that no `expect_log` has taken or skipped.
    pub fn take_logs(&mut self) -> Vec<PluginLog> {
        lock(&self.received).logs.drain(..).collect()
    }

    /// Takes the notifications that it sent, topic and `params`, but for `log`.
    pub fn take_notifications(&mut self) -> Vec<(String, Value)> {
        lock(&self.received).notifications.drain(..).collect()
    }

    /// Takes what was neither an answer nor a notification that lightningd accepts: without
    /// an id, a method or `params`, or a `log` without a text.
    pub fn take_malformed(&mut self) -> Vec<Value> {
        std::mem::take(&mut lock(&self.received).malformed)
    }

    /// What it wrote to its standard output that lightningd refuses as a message, and why: nothing is read
    /// after that, as lightningd kills such a plugin.
    pub fn noise(&self) -> Option<String> {
        lock(&self.received).noise.clone()
    }

    /// Why nothing more can come from it: the error of a call that would be made now.
    /// `None` while it runs and its output is open.
    pub async fn gone(&mut self) -> Option<Error> {
        let ended = lock(&self.received).ended.clone()?;
        Some(self.ended(&ended).await)
    }

    /// Closes its standard input, as lightningd does when it ends, and waits for the
    /// plugin to end; its exit status. What is left of its process group is killed.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if it does not end; it is killed then.
    pub async fn close(mut self) -> Result<ExitStatus> {
        self.close_input();
        self.wait_exit().await
    }

    /// Waits for it to end on its own; its exit status.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if it does not.
    pub async fn wait_exit(&mut self) -> Result<ExitStatus> {
        let what = format!("{} to end", self.command);
        let patience = self.patience;
        let ended = eventually(what, patience, async || {
            Ok(match self.child.status() {
                Some(status) => Probe::Ready(status),
                None => Probe::NotYet(format!("still running{}", self.recent_output())),
            })
        })
        .await;
        if ended.is_ok() {
            self.child.signal_group(Signal::SIGKILL);
            self.read_to_end().await;
        }
        ended
    }

    /// What it wrote to its standard error so far; of more than 64 KiB, the end.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&lock(&self.received).stderr).into_owned()
    }

    /// Its log lines that no `expect_log` has taken or skipped.
    pub fn logs(&self) -> Vec<PluginLog> {
        lock(&self.received).logs.iter().cloned().collect()
    }

    /// Its process id; `None` once it has ended.
    pub fn pid(&self) -> Option<u32> {
        Some(self.child.id()).filter(|pid| is_alive(*pid))
    }

    /// The folder it runs in, also its `lightning-dir`: the network directory, where
    /// its relative paths lead.
    pub fn dir(&self) -> PathBuf {
        self.folder.path().join(NETWORK)
    }

    async fn send(&mut self, message: &Value) -> Result<()> {
        self.raw(format!("{message}\n\n")).await
    }

    /// Waits until `find` finds something, or nothing can come any more.
    async fn wait<T>(&mut self, what: &str, find: impl FnMut() -> Option<T>) -> Result<T> {
        self.wait_within(self.patience, what, find).await
    }

    async fn wait_within<T>(
        &mut self,
        patience: Duration,
        what: &str,
        mut find: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        let started = Instant::now();
        let deadline = started + scaled(patience);
        loop {
            // In this order: what was sent before the end is found.
            let ended = lock(&self.received).ended.clone();
            if let Some(found) = find() {
                return Ok(found);
            }
            if let Some(why) = ended {
                return Err(self.ended(&why).await);
            }
            if timeout_at(deadline, self.news.notified()).await.is_err() {
                return Err(self.timed_out(what, started));
            }
        }
    }

    fn timed_out(&self, what: &str, started: Instant) -> Error {
        let error = Error::TimedOut {
            what: format!("{what} from {}", self.command),
            waited: Duration::from_millis(started.elapsed().as_millis() as u64),
            last_seen: format!("nothing{}", self.recent_output()),
        };
        remember(&error);
        error
    }

    /// The error for a plugin from which nothing more comes.
    async fn ended(&mut self, why: &str) -> Error {
        // It may be about to end, and its standard error to say why.
        if lock(&self.received).noise.is_some() {
            // It may well run on, so until it sleeps, and what it wrote is here.
            self.idle(MOMENT).await;
            let stderr = &mut self.readers[1];
            if !stderr.is_finished() {
                let _ = tokio::time::timeout(MOMENT / 20, stderr).await;
            }
            return Error::Answer {
                from: self.command.clone(),
                why: format!("{why}{}", self.recent_output()),
            };
        }
        let status = poll("its end", MOMENT, async || {
            Ok(match self.child.status() {
                Some(status) => Probe::Ready(status),
                None => Probe::NotYet("still running".to_owned()),
            })
        })
        .await;
        self.read_to_end().await;
        match status {
            Ok(status) => Error::Died {
                name: "the plugin".to_owned(),
                command: self.command.clone(),
                status,
                tail: format!("\n  {why}{}", self.recent_output()),
            },
            _ => Error::Answer {
                from: self.command.clone(),
                why: format!("{why}{}", self.recent_output()),
            },
        }
    }

    /// Reads what it still wrote before it ended.
    async fn read_to_end(&mut self) {
        for reader in &mut self.readers {
            if !reader.is_finished() {
                let _ = tokio::time::timeout(MOMENT, reader).await;
            }
        }
    }

    /// The end of its log and of its standard error, for errors.
    fn recent_output(&self) -> String {
        const SHOWN: usize = 10;
        let received = lock(&self.received);
        let mut text = String::new();
        let mut show = |title: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                text.push_str(&format!("\n  its {title}:"));
                for line in &lines[lines.len().saturating_sub(SHOWN)..] {
                    text.push_str(&format!("\n    {line}"));
                }
            }
        };
        let logs = received.logs.iter();
        show(
            "log",
            logs.map(|l| format!("{} {}", l.level, l.message)).collect(),
        );
        let stderr = String::from_utf8_lossy(&received.stderr);
        show(
            "standard error",
            stderr.lines().map(str::to_owned).collect(),
        );
        text
    }
}

/// How many bytes of a plugin's input it has not read.
fn unread(stdin: &ChildStdin) -> usize {
    use std::os::fd::AsRawFd;
    let mut bytes: nix::libc::c_int = 0;
    // SAFETY: it writes one int; the descriptor is open. An error leaves 0.
    unsafe { nix::libc::ioctl(stdin.as_raw_fd(), nix::libc::FIONREAD, &mut bytes) };
    usize::try_from(bytes).unwrap_or(0)
}

/// The options of `init`: what was set, else the manifest's defaults.
fn settings(manifest: &Value, set: &Value) -> Result<Value> {
    let declared = manifest["options"].as_array().cloned().unwrap_or_default();
    let names: Vec<&str> = declared.iter().filter_map(|o| o["name"].as_str()).collect();
    let empty = Map::new();
    let set = match set {
        Value::Object(set) => set,
        Value::Null => &empty,
        other => return Err(Error::usage(format!("options as an object, not {other}"))),
    };
    if let Some(unknown) = set.keys().find(|name| !names.contains(&name.as_str())) {
        return Err(Error::usage(format!(
            "the plugin has no option `{unknown}`: it has [{}]",
            names.join(", ")
        )));
    }
    let mut options = Map::new();
    for option in &declared {
        let Some(name) = option["name"].as_str() else {
            continue;
        };
        // One without a value and without a default is left out.
        let value = set.get(name).or(option.get("default"));
        if let Some(value) = value.filter(|value| !value.is_null()) {
            options.insert(name.to_owned(), value.clone());
        }
    }
    Ok(Value::Object(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_what_was_set_or_the_default() {
        let manifest = json!({"options": [
            {"name": "a", "type": "int", "default": 1},
            {"name": "b", "type": "string", "default": null},
            {"name": "c", "type": "string"},
            {"name": "d", "type": "bool", "default": false},
        ]});
        let options = settings(&manifest, &json!({"c": "x", "d": true})).expect("options");
        assert_eq!(options, json!({"a": 1, "c": "x", "d": true}));
        let error = settings(&manifest, &json!({"e": 1})).expect_err("unknown");
        assert!(error.to_string().contains("[a, b, c, d]"), "{error}");
    }
}
