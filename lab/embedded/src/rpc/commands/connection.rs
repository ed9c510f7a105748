//! notifications, batching, deprecations: settings of one connection.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::rpc::call::{Call, Stop};
use crate::rpc::params::{self, req};

/// `notifications`
pub async fn notifications(call: &Call) -> Result<Value, Stop> {
    let mut enable = None;
    call.params
        .read(vec![req("enable", &mut enable, params::boolean)])?;
    call.done_if_check()?;
    call.flags
        .notifications
        .store(enable.unwrap_or(false), Ordering::Relaxed);
    Ok(json!({}))
}

/// `batching` and `deprecations`, which have no effect: every change is written at
/// once, and there are no deprecated APIs.
pub async fn no_effect(call: &Call) -> Result<Value, Stop> {
    let mut enable = None;
    call.params
        .read(vec![req("enable", &mut enable, params::boolean)])?;
    call.done_if_check()?;
    Ok(json!({}))
}
