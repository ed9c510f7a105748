//! Labs that another process holds: found by name, used, ended.

pub(crate) mod attach;
pub mod control;
pub(crate) mod description;
pub(crate) mod outside;
pub mod registry;
pub(crate) mod request;
