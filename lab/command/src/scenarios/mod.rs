//! A scenario for each topic: what triggers it, and what must be recorded then.
//!
//! [`cln_topics::TOPICS`] lists the topics. [`SCENARIOS`] are played by the tests, and by
//! `lab topics --run`, which shows the messages.
//!
//! # Layout
//!
//! | module | what it is |
//! |---|---|
//! | `scenario.rs` | what a scenario is, and how it is played |
//! | `fixture.rs` | where it is played: a lab with a recorder on each node |
//! | `checks.rs` | what it checks |
//! | `oracle.rs` | what lightningd saved as sent |
//! | `witness.rs` | the plugin that keeps everything as it was sent |
//! | `capture.rs`, `forms.rs`, `changes.rs` | the corpus of a release, from what scenarios recorded |
//! | `probe.rs` | which topics a running lightningd knows |
//! | `document.rs` | the table as a page |
//! | `peers.rs`, `invoices.rs`, … | the scenarios, a file a subject |

mod capture;
mod chain;
mod changes;
mod channels;
mod checks;
mod document;
mod dual_fund;
mod fixture;
mod forms;
mod forwards;
mod hooks;
mod invoices;
mod logs;
mod messages;
mod oracle;
mod payments;
mod peers;
mod plugins;
mod probe;
mod requests;
mod scenario;
mod witness;

pub use capture::{check, write};
pub use changes::changes;
pub use document::markdown;
pub use probe::known;
pub use scenario::{Recording, Scenario};
pub use witness::run as witness;

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
    hooks::SCENARIOS,
    requests::SCENARIOS,
];

/// All of [`SCENARIOS`], one after the other.
pub fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    SCENARIOS.iter().copied().flatten()
}

/// The scenarios that trigger and check a topic.
pub fn scenarios_of(topic: &str) -> impl Iterator<Item = &'static Scenario> {
    scenarios().filter(move |scenario| scenario.topics.contains(&topic))
}
