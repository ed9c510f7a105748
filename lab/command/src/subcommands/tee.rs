//! `lab tee` and `lab wire`

use std::os::fd::RawFd;
use std::path::PathBuf;

use cln_lab_command::wire::{self, Sender, Tee, Wire};
use console::style;

use super::json_text::Json;
use super::{out, usage};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  l1-cli plugin start $(lab tee my-plugin.py)    start it with a tee
  lab wire my-plugin.py                          show what has passed
The tee is the executable `teed/my-plugin.py` beside the plugin. After a change of the plugin, the first
line again: lightningd restarts it then.")]
pub struct Args {
    /// The plugin's executable
    #[arg(required_unless_present_any = ["run", "relay"])]
    plugin: Option<PathBuf>,
    /// What the tee runs: a record, and the plugin
    #[arg(long, hide = true, num_args = 2, value_names = ["RECORD", "PLUGIN"])]
    run: Option<Vec<PathBuf>>,
    /// What copies: three file descriptors, and the record
    #[arg(long, hide = true, num_args = 4, value_names = ["FD", "FD", "FD", "RECORD"])]
    relay: Option<Vec<String>>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab wire my-plugin.py          each message as it passed, since the plugin's last start
  lab wire my-plugin.py --all    those of earlier starts, too")]
pub struct WireArgs {
    /// The plugin, which was started with `lab tee`
    plugin: PathBuf,
    /// All starts
    #[arg(long)]
    all: bool,
    /// The last N only
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,
    /// Messages as indented JSON
    #[arg(long)]
    pretty: bool,
}

/// Prints the path to start in the plugin's place.
pub async fn run(args: Args) -> anyhow::Result<()> {
    if let Some([record, plugin]) = args.run.as_deref() {
        match wire::run(record, plugin)? {}
    }
    if let Some([to, from, stderr, record]) = args.relay.as_deref() {
        let fd = |text: &String| text.parse::<RawFd>();
        let (ends, record) = ([fd(to)?, fd(from)?, fd(stderr)?], PathBuf::from(record));
        return Ok(tokio::task::spawn_blocking(move || wire::relay(ends, &record)).await??);
    }
    let plugin = args.plugin.ok_or_else(|| usage("which plugin?"))?;
    let tee = Tee::create(&plugin, &std::env::current_exe()?)?;
    out::line(tee.executable.display())
}

/// Prints what has passed, a line each.
pub async fn show(args: WireArgs) -> anyhow::Result<()> {
    let record = Tee::of(&args.plugin)?.record;
    if !record.exists() {
        anyhow::bail!(
            "{0} was not started with a tee: `l1-cli plugin start $(lab tee {0})`",
            args.plugin.display()
        );
    }
    let all = Wire::open(record).pending()?;
    let started = all
        .iter()
        .rposition(|passed| passed.from == Sender::Tee && passed.text().starts_with("started"));
    let from = started.filter(|_| !args.all).unwrap_or(0);
    let from = from.max(args.last.map_or(0, |n| all.len().saturating_sub(n)));
    for passed in &all[from..] {
        let who = match passed.from {
            Sender::Lightningd => style("lightningd:").green(),
            Sender::Plugin => style("plugin:").cyan(),
            Sender::Stderr => style("stderr:").yellow(),
            Sender::Tee => style("tee:").dim(),
        };
        match &passed.message {
            Some(message) if args.pretty => {
                out::line(format_args!("{who} {}", Json::of(message).pretty()))?;
            }
            _ => out::line(format_args!("{who} {}", passed.text()))?,
        }
        if let Some(mistake) = &passed.mistake {
            out::line(format_args!("{} {mistake}", style("mistake:").red().bold()))?;
        }
    }
    Ok(())
}
