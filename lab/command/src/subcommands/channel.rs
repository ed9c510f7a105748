//! `lab channel`

use cln_lab::{CHANNEL_SAT, Channel};
use serde_json::{Value, json};

use super::progress::Progress;
use super::target::{Target, node};
use super::{json_text, out};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab channel 1 2             a channel of a million satoshi from l1 to l2
  lab channel l2 l3 250000    a smaller one
  lab channel --line          from each node to the next, all at once

Connects the two, funds the first and mines, as far as needed.")]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// The node that opens it, and owns its whole balance at first
    #[arg(required_unless_present = "line")]
    from: Option<String>,
    /// The other node
    #[arg(required_unless_present = "line")]
    to: Option<String>,
    /// Its capacity, in satoshi
    #[arg(value_name = "SATOSHI", default_value_t = CHANNEL_SAT,
        value_parser = clap::value_parser!(u64).range(10_000..=4_000_000_000))]
    sat: u64,
    /// Channels of a million satoshi from l1 to l2, from l2 to l3, and so on
    #[arg(long, conflicts_with_all = ["from", "to", "sat"])]
    line: bool,
}

/// Prints the channel once both sides can use it.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let lab = args.target.lab().await?;
    let (Some(from), Some(to)) = (&args.from, &args.to) else {
        let what = "opening channels from each node to the next";
        let channels = Progress::during(what, lab.line_graph()).await?;
        let channels: Vec<Value> = channels.iter().map(shown).collect();
        out::line(json_text::pretty(&json!({"channels": channels}))?)?;
        return Ok(());
    };
    let (from, to) = (node(&lab, from)?, node(&lab, to)?);
    let what = format!("opening a channel from {} to {}", from.name(), to.name());
    let channel = Progress::during(what, from.open_channel(to, args.sat)).await?;
    out::line(json_text::pretty(&shown(&channel))?)
}

fn shown(channel: &Channel) -> Value {
    json!({
        "short_channel_id": channel.short_channel_id,
        "channel_id": channel.channel_id,
        "funding_txid": channel.funding_txid,
        "sat": channel.sat,
    })
}
