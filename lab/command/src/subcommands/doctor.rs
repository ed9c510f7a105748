//! `lab doctor`

use std::path::PathBuf;
use std::process::ExitCode;

use cln_lab::binaries;
use console::style;
use serde_json::{Value, json};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab doctor
  lab doctor --json | jq -r '.programs[] | select(.name == \"lightningd\").path'")]
pub struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Print one line: what the nodes of a lab are here
    #[arg(long, conflicts_with = "json")]
    nodes: bool,
}

/// TargetNode program that was looked for.
struct Finding {
    name: &'static str,
    /// Whether labs need it.
    needed: bool,
    /// Where it is and its version; or why not, and what to do.
    found: Result<(PathBuf, String), String>,
}

/// Exit status 0 if a lab can run here.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.nodes {
        println!("{}", nodes().await);
        return Ok(ExitCode::SUCCESS);
    }
    let findings = look().await;
    let ready = findings
        .iter()
        .all(|finding| finding.found.is_ok() || !finding.needed);
    if args.json {
        let programs: Vec<Value> = findings.iter().map(Finding::json).collect();
        let system = binaries::system();
        println!(
            "{:#}",
            json!({"ready": ready, "system": system, "programs": programs})
        );
    } else {
        println!("{}", binaries::system());
        for finding in &findings {
            finding.print();
        }
        println!("{}", nodes().await);
        println!(
            "{}",
            if ready {
                "a lab can run here"
            } else {
                "a lab cannot run here yet"
            }
        );
    }
    Ok(if ready {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What the nodes of a lab are here.
async fn nodes() -> String {
    let ask = async |path: cln_lab::Result<PathBuf>| binaries::implementation(&path?).await;
    match (
        ask(binaries::lightningd()).await,
        ask(binaries::embedded()).await,
    ) {
        (Ok(node), Ok(_)) => format!("nodes: {node}, and the embedded node"),
        (Ok(node), Err(_)) => format!("nodes: {node}"),
        (Err(_), Ok(node)) => {
            format!("nodes: no lightningd found, so the {node}; what needs lightningd is skipped")
        }
        (Err(_), Err(_)) => "nodes: neither lightningd nor cln-embedded found".to_owned(),
    }
}

async fn look() -> Vec<Finding> {
    let mut findings = Vec::new();
    let bitcoind = binaries::bitcoind();
    // Where bitcoind is missing, bitcoin-cli comes with it.
    let bitcoin_cli = bitcoind
        .as_ref()
        .ok()
        .map(|bitcoind| binaries::bitcoin_cli(bitcoind));
    findings.push(look_at("bitcoind", true, bitcoind).await);
    if let Some(path) = bitcoin_cli {
        findings.push(look_at("bitcoin-cli", true, path).await);
    }
    let lightningd = binaries::lightningd();
    let lightning_cli = lightningd
        .as_ref()
        .ok()
        .and_then(|path| binaries::lightning_cli(path));
    findings.push(look_at("lightningd", false, lightningd).await);
    if let Some(path) = lightning_cli {
        findings.push(look_at("lightning-cli", false, Ok(path)).await);
    }
    findings.push(look_at("cln-embedded", false, binaries::embedded()).await);
    for (variable, name) in [
        ("EVENTLOG", "eventlog"),
        ("FROM_SCRATCH", "from_scratch"),
        ("FAILING_HANDLER", "failing_handler"),
    ] {
        let found = binaries::built(variable, name);
        let found = found
            .map(|path| (path, String::new()))
            .map_err(|error| error.to_string());
        findings.push(Finding {
            name,
            needed: false,
            found,
        });
    }
    findings
}

async fn look_at(name: &'static str, needed: bool, path: cln_lab::Result<PathBuf>) -> Finding {
    let found = match path {
        Ok(path) => match binaries::version_line(&path).await {
            Ok(version) => Ok((path, version)),
            Err(error) => Err(error.to_string()),
        },
        Err(error) => Err(error.to_string()),
    };
    Finding {
        name,
        needed,
        found,
    }
}

impl Finding {
    fn print(&self) {
        match &self.found {
            Ok((path, version)) => {
                let path = path.display();
                println!(
                    "{} {:<15} {path}  {}",
                    style("✓").green(),
                    self.name,
                    style(version).dim()
                );
            }
            Err(why) => {
                let mark = if self.needed {
                    style("✗").red().bold()
                } else {
                    style("-").yellow()
                };
                println!("{mark} {:<15} {why}", self.name);
            }
        }
    }

    fn json(&self) -> Value {
        match &self.found {
            Ok((path, version)) => json!({"name": self.name, "path": path, "version": version}),
            Err(why) => json!({"name": self.name, "needed": self.needed, "missing": why}),
        }
    }
}
