//! The notifications that lightningd sends, without any plugin: raw, and as types.
//!
//!     cargo run --example tap

use std::time::Duration;

use cln_lab::{Lab, Result};
use cln_rpc::notifications::InvoiceCreationNotification;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let lab = Lab::builder().nodes(2).start().await?;
    let mut tap = lab.tap("l1").await?;

    lab.l1().invoice("1000sat", "pizza", "a pizza").await?;
    let invoice = tap.expect_typed::<InvoiceCreationNotification>().await?;
    assert_eq!(invoice.label, "pizza");

    lab.l1().connect(lab.l2()).await?;
    let connect = tap.expect("connect").await?;
    println!("{}", connect.line);
    tap.expect_none("disconnect", Duration::from_millis(100))
        .await?;
    lab.stop().await
}
