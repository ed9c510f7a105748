//! `lab check`: what every release of lightningd sends, played to a plugin, and what the
//! plugin does with it. No node, no network: [`cln_lab::corpus`] has the messages.
//!
//! # Layout
//!
//! | file | what it is |
//! |---|---|
//! | `plan.rs` | what is to be checked: [`Plan`] |
//! | `codes.rs` | every code of a finding, in one table |
//! | `finding.rs` | [`Finding`], [`Report`] |
//! | `release.rs` | what one release sends, answers and refuses |
//! | `session.rs`, `rpc.rs` | a running plugin, and the RPC socket of its node |
//! | `run.rs`, `record.rs` | one release from `getmanifest` to the end, and what went wrong; its stages in `start.rs` (`manifest.rs`), `methods.rs`, `hooks.rs` (`answers.rs`), `topics.rs`, `stream.rs` |
//! | `node.rs` | the same on running nodes, by scenarios |
//! | `summary.rs` | [`Summary`]: the findings of all releases, each once |
//! | `table.rs`, `machine.rs`, `badge.rs` | how they are shown: to people, as JSON and JUnit's XML, as a picture |

mod answers;
mod badge;
pub mod codes;
mod finding;
mod hooks;
mod machine;
mod manifest;
mod methods;
mod node;
mod plan;
mod record;
mod release;
mod rpc;
mod run;
mod session;
mod start;
mod stream;
mod summary;
mod table;
mod topics;

pub use badge::badge;
pub use finding::{Finding, Level, Report, Stage};
pub(crate) use machine::escaped;
pub use machine::{json, junit};
pub use node::on_node;
pub use plan::{Plan, releases};
pub use summary::{Found, Summary, ranges};
pub use table::{explain, table};

use cln_lab::Result;
use futures_util::stream::{self as streams, StreamExt, TryStreamExt};

use release::Release;

/// Checks a plugin on each release of the plan, several at once.
///
/// # Errors
/// If it cannot be run; [`cln_lab::Error::Usage`] if it lacks an option that was set.
pub async fn check(plan: &Plan) -> Result<Summary> {
    let started = std::time::Instant::now();
    let runs = plan.releases.iter().map(|corpus| async move {
        let release = Release::read(corpus);
        run::check(plan, &release).await
    });
    let reports = streams::iter(runs)
        .buffered(plan.jobs.get())
        .try_collect()
        .await?;
    Ok(Summary::of(reports, started.elapsed()))
}
