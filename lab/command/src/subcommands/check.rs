//! `lab check`

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use cln_lab::{Error, NodeKind, corpus};
use cln_lab_command::check::{self, Level, Plan, codes};
use serde_json::{Map, Value};

use super::progress::Progress;
use super::spec::{node_kind, pair};
use super::{out, usage};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab check ./my-plugin                     every release, in seconds, no node
  lab check ./my-plugin --release v24.11..  from one on; ..v24.02, v24.02..v25.05
  lab check ./my-plugin --option my-url=http://localhost --rpc answers.json
  lab check ./my-plugin --node              on nodes of the installed release
  lab check --explain C0301

It starts the plugin once a release, in a folder of its own, and plays what that
release sends: manifest, init, methods, hooks, topics, a burst, the end. The
node's socket answers what that release answered. Exit status 0 without ✗, 1
with, 2 if the arguments make no sense or a file cannot be read or written.")]
pub struct Args {
    /// The plugin: an executable
    #[arg(required_unless_present_any = ["explain", "codes"])]
    plugin: Option<PathBuf>,
    /// Only these releases: v24.11, v24.11.., ..v24.02
    #[arg(long, value_name = "RANGE", default_value = "..", value_parser = check::releases)]
    release: std::vec::Vec<&'static corpus::Corpus>,
    /// Only these topics, of those that it subscribed to
    #[arg(long, value_name = "TOPIC", value_delimiter = ',')]
    topics: Vec<String>,
    /// The value of an option of the plugin
    #[arg(long = "option", value_name = "NAME=VALUE", value_parser = pair)]
    options: Vec<(String, String)>,
    /// More answers on the RPC socket: a JSON object, by method
    #[arg(long, value_name = "FILE")]
    rpc: Option<PathBuf>,
    /// How many seconds an answer may take
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    patience: f64,
    /// How many notifications are sent at once, within a second
    #[arg(long, value_name = "N", default_value = "10000")]
    burst: usize,
    /// How many releases are played at once [default: three a core]
    #[arg(short, long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Play it on running nodes instead of with recorded messages
    #[arg(long, value_name = "auto|lightningd|embedded", conflicts_with_all = ["release", "rpc", "burst"],
        num_args = 0..=1, require_equals = true)]
    node: Option<Option<NodeKind>>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Write the result as JUnit does
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write a picture with the releases that the plugin works with, as SVG
    #[arg(long, value_name = "FILE")]
    badge: Option<PathBuf>,
    /// Print what a code means, and what to do
    #[arg(long, value_name = "CODE", conflicts_with = "plugin")]
    explain: Option<String>,
    /// List the codes
    #[arg(long, conflicts_with_all = ["plugin", "explain"])]
    codes: bool,
}

/// Exit status 0 without an error found.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.codes {
        for code in codes::ALL {
            out::line(format_args!(
                "{} {} {}",
                code.code,
                code.level.mark(),
                code.title
            ))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(name) = &args.explain {
        let code = codes::find(name)
            .ok_or_else(|| usage(format!("no code `{name}`: `lab check --codes` lists them")))?;
        out::line(check::explain(code))?;
        return Ok(ExitCode::SUCCESS);
    }
    let plan = plan(&args)?;
    let name = plan
        .plugin
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let checked = match args.node {
        None => {
            let doing = format!("checking {name} on {} releases", plan.releases.len());
            Progress::during(doing, check::check(&plan)).await
        }
        Some(kind) => check::on_node(&plan, node_kind(kind)?).await,
    };
    let summary = match checked {
        Ok(summary) => summary,
        Err(Error::Usage(text)) => return Err(usage(text)),
        Err(error) => return Err(error.into()),
    };
    if args.json {
        out::line(format_args!("{:#}", check::json(&summary, &name)))?;
    } else {
        out::line(check::table(&summary, &name))?;
    }
    // Both are tried, and after the table: it is not lost to a file.
    let written = [
        (&args.junit, check::junit(&summary, &name)),
        (&args.badge, check::badge(&summary)),
    ]
    .map(|(path, text)| match path {
        Some(path) => std::fs::write(path, text)
            .map_err(|error| usage(format!("write {}: {error}", path.display()))),
        None => Ok(()),
    });
    written.into_iter().collect::<anyhow::Result<()>>()?;
    Ok(ExitCode::from(u8::from(summary.count(Level::Error) > 0)))
}

/// The answers in a file: a JSON object, by method.
fn answers(path: &Path) -> anyhow::Result<HashMap<String, Value>> {
    const MOST: u64 = 16 << 20;
    // Before it is opened: opening a pipe waits for a writer.
    ensure!(path.metadata()?.is_file(), "it is not a regular file");
    let mut text = Vec::new();
    File::open(path)?.take(MOST + 1).read_to_end(&mut text)?;
    ensure!(text.len() as u64 <= MOST, "it is larger than 16 MiB");
    serde_json::from_slice(&text).context("no JSON object with answers by method")
}

fn plan(args: &Args) -> anyhow::Result<Plan> {
    let plugin = args.plugin.clone().unwrap_or_default();
    let plugin = which::which(std::path::absolute(&plugin)?).map_err(|_| {
        let path = plugin.display();
        usage(if plugin.is_file() {
            format!("{path} may not be executed: chmod +x {path}")
        } else {
            format!("{path}: no such executable; give its path")
        })
    })?;
    let known = |topic: &String| {
        corpus::ALL
            .iter()
            .any(|c| c.notifications(topic).next().is_some())
    };
    if let Some(unknown) = args.topics.iter().find(|topic| !known(topic)) {
        return Err(usage(format!(
            "no topic `{unknown}`: `lab topics` lists them"
        )));
    }
    if !(0.01..=3600.0).contains(&args.patience) {
        return Err(usage("--patience: seconds, from 0.01 to 3600"));
    }
    let answers = match &args.rpc {
        Some(path) => {
            answers(path).map_err(|error| usage(format!("--rpc {}: {error:#}", path.display())))?
        }
        None => HashMap::new(),
    };
    let options = args
        .options
        .iter()
        .map(|(name, value)| (name.clone(), value.clone().into()));
    let plan = Plan::new(plugin);
    Ok(Plan {
        releases: args.release.clone(),
        topics: args.topics.clone(),
        options: options.collect::<Map<String, Value>>(),
        answers,
        patience: Duration::from_secs_f64(args.patience),
        burst: args.burst,
        jobs: args.jobs.unwrap_or(plan.jobs),
        ..plan
    })
}
