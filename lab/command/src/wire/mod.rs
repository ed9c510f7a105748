//! The wire between lightningd and a plugin: every message that passes, recorded by a
//! tee between the two.
//!
//! [`Tee`] is an executable to start in the plugin's place; it leaves the plugin's
//! process where lightningd expects it, and a second process copies what passes.
//! [`Wire`] reads the record, and finds what lightningd silently accepts but no plugin
//! should send.

mod record;
mod relay;
mod tee;

pub use record::{Passed, Sender, Wire};
pub use relay::{relay, run};
pub use tee::Tee;
