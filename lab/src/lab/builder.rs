//! Describes a lab, and starts it.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::try_join_all;

use crate::bitcoin::Bitcoind;
use crate::bitcoin::prepared_chain;
use crate::lab::folder::Folder;
use crate::lab::report::Report;
use crate::node::{Capability, Lean, Node, Plugin, Surroundings};
use crate::process::files::is_plain_name;
use crate::process::reaper::Reaper;
use crate::trace::{OutputWatch, Recorder, Tracing};
use crate::{Error, Implementation, Keep, Lab, Nats, NodeKind, NodeSpec, Result, binaries};

/// Describes a lab; [`LabBuilder::start`] starts it.
#[derive(Debug, Clone)]
pub struct LabBuilder {
    /// What is set for all nodes.
    every: NodeSpec,
    nodes: Vec<NodeSpec>,
    gates: bool,
    keep: Keep,
    /// Lines of bitcoind's configuration.
    bitcoind: Vec<(String, String)>,
    tracing: Tracing,
    nats: bool,
}

impl Lab {
    /// Describes a lab, which has no nodes yet.
    pub fn builder() -> LabBuilder {
        LabBuilder {
            every: NodeSpec::new(),
            nodes: Vec::new(),
            gates: true,
            keep: Keep::Failed,
            bitcoind: Vec::new(),
            tracing: Tracing::On,
            nats: false,
        }
    }
}

impl LabBuilder {
    /// Adds this many nodes.
    #[must_use]
    pub fn nodes(mut self, count: usize) -> LabBuilder {
        self.nodes.extend((0..count).map(|_| NodeSpec::new()));
        self
    }

    /// Adds one node.
    #[must_use]
    pub fn node(mut self, node: NodeSpec) -> LabBuilder {
        self.nodes.push(node);
        self
    }

    /// Starts this plugin with every node.
    #[must_use]
    pub fn plugin(mut self, plugin: Plugin) -> LabBuilder {
        self.every = self.every.plugin(plugin);
        self
    }

    /// Sets a variable of every node's environment: see [`NodeSpec::env`].
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> LabBuilder {
        self.every = self.every.env(name, value);
        self
    }

    /// Chooses the program of the nodes whose own spec does not; the default is the
    /// value of `LAB_NODE`.
    #[must_use]
    pub fn kind(mut self, kind: NodeKind) -> LabBuilder {
        self.every = self.every.kind(kind);
        self
    }

    /// Sets an option of bitcoind, a line of its configuration: `txindex` to `1`,
    /// `blockfilterindex` to `1`. `wallet` is the name of its one wallet, `default`. Where
    /// it listens, and its user and password, are the lab's to set.
    #[must_use]
    pub fn bitcoind_option(mut self, name: impl Into<String>, value: impl ToString) -> LabBuilder {
        self.bitcoind.push((name.into(), value.to_string()));
        self
    }

    /// Starts a NATS server with JetStream beside the nodes: see [`Lab::nats`].
    #[must_use]
    pub fn nats(mut self) -> LabBuilder {
        self.nats = true;
        self
    }

    /// Chooses when the folder stays: [`Keep::Failed`] by default. `LAB_KEEP` overrides
    /// it. With [`Keep::Never`], failures are not reported on standard error: the
    /// caller expects them, or reports them itself.
    #[must_use]
    pub fn keep(mut self, keep: Keep) -> LabBuilder {
        self.keep = keep;
        self
    }

    /// Starts lightningd without those of its own plugins that nothing in `keep`
    /// needs: `lean([])` for a test of connections and invoices,
    /// `lean([Capability::Channels])` for one that opens channels, too.
    ///
    /// A lean node starts faster and takes less memory (`make bench` measures it), but
    /// it is not quite what a plugin meets in production: the methods and the
    /// notifications of the plugins left out are missing.
    #[must_use]
    pub fn lean(mut self, keep: impl IntoIterator<Item = Capability>) -> LabBuilder {
        self.every.lean = Some(Lean::new(keep));
        self
    }

    /// Allows BROKEN lines with this text in every node's log: see
    /// [`NodeSpec::allow_broken`].
    #[must_use]
    pub fn allow_broken(mut self, text: impl Into<String>) -> LabBuilder {
        self.every = self.every.allow_broken(text);
        self
    }

    /// Allows the plugin of this file name to die on any node: see
    /// [`NodeSpec::allow_plugin_death`].
    #[must_use]
    pub fn allow_plugin_death(mut self, name: impl Into<String>) -> LabBuilder {
        self.every = self.every.allow_plugin_death(name);
        self
    }

    /// Leaves out the checks of [`Lab::stop`] for what went wrong meanwhile: for a lab
    /// that a person plays with.
    #[must_use]
    pub fn without_gates(mut self) -> LabBuilder {
        self.gates = false;
        self
    }

    /// Chooses how much the lab writes down, for `lab trace` and the page of a test that
    /// fails: see [`crate::trace`]. [`Tracing::On`] by default; `LAB_TRACE` overrides it.
    #[must_use]
    pub fn tracing(mut self, tracing: Tracing) -> LabBuilder {
        self.tracing = tracing;
        self
    }

