//! A running lab: its nodes, its bitcoind, and its end.

pub(crate) mod builder;
pub(crate) mod folder;
mod gates;
mod growth;
mod nodes;
mod page;
mod report;
mod topology;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use self::folder::Folder;
use self::nodes::Nodes;
use self::report::Report;
use crate::bitcoin::Bitcoind;
use crate::error::IoContext;
use crate::nats::Nats;
use crate::node::{Node, NodeSpec};
use crate::process::daemon::ended_well;
use crate::process::reaper::Reaper;
use crate::{Error, Probe, Result, eventually};

/// A bitcoind and Lightning nodes on regtest.
///
/// End it with [`Lab::stop`], which also reports what went wrong meanwhile. Dropping
/// it kills everything at once.
// Fields are dropped in this order: nodes, bitcoind, their folder.
#[derive(Debug)]
pub struct Lab {
    nodes: Nodes,
    bitcoind: Arc<Bitcoind>,
    nats: Option<Nats>,
    folder: Folder,
    /// What is set for every node.
    every: NodeSpec,
    /// One node is added after the other.
    adding: tokio::sync::Mutex<()>,
    reports: bool,
    gated: bool,
    since: Instant,
}

impl Lab {
    /// `reports`: whether a failure is reported on standard error; `gated`: whether
    /// `stop` checks what went wrong meanwhile.
    pub(crate) fn new(
        nodes: Vec<Node>,
        bitcoind: Arc<Bitcoind>,
        folder: Folder,
        every: NodeSpec,
        reports: bool,
        gated: bool,
    ) -> Lab {
        Lab {
            nodes: nodes.into_iter().collect(),
            bitcoind,
            nats: None,
            folder,
            every,
            adding: tokio::sync::Mutex::default(),
            reports,
            gated,
            since: Instant::now(),
        }
    }

    pub(crate) fn with(mut self, nats: Option<Nats>) -> Lab {
        self.nats = nats;
        self
    }

    /// Its NATS server, if it was [asked for](crate::LabBuilder::nats).
    pub fn nats(&self) -> Option<&Nats> {
        self.nats.as_ref()
    }

    /// The node of this name.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is none; it lists the names there are.
    pub fn node(&self, name: &str) -> Result<&Node> {
        let mut nodes = self.nodes.iter();
        nodes.find(|node| node.name() == name).ok_or_else(|| {
            let names: Vec<&str> = self.nodes.iter().map(Node::name).collect();
            Error::usage(format!(
                "no node `{name}` in this lab: it has {}",
                names.join(", ")
            ))
        })
    }

    /// The first node.
    ///
    /// # Panics
    /// If the lab has no node.
    pub fn l1(&self) -> &Node {
        self.nodes()[0]
    }

    /// The second node.
    ///
    /// # Panics
    /// If the lab has fewer than two nodes.
    pub fn l2(&self) -> &Node {
        self.nodes()[1]
    }

    /// All nodes, in order.
    pub fn nodes(&self) -> Vec<&Node> {
        self.nodes.iter().collect()
    }

    /// Its bitcoind.
    pub fn bitcoind(&self) -> &Bitcoind {
        &self.bitcoind
    }

    /// Its folder, with one folder for each daemon, by the daemon's name.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// The handle of a lab that another process holds: dropping it ends nothing.
    pub(crate) fn attached(nodes: Vec<Node>, bitcoind: Arc<Bitcoind>, dir: &Path) -> Lab {
        let folder = Folder::of_another(dir);
        Lab::new(nodes, bitcoind, folder, NodeSpec::new(), false, false)
    }

    /// Keeps the folder, however the lab ends.
    pub fn keep_folder(&mut self) {
        self.folder.keep();
    }

    /// True if the folder stays, however the lab ends.
    pub(crate) fn keeps_folder(&self) -> bool {
        self.folder.stays()
    }

    /// An error if a daemon that should be running has ended.
    pub async fn check_alive(&self) -> Result<()> {
        if !self.bitcoind.is_stopped() {
            self.bitcoind.check_alive()?;
        }
        self.nats.as_ref().map_or(Ok(()), Nats::check_alive)?;
        for node in self.nodes.iter() {
            if node.pid().await.is_some() || node.is_stopped().await {
                continue;
            }
            node.check_alive().await?;
        }
        Ok(())
    }

