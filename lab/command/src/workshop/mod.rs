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

use cln_lab::{Error, Keep, Lab, NodeKind, Result, binaries};

pub use report::{Check, Report, StepReport};
pub use screen::Screen;
pub use walkthrough::{Observer, Quiet};

use walkthrough::Stage;

/// How the walkthrough is to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which program the nodes are.
    pub node: NodeKind,
    /// Whether the lab's folder stays afterwards.
    pub keep: bool,
}

/// Runs the walkthrough, telling `observer` of each step as it happens.
///
/// The report is complete even if a step failed: that step says why, and the
/// steps after it were not run. Nothing is left behind but, if asked for, the
/// lab's folder.
///
/// # Errors
/// Only if it cannot begin: an executable is missing.
pub async fn run(options: &Options, observer: &mut dyn Observer) -> Result<Report> {
    let tools = Tools::find()?;
    let started = Instant::now();
    let mut stage = Stage::new(observer);
    let mut lab = None;
    // A step that fails is in the report already; the error only ends the script.
    let mut outcome = script(&mut stage, options, &tools, &mut lab).await;
    let mut kept = None;
    if let Some(mut lab) = lab.take() {
        if options.keep {
            lab.keep_folder();
            kept = Some(lab.dir().to_owned());
        }
        let stopped = stage
            .step("stop", "stop_ln", async |step| {
                let pids = step.processes_of(&lab).await?;
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
    Ok(stage.finish(outcome, started.elapsed(), kept))
}

async fn script(
    stage: &mut Stage<'_>,
    options: &Options,
    tools: &Tools,
    slot: &mut Option<Lab>,
) -> Result<()> {
    stage.part("Part one: the protocol by hand");
    part_one::versions(stage, options.node).await?;
    let lab = slot.insert(part_one::start(stage, options).await?);
    part_one::by_hand(stage, lab, tools).await?;
    stage.part("Part two: with a client library");
    part_two::with_a_library(stage, lab, tools).await
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

/// Starts two nodes as the walkthrough has them.
async fn two_nodes(options: &Options) -> Result<Lab> {
    Lab::builder()
        .nodes(2)
        .kind(options.node)
        .keep(Keep::Never)
        // It fails on purpose, and says so at the worst level.
        .allow_broken("plugin-failing_handler")
        .start()
        .await
}

/// The error that ends the script when a step's own check is what failed.
fn stopped_at(step: &str) -> Error {
    Error::usage(format!("step `{step}` did not hold"))
}
