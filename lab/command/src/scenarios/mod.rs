//! A scenario for each topic: what makes a node send it, and what must be recorded
//! then.
//!
//! [`cln_topics::TOPICS`] says what there is. [`SCENARIOS`] is what can be played:
//! by the tests, and by `lab topics --run`, which shows the messages.
//!
//! # Layout
//!
//! | module | what it is |
//! |---|---|
//! | `scenario.rs` | what a scenario is, and what comes of it |
//! | `fixture.rs` | where it is played: a lab with recorders, and what is asked of them |
//! | `oracle.rs` | what lightningd itself says it sent |
//! | `probe.rs` | which topics a running lightningd knows |
//! | `document.rs` | the table as a page |
//! | `peers.rs`, `invoices.rs`, … | the scenarios, a file a subject |

mod chain;
mod channels;
mod document;
mod dual_fund;
mod fixture;
mod forwards;
mod invoices;
mod logs;
mod messages;
mod payments;
mod peers;
mod plugins;
mod probe;
mod scenario;

mod oracle;

pub use document::markdown;
pub use fixture::Stage;
pub use probe::known;
pub use scenario::{Recorded, Report, Scenario};

/// Every scenario, by subject.
pub const SCENARIOS: &[&[Scenario]] = &[
    peers::SCENARIOS,
    invoices::SCENARIOS,
    payments::SCENARIOS,
    forwards::SCENARIOS,
    channels::SCENARIOS,
    dual_fund::SCENARIOS,
    chain::SCENARIOS,
    plugins::SCENARIOS,
    logs::SCENARIOS,
    messages::SCENARIOS,
];

/// All of [`SCENARIOS`], one after the other.
pub fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    SCENARIOS.iter().copied().flatten()
}

/// The scenarios that make and check a topic.
pub fn scenarios_of(topic: &str) -> impl Iterator<Item = &'static Scenario> {
    scenarios().filter(move |scenario| scenario.topics.contains(&topic))
}
