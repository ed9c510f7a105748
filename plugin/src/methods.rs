//! The plugin's RPC methods.

/// Their names.
pub const NAMES: [&str; 0] = [];
