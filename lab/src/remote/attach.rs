//! A lab that another process holds, used from this one.
//!
//! The lab's folder describes it: `lab.json` says what runs where, `lab.sock`
//! takes requests for what only the holder can do.

use std::path::Path;
use std::sync::Arc;

use crate::bitcoin::Bitcoind;
use crate::node::Attached;
use crate::process::listing::is_alive;
use crate::remote::description::{DescribedBitcoind, DescribedNode, Description};
use crate::trace::Recorder;
use crate::{Error, Lab, Node, Result};

impl Lab {
    /// The lab in `dir` ([`Lab::dir`]) that another process holds, for example `lab up`.
    ///
    /// Its nodes and its bitcoind can be used like one's own; the holder is asked to
    /// stop or start a node. Nothing ends when the handle is dropped, and
    /// [`Lab::stop`] is refused: only the holder ends the lab.
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
        let bitcoind = Arc::new(Bitcoind::attached(
            program,
            data,
            *port,
            *pid,
            Recorder::join(&dir),
        )?);
        let attached = |node: &DescribedNode| Node::attached(node, Attached::new(&dir), &bitcoind);
        let nodes = described.nodes.iter().map(attached).collect();
        Ok(Lab::attached(nodes, bitcoind, &dir))
    }

    /// Writes what [`Lab::attach`] reads; called again when a process has changed.
    pub(crate) async fn describe(&self) -> Result<()> {
        let mut nodes = Vec::new();
        for node in self.nodes() {
            nodes.push(DescribedNode {
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
        description.write(self.dir())
    }
}
