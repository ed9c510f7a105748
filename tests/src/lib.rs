//! What the end-to-end tests share: scenarios, and the nodes they run on.
//!
//! # Layout
//! [`Suite`] and [`Kinds`] here; [`sandbox`] runs the command `lab` on its own,
//! [`socket`] sends raw bytes to a node, [`pattern`] compares JSON with patterns,
//! [`terminal`] runs a program in a pseudo terminal, [`browser`] a page in a browser,
//! [`python`] installs packages to compare with, [`mod@bench`] times pairs.
//!
//! A scenario is written once and becomes one test for each kind of node:
//! `connect_is_recorded::lightningd`. Where the kind is missing, the runner
//! reports the test as skipped, with the reason in its name, and never as passed.

pub mod author;
pub mod bench;
pub mod browser;
pub mod pattern;
pub mod python;
pub mod sandbox;
pub mod socket;
pub mod terminal;

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

pub use cln_lab::is_alive;
use cln_lab::{Lab, LabBuilder, NodeKind, NodeSpec, Version, binaries, write_executable};
use cln_topics::Release;
use libtest_mimic::{Arguments, Failed, Trial};

/// What a scenario returns.
pub type Outcome = anyhow::Result<()>;

/// Which program each node of a scenario runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinds {
    /// Core Lightning.
    Lightningd,
    /// The lab's own embedded node.
    Embedded,
    /// l1, l3, … Core Lightning, l2, l4, … embedded.
    LightningdAndEmbedded,
    /// l1, l3, … embedded, l2, l4, … Core Lightning.
    EmbeddedAndLightningd,
}

impl Kinds {
    /// Every combination.
    pub const ALL: [Kinds; 4] = [
        Kinds::Lightningd,
        Kinds::Embedded,
        Kinds::LightningdAndEmbedded,
        Kinds::EmbeddedAndLightningd,
    ];

    /// The combinations in which all nodes are of one kind.
    pub const PURE: [Kinds; 2] = [Kinds::Lightningd, Kinds::Embedded];

    /// Its name, the last part of a test's name.
    pub fn name(self) -> &'static str {
        match self {
            Kinds::Lightningd => "lightningd",
            Kinds::Embedded => "embedded",
            Kinds::LightningdAndEmbedded => "lightningd_and_embedded",
            Kinds::EmbeddedAndLightningd => "embedded_and_lightningd",
        }
    }

    /// A lab of this many nodes.
    pub fn lab(self, nodes: usize) -> LabBuilder {
        (0..nodes).fold(Lab::builder(), |lab, n| {
            lab.node(NodeSpec::new().kind(self.kind_of(n)))
        })
    }

    /// What the node at this place is, counting from 0.
    pub fn kind_of(self, place: usize) -> NodeKind {
        let even = place.is_multiple_of(2);
        match self {
            Kinds::Lightningd => NodeKind::Lightningd,
            Kinds::Embedded => NodeKind::Embedded,
            Kinds::LightningdAndEmbedded if even => NodeKind::Lightningd,
            Kinds::LightningdAndEmbedded => NodeKind::Embedded,
            Kinds::EmbeddedAndLightningd if even => NodeKind::Embedded,
            Kinds::EmbeddedAndLightningd => NodeKind::Lightningd,
        }
    }

    /// Why it is skipped here; `None` if it runs. `LAB_NODE` chooses one kind; with
    /// `lightningd`, a missing one is an error, not a reason to skip.
    pub fn skipped_because(self) -> Option<String> {
        match (NodeKind::from_env(), self) {
            (Ok(NodeKind::Lightningd), Kinds::Lightningd) => None,
            (Ok(NodeKind::Embedded), Kinds::Embedded) => None,
            (Ok(kind @ (NodeKind::Lightningd | NodeKind::Embedded)), _) => {
                Some(format!("LAB_NODE={}", format!("{kind:?}").to_lowercase()))
            }
            (_, Kinds::Embedded) => None,
            _ if binaries::lightningd().is_err() => Some("no lightningd found".to_owned()),
            _ => None,
        }
    }
}

/// The tests, gathered module by module.
#[derive(Default)]
pub struct Suite {
    trials: Vec<Trial>,
    module: String,
    missing: Option<String>,
}

impl Suite {
    /// A suite without tests.
    pub fn new() -> Suite {
        Suite::default()
    }

    /// Adds a module's tests; their names begin with its name.
    #[must_use]
    pub fn module(mut self, name: &str, tests: fn(Suite) -> Suite) -> Suite {
        name.clone_into(&mut self.module);
        tests(self).unless(None)
    }

    /// Adds a scenario: one test for each combination of kinds.
    #[must_use]
    pub fn scenario<F>(self, name: &str, scenario: fn(Kinds) -> F) -> Suite
    where
        F: Future<Output = Outcome> + 'static,
    {
        self.on(&Kinds::ALL, name, scenario)
    }

    /// Adds a scenario that does not depend on the kind of the other nodes: one test
    /// for each kind of node.
    #[must_use]
    pub fn scenario_alone<F>(self, name: &str, scenario: fn(Kinds) -> F) -> Suite
    where
        F: Future<Output = Outcome> + 'static,
    {
        self.on(&Kinds::PURE, name, scenario)
    }

    /// Adds a scenario on these combinations.
    #[must_use]
    pub fn on<F>(self, combinations: &[Kinds], name: &str, scenario: fn(Kinds) -> F) -> Suite
    where
        F: Future<Output = Outcome> + 'static,
    {
        combinations.iter().fold(self, |suite, &kinds| {
            suite.case(name, kinds, None, move || scenario(kinds))
        })
    }