    /// Starts bitcoind and then all nodes at once, and waits until every one of
    /// them is ready.
    ///
    /// # Errors
    /// If an executable is missing, a daemon cannot be started, ends, or is not
    /// ready in time. Whatever was started by then is ended again.
    pub async fn start(self) -> Result<Lab> {
        let mut every = self.every;
        every.kind = Some(every.kind.map_or_else(NodeKind::from_env, Ok)?);
        let keep = Keep::from_env(self.keep)?;
        let tracing = Tracing::from_env(self.tracing)?;
        let mut specs: Vec<NodeSpec> = self.nodes.iter().map(|own| every.with(own)).collect();
        name_all(&mut specs)?;
        // What is missing is reported before anything is made.
        let bitcoind = binaries::bitcoind()?;
        binaries::bitcoin_cli(&bitcoind)?;
        let programs = specs.iter().map(NodeSpec::program);
        let programs: Vec<PathBuf> = programs.collect::<Result<_>>()?;

        let nats = self.nats.then(binaries::nats_server).transpose()?;

        let (mut folder, reaper) = Folder::create(keep)?;
        let reports = self.keep == Keep::Failed;
        let trace = Recorder::create(folder.path(), tracing)?;
        folder.output = OutputWatch::start(folder.path(), &trace)?;
        let bitcoind = start_bitcoind(&bitcoind, folder.path(), &self.bitcoind, &reaper, &trace);
        let nats = async {
            match nats {
                Some(program) => Nats::spawn(program, folder.path(), &reaper, &trace)
                    .await
                    .map(Some),
                None => Ok(None),
            }
        };
        let nodes = start_nodes(specs, programs, &every, bitcoind, folder.path(), &reaper);
        let started = async { tokio::try_join!(nodes, nats) };
        let ((nodes, bitcoind), nats) = started.await.inspect_err(|_| {
            if reports {
                folder.report(&Report::new(folder.path()));
            }
        })?;
        let lab = Lab::new(nodes, bitcoind, folder, every, reports, self.gates).with(nats);
        lab.describe().await?;
        Ok(lab)
    }
}

/// Starts the nodes, each with its program.
///
/// Before bitcoind has its chain and its wallet the nodes can start already: they
/// take longer until they ask for blocks.
async fn start_nodes(
    specs: Vec<NodeSpec>,
    programs: Vec<PathBuf>,
    every: &NodeSpec,
    bitcoind: impl Future<Output = Result<Bitcoind>>,
    lab_dir: &Path,
    reaper: &Arc<Reaper>,
) -> Result<(Vec<Node>, Arc<Bitcoind>)> {
    let (bitcoind, programs) = tokio::try_join!(bitcoind, identified(&specs, programs))?;
    let bitcoind = Arc::new(bitcoind);
    let surroundings = Surroundings {
        lab_dir,
        bitcoind: &bitcoind,
        every,
        reaper,
    };
    let nodes = async {
        let create = specs.into_iter().zip(programs);
        let create = create.map(|(spec, program)| Node::create(spec, program, &surroundings));
        let nodes: Vec<Node> = create.collect::<Result<_>>()?;
        try_join_all(nodes.iter().map(Node::spawn)).await?;
        let ready = nodes.iter().map(|node| node.ready(prepared_chain::BLOCKS));
        try_join_all(ready).await?;
        Ok(nodes)
    };
    let (nodes, ()) = tokio::try_join!(nodes, bitcoind.ready())?;
    Ok((nodes, bitcoind))
}

/// Which program each node's executable is; each executable is asked once.
async fn identified(
    specs: &[NodeSpec],
    programs: Vec<PathBuf>,
) -> Result<Vec<(PathBuf, Implementation)>> {
    let distinct: HashSet<&PathBuf> = programs.iter().collect();
    let asked = distinct.into_iter().map(async |path| {
        let implementation = binaries::implementation(path).await?;
        Ok::<_, Error>((path.clone(), implementation))
    });
    let known: HashMap<PathBuf, Implementation> = try_join_all(asked).await?.into_iter().collect();
    let mut identified = Vec::new();
    for (spec, path) in specs.iter().zip(programs) {
        let implementation = known[&path].clone();
        spec.check(&path, &implementation)?;
        identified.push((path, implementation));
    }
    Ok(identified)
}

async fn start_bitcoind(
    program: &Path,
    lab_dir: &Path,
    options: &[(String, String)],
    reaper: &Arc<Reaper>,
    trace: &Recorder,
) -> Result<Bitcoind> {
    let dir = lab_dir.join("bitcoind");
    prepared_chain::prepare(program, &dir, reaper).await?;
    Bitcoind::spawn(program, &dir, options, reaper, trace).await
}

/// Gives each node a name of its own, `l1`, `l2`, … if its spec has none.
///
/// # Errors
/// [`Error::Usage`] for a name that two nodes have or that cannot be a folder's.
fn name_all(specs: &mut [NodeSpec]) -> Result<()> {
    let mut taken = HashSet::new();
    for (n, spec) in specs.iter_mut().enumerate() {
        let name = spec.name.get_or_insert_with(|| format!("l{}", n + 1));
        check_name(name)?;
        if !taken.insert(name.clone()) {
            return Err(Error::usage(format!("two nodes are named `{name}`")));
        }
    }
    Ok(())
}

/// Checks that a node's name can be a folder's.
///
/// # Errors
/// [`Error::Usage`] if not.
pub(super) fn check_name(name: &str) -> Result<()> {
    if ["bitcoind", "nats"].contains(&name) || !is_plain_name(name) {
        return Err(Error::usage(format!(
            "node name `{name}`: use letters, digits, - and _, and not `bitcoind` or `nats`"
        )));
    }
    Ok(())
}
