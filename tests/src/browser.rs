//! A browser without a window, driven over a pipe by its own protocol
//! (chromedevtools.github.io/devtools-protocol): no more than a page's tests need.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use cln_lab::scaled;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, geteuid};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long an answer, or a page, may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The executables of Chromium, by the names it has.
const NAMES: [&str; 4] = [
    "chromium-headless-shell",
    "chromium",
    "google-chrome",
    "chromium-browser",
];

/// The browser: `CHROMIUM`, else one on the PATH.
pub fn find() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("CHROMIUM") {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut all = NAMES
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    all.find(|path| path.is_file())
}

/// Why a test that needs a browser is skipped; `None` if there is one.
pub fn missing() -> Option<String> {
    find()
        .is_none()
        .then(|| "no chromium found: CHROMIUM names one".to_owned())
}

/// A browser with one page. It ends when it is dropped.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    to: ChildStdin,
    messages: Receiver<Value>,
    /// Events that nobody has waited for yet.
    events: VecDeque<Value>,
    session: Option<String>,
    asked: u64,
    _profile: TempDir,
}

impl Browser {
    /// Starts it, with an empty page.
    pub fn start() -> anyhow::Result<Browser> {
        let profile = tempfile::Builder::new().prefix("browser").tempdir()?;
        let mut command = Command::new("sh");
        // It reads from descriptor 3, and writes to 4.
        command.args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null", "sh"]);
        command.arg(find().context("no browser")?);
        command.args([
            "--headless",
            "--remote-debugging-pipe",
            "--disable-gpu",
            "--no-first-run",
        ]);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        if geteuid().is_root() {
            // It refuses root otherwise; the pages are our own.
            command.arg("--no-sandbox");
        }
        command.env("HOME", profile.path());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.process_group(0).spawn()?;
        let to = child.stdin.take().context("no stdin")?;
        let from = child.stdout.take().context("no stdout")?;
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(from).split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).unwrap_or_default();
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Browser {
            child,
            to,
            messages,
            events: VecDeque::new(),
            session: None,
            asked: 0,
            _profile: profile,
        };
        let target = browser.ask("Target.createTarget", json!({"url": "about:blank"}))?;
        let params = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.ask("Target.attachToTarget", params)?;
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            browser.ask(&format!("{domain}.enable"), json!({}))?;
        }
        browser.size(1400, 900)?;
        Ok(browser)
    }

    /// Calls a method of the protocol.
    pub fn ask(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        self.asked += 1;
        let mut request = json!({"id": self.asked, "method": method, "params": params});
        if let Some(session) = &self.session {
            request["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{request}\0").as_bytes())?;
        loop {
            let message = self.receive(method)?;
            if message["id"] != json!(self.asked) {
                self.events.push_back(message);
                continue;
            }
            ensure!(message["error"].is_null(), "{method}: {}", message["error"]);
            return Ok(message["result"].clone());
        }
    }

    fn receive(&self, awaited: &str) -> anyhow::Result<Value> {
        let message = self.messages.recv_timeout(scaled(PATIENCE));
        message.with_context(|| format!("the browser: waiting for {awaited}"))
    }

    /// Sets the page's size, in pixels.
    pub fn size(&mut self, width: u32, height: u32) -> anyhow::Result<()> {
        let params =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.ask("Emulation.setDeviceMetricsOverride", params)
            .map(drop)
    }

    /// Opens a file, and waits until it is loaded.
    pub fn open(&mut self, path: &Path) -> anyhow::Result<()> {
        let url = format!("file://{}", path.canonicalize()?.display());
        let answer = self.ask("Page.navigate", json!({"url": url}))?;
        ensure!(answer["errorText"].is_null(), "{url}: {answer}");
        loop {
            if let Some(at) = self
                .events
                .iter()
                .position(|e| e["method"] == "Page.loadEventFired")
            {
                self.events.remove(at);
                return Ok(());
            }
            let event = self.receive("the page to load")?;
            self.events.push_back(event);
        }
    }

    /// What a JavaScript expression is, once it is.
    pub fn eval(&mut self, expression: &str) -> anyhow::Result<Value> {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.ask("Runtime.evaluate", params)?;
        if !answer["exceptionDetails"].is_null() {
            bail!("{expression}: {}", answer["exceptionDetails"]);
        }
        Ok(answer["result"]["value"].clone())
    }

    /// Presses keys, by their names in JavaScript: `ArrowDown`, `e`.
    pub fn press(&mut self, keys: &[&str]) -> anyhow::Result<()> {
        for key in keys {
            let code = match *key {
                "Enter" => 13,
                "Escape" => 27,
                "PageUp" => 33,
                "PageDown" => 34,
                "End" => 35,
                "Home" => 36,
                "ArrowUp" => 38,
                "ArrowDown" => 40,
                "Tab" => 9,
                _ => 0,
            };
            let text = if key.len() == 1 { *key } else { "" };
            for kind in ["keyDown", "keyUp"] {
                let text = if kind == "keyDown" { text } else { "" };
                let params =
                    json!({"type": kind, "key": key, "text": text, "windowsVirtualKeyCode": code});
                self.ask("Input.dispatchKeyEvent", params)?;
            }
        }
        Ok(())
    }

    /// What the page complained about: errors on the console, exceptions, refused
    /// requests.
    pub fn complaints(&mut self) -> anyhow::Result<Vec<Value>> {
        // What was before it has arrived with the answer.
        self.eval("1")?;
        let is_complaint = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown" | "Page.javascriptDialogOpening") => true,
            Some("Runtime.consoleAPICalled") => event["params"]["type"] == "error",
            Some("Log.entryAdded") => event["params"]["entry"]["level"] == "error",
            _ => false,
        };
        Ok(self.events.iter().filter(is_complaint).cloned().collect())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
