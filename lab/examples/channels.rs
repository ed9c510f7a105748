//! Three nodes in a line, a payment through the one in the middle, and the notification
//! that this one gets. Every step mines and waits on its own.
//!
//!     cargo run --example channels

use cln_lab::{Lab, Result, msat};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let lab = Lab::builder().nodes(3).start().await?;
    let (l1, l2, l3) = (lab.l1(), lab.l2(), lab.node("l3")?);
    let channels = lab.line_graph().await?;

    let mut tap = l2.tap().await?;
    let invoice = l3.invoice("1000sat", "pizza", "a pizza").await?;
    let paid = l1.pay(&invoice.bolt11).await?;
    println!(
        "paid {} msat for {} msat",
        paid.amount_sent_msat, paid.amount_msat
    );

    let settled = |payload: &serde_json::Value| payload["status"] == "settled";
    let forward = tap
        .expect_where("forward_event", "that is settled", settled)
        .await?;
    assert_eq!(forward.payload["in_channel"], channels[0].short_channel_id);
    assert_eq!(msat(&forward.payload["out_msat"]), Some(1_000_000));
    println!("{}", forward.line);

    l1.close(l2).await?;
    lab.bitcoind().reorg(1).await?;
    lab.wait_block().await?;
    lab.stop().await
}
