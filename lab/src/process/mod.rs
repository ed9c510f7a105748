//! Processes that the lab starts, and what they need of the machine.

pub(crate) mod daemon;
pub(crate) mod files;
pub(crate) mod ports;
pub(crate) mod reaper;
