//! Which lab, and which node of it, a command is about.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cln_lab::registry::{self, Named, Stale};
use cln_lab::{Lab, Node, Probe, eventually};

use super::progress::Progress;
use super::{out, usage};

/// How long to wait for a lab that is starting.
const START: Duration = Duration::from_secs(120);

#[derive(Debug, Default, clap::Args)]
pub struct Target {
    /// The lab's name [env: LAB_NAME] [default: the one that is up]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The lab's folder, instead of a name [env: LAB_DIR]
    #[arg(long, value_name = "FOLDER", conflicts_with = "name")]
    dir: Option<PathBuf>,
}

/// Which node of which lab.
#[derive(Debug, clap::Args)]
pub struct TargetNode {
    #[command(flatten)]
    pub target: Target,
    /// The node: l1, or 1 for short
    pub node: String,
}

/// Which two nodes of which lab; each command documents the two.
#[derive(Debug, clap::Args)]
pub struct TargetNodes {
    #[command(flatten)]
    pub target: Target,
    pub from: String,
    pub to: String,
}

impl TargetNodes {
    /// The two, which must be two, and running.
    pub async fn different<'a>(&self, lab: &'a Lab) -> anyhow::Result<(&'a Node, &'a Node)> {
        let (from, to) = (node(lab, &self.from)?, node(lab, &self.to)?);
        if from.name() == to.name() {
            return Err(usage(format!(
                "{0} cannot be its own peer: name two nodes",
                from.name()
            )));
        }
        for node in [from, to] {
            if node.pid().await.is_none() {
                anyhow::bail!("{0} is down: start it with `lab start {0}`", node.name());
            }
        }
        Ok((from, to))
    }
}

/// A lab that is up.
pub struct Found {
    /// `None` if it was chosen by its folder.
    pub name: Option<String>,
    pub dir: PathBuf,
}

impl Found {
    pub fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("lab `{name}`"),
            None => format!("the lab in {}", self.dir.display()),
        }
    }
}

impl Target {
    pub fn named(name: String) -> Target {
        Target {
            name: Some(name),
            dir: None,
        }
    }

    /// True if neither the command line nor the environment chooses a lab.
    pub fn is_open(&self) -> bool {
        self.name.is_none()
            && self.dir.is_none()
            && variable("LAB_DIR").is_none()
            && variable("LAB_NAME").is_none()
    }

    /// The lab: `--dir`, else `--name`, else `LAB_DIR`, else `LAB_NAME`, else
    /// `default`, else the only one that is up.
    pub async fn find(&self) -> anyhow::Result<Found> {
        let by_dir = |dir: &Path| Found {
            name: None,
            dir: dir.to_owned(),
        };
        if let Some(dir) = &self.dir {
            return Ok(by_dir(dir));
        }
        let name = match (&self.name, variable("LAB_DIR")) {
            (Some(name), _) => Some(name.clone()),
            (None, Some(dir)) => return Ok(by_dir(Path::new(&dir))),
            (None, None) => variable("LAB_NAME"),
        };
        let labs = labs().await?;
        let names: Vec<&str> = labs.iter().map(|lab| lab.name.as_str()).collect();
        let name = match name {
            Some(name) if names.contains(&name.as_str()) => name,
            Some(name) if names.is_empty() => {
                anyhow::bail!(
                    "no lab named `{name}` is up, nor any other: run `lab up --name {name}`"
                )
            }
            Some(name) => anyhow::bail!(
                "no lab named `{name}` is up: run `lab up --name {name}`, or choose one that is: {}",
                names.join(", ")
            ),
            None => match names.as_slice() {
                [] => anyhow::bail!(
                    "no lab is up: run `lab up`, or `lab up --detach` to get the terminal back"
                ),
                [only] => (*only).to_owned(),
                several if several.contains(&registry::DEFAULT) => registry::DEFAULT.to_owned(),
                several => anyhow::bail!(
                    "several labs are up: choose one with --name: {}",
                    several.join(", ")
                ),
            },
        };
        let dir = when_up(&name).await?;
        Ok(Found {
            name: Some(name),
            dir,
        })
    }

    pub async fn lab(&self) -> anyhow::Result<Lab> {
        Ok(Lab::attach(self.find().await?.dir)?)
    }
}

/// Waits for a lab that is starting.
async fn when_up(name: &str) -> anyhow::Result<PathBuf> {
    let mut progress = None;
    let dir = eventually(format!("lab `{name}` to be up"), START, async || {
        let (labs, _) = registry::labs().await?;
        Ok(match labs.into_iter().find(|lab| lab.name == name) {
            Some(Named { up: Some(up), .. }) => Probe::Ready(Some(up.dir)),
            Some(_) => {
                progress
                    .get_or_insert_with(|| Progress::start(format!("lab `{name}` is starting")));
                Probe::NotYet("it is starting".to_owned())
            }
            None => Probe::Ready(None),
        })
    })
    .await?;
    dir.ok_or_else(|| anyhow::anyhow!("lab `{name}` has just ended: run `lab up --name {name}`"))
}

/// All labs; prints a note on each that was found dead.
pub async fn labs() -> anyhow::Result<Vec<Named>> {
    let (labs, stale) = registry::labs().await?;
    stale.iter().for_each(note_stale);
    Ok(labs)
}

/// Prints that a lab ended without `lab down`.
pub fn note_stale(stale: &Stale) {
    let holder = match stale.pid {
        Some(pid) => format!("process {pid}, which held it, is gone"),
        None => "the process that was starting it is gone".to_owned(),
    };
    out::note(format_args!(
        "note: lab `{}` ended without `lab down`: {holder}; cleaned up after it",
        stale.name
    ));
}

/// The node `l1`, or `1` for short.
pub fn node<'a>(lab: &'a Lab, name: &str) -> anyhow::Result<&'a Node> {
    let short = name.chars().all(|c| c.is_ascii_digit()) && !name.is_empty();
    if short && let Ok(node) = lab.node(&format!("l{name}")) {
        return Ok(node);
    }
    lab.node(name).map_err(|error| usage(error.to_string()))
}

/// An environment variable that is set and not empty.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
