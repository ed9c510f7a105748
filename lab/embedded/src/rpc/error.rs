//! JSON-RPC errors, with lightningd's codes.

use serde_json::{Value, json};

/// The request is not one.
pub const INVALID_REQUEST: i32 = -32600;
/// There is no such method (here).
pub const METHOD_NOT_FOUND: i32 = -32601;
/// The parameters are wrong.
pub const INVALID_PARAMS: i32 = -32602;
/// Something else.
pub const LIGHTNINGD: i32 = -1;
/// A plugin could not be started.
pub const PLUGIN_ERROR: i32 = -3;
/// A plugin died before it answered.
pub const PLUGIN_TERMINATED: i32 = -4;
/// Nobody knows the peer's address.
pub const CONNECT_NO_KNOWN_ADDRESS: i32 = 400;
/// No address of the peer worked.
pub const CONNECT_ALL_ADDRESSES_FAILED: i32 = 401;
/// The peer went away again.
pub const CONNECT_DISCONNECTED_DURING: i32 = 402;
/// The label is taken.
pub const INVOICE_LABEL_ALREADY_EXISTS: i32 = 900;
/// The preimage is taken.
pub const INVOICE_PREIMAGE_ALREADY_EXISTS: i32 = 901;
/// There is no such invoice.
pub const INVOICE_NOT_FOUND: i32 = 905;
/// The invoice is in another state.
pub const INVOICE_STATUS_UNEXPECTED: i32 = 906;
/// The invoice has no description.
pub const INVOICE_NO_DESCRIPTION: i32 = 908;
/// The height was not reached in time.
pub const WAIT_TIMEOUT: i32 = 2000;

/// Why a command failed.
#[derive(Debug, Clone, PartialEq)]
pub struct RpcError {
    /// One of the codes above, or a plugin's.
    pub code: i32,
    /// For people.
    pub message: String,
    /// For programs.
    pub data: Option<Box<Value>>,
    /// The parameter's value that is wrong, as JSON. It may be a secret, so the
    /// caller is told of it only where lightningd tells it, too: see
    /// [`RpcError::tell`].
    pub token: Option<Box<str>>,
}

impl RpcError {
    /// An error without data.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
            token: None,
        }
    }

    /// The parameters are wrong.
    pub fn params(message: impl Into<String>) -> Self {
        Self::new(INVALID_PARAMS, message)
    }

    /// A parameter has a wrong value.
    pub fn bad(param: &str, what: &str, token: impl Into<Box<str>>) -> Self {
        Self {
            token: Some(token.into()),
            ..Self::params(format!("{param}: {what}"))
        }
    }

    /// A plugin died before it answered.
    pub fn terminated() -> Self {
        Self::new(
            PLUGIN_TERMINATED,
            "Plugin terminated before replying to RPC call.",
        )
    }

    /// Makes the message about a wrong value what lightningd makes of it: with
    /// the value for developers and for `check`, without for others. Gives the
    /// line for the log that has it then.
    pub fn tell(mut self, with_value: bool) -> (Self, Option<String>) {
        let Some(token) = self.token.take() else {
            return (self, None);
        };
        if with_value {
            self.message += &format!(": invalid token '{token}'");
            return (self, None);
        }
        let line = match self.message.split_once(": ") {
            Some((param, what)) => format!("Invalid parameter {param} ({what}): token '{token}'"),
            None => format!("Invalid parameter: token '{token}'"),
        };
        self.message += ": invalid token (see logs for details)";
        (self, Some(line))
    }

    /// As in the answer.
    pub fn to_json(&self) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(data) = &self.data {
            error["data"] = (**data).clone();
        }
        error
    }
}
