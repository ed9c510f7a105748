//! Processes: those that the lab starts, and what the machine gives them.

pub(crate) mod child;
pub(crate) mod daemon;
pub(crate) mod files;
pub(crate) mod lasting;
pub(crate) mod listing;
pub(crate) mod ports;
pub(crate) mod reaper;
