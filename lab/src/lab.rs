//! A lab: what runs in it, in what order it starts, and its end.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use tempfile::TempDir;

use crate::attach::not_ours;
use crate::bitcoind::Bitcoind;
use crate::daemon::ended_well;
use crate::error::IoContext;
use crate::node::{Implementation, Node, Plugin, Setup};
use crate::reaper::Reaper;
use crate::{Error, Probe, Result, binaries, chain, embedded, eventually};

/// Which program the nodes are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NodeKind {
    /// lightningd if it is found, else the embedded node.
    #[default]
    Auto,
    /// lightningd; an error if it is not found.
    Lightningd,
    /// The lab's own embedded node.
    Embedded,
}

impl NodeKind {
    /// What `LAB_NODE` says: `auto`, `lightningd` or `embedded`; `auto` if it is not set.
    pub fn from_env() -> Result<NodeKind> {
        match std::env::var("LAB_NODE") {
            Ok(text) if !text.is_empty() => text.parse(),
            _ => Ok(NodeKind::Auto),
        }
    }
}

impl std::str::FromStr for NodeKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<NodeKind> {
        match text {
            "auto" => Ok(NodeKind::Auto),
            "lightningd" => Ok(NodeKind::Lightningd),
            "embedded" => Ok(NodeKind::Embedded),
            _ => Err(Error::usage(format!(
                "node kind `{text}`: use auto, lightningd or embedded"
            ))),
        }
    }
}

/// When the lab's folder stays after its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Always.
    Always,
    /// If the lab was dropped without [`Lab::stop`], as happens on an error or a
    /// panic, or if `stop` found something wrong.
    Failed,
    /// Never.
    Never,
}

impl Keep {
    /// What `LAB_KEEP` says: `always`, `failed` or `never`; else `default`.
    fn from_env(default: Keep) -> Result<Keep> {
        match std::env::var("LAB_KEEP").as_deref() {
            Err(_) | Ok("") => Ok(default),
            Ok("always") => Ok(Keep::Always),
            Ok("failed") => Ok(Keep::Failed),
            Ok("never") => Ok(Keep::Never),
            Ok(other) => Err(Error::usage(format!(
                "LAB_KEEP={other}: use always, failed or never"
            ))),
        }
    }
}

/// One node of a lab to be.
#[derive(Debug, Clone, Default)]
pub struct NodeSpec {
    name: Option<String>,
    kind: Option<NodeKind>,
    program: Option<PathBuf>,
    options: Vec<(String, Option<String>)>,
    plugins: Vec<Plugin>,
}

impl NodeSpec {
    /// A node like any other of its lab.
    pub fn new() -> NodeSpec {
        NodeSpec::default()
    }

    /// Names it; by default nodes are `l1`, `l2`, … by their place.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> NodeSpec {
        self.name = Some(name.into());
        self
    }

    /// Chooses the program for this node.
    #[must_use]
    pub fn kind(mut self, kind: NodeKind) -> NodeSpec {
        self.kind = Some(kind);
        self
    }

    /// Runs this very lightningd.
    #[must_use]
    pub fn lightningd(mut self, program: impl Into<PathBuf>) -> NodeSpec {
        self.program = Some(program.into());
        self
    }

    /// Adds an option of lightningd's, without its dashes.
    #[must_use]
    pub fn option(mut self, name: impl Into<String>, value: impl ToString) -> NodeSpec {
        self.options.push((name.into(), Some(value.to_string())));
        self
    }

    /// Adds an option of lightningd's that takes no value.
    #[must_use]
    pub fn flag(mut self, name: impl Into<String>) -> NodeSpec {
        self.options.push((name.into(), None));
        self
    }

    /// Starts this plugin with the node.
    #[must_use]
    pub fn plugin(mut self, plugin: Plugin) -> NodeSpec {
        self.plugins.push(plugin);
        self
    }
}

/// How a lab is to be; [`LabBuilder::start`] makes it so.
#[derive(Debug, Clone)]
pub struct LabBuilder {
    kind: Option<NodeKind>,
    nodes: Vec<NodeSpec>,
    plugins: Vec<Plugin>,
    keep: Keep,
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
        let bitcoind = binaries::bitcoind()?;
        let bitcoin_cli = binaries::bitcoin_cli(&bitcoind)?;

