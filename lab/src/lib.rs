//! The lab.

pub mod embedded;
