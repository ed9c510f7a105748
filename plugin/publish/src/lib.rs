//! `eventlog-publish` publishes the records of eventlog to NATS JetStream: each of them
//! once, in a node's order.
//!
//! The files that eventlog writes are the outbox, and the stream says how far they are
//! published: there is no third place that could disagree.
//!
//! # Layout
//!
//! - [`node`]: whose records they are: subjects and message ids
//! - [`connect`]: how the broker is reached, with which secrets
//! - [`stream`]: the stream, made or checked
//! - [`session`]: one connection, from the last message on, until it is lost
//! - [`publisher`]: sessions one after the other, with pauses between

pub mod connect;
pub mod node;
pub mod publisher;
pub mod session;
pub mod stream;
