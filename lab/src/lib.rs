//! Core Lightning nodes on regtest, for people who write plugins.
//!
//! A [`Lab`] starts a bitcoind and any number of Lightning nodes, in a folder of
//! its own, on ports that nobody else has, and leaves nothing behind. [`Events`]
//! reads what a plugin recorded and waits for what is expected.
//!
//! ```no_run
//! use cln_lab::{Events, Lab, Plugin};
//!
//! # async fn test() -> cln_lab::Result<()> {
//! let lab = Lab::builder().nodes(2).start().await?;
//! let (l1, l2) = (lab.l1(), lab.l2());
//! l1.plugin_start(&Plugin::path("target/debug/eventlog")).await?;
//! l1.connect(l2).await?;
//!
//! let mut events = Events::open(l1.network_dir().join("eventlog.jsonl"));
//! let connect = events.expect("connect").await?;
//! assert_eq!(connect.payload["id"], l2.id());
//! lab.stop().await
//! # }
//! ```
//!
//! # Layout
//!
//! | module | what it is |
//! |---|---|
//! | [`Lab`] (`lab.rs`), [`LabBuilder`] (`builder.rs`), [`NodeSpec`] (`spec.rs`) | what runs, in what order it starts, and its end |
//! | `folder.rs`, `gates.rs`, `report.rs` | where it runs, what may not have gone wrong on the way, and what is told if it has |
//! | [`Node`] (`node/`) | one Lightning node: its process, configuration, requests, plugins, peers, wallet, channels, invoices, payments |
//! | `topology.rs` | what concerns several nodes at once: blocks, coins, channels |
//! | [`Bitcoind`] (`bitcoind.rs`, `mining.rs`) | the regtest bitcoind: its process, blocks and coins; `chain.rs`: the chain it starts with |
//! | [`Events`] (`events.rs`), [`Notification`] (`typed.rs`) | what a plugin recorded: raw, and as types |
//! | [`Tap`] (`tap.rs`) | what lightningd sends, recorded without a plugin of one's own |
//! | [`InlinePlugin`] (`node/shim.rs`) | a plugin whose handlers run in the test's process |
//! | [`PluginHarness`] (`harness.rs`) | a plugin without a node: its protocol, spoken by the test |
//! | `wire.rs` | the messages that lightningd and plugins exchange |
//! | [`eventually`] (`wait.rs`) | the one way to wait |
//! | `daemon.rs`, `reaper.rs` | a child process, and its end when we cannot see to it |
//! | `attach.rs`, [`control`] | a lab that another process holds, used from this one |
//! | [`state`] | labs that stay up, by name |
//! | `byhand.rs` | nodes that were stopped or started behind the lab's back |
//! | `executable.rs` | scripts that the lab writes |
//! | `ports.rs` | ports that no other lab has |
//! | [`binaries`] | where bitcoind, lightningd and our own programs are |
//! | [`Version`] (`version.rs`) | lightningd's versions |
//! | [`Error`] (`error.rs`) | what can go wrong |
//! | [`workshop`] | the scripted walkthrough |
//! | [`topics`] | lightningd's notifications: the table, and a scenario for each |
//! | [`embedded`] | a node in one process, where lightningd is not installed |
//! | `cli/` | the command `lab`, one file a subcommand |

mod attach;
pub mod binaries;
mod bitcoind;
mod builder;
mod byhand;
mod chain;
pub mod control;
mod daemon;
pub mod embedded;
mod error;
mod events;
mod executable;
mod folder;
mod gates;
mod harness;
mod lab;
mod mining;
mod node;
mod ports;
mod reaper;
mod report;
mod spec;
pub mod state;
mod tap;
pub mod topics;
mod topology;
mod typed;
mod version;
mod wait;
mod wire;
pub mod workshop;

pub use bitcoind::Bitcoind;
pub use builder::LabBuilder;
pub use error::{Error, Result};
pub use events::{Event, Events, PATIENCE};
pub use folder::Keep;
pub use harness::{HarnessBuilder, PluginHarness, PluginLog};
pub use lab::Lab;
pub use node::{
    CHANNEL_SAT, Capability, Channel, Implementation, InlinePlugin, Invoice, Log, Node,
    OpenChannel, Payment, Plugin, PluginStatus, Process, ShimReader, ShimWriter, msat,
};
pub use spec::{NodeKind, NodeSpec};
pub use tap::Tap;
pub use typed::Notification;
pub use version::Version;
pub use wait::{Probe, eventually, scaled, timeout_factor};
