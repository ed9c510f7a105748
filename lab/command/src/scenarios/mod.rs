//! Every notification lightningd can send: a table of the topics, and for each
//! topic a scenario that makes a node send it and checks what was recorded.
//!
//! [`TOPICS`] says what there is. [`SCENARIOS`] is what can be played: by the tests,
//! and by `lab topics --run`, which shows the messages.
//!
//! # Layout
//!
//! | module | what it is |
//! |---|---|
//! | `table.rs` | the topics: name, release, sender, payload's members |
//! | `scenario.rs` | what a scenario is, and what comes of it |
//! | `stage.rs` | where it is played: a lab with recorders, and what is asked of them |
//! | `oracle.rs` | what lightningd itself says it sent |
//! | `known.rs` | which topics a running lightningd knows |
//! | `document.rs` | the table as a page |
//! | `peers.rs`, `invoices.rs`, … | the scenarios, a file a subject |

mod chain;
mod channels;
mod document;
mod dual_fund;
mod forwards;
mod invoices;
mod known;
mod logs;
mod messages;
mod payments;
mod peers;
mod plugins;
mod scenario;
mod stage;
mod table;

mod oracle;

pub use document::markdown;
pub use known::known;
pub use scenario::{Recorded, Report, Scenario};
pub use stage::Stage;
pub use table::{Field, Presence, Release, Sender, TOPICS, Topic};
pub(crate) use table::{is_native, known_to};

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