        let programs = self.nodes.iter().map(|spec| program(spec, default));
        let programs: Vec<Program> = programs.collect::<Result<_>>()?;

        let (folder, reaper) = Folder::create(keep)?;
        let programs = try_join_all(programs.into_iter().map(Program::ask));
        // Before bitcoind has its wallet the nodes can start already: they only
        // want blocks, and those are in the prepared chain.
        let (bitcoind, programs) =
            tokio::try_join!(start_bitcoind(&bitcoind, folder.path(), &reaper), programs)?;
        let bitcoind = Arc::new(bitcoind);
        let height = chain::BLOCKS;
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
                            lab_dir: folder.path(),
                            bitcoind: &bitcoind,
                            bitcoin_cli: &bitcoin_cli,
                            reaper: &reaper,
                        })
                    },
                );
                let nodes = try_join_all(spawn).await?;
                try_join_all(nodes.iter().map(|node| node.ready(height))).await?;
                Ok(nodes)
            };
        let (nodes, ()) = tokio::try_join!(nodes, bitcoind.load_wallet())?;
        let lab = Lab {
            nodes,
            bitcoind,
            folder,
        };
        lab.describe().await?;
        Ok(lab)
    }
}

async fn start_bitcoind(program: &Path, lab_dir: &Path, reaper: &Arc<Reaper>) -> Result<Bitcoind> {
    let dir = lab_dir.join("bitcoind");
    chain::prepare(program, &dir).await?;
    Bitcoind::start(program, &dir, reaper).await
}

/// The executable for a node.
enum Program {
    Lightningd(PathBuf),
    /// The command `lab`, of which the embedded node is a subcommand.
    Embedded(PathBuf),
}

impl Program {
    /// The executable and what it says it is.
    async fn ask(self) -> Result<(PathBuf, Implementation)> {
        match self {
            Program::Lightningd(path) => {
                let version = binaries::lightningd_version(&path).await?;
                Ok((path, Implementation::Lightningd(version)))
            }
            Program::Embedded(path) => Ok((path, Implementation::Embedded(embedded::version()))),
        }
    }
}

fn program(spec: &NodeSpec, default: NodeKind) -> Result<Program> {
    match (&spec.program, spec.kind.unwrap_or(default)) {
        (Some(path), _) => Ok(Program::Lightningd(path.clone())),
        (None, NodeKind::Embedded) => binaries::lab().map(Program::Embedded),
        (None, NodeKind::Lightningd) => binaries::lightningd().map(Program::Lightningd),
        // A LIGHTNINGD that cannot be run is a mistake to be told, not a reason
        // to run something else.
        (None, NodeKind::Auto) => match binaries::lightningd() {
            Ok(path) => Ok(Program::Lightningd(path)),
            Err(error) if std::env::var_os("LIGHTNINGD").is_some_and(|v| !v.is_empty()) => {
                Err(error)
            }
            Err(_) => binaries::lab().map(Program::Embedded),
        },
    }
}

/// The nodes' names, each once, and fit to be a folder's.
fn names(specs: &[NodeSpec]) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::with_capacity(specs.len());
    for (n, spec) in specs.iter().enumerate() {
        let name = spec.name.clone().unwrap_or_else(|| format!("l{}", n + 1));
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name == "bitcoind" || !name.chars().all(plain) {
            return Err(Error::usage(format!(
                "node name `{name}`: use letters, digits, - and _, and not `bitcoind`"
            )));
        }
        if names.contains(&name) {
            return Err(Error::usage(format!("two nodes are named `{name}`")));
        }
        names.push(name);
    }
    Ok(names)
}

/// A bitcoind and Lightning nodes on regtest.
///
/// End it with [`Lab::stop`], which also says what went wrong on the way.
/// Dropping it kills everything at once.
// Fields are dropped in this order: nodes, bitcoind, their folder.
#[derive(Debug)]
pub struct Lab {
    nodes: Vec<Node>,
    bitcoind: Arc<Bitcoind>,
    folder: Folder,
}

impl Lab {
    /// A lab without nodes, to be described further.
    pub fn builder() -> LabBuilder {
        LabBuilder {
            kind: None,
            nodes: Vec::new(),
            plugins: Vec::new(),
            keep: Keep::Failed,
        }
    }

