//! The scripted walkthrough: the workshop's two parts, step by step on running
//! nodes, each step checked.
//!
//! Part one writes a plugin by hand that subscribes to `connect` and
//! `disconnect`; part two does it with a client library and adds
//! `invoice_creation`.

mod part_one;
mod part_two;
mod report;
mod screen;
mod walkthrough;

use std::path::PathBuf;
use std::time::Instant;

use cln_lab::{Keep, Lab, NodeKind, Result, binaries};

pub use report::{Check, Report, StepReport};
pub use screen::Screen;
pub use walkthrough::{Observer, Quiet};

use walkthrough::Walkthrough;

/// How the walkthrough runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which program the nodes are.
    pub node: NodeKind,
    /// Whether the lab's folder is kept.
    pub keep: bool,
}

/// Runs the walkthrough, and reports each step to `observer` as it happens.
///
/// The report is complete even if a step failed: that step has the reason, and the
/// steps after it did not run. Nothing is left but, if asked for, the lab's folder.
///
/// # Errors
/// Only if it cannot start: an executable is missing.
pub async fn run(options: &Options, observer: &mut dyn Observer) -> Result<Report> {
    let tools = Tools::find()?;
    let started = Instant::now();
    let mut walkthrough = Walkthrough::new(observer);
    let mut lab = None;
    // The report has the failed step already; the error only ends the script.
    let mut outcome = script(&mut walkthrough, options, &tools, &mut lab).await;
    let mut kept = None;
    if let Some(mut lab) = lab.take() {
        if options.keep {
            lab.keep_folder();
            kept = Some(lab.dir().to_owned());
        }
        let stopped = walkthrough
            .step("stop", "stop_ln", async |step| {
                let pids = processes(&lab).await?;
                let dir = lab.dir().to_owned();
                lab.stop().await?;
                let left = pids.iter().filter(|pid| cln_lab::is_alive(**pid)).count();
                step.check("every process has ended", left == 0, || {
                    format!("{left} still running")
                });
                if kept.is_none() {
                    step.check("its folder is gone", !dir.exists(), || {
                        dir.display().to_string()
                    });
                }
                Ok(())
            })
            .await;
        outcome = outcome.and(stopped);
    }
    Ok(walkthrough.finish(outcome, started.elapsed(), kept))
}

async fn script(
    walkthrough: &mut Walkthrough<'_>,
    options: &Options,
    tools: &Tools,
    slot: &mut Option<Lab>,
) -> Result<()> {
    walkthrough.part("Part one: the protocol by hand");
    part_one::versions(walkthrough, options.node).await?;
    let lab = slot.insert(part_one::start(walkthrough, options).await?);
    part_one::by_hand(walkthrough, lab, tools).await?;
    walkthrough.part("Part two: with a client library");
    part_two::with_a_library(walkthrough, lab, tools).await
}

/// The plugins that the walkthrough starts.
#[derive(Debug)]
struct Tools {
    from_scratch: PathBuf,
    failing_handler: PathBuf,
    eventlog: PathBuf,
}

impl Tools {
    fn find() -> Result<Tools> {
        Ok(Tools {
            from_scratch: binaries::built("FROM_SCRATCH", "from_scratch")?,
            failing_handler: binaries::built("FAILING_HANDLER", "failing_handler")?,
            eventlog: binaries::built("EVENTLOG", "eventlog")?,
        })
    }
}

/// Starts the two nodes.
async fn two_nodes(options: &Options) -> Result<Lab> {
    Lab::builder()
        .nodes(2)
        .kind(options.node)
        .keep(Keep::Never)
        // It fails on purpose, and logs that at the worst level.
        .allow_broken("plugin-failing_handler")
        .start()
        .await
}

/// The process ids of a lab's daemons and of what they started.
async fn processes(lab: &Lab) -> Result<Vec<u32>> {
    let mut pids = vec![lab.bitcoind().pid()];
    for node in lab.nodes() {
        pids.extend(node.processes().await?.iter().map(|process| process.pid));
    }
    Ok(pids)
}
