//! A regtest bitcoind.

pub(crate) mod bcli;
mod client;
mod mining;
pub(crate) mod prepared_chain;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin_hashes::hex::DisplayHex;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use self::client::Client;
use crate::error::IoContext;
use crate::lock::lock;
use crate::process::daemon::Daemon;
use crate::process::files::write_private;
use crate::process::listing::is_alive;
use crate::process::ports::Port;
use crate::process::reaper::Reaper;
use crate::trace::Recorder;
use crate::{Error, Probe, Result, eventually};

/// How long bitcoind may take until it answers.
const START: Duration = Duration::from_secs(60);
/// How long it may take to end after `stop`.
const STOP: Duration = Duration::from_secs(30);
/// The one wallet, which owns every coin mined, if it has no other name.
const WALLET: &str = "default";

/// A bitcoind on regtest with one wallet, `default`, reached on 127.0.0.1.
#[derive(Debug)]
pub struct Bitcoind {
    /// `None` while it is stopped, and for one that another process holds.
    daemon: Mutex<Option<Daemon>>,
    /// Of its last start.
    pid: AtomicU32,
    holder: Holder,
    /// Its wallet's name; empty for one that another process holds.
    wallet: String,
    password: String,
    dir: PathBuf,
    program: PathBuf,
    port: Port,
    client: Client,
    /// That of its lab.
    trace: Recorder,
}

/// Which process holds it, and ends it.
#[derive(Debug)]
enum Holder {
    Us(Arc<Reaper>),
    Other,
}

impl Bitcoind {
    /// The handle of one that another process holds: `program`, process `pid`, with its
    /// data in `dir` and its JSON-RPC interface on `port`.
    ///
    /// # Errors
    /// If its configuration, which has the password, cannot be read.
    pub(crate) fn attached(
        program: &Path,
        dir: &Path,
        port: u16,
        pid: u32,
        trace: Recorder,
    ) -> Result<Bitcoind> {
        let config = dir.join("bitcoin.conf");
        let text = std::fs::read_to_string(&config).doing("read", &config)?;
        let password = text
            .lines()
            .find_map(|line| line.strip_prefix("rpcpassword="))
            .ok_or_else(|| Error::Answer {
                from: config.display().to_string(),
                why: "no `rpcpassword`".to_owned(),
            })?
            .to_owned();
        Ok(Bitcoind {
            client: Client::new(port, USER, &password)?,
            daemon: Mutex::new(None),
            pid: pid.into(),
            holder: Holder::Other,
            wallet: String::new(),
            password,
            dir: dir.to_owned(),
            program: program.to_owned(),
            port: Port::leased_elsewhere(port),
            trace,
        })
    }

    /// Starts `program` in `dir`, which may hold a prepared chain: see
    /// [`Bitcoind::answers`] and [`Bitcoind::ready`]. `options` are lines of its
    /// configuration.
    ///
    /// # Errors
    /// If it cannot be run, ends early (the error has its output), or does not
    /// answer in time.
    pub(crate) async fn spawn(
        program: &Path,
        dir: &Path,
        options: &[(String, String)],
        reaper: &Arc<Reaper>,
        trace: &Recorder,
    ) -> Result<Bitcoind> {
        let port = Port::lease()?;
        std::fs::create_dir_all(dir).doing("create folder", dir)?;
        let password = password()?;
        let wallet = options.iter().rfind(|(name, _)| name == "wallet");
        let bitcoind = Bitcoind {
            client: Client::new(port.number(), USER, &password)?,
            daemon: Mutex::new(None),
            pid: AtomicU32::new(0),
            holder: Holder::Us(Arc::clone(reaper)),
            wallet: wallet.map_or(WALLET, |(_, name)| name).to_owned(),
            password,
            dir: dir.to_owned(),
            program: program.to_owned(),
            port,
            trace: trace.clone(),
        };
        bitcoind.run(options).await?;
        Ok(bitcoind)
    }

