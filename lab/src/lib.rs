//! Core Lightning nodes on regtest, for people who write plugins.
//!
//! A [`Lab`] starts a bitcoind and any number of Lightning nodes, in a new folder, on
//! ports that no other lab has, and leaves nothing behind. [`Events`] reads what a
//! plugin recorded and waits for what is expected.
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
//! | [`Lab`], [`LabBuilder`] (`lab/`) | what runs, in what order it starts, nodes that are added, and its end; its folder, its gates, the report if something went wrong |
//! | [`Node`], [`NodeSpec`] (`node/`) | one Lightning node: its spec, process, configuration, requests, log, plugins, peers, wallet, channels, invoices, payments |
//! | [`Bitcoind`] (`bitcoin/`) | the regtest bitcoind: its process, blocks and coins, and the chain it starts with |
//! | [`Nats`] (`nats.rs`) | a nats-server, for what publishes events |
//! | [`Events`], [`Tap`], [`Follower`] (`recording/`) | what a plugin recorded and what lightningd sent, raw and as types; files that grow |
//! | `process/` | child processes, also their end if the lab is killed; the list of processes, ports, files |
//! | [`trace`] | what happened in a lab: written down as it happens, read with what others write |
//! | `remote/` | labs that another process holds: found by name, described, asked |
//! | [`PluginHarness`] (`harness.rs`) | a plugin without a node: the test in place of lightningd |
//! | [`corpus`] | what each release of lightningd sends to a plugin, as sent |
//! | [`Messages`] (`wire.rs`) | the JSON-RPC messages that lightningd, its clients and its plugins exchange |
//! | [`eventually`] (`wait.rs`) | the one way to wait |
//! | [`binaries`] | where bitcoind, lightningd and this workspace's programs are |
//! | `lock.rs` | the one way to lock a mutex |
//! | [`Version`], [`Implementation`] (`version.rs`) | which program a node is |
//! | [`Error`] (`error.rs`) | what can go wrong |

pub mod binaries;
mod bitcoin;
pub mod corpus;
mod error;
mod harness;
mod lab;
mod lock;
mod nats;
mod node;
mod process;
mod recording;
mod remote;
pub mod trace;

mod version;
mod wait;
mod wire;

pub use bitcoin::Bitcoind;
pub use bitcoin::bcli::relay as relay_bcli;
pub use error::{Error, IoContext, Result};
pub use harness::{HarnessBuilder, PluginHarness, PluginLog};
pub use lab::Lab;
pub use lab::builder::LabBuilder;
pub use lab::folder::Keep;
pub use nats::Nats;
pub use node::{
    CHANNEL_SAT, Capability, Channel, InlinePlugin, Invoice, Log, Node, NodeKind, NodeSpec,
    OpenChannel, Payment, Plugin, PluginStatus, ShimReader, ShimWriter, StartWatch, json_hint,
    msat, plugin_hint,
};
pub use process::daemon::{command_line, quoted};
pub use process::files::write_executable;
pub use process::lasting::end_with_this_thread;
pub use process::listing::{Process, is_alive};
pub use recording::events::{Event, Events};
pub use recording::follower::Follower;
pub use recording::notification::Notification;
pub use recording::tap::Tap;
pub use remote::{control, registry};
pub use version::{Implementation, Version};
pub use wait::{PATIENCE, Probe, eventually, scaled, timeout_factor};
pub use wire::{MessageReader, Messages};
