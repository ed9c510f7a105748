//! `lab logs`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use cln_lab::Lab;
use console::style;

use super::follow::Follow;
use super::out;
use super::which::{Which, node};

/// How often to look for new lines.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab logs l1                   all of it
  lab logs l1 -f                all of it, and what comes, until Ctrl-C
  lab logs l1 l2 bitcoind -f    several at once, each line with its daemon's name
  lab logs l1 -n 20             the last 20 lines")]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Nodes, or `bitcoind`
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// Begin with the last N lines
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<usize>,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let lab = args.which.lab().await?;
    let mut logs = Vec::new();
    for name in &args.nodes {
        let (name, path) = log_of(&lab, name)?;
        logs.push((name, Follow::new(path)));
    }
    let several = logs.len() > 1;
    let mut skip = args.lines;
    loop {
        // Before the last look at the files: what a daemon says at its end is in them.
        let ended = !args.follow || Lab::attach(lab.dir()).is_err();
        let mut lines = Vec::new();
        for (name, log) in &mut logs {
            lines.extend(log.lines()?.into_iter().map(|line| (name.clone(), line)));
            if ended {
                lines.extend(log.rest().map(|line| (name.clone(), line)));
            }
        }
        if several {
            // Each begins with the time, alike up to the second.
            lines.sort_by(|a, b| time(&a.1).cmp(time(&b.1)));
        }
        let from = skip.take().map_or(0, |n| lines.len().saturating_sub(n));
        for (name, line) in &lines[from..] {
            if several {
                out::line(format_args!(
                    "{} {line}",
                    style(format!("{name:<8}|")).cyan()
                ))?;
            } else {
                out::line(line)?;
            }
        }
        if ended {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The time at a line's beginning, without its `Z`.
fn time(line: &str) -> &str {
    let word = line.split(' ').next().unwrap_or_default();
    word.trim_end_matches('Z')
}

fn log_of(lab: &Lab, name: &str) -> anyhow::Result<(String, PathBuf)> {
    if name == "bitcoind" {
        let path = lab.bitcoind().dir().join("regtest/debug.log");
        return Ok((name.to_owned(), path));
    }
    let node = node(lab, name)?;
    Ok((node.name().to_owned(), node.log_path()))
}
