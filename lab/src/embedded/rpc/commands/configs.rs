//! listconfigs, setconfig.

use serde_json::Value;

use super::{Call, Stop};
use crate::embedded::rpc::error::{METHOD_NOT_FOUND, RpcError};

/// `listconfigs`
pub fn listconfigs(_: &Call) -> Result<Value, Stop> {
    Err(RpcError::new(METHOD_NOT_FOUND, "not yet").into())
}

/// `setconfig`
pub async fn setconfig(_: &Call) -> Result<Value, Stop> {
    Err(RpcError::new(METHOD_NOT_FOUND, "not yet").into())
}
