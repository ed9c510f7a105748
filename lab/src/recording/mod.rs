//! What plugins were sent, and what they recorded of it.

pub(crate) mod events;
pub(crate) mod follower;
pub(crate) mod notification;
pub(crate) mod tap;
