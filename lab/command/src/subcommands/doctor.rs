//! `lab doctor`

use std::path::PathBuf;
use std::process::ExitCode;

use cln_lab::{NodeKind, binaries};
use console::style;
use serde_json::{Value, json};

use super::out;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab doctor
  lab doctor --json | jq -r '.programs[] | select(.name == \"lightningd\").path'")]
pub struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Print one line: which nodes a lab has here
    #[arg(long, conflicts_with = "json")]
    nodes: bool,
}

/// A program that was looked for.
struct Finding {
    name: &'static str,
    /// Whether labs need it.
    needed: bool,
    /// Its path and version; or why there is none, and what to do.
    found: Result<(PathBuf, String), String>,
}

/// Exit status 0 if a lab can run here.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.nodes {
        out::line(nodes().await)?;
        return Ok(ExitCode::SUCCESS);
    }
    let findings = look().await;
    // A program of either kind will do, but not one that is named and does not run.
    let node = match NodeKind::from_env() {
        Ok(kind) => kind.find().await,
        Err(error) => Err(error),
    };
    let needed = |finding: &Finding| finding.found.is_ok() || !finding.needed;
    let ready = node.is_ok() && findings.iter().all(needed);
    if args.json {
        let programs: Vec<Value> = findings.iter().map(Finding::json).collect();
        let report = json!({
            "ready": ready,
            "system": binaries::system(),
            "programs": programs,
            "node": node.as_ref().ok().map(|(_, node)| node.to_string()),
            "why": node.as_ref().err().map(ToString::to_string),
        });
        out::line(format_args!("{report:#}"))?;
    } else {
        out::line(binaries::system())?;
        findings.iter().try_for_each(Finding::print)?;
        out::line(nodes().await)?;
        let mut verdict = "a lab can run here".to_owned();
        if !ready {
            verdict = "a lab cannot run here yet".to_owned();
        }
        if let Err(error) = node {
            verdict += &format!(": {error}");
        }
        out::line(verdict)?;
    }
    Ok(ExitCode::from(u8::from(!ready)))
}

/// Which nodes a lab has here.
async fn nodes() -> String {
    let lightningd = NodeKind::Lightningd.find().await;
    let embedded = NodeKind::Embedded.find().await;
    match (lightningd, embedded) {
        (Ok((_, node)), Ok(_)) => format!("nodes: {node}, and the embedded node"),
        (Ok((_, node)), Err(_)) => format!("nodes: {node}"),
        (Err(_), Ok((_, node))) => {
            format!(
                "nodes: no lightningd that runs, so the {node}; what needs lightningd is skipped"
            )
        }
        (Err(_), Err(_)) => "nodes: neither a lightningd nor a cln-embedded that runs".to_owned(),
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
        findings.push(Finding {
            name,
            needed: false,
            found: binaries::built(variable, name)
                .map(|path| (path, String::new()))
                .map_err(|error| error.to_string()),
        });
    }
    findings
}

async fn look_at(name: &'static str, needed: bool, path: cln_lab::Result<PathBuf>) -> Finding {
    let found = async {
        let path = path?;
        let version = binaries::version_line(&path).await?;
        Ok((path, version))
    };
    Finding {
        name,
        needed,
        found: found
            .await
            .map_err(|error: cln_lab::Error| error.to_string()),
    }
}

impl Finding {
    fn print(&self) -> anyhow::Result<()> {
        let (mark, text) = match &self.found {
            Ok((path, version)) => {
                let text = format!("{}  {}", path.display(), style(version).dim());
                (style("✓").green(), text)
            }
            Err(why) if self.needed => (style("✗").red().bold(), why.clone()),
            Err(why) => (style("-").yellow(), why.clone()),
        };
        out::line(format_args!("{mark} {:<15} {text}", self.name))
    }

    fn json(&self) -> Value {
        match &self.found {
            Ok((path, version)) => json!({"name": self.name, "path": path, "version": version}),
            Err(why) => json!({"name": self.name, "needed": self.needed, "missing": why}),
        }
    }
}
