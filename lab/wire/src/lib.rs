//! JSON on lightningd's pipes and sockets, cut and read as lightningd itself does it.
//!
//! lightningd writes an empty line after each message, but that is not where a
//! message ends: it hands on the `params` of other plugins and of RPC callers as
//! they were written, and JSON may have empty lines between its tokens. Cut there,
//! part of somebody's `params` would pass for a message from lightningd. Nor is all
//! that it hands on JSON: it takes `007`, `127.0.0.1`, a raw tab in a string.
//!
//! # Layout
//! - [`Splitter`]: messages out of a stream of bytes.
//! - [`Members`]: an object's members, JSON or not.
//! - [`scan`]: where a message, and a value in it, ends.

mod members;
pub mod scan;
mod splitter;

pub use members::Members;
pub use splitter::{Frame, Frames, LONGEST, Splitter};