    /// Starts its process, and waits until it answers, if only that it is warming up:
    /// nodes can start then, since they ask for blocks only later.
    async fn run(&self, options: &[(String, String)]) -> Result<()> {
        let Holder::Us(reaper) = &self.holder else {
            return Err(Error::not_ours("bitcoind"));
        };
        let text = config(self.rpc_port(), &self.password, options)?;
        write_private(&self.dir.join("bitcoin.conf"), &text)?;
        let mut command = Command::new(&self.program);
        command.arg(format!("-datadir={}", self.dir.display()));
        let (output, log) = (self.dir.join("output"), self.dir.join("regtest/debug.log"));
        let daemon = Daemon::spawn(
            "bitcoind",
            command,
            &output,
            Some(&log),
            reaper,
            &self.trace,
            "bitcoind",
        )?;
        self.pid.store(daemon.pid(), Ordering::Relaxed);
        *lock(&self.daemon) = Some(daemon);
        let what = format!("bitcoind to answer on port {}", self.rpc_port());
        eventually(what, START, async || {
            self.check_alive()?;
            Ok(match self.call::<Value>("getblockcount", vec![]).await {
                Ok(_) => Probe::Ready(()),
                Err(Error::Bitcoind {
                    code: Some(RPC_IN_WARMUP),
                    ..
                }) => Probe::Ready(()),
                Err(error) => Probe::NotYet(error.to_string()),
            })
        })
        .await
    }

    /// Waits until it has its chain and takes requests, and loads the wallet, or
    /// creates it if the chain has none yet.
    pub(crate) async fn ready(&self) -> Result<()> {
        eventually("bitcoind to be ready", START, async || {
            self.check_alive()?;
            Ok(match self.height().await {
                Ok(_) => Probe::Ready(()),
                Err(error) => Probe::NotYet(error.to_string()),
            })
        })
        .await?;
        self.load_wallet().await
    }

    /// Calls a method; `params` by position. The request is sent once, and bitcoind has
    /// 60 s to answer, scaled by [`crate::timeout_factor`].
    ///
    /// # Errors
    /// [`Error::Bitcoind`]: its own, an answer that is not a `T`, or none in time.
    pub async fn call<T>(&self, method: &str, params: Vec<Value>) -> Result<T>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let asked = self.trace.request("bitcoind", method, || {
            Value::Array(params.clone()).to_string()
        });
        let answer = self.client.call(method, params).await;
        asked.answer(&answer);
        serde_json::from_value(answer?).map_err(|e| Error::Bitcoind {
            method: method.to_owned(),
            code: None,
            message: e.to_string(),
        })
    }

    pub(crate) fn trace(&self) -> &Recorder {
        &self.trace
    }

    async fn load_wallet(&self) -> Result<()> {
        let wallets = self.dir.join("regtest/wallets");
        let (ours, prepared) = (wallets.join(&self.wallet), wallets.join(WALLET));
        if !ours.is_dir() && prepared.is_dir() {
            std::fs::rename(&prepared, &ours).doing("rename", &prepared)?;
        }
        let method = if ours.is_dir() {
            "loadwallet"
        } else {
            "createwallet"
        };
        self.call::<Value>(method, vec![json!(self.wallet)])
            .await
            .map(drop)
    }

    /// The number of blocks after the genesis block.
    pub async fn height(&self) -> Result<u64> {
        self.call("getblockcount", vec![]).await
    }

    /// The port of its JSON-RPC interface.
    pub fn rpc_port(&self) -> u16 {
        self.port.number()
    }

    /// Its data directory; `bitcoin-cli -datadir=…` needs no more.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its executable.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// User and password of its JSON-RPC interface; the password is new in each run.
    pub fn credentials(&self) -> (&str, &str) {
        (USER, &self.password)
    }

    /// Its process id, as of its last start.
    pub fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// True after [`Bitcoind::stop`], until it is started again.
    pub fn is_stopped(&self) -> bool {
        matches!(self.holder, Holder::Us(_)) && lock(&self.daemon).is_none()
    }

    /// An error, with the end of its log, if it has ended.
    pub fn check_alive(&self) -> Result<()> {
        if matches!(self.holder, Holder::Other) {
            if is_alive(self.pid()) {
                return Ok(());
            }
            return Err(Error::Answer {
                from: "bitcoind".to_owned(),
                why: format!("its process {} has ended", self.pid()),
            });
        }
        match lock(&self.daemon).as_mut() {
            Some(daemon) => daemon.check_alive(),
            None => Err(Error::usage("bitcoind is not running")),
        }
    }

    /// Kills it and waits until it is gone.
    pub(crate) async fn kill(&self) -> Result<()> {
        self.take_daemon()?.kill().await.map(drop)
    }

    /// Takes the process, to end it.
    fn take_daemon(&self) -> Result<Daemon> {
        if matches!(self.holder, Holder::Other) {
            return Err(Error::not_ours("bitcoind"));
        }
        let daemon = lock(&self.daemon).take();
        daemon.ok_or_else(|| Error::usage("bitcoind is not running"))
    }

    /// Starts it again after [`Bitcoind::stop`], on the same port, and waits until it is
    /// ready. `options` are lines of its configuration, in place of those that it was
    /// started with: see [`LabBuilder::bitcoind_option`](crate::LabBuilder::bitcoind_option).
    ///
    /// # Errors
    /// If it is running; as at its first start.
    pub async fn start(&self, options: &[(String, String)]) -> Result<()> {
        if !self.is_stopped() {
            return Err(Error::usage("bitcoind is running already"));
        }
        self.run(options).await?;
        self.ready().await
    }

    /// Stops it and waits until it is gone; its exit status. Nodes continue without it,
    /// as far as they can.
    ///
    /// # Errors
    /// If it is not running, or another process holds it.
    pub async fn stop(&self) -> Result<ExitStatus> {
        let daemon = self.take_daemon()?;
        // After an error it is ending or dead; `finish` sees which.
        let asked = self.call::<Value>("stop", vec![]).await;
        if let Err(error) = &asked {
            tracing::warn!(%error, "bitcoind refused `stop`");
        }
        daemon
            .finish(if asked.is_ok() { STOP } else { Duration::ZERO })
            .await
    }
}

