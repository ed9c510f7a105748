//! The scripted walkthrough: the workshop's two parts, step by step on running
//! nodes, each step checked.
//!
//! Every command is run in bash as a person would type it, and what it prints is what is
//! shown. Part one writes a plugin by hand that subscribes to `connect` and
//! `disconnect`; part two does it with a client library, in Rust and in Python, and adds
//! `invoice_creation`.

mod files;
mod part_one;
mod part_two;
mod python;
mod report;
mod screen;
mod shell;
mod start;
mod walkthrough;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cln_lab::trace::{Level, Trace};
use cln_lab::{Error, Lab, NodeKind, Result, binaries, registry};

pub use report::{Check, Report, StepReport};
pub use screen::Screen;
pub use walkthrough::{Next, Observer, Quiet};

pub(crate) use screen::{filled, rows_within, shortened};
use shell::Shell;
pub(crate) use shell::interactive;
use walkthrough::Walkthrough;

/// The name of the lab, if it stays up.
pub const KEPT: &str = "workshop";

/// How many steps there are, with Python, and with the lab's end.
pub const STEPS: usize = 44;

/// How the walkthrough runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// The command `lab`.
    pub lab: PathBuf,
    /// Which program the nodes are.
    pub node: NodeKind,
    /// Whether the lab stays up at the end, under the name [`KEPT`].
    pub keep: bool,
    /// The steps that are shown, counted from 1; those before are played in silence.
    pub steps: RangeInclusive<usize>,
    /// Whether the report is to have the lab's trace.
    pub trace: bool,
}

/// Runs the walkthrough, and reports each step to `observer` as it happens.
///
/// The report is complete even if a step failed: that step has the reason, and the
/// steps after it did not run. Nothing is left unless the lab is to stay up.
///
/// # Errors
/// Only if it cannot start: an executable is missing, a lab named [`KEPT`] is up.
pub async fn run(options: &Options, observer: &mut dyn Observer) -> Result<Report> {
    let tools = Tools::find()?;
    let name = if options.keep {
        let (labs, _) = registry::labs().await?;
        if labs.iter().any(|lab| lab.name == KEPT) {
            return Err(Error::usage(format!(
                "lab `{KEPT}` is up already: end it with `lab down --name {KEPT}`"
            )));
        }
        KEPT.to_owned()
    } else {
        format!("{KEPT}-{}", std::process::id())
    };
    let started = Instant::now();
    let tracing = options.trace.then_some("full");
    let mut shell = Shell::start(&options.lab, &name, options.node, tracing)?;
    let mut walkthrough = Walkthrough::new(observer, &mut shell, options.steps.clone());
    let mut lab = None;
    // The report has the failed step already; the error only ends the script.
    let mut outcome = script(&mut walkthrough, &tools, &mut lab).await;
    let mut kept = None;
    let mut trace = None;
    if let Some(lab) = lab {
        if options.trace {
            // Before the lab's end, which removes it.
            let read = Trace::read(lab.dir(), Level::Unusual);
            trace = Some(read.unwrap_or_else(|error| Trace {
                notes: vec![error.to_string()],
                ..Trace::default()
            }));
        }
        if options.keep {
            walkthrough.shell().keep_lab()?;
            kept = Some(name);
        } else {
            outcome = outcome.and(stop(&mut walkthrough, &lab).await);
        }
    }
    let mut report = walkthrough.finish(outcome, started.elapsed(), kept);
    report.trace = trace;
    shell.close()?;
    Ok(report)
}

async fn script(
    walkthrough: &mut Walkthrough<'_>,
    tools: &Tools,
    slot: &mut Option<Lab>,
) -> Result<()> {
    walkthrough.part("Part one: the protocol by hand");
    start::versions(walkthrough).await?;
    start::start(walkthrough, slot).await?;
    let Some(lab) = slot else {
        return Err(Error::usage("no lab is up"));
    };
    part_one::by_hand(walkthrough, lab).await?;
    walkthrough.part("Part two: with a client library");
    part_two::with_a_library(walkthrough, lab, tools).await?;
    python::with_pyln_client(walkthrough, lab).await
}

async fn stop(walkthrough: &mut Walkthrough<'_>, lab: &Lab) -> Result<()> {
    let mut pids = vec![lab.bitcoind().pid()];
    for node in lab.nodes() {
        pids.extend(node.processes().await?.iter().map(|process| process.pid));
    }
    let why = "Everything ends: plugins, nodes, bitcoind; and the lab's folder goes.";
    walkthrough
        .last_step("stop_ln", why, "stop_ln", async |step| {
            let left = pids.iter().filter(|pid| cln_lab::is_alive(**pid)).count();
            step.check("every process has ended", left == 0, || {
                format!("{left} still running")
            });
            let dir = lab.dir();
            step.check("its folder is gone", !dir.exists(), || {
                dir.display().to_string()
            });
            Ok(())
        })
        .await
}

/// The plugins that the walkthrough starts.
#[derive(Debug)]
struct Tools {
    failing_handler: PathBuf,
    eventlog: PathBuf,
}

impl Tools {
    fn find() -> Result<Tools> {
        Ok(Tools {
            failing_handler: binaries::built("FAILING_HANDLER", "failing_handler")?,
            eventlog: binaries::built("EVENTLOG", "eventlog")?,
        })
    }
}

/// Where the workshop's files are, in the lab's folder.
fn folder(lab: &Lab) -> PathBuf {
    lab.dir().join("workshop")
}

/// A path as a word for bash.
fn word(path: &Path) -> String {
    cln_lab::quoted(&path.display().to_string())
}
