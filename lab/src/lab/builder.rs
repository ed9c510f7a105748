//! How a lab is to be, and its start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::try_join_all;

use crate::bitcoin::Bitcoind;
use crate::bitcoin::prepared_chain;
use crate::lab::folder::Folder;
use crate::lab::report::Report;
use crate::node::spec::{names, program};
use crate::node::{Allowed, Capability, Lean, Node, Plugin, Setup};
use crate::process::reaper::Reaper;
use crate::{Keep, Lab, NodeKind, NodeSpec, Result, binaries};

/// How a lab is to be; [`LabBuilder::start`] makes it so.
#[derive(Debug, Clone)]
pub struct LabBuilder {
    kind: Option<NodeKind>,
    nodes: Vec<NodeSpec>,
    plugins: Vec<Plugin>,
    env: Vec<(String, String)>,
    lean: Option<Lean>,
    allowed: Allowed,
    gates: bool,
    keep: Keep,
}

impl Lab {
    /// A lab without nodes, to be described further.
    pub fn builder() -> LabBuilder {
        LabBuilder {
            kind: None,
            nodes: Vec::new(),
            plugins: Vec::new(),
            env: Vec::new(),
            lean: None,
            allowed: Allowed::default(),
            gates: true,
            keep: Keep::Failed,
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
        self.plugins.push(plugin);
        self
    }

    /// Sets a variable of every node's environment: see [`NodeSpec::env`].
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> LabBuilder {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Chooses the program for nodes that do not choose themselves; by default
    /// what `LAB_NODE` says.
    #[must_use]
    pub fn kind(mut self, kind: NodeKind) -> LabBuilder {
        self.kind = Some(kind);
        self
    }

    /// Chooses when the folder stays: [`Keep::Failed`] by default. `LAB_KEEP`
    /// overrides it.
    #[must_use]
    pub fn keep(mut self, keep: Keep) -> LabBuilder {
        self.keep = keep;
        self
    }

    /// Starts lightningd without those of its own plugins that nothing in `keep`
    /// needs: `lean([])` for a test of connections and invoices,
    /// `lean([Capability::Channels])` for one that opens channels, too.
    ///
    /// A node starts faster then and takes less memory (`make bench` says by how
    /// much here), but it is not quite what a plugin meets in production: methods
    /// of the plugins left out are not there, nor are their notifications.
    #[must_use]
    pub fn lean(mut self, keep: impl IntoIterator<Item = Capability>) -> LabBuilder {
        self.lean = Some(Lean::new(keep));
        self
    }

    /// Lets every node's log have BROKEN lines with this text: see
    /// [`NodeSpec::allow_broken`].
    #[must_use]
    pub fn allow_broken(mut self, text: impl Into<String>) -> LabBuilder {
        self.allowed.broken.push(text.into());
        self
    }

    /// Lets the plugin of this file name die on any node: see
    /// [`NodeSpec::allow_plugin_death`].
    #[must_use]
    pub fn allow_plugin_death(mut self, name: impl Into<String>) -> LabBuilder {
        self.allowed.plugin_deaths.push(name.into());
        self
    }

    /// Leaves out the checks of [`Lab::stop`] for what went wrong on the way: for a
    /// lab that a person plays with.
    #[must_use]
    pub fn without_gates(mut self) -> LabBuilder {
        self.gates = false;
        self
    }

    /// Starts bitcoind and then all nodes at once, and waits until every one of
    /// them is ready.
    ///
    /// # Errors
    /// If an executable is missing, a daemon cannot be started, ends, or is not
    /// ready in time. Whatever had been started by then is ended again.
    pub async fn start(self) -> Result<Lab> {
        let default = match self.kind {
            Some(kind) => kind,
            None => NodeKind::from_env()?,
        };
        let keep = Keep::from_env(self.keep)?;
        let names = names(&self.nodes)?;
        // What is missing is told before anything is made.
        binaries::bitcoin_cli(&binaries::bitcoind()?)?;
        let programs = self.nodes.iter().map(|spec| program(spec, default));
        let programs: Vec<PathBuf> = programs.collect::<Result<_>>()?;

        let (folder, reaper) = Folder::create(keep)?;
        let started = self.start_in(folder.path(), &reaper, names, programs).await;
        let (nodes, bitcoind) = match started {
            Ok(started) => started,
            Err(error) => {
                if self.reports() {
                    eprint!("{}", Report::new(folder.path()));
                }
                return Err(error);
            }
        };
        let lab = Lab::new(nodes, bitcoind, folder)
            .reporting(self.reports())
            .gated(self.gates);
        lab.describe().await?;
        Ok(lab)
    }

    /// A lab that cleans up behind itself whatever happens is told so on purpose:
    /// its failure is expected, or somebody else's to report.
    fn reports(&self) -> bool {
        self.keep == Keep::Failed
    }

    async fn start_in(
        &self,
        dir: &Path,
        reaper: &Arc<Reaper>,
        names: Vec<String>,
        programs: Vec<PathBuf>,
    ) -> Result<(Vec<Node>, Arc<Bitcoind>)> {
        let bitcoind = binaries::bitcoind()?;
        let bitcoin_cli = binaries::bitcoin_cli(&bitcoind)?;
        let programs = try_join_all(programs.into_iter().map(async |path| {
            let implementation = binaries::implementation(&path).await?;
            Ok((path, implementation))
        }));
        // Before bitcoind has its chain and its wallet the nodes can start already:
        // they take longer until they ask for blocks.
        let (bitcoind, programs) =
            tokio::try_join!(start_bitcoind(&bitcoind, dir, reaper), programs)?;
        let bitcoind = Arc::new(bitcoind);
        let height = prepared_chain::BLOCKS;
        let nodes =
            async {
                let spawn = names.into_iter().zip(&self.nodes).zip(programs).map(
                    |((name, spec), program)| {
                        let plugins = self.plugins.iter().chain(&spec.plugins).cloned().collect();
                        Node::spawn(Setup {
                            name,
                            program: program.0,
                            implementation: program.1,
                            options: spec.options.clone(),
                            plugins,
                            env: self.env.iter().chain(&spec.env).cloned().collect(),
                            lean: self.lean.clone(),
                            allowed: self.allowed.clone().and(&spec.allowed),
                            lab_dir: dir,
                            bitcoind: &bitcoind,
                            bitcoin_cli: &bitcoin_cli,
                            reaper,
                        })
                    },
                );
                let nodes = try_join_all(spawn).await?;
                try_join_all(nodes.iter().map(|node| node.ready(height))).await?;
                Ok(nodes)
            };
        let (nodes, ()) = tokio::try_join!(nodes, bitcoind.ready())?;
        Ok((nodes, bitcoind))
    }
}

async fn start_bitcoind(program: &Path, lab_dir: &Path, reaper: &Arc<Reaper>) -> Result<Bitcoind> {
    let dir = lab_dir.join("bitcoind");
    prepared_chain::prepare(program, &dir).await?;
    Bitcoind::start(program, &dir, reaper).await
}