const USER: &str = "lab";

/// It runs, and answers soon (Bitcoin Core's rpc/protocol.h).
const RPC_IN_WARMUP: i32 = -28;

/// Options that are the lab's own: with others it would not reach it.
const RESERVED: [&str; 8] = [
    "chain",
    "regtest",
    "datadir",
    "rpcbind",
    "rpcallowip",
    "rpcport",
    "rpcuser",
    "rpcpassword",
];

/// Its `bitcoin.conf`.
///
/// # Errors
/// [`Error::Usage`] for an option that is the lab's own, or no line.
fn config(port: u16, password: &str, options: &[(String, String)]) -> Result<String> {
    let mut own = String::new();
    for (name, value) in options {
        let is_reserved = RESERVED.contains(&name.as_str())
            || format!("{name}{value}").contains(['\n', '\r', '['])
            || name == "wallet" && (value.is_empty() || value.contains(['/', '.']));
        if is_reserved {
            return Err(Error::usage(format!(
                "option `{name}` of bitcoind: it is the lab's to set, or `{value}` is no value"
            )));
        }
        if name != "wallet" {
            let _ = writeln!(own, "{name}={value}");
        }
    }
    // maxtipage: a prepared chain may be old, and bitcoind must not think that it is
    // syncing. fastprune: block files of 64 kB instead of 16 MB. keypool:
    // a thousand keys for each kind of address take 0.3 s to load. corepolicy: Bitcoin
    // Knots otherwise refuses what it takes for spam, such as a lock time of 21,
    // which its own wallet picks once in a thousand; Bitcoin Core ignores the line.
    // addresstype: Bitcoin Core's own, Knots' is another.
    // Of an option that is there twice the first counts, and that of the section.
    Ok(format!(
        "regtest=1\n\
         server=1\n\
         listen=0\n\
         dnsseed=0\n\
         printtoconsole=0\n\
         logtimemicros=1\n\
         shrinkdebugfile=0\n\
         persistmempool=0\n\
         fallbackfee=0.00001\n\
         corepolicy=1\n\
         addresstype=bech32\n\
         maxtipage=3153600000\n\
         fastprune=1\n\
         dbcache=4\n\
         par=1\n\
         keypool=2\n\
         rpcthreads=64\n\
         rpcworkqueue=256\n\
         rpcservertimeout=300\n\
         rpcuser={USER}\n\
         rpcpassword={password}\n\
         [regtest]\n\
         {own}\
         rpcbind=127.0.0.1\n\
         rpcallowip=127.0.0.1\n\
         rpcport={port}\n"
    ))
}

/// 128 random bits, as hexadecimal digits.
fn password() -> Result<String> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|e| std::io::Error::other(e.to_string()))
        .doing("draw random bytes for", "bitcoind's password")?;
    Ok(bytes.to_lower_hex_string())
}
