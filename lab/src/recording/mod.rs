//! The notifications that plugins receive, and what they record of them.

pub(crate) mod events;
pub(crate) mod follower;
pub(crate) mod notification;
pub(crate) mod tap;