    /// An error if the process that cleans up after a killed lab has ended. The lab still
    /// works, but starts no more nodes.
    ///
    /// # Errors
    /// As said, with what to do.
    pub fn check_reaper(&self) -> Result<()> {
        let alive = |reaper: &Arc<Reaper>| reaper.check_alive();
        let reaper = self.folder.reaper.as_ref();
        reaper.map_or(Ok(()), alive).doing("watch over", self.dir())
    }

    /// Runs `work`, and ends it with an error as soon as a daemon dies, rather than wait
    /// for something that can no longer come.
    pub async fn while_alive<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
        let death = eventually::<T>("a daemon's death", FOREVER, async || {
            self.check_alive().await?;
            Ok(Probe::NotYet("all alive".to_owned()))
        });
        let outcome = tokio::select! {
            done = work => done,
            died = death => died,
        };
        match outcome {
            Ok(value) => Ok(value),
            // A missing answer is often the first sign of a death.
            Err(error) => Err(self.check_alive().await.err().unwrap_or(error)),
        }
    }

    /// Stops all daemons at once, waits until none of their processes is left, and
    /// removes the folder.
    ///
    /// # Errors
    /// If a daemon had died, ended with an error, or could not be ended. Else
    /// [`Error::Gate`] for anything that a test should not miss: a BROKEN line in a
    /// node's log, a crash log, a plugin that died; unless it was allowed by name (see
    /// [`crate::NodeSpec::allow_broken`]).
    pub async fn stop(mut self) -> Result<()> {
        if self.folder.reaper.is_none() {
            return Err(Error::not_ours("the lab"));
        }
        let running = join_all(self.nodes.iter().map(async |node| {
            if node.is_stopped().await {
                return Ok(());
            }
            let ended = match node.check_alive().await {
                Ok(()) => ended(node.name(), node.stop().await?),
                died => died,
            };
            if node.excused().allowed().failure {
                return Ok(());
            }
            ended
        }));
        let nodes_ended = running.await;
        let nats_ended = self.nats.as_ref().map_or(Ok(()), Nats::check_alive);
        // What it kept goes with the folder; its process ends when it is dropped.
        let bitcoind_ended = self.end_bitcoind().await;
        // A daemon's death explains the rest.
        nodes_ended
            .into_iter()
            .chain([nats_ended, bitcoind_ended])
            .collect::<Result<()>>()?;
        if self.gated {
            gates::check(self.nodes.iter())?;
        }
        self.folder.failed = false;
        Ok(())
    }

    /// Kills everything, and leaves nothing: as after an end that is nobody's failure.
    pub fn discard(mut self) {
        self.folder.failed = false;
    }

    /// A regular stop of bitcoind takes up to 0.1 s, most of it waiting. What it writes
    /// then is of use only if the folder stays.
    async fn end_bitcoind(&self) -> Result<()> {
        if self.bitcoind.is_stopped() {
            return Ok(());
        }
        self.bitcoind.check_alive()?;
        if !self.folder.stays() {
            return self.bitcoind.kill().await;
        }
        ended("bitcoind", self.bitcoind.stop().await?)
    }

    /// What is known of the lab so far: versions, command lines, the last recorded
    /// events, the ends of all logs in the order of time. A lab that is dropped before
    /// [`Lab::stop`], or in which `stop` finds something wrong, prints it to standard
    /// error.
    pub fn report(&self) -> String {
        self.failure().to_string()
    }

    fn failure(&self) -> Report {
        Report::new(self.dir())
            .daemons(&self.bitcoind, self.nodes.iter())
            .awaited(crate::wait::last_timeout(self.since))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.folder.failed && self.reports {
            self.folder.report(&self.failure());
        }
    }
}

fn ended(name: &str, status: std::process::ExitStatus) -> Result<()> {
    if ended_well(status) {
        return Ok(());
    }
    Err(Error::Answer {
        from: name.to_owned(),
        why: format!("it was stopped and ended with {status}"),
    })
}
