//! `lab pay`

use std::time::SystemTime;

use serde_json::json;

use super::progress::Progress;
use super::target::{Target, node};
use super::{json_text, out, usage};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab pay 1 3 1000sat      l3 makes an invoice, l1 pays it
  lab pay l1 l2 0.001btc
  lab pay 1 2 50000        millisatoshi, without a unit")]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// The node that pays
    from: String,
    /// The node that is paid
    to: String,
    /// How much: millisatoshi, or with a unit: sat, btc, msat
    amount: String,
}

/// Prints the payment once it has arrived.
pub async fn run(args: Args) -> anyhow::Result<()> {
    if args.amount == "any" {
        return Err(usage("AMOUNT `any`: use an amount such as 1000sat"));
    }
    let lab = args.target.lab().await?;
    let (from, to) = (node(&lab, &args.from)?, node(&lab, &args.to)?);
    let (a, b) = (from.name(), to.name());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let label = format!("lab pay {}", now.unwrap_or_default().as_nanos());
    let _progress = Progress::start(format!("{a} pays {b}"));
    let invoice = to.invoice(&args.amount, &label, "lab pay").await?;
    let paid = from.pay(&invoice.bolt11).await?;
    out::line(json_text::pretty(&json!({
        "amount_msat": paid.amount_msat,
        "amount_sent_msat": paid.amount_sent_msat,
        "payment_hash": invoice.payment_hash.to_string(),
        "payment_preimage": paid.preimage,
    }))?)
}
