//! What the end-to-end tests share: scenarios, and the nodes they run on.
//!
//! A scenario is written once and becomes one test for each kind of node:
//! `connect_is_recorded::lightningd`. Where the kind is missing, the runner
//! reports the test as skipped, with the reason in its name, and never as passed.

use std::path::PathBuf;
use std::process::ExitCode;

use cln_lab::{Capability, Lab, LabBuilder, NodeKind, NodeSpec, binaries};
use libtest_mimic::{Arguments, Failed, Trial};

/// What a scenario returns.
pub type Outcome = anyhow::Result<()>;

/// Which program each node of a scenario is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cast {
    /// Core Lightning.
    Lightningd,
}

impl Cast {
    /// Every cast there is.
    pub const ALL: [Cast; 1] = [Cast::Lightningd];

    /// Its name, the last part of a test's.
    pub fn name(self) -> &'static str {
        match self {
            Cast::Lightningd => "lightningd",
        }
    }

    /// A lab of this many nodes.
    pub fn lab(self, nodes: usize) -> LabBuilder {
        (0..nodes).fold(Lab::builder(), |lab, n| {
            lab.node(NodeSpec::new().kind(self.kind_of(n)))
        })
    }

    /// What the node at this place is, counting from 0.
    pub fn kind_of(self, _place: usize) -> NodeKind {
        match self {
            Cast::Lightningd => NodeKind::Lightningd,
        }
    }

    /// True if every node of it can do this.
    pub fn supports(self, _capability: Capability) -> bool {
        match self {
            Cast::Lightningd => true,
        }
    }

    /// Why it cannot run here; `None` if it can. `LAB_NODE=lightningd` turns a
    /// missing lightningd from a reason to skip into an error.
    fn skipped_because(self) -> Option<String> {
        let wanted = NodeKind::from_env();
        if binaries::lightningd().is_err() && !matches!(wanted, Ok(NodeKind::Lightningd)) {
            return Some("no lightningd found".to_owned());
        }
        None
    }
}

/// The tests of one file, gathered in its `main`.
#[derive(Default)]
pub struct Suite {
    trials: Vec<Trial>,
}

impl Suite {
    /// A suite without tests.
    pub fn new() -> Suite {
        Suite::default()
    }

    /// Adds a scenario: one test for each cast.
    #[must_use]
    pub fn scenario<F>(mut self, name: &str, scenario: fn(Cast) -> F) -> Suite
    where
        F: Future<Output = Outcome> + 'static,
    {
        for cast in Cast::ALL {
            self.add(name, cast, scenario, None);
        }
        self
    }

    /// Adds a scenario that only nodes with this capability can play; the other
    /// casts are reported as skipped.
    #[must_use]
    pub fn needing<F>(
        mut self,
        capability: Capability,
        name: &str,
        scenario: fn(Cast) -> F,
    ) -> Suite
    where
        F: Future<Output = Outcome> + 'static,
    {
        for cast in Cast::ALL {
            let lacks = (!cast.supports(capability)).then(|| format!("no {capability}"));
            self.add(name, cast, scenario, lacks);
        }
        self
    }

    fn add<F>(&mut self, name: &str, cast: Cast, scenario: fn(Cast) -> F, lacks: Option<String>)
    where
        F: Future<Output = Outcome> + 'static,
    {
        let trial = Trial::test(format!("{name}::{}", cast.name()), move || {
            run(scenario(cast))
        });
        self.trials
            .push(match lacks.or_else(|| cast.skipped_because()) {
                Some(reason) => trial
                    .with_kind(format!("skipped: {reason}"))
                    .with_ignored_flag(true),
                None => trial,
            });
    }

    /// Adds a test that needs no Lightning node.
    #[must_use]
    pub fn test<F>(mut self, name: &str, test: fn() -> F) -> Suite
    where
        F: Future<Output = Outcome> + 'static,
    {
        self.trials.push(Trial::test(name, move || run(test())));
        self
    }

    /// Runs what the command line asks for, as any Rust test binary does.
    pub fn main(self) -> ExitCode {
        libtest_mimic::run(&Arguments::from_args(), self.trials).exit_code()
    }
}

fn run(outcome: impl Future<Output = Outcome>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime
        .block_on(outcome)
        .map_err(|error| Failed::from(format!("{error:#}")))
}

/// A program that this workspace builds.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    Ok(binaries::built(&name.to_uppercase(), name)?)
}

/// True if there is a process of this id that has not ended.
pub fn is_alive(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        // `pid (name) state …`: a zombie has ended.
        Ok(stat) => stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| !rest.starts_with('Z')),
        Err(_) => {
            let ps = std::process::Command::new("ps")
                .args(["-p", &pid.to_string()])
                .output();
            !std::path::Path::new("/proc/self").exists() && ps.is_ok_and(|ps| ps.status.success())
        }
    }
}
