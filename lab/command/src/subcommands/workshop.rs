//! `lab workshop`

use std::process::ExitCode;

use cln_lab_command::workshop::{self, Options, Quiet, Screen};

use super::out;
use super::spec::Kind;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab workshop                    on lightningd where it is found
  lab workshop --node embedded    on the embedded node
  lab workshop --json | jq .ok")]
pub struct Args {
    #[command(flatten)]
    kind: Kind,
    /// Keep the lab's folder, and print its path
    #[arg(long)]
    keep: bool,
    /// Print one JSON object at the end, and nothing else
    #[arg(long)]
    json: bool,
}

/// Exit status 0 only if every check holds.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let options = Options {
        node: args.kind.node()?,
        keep: args.keep,
    };
    let report = if args.json {
        let report = workshop::run(&options, &mut Quiet).await?;
        out::line(serde_json::to_string_pretty(&report)?)?;
        report
    } else {
        workshop::run(&options, &mut Screen::new(std::io::stdout())).await?
    };
    Ok(ExitCode::from(u8::from(!report.ok)))
}
