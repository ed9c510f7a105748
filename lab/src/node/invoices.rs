//! Invoices.

use cln_rpc::model::responses::InvoiceResponse;
use serde_json::json;

use super::Node;
use crate::Result;

impl Node {
    /// Makes an invoice: `invoice amount_msat label description`.
    ///
    /// `amount` is spelled as on the command line: millisatoshi without a unit,
    /// `"1000sat"`, `"0.001btc"`, or `"any"`.
    ///
    /// # Errors
    /// 900 if there is an invoice of this label, -32602 if the amount makes no sense.
    pub async fn invoice(
        &self,
        amount: &str,
        label: &str,
        description: &str,
    ) -> Result<InvoiceResponse> {
        let params = json!({"amount_msat": amount, "label": label, "description": description});
        self.call("invoice", params).await
    }
}
