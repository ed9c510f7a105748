//! `lab fund`

use cln_lab::Bitcoind;

use super::out;
use super::progress::Progress;
use super::target::{Target, node};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab fund                     1 BTC for every node
  lab fund l1 --sat 500000     half a million satoshi for l1")]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Nodes; without any, all
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
    /// How much for each, in satoshi
    #[arg(long, value_name = "SATOSHI", default_value_t = 100_000_000,
        value_parser = clap::value_parser!(u64).range(1_000..=4_000_000_000))]
    sat: u64,
}

/// Prints the transactions' ids once the nodes can spend the coins.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let lab = args.target.lab().await?;
    let mut nodes = Vec::new();
    for name in &args.nodes {
        nodes.push(node(&lab, name)?);
    }
    let count = if nodes.is_empty() {
        lab.nodes().len()
    } else {
        nodes.len()
    };
    let _progress = Progress::start(format!("sending {} sat to each node's wallet", args.sat));
    ensure_coins(lab.bitcoind(), args.sat, count).await?;
    if nodes.is_empty() {
        out::line(lab.fund_nodes(args.sat).await?)?;
    }
    for node in nodes {
        out::line(node.fund(args.sat).await?)?;
    }
    Ok(())
}

/// Mines until the wallet has enough: each block frees another 50 BTC.
async fn ensure_coins(bitcoind: &Bitcoind, sat: u64, count: usize) -> anyhow::Result<()> {
    const FEES: f64 = 0.01;
    let wanted = sat as f64 * count as f64 / 1e8 + FEES;
    let mut had = -1.0;
    loop {
        let has: f64 = bitcoind.call("getbalance", vec![]).await?;
        if has >= wanted {
            return Ok(());
        }
        anyhow::ensure!(
            has > had,
            "{wanted} BTC are needed, the wallet has {has}, and mining adds no more: the subsidy \
             is used up; start another lab"
        );
        had = has;
        bitcoind.mine(1).await?;
    }
}
