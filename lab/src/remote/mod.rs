//! Labs and nodes that another process holds.

pub(crate) mod attach;
pub mod control;
pub(crate) mod description;
pub(crate) mod outside;
pub mod registry;
pub(crate) mod request;
