//! `lab logs`

use std::path::PathBuf;
use std::time::Duration;

use cln_lab::{Follower, Lab};
use console::style;

use super::out;
use super::target::{Target, node};

/// How often to look for new lines.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab logs l1                   all of it
  lab logs l1 -f                all of it, and new lines until Ctrl-C
  lab logs l1 l2 bitcoind -f    several at once, each line with its daemon's name
  lab logs l1 -n 20             the last 20 lines
  lab logs l1 --stderr          what its plugins printed: tracebacks, say")]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Nodes, or `bitcoind`
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    /// Continue with new lines
    #[arg(short, long)]
    follow: bool,
    /// What the node and its plugins printed instead: their standard error
    #[arg(long)]
    stderr: bool,
    /// Start with the last N lines
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<usize>,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    let lab = args.target.lab().await?;
    let mut logs = Vec::new();
    for name in &args.nodes {
        let (name, path) = log_of(&lab, name, args.stderr)?;
        logs.push((name, Follower::new(path), String::new()));
    }
    let several = logs.len() > 1;
    let mut skip = args.lines;
    loop {
        // Before the last look at the files: they have what a daemon logs at its end.
        let ended = !args.follow || Lab::attach(lab.dir()).is_err();
        let mut lines = Vec::new();
        for (name, log, time) in &mut logs {
            let mut new = log.lines()?;
            if ended {
                new.extend(log.rest());
            }
            for line in new {
                // A line without a time belongs to the one before it.
                if let Some(own) = time_of(&line) {
                    own.clone_into(time);
                }
                lines.push((time.clone(), name.clone(), line));
            }
        }
        if several {
            lines.sort_by(|a, b| a.0.cmp(&b.0));
        }
        let from = skip.take().map_or(0, |n| lines.len().saturating_sub(n));
        for (_, name, line) in &lines[from..] {
            if several {
                out::line(format_args!(
                    "{} {line}",
                    style(format!("{name:<8}|")).cyan()
                ))?;
            } else {
                out::line(line)?;
            }
        }
        if ended || out::is_closed() {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The time at a line's start, `2026-01-31T12:00:00.123` or without the
/// fraction, both without `Z`: alike up to the second.
fn time_of(line: &str) -> Option<&str> {
    let time = line.split(' ').next()?.strip_suffix('Z')?;
    let digit = time.starts_with(|c: char| c.is_ascii_digit());
    (digit && time.contains('T')).then_some(time)
}

fn log_of(lab: &Lab, name: &str, stderr: bool) -> anyhow::Result<(String, PathBuf)> {
    let (name, dir, log) = if name == "bitcoind" {
        let dir = lab.bitcoind().dir();
        (name, dir, dir.join("regtest/debug.log"))
    } else {
        let node = node(lab, name)?;
        (node.name(), node.dir(), node.log_path())
    };
    let path = if stderr { dir.join("output") } else { log };
    Ok((name.to_owned(), path))
}
