//! Invoices.

use serde::Deserialize;
use serde_json::json;

use super::Node;
use crate::Result;

/// An invoice as lightningd makes it. (cln-rpc's type requires `created_index`, which
/// exists from v23.08 on.)
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Invoice {
    /// The invoice itself (BOLT 11).
    pub bolt11: String,
    /// The hash of its preimage: 32 bytes, in hexadecimal.
    pub payment_hash: String,
    /// Protects it from being probed: 32 bytes, in hexadecimal.
    pub payment_secret: String,
    /// When it expires, in seconds since 1970-01-01 UTC.
    pub expires_at: u64,
}

impl Node {
    /// Makes an invoice: `invoice amount_msat label description`.
    ///
    /// `amount` is spelled as on the command line: millisatoshi without a unit,
    /// `"1000sat"`, `"0.001btc"`, or `"any"`.
    ///
    /// # Errors
    /// 900 if there is an invoice of this label, -32602 if the amount is invalid.
    pub async fn invoice(&self, amount: &str, label: &str, description: &str) -> Result<Invoice> {
        let params = json!({"amount_msat": amount, "label": label, "description": description});
        self.call("invoice", params).await
    }
}
