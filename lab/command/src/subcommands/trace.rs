//! `lab trace`

use std::path::{Path, PathBuf};

use cln_lab::trace::{Level, Page, Trace};

use super::out;
use super::target::Target;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab trace                            what happened in the lab that is up, a line each
  lab trace /tmp/cln-lab-x8Yz          in one that has ended, or was killed: its folder
  lab trace --html trace.html          as a page: one file, to be opened in a browser
  lab trace --mermaid 20 | pbcopy      as a diagram for an issue on GitHub, in ```mermaid
  lab trace --node l1 --topic connect,disconnect --since 10s
  lab trace --json | jq 'select(.bad)'

It has what the lab did itself (requests and answers, starts and ends of processes, output), and what
is in its folder: the nodes' logs, what eventlog, taps and `lab tee` recorded, and what lightningd saved.
LAB_TRACE, when the lab starts: `on` is the default; with `full` lightningd (v25.09) saves each
notification and hook as it sends it, a file each; `off` writes down nothing. Secrets are in it as they
are: preimages, runes, keys that were sent.")]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// The lab: its folder, or its name [default: the one that is up]
    #[arg(value_name = "DIR|NAME", conflicts_with_all = ["name", "dir"])]
    lab: Option<PathBuf>,
    /// Write a page, one file that needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print a sequence diagram of the last N messages
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "40", conflicts_with = "json")]
    mermaid: Option<usize>,
    /// Print a JSON object a line: the format of the lab's `trace.jsonl`
    #[arg(long)]
    json: bool,
    /// Leave out what was before: a time, or so long before the last entry
    #[arg(long, value_name = "TIME|DURATION")]
    since: Option<String>,
    /// Only what involves these: l1, l1/my-plugin.py, bitcoind, lab
    #[arg(long = "node", value_name = "NODE", value_delimiter = ',')]
    nodes: Vec<String>,
    /// Only these topics, methods, hooks
    #[arg(long = "topic", value_name = "TOPIC", value_delimiter = ',')]
    topics: Vec<String>,
    /// Lines of the nodes' logs from this level on; with `debug` BOLT messages, too
    #[arg(long, value_name = "LEVEL", default_value = "unusual")]
    log: Level,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    let dir = match &args.lab {
        Some(lab) if is_folder(lab) => lab.clone(),
        Some(name) => {
            let name = name.to_string_lossy().into_owned();
            Target::named(name).find().await?.dir
        }
        None => args.target.find().await?.dir,
    };
    let mut trace = Trace::read(&dir, args.log)?;
    trace.keep_nodes(&args.nodes)?;
    trace.keep_topics(&args.topics);
    if let Some(since) = &args.since {
        trace.keep_since(since)?;
    }
    for note in &trace.notes {
        out::note(format_args!("note: {note}"));
    }
    if let Some(path) = &args.html {
        let title = format!("lab in {}", dir.display());
        Page::new(&title, &trace).write(path)?;
        out::note(format_args!(
            "{} entries in {}",
            trace.entries.len(),
            path.display()
        ));
    }
    if let Some(most) = args.mermaid {
        return out::bytes(trace.mermaid(most).as_bytes());
    }
    if args.html.is_some() && !args.json {
        return Ok(());
    }
    for entry in &trace.entries {
        if args.json {
            out::line(serde_json::to_string(entry)?)?;
        } else {
            out::line(entry)?;
        }
    }
    Ok(())
}

/// A name has no `/`, and is no folder here.
fn is_folder(lab: &Path) -> bool {
    lab.components().count() != 1 || lab.is_dir()
}
