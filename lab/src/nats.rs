//! A NATS server with JetStream, for what publishes a lab's events.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpStream;

use crate::error::IoContext;
use crate::lock::lock;
use crate::process::daemon::Daemon;
use crate::process::files::write_private;
use crate::process::ports::Port;
use crate::process::reaper::Reaper;
use crate::trace::Recorder;
use crate::{Error, Probe, Result, eventually};

/// How long it may take until it listens.
const START: Duration = Duration::from_secs(30);

/// The file with its address, for other processes.
const URL: &str = "nats/url";

/// A nats-server on 127.0.0.1, which keeps its streams in the lab's folder.
#[derive(Debug)]
pub struct Nats {
    daemon: Mutex<Option<Daemon>>,
    program: PathBuf,
    dir: PathBuf,
    port: Port,
    reaper: Arc<Reaper>,
    trace: Recorder,
}

impl Nats {
    /// Starts `program`, and waits until it listens.
    ///
    /// # Errors
    /// If it cannot be run, ends early (the error has its output), or does not listen in
    /// time.
    pub(crate) async fn spawn(
        program: PathBuf,
        lab_dir: &Path,
        reaper: &Arc<Reaper>,
        trace: &Recorder,
    ) -> Result<Nats> {
        let dir = lab_dir.join("nats");
        std::fs::create_dir_all(&dir).doing("create folder", &dir)?;
        let nats = Nats {
            daemon: Mutex::new(None),
            program,
            dir,
            port: Port::lease()?,
            reaper: Arc::clone(reaper),
            trace: trace.clone(),
        };
        nats.start().await?;
        write_private(&lab_dir.join(URL), &nats.url())?;
        Ok(nats)
    }

    /// The address of the server of a lab that may be another process's, in its folder;
    /// `None` if it has none.
    pub fn url_in(lab_dir: &Path) -> Option<String> {
        std::fs::read_to_string(lab_dir.join(URL)).ok()
    }

    /// `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port.number())
    }

    /// Kills it, as a power cut would, and waits until it is gone.
    ///
    /// # Errors
    /// If it is not running.
    pub async fn kill(&self) -> Result<()> {
        let daemon = lock(&self.daemon).take();
        let daemon = daemon.ok_or_else(|| Error::usage("nats-server is not running"))?;
        daemon.kill().await.map(drop)
    }

    /// Starts it again after [`Nats::kill`], with the streams that it has.
    ///
    /// # Errors
    /// As at its first start; if it is running.
    pub async fn start(&self) -> Result<()> {
        if lock(&self.daemon).is_some() {
            return Err(Error::usage("nats-server is running already"));
        }
        let port = self.port.number().to_string();
        let mut command = Command::new(&self.program);
        command.args(["--addr", "127.0.0.1", "--port", &port, "--jetstream"]);
        command.arg("--store_dir").arg(&self.dir);
        let output = self.dir.join("output");
        let (reaper, trace) = (&self.reaper, &self.trace);
        let daemon = Daemon::spawn("nats", command, &output, None, reaper, trace, "nats-server")?;
        *lock(&self.daemon) = Some(daemon);
        let what = format!("nats-server to listen on port {port}");
        eventually(what, START, async || {
            self.check_alive()?;
            let connected = TcpStream::connect(("127.0.0.1", self.port.number())).await;
            Ok(match connected {
                Ok(_) => Probe::Ready(()),
                Err(error) => Probe::NotYet(error.to_string()),
            })
        })
        .await
    }

    /// An error, with the end of its output, if it has ended by itself.
    ///
    /// # Errors
    /// As said.
    pub fn check_alive(&self) -> Result<()> {
        let mut daemon = lock(&self.daemon);
        daemon.as_mut().map_or(Ok(()), Daemon::check_alive)
    }
}
