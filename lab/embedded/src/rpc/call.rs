//! One call of a command, and what a command is.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::Value;

use super::error::RpcError;
use super::params::Params;
use crate::node::Node;

/// A command of the embedded node.
pub struct Command {
    pub name: &'static str,
    /// The parameters, as `help` shows them.
    pub usage: &'static str,
    pub run: for<'a> fn(&'a Call) -> Running<'a>,
}

pub type Running<'a> = Pin<Box<dyn Future<Output = Result<Value, Stop>> + Send + 'a>>;

pub struct Call {
    pub node: Arc<Node>,
    /// The caller's id, as JSON.
    pub id: String,
    pub params: Params,
    /// Only check the parameters (the command `check`).
    pub check: bool,
    pub flags: Arc<Flags>,
}

/// What is set for one connection.
#[derive(Default)]
pub struct Flags {
    /// Whether the client asked for `message` and `progress` (`notifications`).
    pub notifications: AtomicBool,
}

/// Why a command gives no result.
#[derive(Debug)]
pub enum Stop {
    Failed(RpcError),
    /// The parameters are valid, and no more was asked for.
    Checked,
}

impl From<RpcError> for Stop {
    fn from(error: RpcError) -> Self {
        Stop::Failed(error)
    }
}

impl Call {
    /// Ends the call here if it only checks the parameters.
    ///
    /// # Errors
    /// [`Stop::Checked`], if so.
    pub fn done_if_check(&self) -> Result<(), Stop> {
        if self.check {
            Err(Stop::Checked)
        } else {
            Ok(())
        }
    }
}