    /// The node of this name.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is none; it names those that there are.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes
            .iter()
            .find(|node| node.name() == name)
            .ok_or_else(|| {
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
        &self.nodes[0]
    }

    /// The second node.
    ///
    /// # Panics
    /// If the lab has fewer than two nodes.
    pub fn l2(&self) -> &Node {
        &self.nodes[1]
    }

    /// All nodes, in order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Its bitcoind.
    pub fn bitcoind(&self) -> &Bitcoind {
        &self.bitcoind
    }

    /// Its folder: one folder a daemon, named as the daemon is.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// The handle of a lab that another process holds: nothing of it ends when
    /// this is dropped.
    pub(crate) fn attached(nodes: Vec<Node>, bitcoind: Arc<Bitcoind>, dir: &Path) -> Lab {
        Lab {
            nodes,
            bitcoind,
            folder: Folder {
                dir: None,
                path: dir.to_owned(),
                keep: Keep::Always,
                failed: false,
                reaper: None,
            },
        }
    }

    /// From now on the folder stays, however the lab ends.
    pub fn keep_folder(&mut self) {
        self.folder.keep = Keep::Always;
        if let Some(reaper) = &self.folder.reaper {
            reaper.keep_folder();
        }
    }

    /// True if the folder stays, however the lab ends.
    pub(crate) fn keeps_folder(&self) -> bool {
        self.folder.keep == Keep::Always
    }

    /// An error if a daemon that should be running has ended.
    pub async fn check_alive(&self) -> Result<()> {
        self.bitcoind.check_alive()?;
        for node in &self.nodes {
            if node.pid().await.is_some() || node.is_stopped().await {
                continue;
            }
            node.check_alive().await?;
        }
        Ok(())
    }

    /// Runs `work`, and ends it with an error as soon as a daemon dies
    /// meanwhile: no wait for something that can no longer come.
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
            // Often the first sign of a death is an answer that did not come.
            Err(error) => Err(self.check_alive().await.err().unwrap_or(error)),
        }
    }

    /// Stops every daemon, all at once, and waits until no process of theirs is
    /// left; then the folder goes.
    ///
    /// # Errors
    /// If a daemon had died, ended with an error, or could not be ended.
    pub async fn stop(self) -> Result<()> {
        if self.folder.reaper.is_none() {
            return Err(not_ours("the lab"));
        }
        let Lab {
            nodes,
            bitcoind,
            mut folder,
        } = self;
        let running = join_all(nodes.iter().map(async |node| {
            if node.is_stopped().await {
                return Ok(());
            }
            node.check_alive().await?;
            ended(node.name(), node.stop().await?)
        }));
        let bitcoind = async {
            bitcoind.check_alive()?;
            ended("bitcoind", bitcoind.stop().await?)
        };
        let (nodes_ended, bitcoind_ended) = tokio::join!(running, bitcoind);
        drop(nodes);
        let outcome = nodes_ended
            .into_iter()
            .chain([bitcoind_ended])
            .collect::<Result<()>>();
        folder.failed = outcome.is_err();
        outcome
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

/// The lab's folder and the reaper that watches over it.
#[derive(Debug)]
struct Folder {
    dir: Option<TempDir>,
    path: PathBuf,
    keep: Keep,
    /// True until a [`Lab::stop`] that found nothing wrong.
    failed: bool,
    /// `None` if another process holds the lab.
    reaper: Option<Arc<Reaper>>,
}

impl Folder {
    fn create(keep: Keep) -> Result<(Folder, Arc<Reaper>)> {
        let parent = std::env::temp_dir();
        let parent = parent
            .canonicalize()
            .doing("find the temporary folder", &parent)?;
        let dir = tempfile::Builder::new()
            .prefix("cln-lab-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(&parent)
            .doing("create a folder in", &parent)?;
        let path = dir.path().to_owned();
        let reaper = Arc::new(Reaper::start(&path)?);
        if keep == Keep::Always {
            reaper.keep_folder();
        }
        let folder = Folder {
            dir: Some(dir),
            path,
            keep,
            failed: true,
            reaper: Some(Arc::clone(&reaper)),
        };
        Ok((folder, reaper))
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let Some(dir) = self.dir.take() else {
            return;
        };
        if self.keep == Keep::Always || (self.keep == Keep::Failed && self.failed) {
            let path = dir.keep();
            eprintln!("lab folder kept: {}", path.display());
        } else if let Err(error) = dir.close() {
            tracing::warn!(%error, "the lab's folder could not be removed");
        }
    }
}
