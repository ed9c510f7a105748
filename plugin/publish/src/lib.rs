//! `eventlog-publish` publishes the records of eventlog, in a node's order: to NATS
//! JetStream each of them once, to a signed webhook at least once.
//!
//! The files that eventlog writes are the outbox; how far it is empty is known on the other
//! side, or noted once it was said there.
//!
//! # Layout
//!
//! - [`node`]: whose records they are: subjects and message ids
//! - [`outbox`]: the files, as what is still to be published
//! - [`sink`]: where records go: the shape of what follows
//! - [`nats`]: JetStream: how it is reached, its stream, a session
//! - [`webhook`]: signed POSTs
//! - `amqp`: a topic exchange, with the feature of this name
//! - [`place`]: how far a sink is, in a file
//! - [`publisher`]: sessions one after the other, with pauses between
//! - [`progress`]: what was done so far
//! - [`metrics`]: the same for Prometheus
//! - [`secret`]: passwords and keys, from files or the environment

#[cfg(feature = "amqp")]
pub mod amqp;
pub mod metrics;
pub mod nats;
pub mod node;
pub mod outbox;
pub mod place;
pub mod progress;
pub mod publisher;
pub mod secret;
pub mod sink;
pub mod webhook;
