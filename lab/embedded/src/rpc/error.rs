//! JSON-RPC errors, with lightningd's codes.

use serde_json::{Value, json};

pub const INVALID_REQUEST: i32 = -32600;
pub const METHOD_NOT_FOUND: i32 = -32601;
pub const INVALID_PARAMS: i32 = -32602;
/// Any other error.
pub const LIGHTNINGD: i32 = -1;
pub const PLUGIN_ERROR: i32 = -3;
pub const PLUGIN_TERMINATED: i32 = -4;
pub const CONNECT_NO_KNOWN_ADDRESS: i32 = 400;
pub const CONNECT_ALL_ADDRESSES_FAILED: i32 = 401;
pub const CONNECT_DISCONNECTED_DURING: i32 = 402;
pub const INVOICE_LABEL_ALREADY_EXISTS: i32 = 900;
pub const INVOICE_PREIMAGE_ALREADY_EXISTS: i32 = 901;
pub const INVOICE_NOT_FOUND: i32 = 905;
pub const INVOICE_STATUS_UNEXPECTED: i32 = 906;
pub const INVOICE_NO_DESCRIPTION: i32 = 908;
pub const WAIT_TIMEOUT: i32 = 2000;

/// Why a command failed.
#[derive(Debug, Clone, PartialEq)]
pub struct RpcError {
    /// One of the codes above, or a plugin's.
    pub code: i32,
    pub message: String,
    pub data: Option<Box<Value>>,
    /// The parameter's wrong value, as JSON. It may be a secret, so it appears in the
    /// answer only where lightningd shows it, too: see [`RpcError::with_token`].
    pub token: Option<Box<str>>,
}

impl RpcError {
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
            token: None,
        }
    }

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

    pub fn terminated() -> Self {
        Self::new(
            PLUGIN_TERMINATED,
            "Plugin terminated before replying to RPC call.",
        )
    }

    /// Completes the message about a wrong value as lightningd does: with the value
    /// for developers and for `check`; for others it is in the line for the log that
    /// is given, too.
    pub fn with_token(mut self, with_value: bool) -> (Self, Option<String>) {
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

    pub fn to_json(&self) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(data) = &self.data {
            error["data"] = (**data).clone();
        }
        error
    }
}
