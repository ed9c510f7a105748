//! waitblockheight.

use std::time::Duration;

use serde_json::{Value, json};

use crate::rpc::call::{Call, Stop};
use crate::rpc::error::{RpcError, WAIT_TIMEOUT};
use crate::rpc::params::{self, opt, req};

/// `waitblockheight`
pub async fn waitblockheight(call: &Call) -> Result<Value, Stop> {
    let (mut height, mut timeout) = (None, None);
    call.params.read(vec![
        req("blockheight", &mut height, params::number),
        opt("timeout", &mut timeout, params::number),
    ])?;
    call.done_if_check()?;
    let height = height.unwrap_or(0);
    let within = Duration::from_secs(timeout.unwrap_or(60).into());
    let mut tip = call.node.chain.watch();
    let reached = tokio::time::timeout(within, tip.wait_for(|tip| tip.height >= height)).await;
    match reached {
        Ok(Ok(tip)) => Ok(json!({ "blockheight": tip.height })),
        _ => Err(RpcError::new(WAIT_TIMEOUT, "Timed out.").into()),
    }
}