    /// Skips the tests added from here on, for this reason; with `None` they run.
    #[must_use]
    pub fn unless(mut self, missing: Option<String>) -> Suite {
        self.missing = missing;
        self
    }

    /// Adds a scenario that needs this release of lightningd or a newer one: one
    /// test for each kind of node. With an older lightningd its test is skipped.
    #[must_use]
    pub fn since<F>(self, release: (u16, u16), name: &str, scenario: fn(Kinds) -> F) -> Suite
    where
        F: Future<Output = Outcome> + 'static,
    {
        let old = older_than(release);
        Kinds::PURE.into_iter().fold(self, |suite, kinds| {
            let old = old.clone().filter(|_| kinds == Kinds::Lightningd);
            suite.case(name, kinds, old, move || scenario(kinds))
        })
    }

    /// Adds a test that needs no Lightning node.
    #[must_use]
    pub fn test<F, T>(self, name: &str, test: T) -> Suite
    where
        F: Future<Output = Outcome> + 'static,
        T: FnOnce() -> F + Send + 'static,
    {
        self.add(name, None, test)
    }

    /// Adds a scenario on one combination, skipped if there is a reason.
    #[must_use]
    pub fn case<F, T>(self, name: &str, kinds: Kinds, skip: Option<String>, test: T) -> Suite
    where
        F: Future<Output = Outcome> + 'static,
        T: FnOnce() -> F + Send + 'static,
    {
        let skip = kinds.skipped_because().or(skip);
        self.add(&format!("{name}::{}", kinds.name()), skip, test)
    }

    fn add<F, T>(mut self, name: &str, skip: Option<String>, test: T) -> Suite
    where
        F: Future<Output = Outcome> + 'static,
        T: FnOnce() -> F + Send + 'static,
    {
        let name = format!("{}::{name}", self.module);
        let trial = Trial::test(name, move || {
            block_on(test()).map_err(|error| Failed::from(format!("{error:#}")))
        });
        self.trials.push(match self.missing.clone().or(skip) {
            Some(reason) => trial
                .with_kind(format!("skipped: {reason}"))
                .with_ignored_flag(true),
            None => trial,
        });
        self
    }

    /// Runs the tests that the command line selects, as any Rust test binary does.
    pub fn main(self) -> ExitCode {
        libtest_mimic::run(&Arguments::from_args(), self.trials).exit_code()
    }
}

/// Runs a future to its end on a runtime of its own.
///
/// # Errors
/// The future's own, or the runtime cannot be started.
pub fn block_on<T>(outcome: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(outcome)
}

/// Why a test that needs this program is skipped; `None` if it is on the PATH.
pub fn without(program: &str) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    (!found).then(|| format!("no {program} found"))
}

/// The PATH, in which a folder that has this program is replaced by one, in the new
/// folder `links`, with links to everything else in it.
pub fn path_without(program: &str, links: &Path) -> anyhow::Result<OsString> {
    std::fs::create_dir(links)?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = Vec::new();
    for (n, folder) in std::env::split_paths(&path).enumerate() {
        if !folder.join(program).exists() {
            folders.push(folder);
            continue;
        }
        let replaced = links.join(n.to_string());
        std::fs::create_dir(&replaced)?;
        for entry in std::fs::read_dir(&folder)? {
            let name = entry?.file_name();
            if name != program {
                symlink(folder.join(&name), replaced.join(&name))?;
            }
        }
        folders.push(replaced);
    }
    Ok(std::env::join_paths(folders)?)
}

/// Why a comparison with lightning-cli is skipped; `None` if it is found.
pub fn without_lightning_cli() -> Option<String> {
    match binaries::lightningd() {
        Ok(lightningd) => binaries::lightning_cli(&lightningd)
            .is_none()
            .then(|| "no lightning-cli found".to_owned()),
        Err(_) => Some("no lightningd found".to_owned()),
    }
}

/// Why a test that needs this release of lightningd is skipped; `None` if it is that
/// or newer, or there is none.
pub fn older_than(release: (u16, u16)) -> Option<String> {
    let since = Release(release.0, release.1);
    lightningd_version()
        .filter(|version| version.release() < since)
        .map(|version| format!("lightningd {version} is older than {since}"))
}

/// Why a test that meets a fault of some releases of lightningd itself is skipped there.
pub fn faulty(releases: &[(u16, u16)], fault: &str) -> Option<String> {
    lightningd_version()
        .filter(|version| {
            releases
                .iter()
                .any(|r| version.release() == Release(r.0, r.1))
        })
        .map(|version| format!("lightningd {version} {fault}"))
}

/// The version of the lightningd that tests run, asked once; `None` without one.
fn lightningd_version() -> Option<Version> {
    static ASKED: OnceLock<Option<Version>> = OnceLock::new();
    let ask = || block_on(async { Ok(binaries::lightningd_version().await?) });
    ASKED.get_or_init(|| ask().ok().flatten()).clone()
}

/// A program that this workspace builds.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    Ok(binaries::built(&name.to_uppercase(), name)?)
}

/// Writes an executable shell script; its path without links.
pub fn write_script(path: &Path, body: &str) -> anyhow::Result<PathBuf> {
    write_executable(path, &format!("#!/bin/sh\n{body}\n"))?;
    Ok(path.canonicalize()?)
}

/// Writes a plugin that is the example `scripted` in this mode, with methods named
/// `PREFIX-…`.
pub fn write_scripted(path: &Path, mode: &str, prefix: &str) -> anyhow::Result<PathBuf> {
    let scripted = program("scripted")?;
    write_script(
        path,
        &format!("exec '{}' {mode} {prefix}", scripted.display()),
    )
}
