//! A lab that another process holds, used from this one.
//!
//! The lab's folder describes it: `lab.json` says what runs where, `lab.sock`
//! takes requests for what only the holder can do.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::bitcoin::Bitcoind;
use crate::error::IoContext;
use crate::node::NETWORK;
use crate::process::files::write_private;
use crate::process::listing::is_alive;
use crate::remote::control::{self, Request};
use crate::{Error, Implementation, Lab, Node, Result};

/// The file that describes a lab, in its folder.
const FILE: &str = "lab.json";

/// What runs in a lab, and where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Description {
    /// The process that holds it.
    pub pid: u32,
    /// Whether its folder is to stay after its end.
    pub keep: bool,
    pub bitcoind: DescribedBitcoind,
    pub nodes: Vec<Described>,
}

/// Its bitcoind. The password is in its own configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DescribedBitcoind {
    pub program: PathBuf,
    pub dir: PathBuf,
    pub port: u16,
    pub pid: u32,
}

/// One of its nodes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Described {
    pub name: String,
    pub id: String,
    #[serde(flatten)]
    pub implementation: Implementation,
    pub program: PathBuf,
    pub dir: PathBuf,
    pub port: u16,
    /// `None` while it is down.
    pub pid: Option<u32>,
}

impl Description {
    /// Reads the description of the lab in `dir`.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no lab.
    pub fn read(dir: &Path) -> Result<Description> {
        let path = dir.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::usage(format!(
                    "no lab in {}: there is no {FILE}; it has ended, or is another folder",
                    dir.display()
                )));
            }
            Err(e) => return Err(e).doing("read", &path),
        };
        serde_json::from_str(&text).map_err(|e| Error::Answer {
            from: path.display().to_string(),
            why: e.to_string(),
        })
    }
}

impl Lab {
    /// The lab in `dir` ([`Lab::dir`]) that another process holds, `lab up` say.
    ///
    /// Its nodes and its bitcoind can be used like one's own; to stop or restart
    /// a node is asked of the holder. Nothing ends when the handle is dropped,
    /// and [`Lab::stop`] is refused: the lab's end is its holder's to see to.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no lab, or the process that held it has ended.
    ///
    /// ```no_run
    /// # fn f() -> cln_lab::Result<()> {
    /// let lab = cln_lab::Lab::attach(std::env::var("LAB_DIR").unwrap())?;
    /// println!("{} on port {}", lab.l1().id(), lab.l1().port());
    /// # Ok(()) }
    /// ```
    pub fn attach(dir: impl AsRef<Path>) -> Result<Lab> {
        let dir = dir.as_ref();
        let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        let described = Description::read(&dir)?;
        if !is_alive(described.pid) {
            return Err(Error::usage(format!(
                "the lab in {} has ended: process {}, which held it, is gone",
                dir.display(),
                described.pid
            )));
        }
        let DescribedBitcoind {
            program,
            dir: data,
            port,
            pid,
        } = &described.bitcoind;
        let bitcoind = Arc::new(Bitcoind::attached(program, data, *port, *pid)?);
        let attached = |node: &Described| {
            let attached = Attached {
                lab_dir: dir.clone(),
            };
            Node::attached(node, attached, &bitcoind)
        };
        let nodes = described.nodes.iter().map(attached).collect();
        Ok(Lab::attached(nodes, bitcoind, &dir))
    }

    /// Writes what [`Lab::attach`] reads; again whenever a process has changed.
    pub(crate) async fn describe(&self) -> Result<()> {
        let mut nodes = Vec::new();
        for node in self.nodes() {
            nodes.push(Described {
                name: node.name().to_owned(),
                id: node.id().to_owned(),
                implementation: node.implementation().clone(),
                program: node.program().to_owned(),
                dir: node.dir().to_owned(),
                port: node.port(),
                pid: node.pid().await,
            });
        }
        let bitcoind = self.bitcoind();
        let description = Description {
            pid: std::process::id(),
            keep: self.keeps_folder(),
            bitcoind: DescribedBitcoind {
                program: bitcoind.program().to_owned(),
                dir: bitcoind.dir().to_owned(),
                port: bitcoind.rpc_port(),
                pid: bitcoind.pid(),
            },
            nodes,
        };
        let text = serde_json::to_string_pretty(&description).map_err(std::io::Error::other);
        write_private(&self.dir().join(FILE), &text.doing("describe", self.dir())?)
    }
}

/// A node's link to the process that holds it.
#[derive(Debug)]
pub(crate) struct Attached {
    lab_dir: PathBuf,
}

impl Attached {
    /// The node's process id now; `None` if it is down. lightningd's own pid file
    /// also knows of one that was started by hand.
    pub fn pid(&self, node: &Node) -> Option<u32> {
        pid_file(node)
            .or_else(|| self.described(node)?.pid)
            .filter(|pid| is_alive(*pid))
    }

    /// True if the holder has stopped it and means it to be down.
    pub fn is_stopped(&self, node: &Node) -> bool {
        let stopped = self
            .described(node)
            .is_some_and(|described| described.pid.is_none());
        stopped && self.pid(node).is_none()
    }

    fn described(&self, node: &Node) -> Option<Described> {
        let nodes = Description::read(&self.lab_dir).ok()?.nodes;
        nodes.into_iter().find(|other| other.name == node.name())
    }

    pub fn check_alive(&self, node: &Node) -> Result<()> {
        match self.pid(node) {
            Some(_) => Ok(()),
            None => Err(Error::usage(format!("{} is not running", node.name()))),
        }
    }

    pub async fn start(&self, node: &Node) -> Result<()> {
        // Also if somebody started it by hand, of which the holder knows nothing.
        if let Some(pid) = self.pid(node) {
            return Err(Error::usage(format!(
                "{} is running already, as process {pid}",
                node.name()
            )));
        }
        let node = node.name().to_owned();
        control::ask(&self.lab_dir, &Request::Start { node })
            .await
            .map(drop)
    }

    pub async fn stop(&self, node: &Node) -> Result<ExitStatus> {
        let node = node.name().to_owned();
        self.end(Request::Stop { node }).await
    }

    pub async fn kill9(&self, node: &Node) -> Result<ExitStatus> {
        let node = node.name().to_owned();
        self.end(Request::Kill9 { node }).await
    }

    async fn end(&self, request: Request) -> Result<ExitStatus> {
        let status = control::ask(&self.lab_dir, &request).await?;
        let status = status.ok_or_else(|| Error::Answer {
            from: format!("the process that holds {}", self.lab_dir.display()),
            why: "no exit status".to_owned(),
        })?;
        Ok(ExitStatus::from_raw(status))
    }
}

/// The process id that lightningd wrote into the node's folder.
pub(crate) fn pid_file(node: &Node) -> Option<u32> {
    let file = node.dir().join(format!("lightningd-{NETWORK}.pid"));
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}
