//! A node that another process holds.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};

use super::{NETWORK, Node, NodeSpec};
use crate::process::listing::{is_alive, runs_in};
use crate::remote::description::{DescribedNode, Description};
use crate::remote::request::{Request, ask};
use crate::{Error, Result};

/// A node's link to the process that holds it.
#[derive(Debug)]
pub(crate) struct Attached {
    lab_dir: PathBuf,
}

impl Attached {
    /// To the process that holds the lab in `lab_dir`.
    pub fn new(lab_dir: &Path) -> Attached {
        Attached {
            lab_dir: lab_dir.to_owned(),
        }
    }

    /// The node's process id now; `None` if it is down. lightningd's pid file also has
    /// that of one that was started by hand.
    pub fn pid(&self, node: &Node) -> Option<u32> {
        pid_file(node)
            .or_else(|| self.described(node)?.pid)
            .filter(|pid| is_alive(*pid))
    }

    /// True if the holder has stopped it, so that it should be down.
    pub fn is_stopped(&self, node: &Node) -> bool {
        let stopped = self
            .described(node)
            .is_some_and(|described| described.pid.is_none());
        stopped && self.pid(node).is_none()
    }

    fn described(&self, node: &Node) -> Option<DescribedNode> {
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
        // Also if it was started by hand, of which the holder does not know.
        if let Some(pid) = self.pid(node) {
            return Err(Error::usage(format!(
                "{} is running already, as process {pid}",
                node.name()
            )));
        }
        let node = node.name().to_owned();
        ask(&self.lab_dir, &Request::Start { node }).await.map(drop)
    }

    /// The node's id, once it has been up.
    pub fn id(&self, node: &Node) -> Option<String> {
        let id = self.described(node)?.id;
        (!id.is_empty()).then_some(id)
    }

    pub async fn reconfigure(&self, node: &Node, spec: NodeSpec) -> Result<()> {
        let node = node.name().to_owned();
        let request = Request::Configure { node, spec };
        ask(&self.lab_dir, &request).await.map(drop)
    }

    pub async fn ended(&self, node: &Node, within: Duration) -> Result<ExitStatus> {
        let node = node.name().to_owned();
        let seconds = within.as_secs_f64();
        self.end(Request::Wait { node, seconds }).await
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
        let answer = ask(&self.lab_dir, &request).await?;
        let status = answer.as_i64().and_then(|status| status.try_into().ok());
        let status = status.ok_or_else(|| Error::Answer {
            from: format!("the process that holds {}", self.lab_dir.display()),
            why: "no exit status".to_owned(),
        })?;
        Ok(ExitStatus::from_raw(status))
    }
}

/// The process that runs in the node's folder, by its pid file: the one that has the
/// file locked, as lightningd has; else the one whose id is in it, if it still is the
/// node and not a program that was given the id since.
pub(crate) fn pid_file(node: &Node) -> Option<u32> {
    let path = node.dir().join(format!("lightningd-{NETWORK}.pid"));
    let mut file = std::fs::File::options().read(true).open(path).ok()?;
    let mut lock = nix::libc::flock {
        l_type: nix::libc::F_RDLCK as _,
        l_whence: nix::libc::SEEK_SET as _,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_GETLK(&mut lock)).ok()?;
    if lock.l_type != nix::libc::F_UNLCK as i16 && lock.l_pid > 0 {
        return Some(lock.l_pid as u32);
    }
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let pid = text.trim().parse().ok()?;
    runs_in(pid, node.dir()).then_some(pid)
}
