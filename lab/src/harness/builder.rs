//! How a plugin is started.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::Notify;

use super::PluginHarness;
use super::received::{Received, listen};
use crate::corpus::{Corpus, Kind};
use crate::error::IoContext;
use crate::lab::folder::Folder;
use crate::lock::lock;
use crate::node::NETWORK;
use crate::process::child::Child;
use crate::process::daemon::command_line;
use crate::wire::MessageReader;
use crate::{Keep, PATIENCE, Result};

/// The plugin's `LIGHTNINGD_VERSION`, unless the test sets another.
const VERSION: &str = "v26.06.6";

/// More of a plugin's standard error, in bytes, is not kept: its end is.
const STDERR: usize = 64 * 1024;

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
}
