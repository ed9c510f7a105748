//! `lab env`

use std::fmt::Write;
use std::process::ExitCode;

use cln_lab::{Lab, Node};

use super::out;
use super::which::{Found, Which};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  eval \"$(lab env)\"            then: l1-cli getinfo, l1-log -f, bt-cli getblockcount, connect 1 2
  eval \"$(lab env --unset)\"    forget them again

In bash and zsh. Besides the words there are variables: LAB_NAME, and for each node L1_ID, L1_PORT,
L1_DIR (its --lightning-dir) and L1_RPC (its socket); BITCOIN_DIR is bitcoind's data directory.")]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Print what takes it all back
    #[arg(long)]
    unset: bool,
}

/// Prints shell code: the workshop's words as functions, and variables.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let found = args.which.find().await?;
    let lab = Lab::attach(&found.dir)?;
    let code = if args.unset {
        unset(&lab)
    } else {
        set(&found, &lab)?
    };
    out::bytes(code.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn set(found: &Found, lab: &Lab) -> anyhow::Result<String> {
    let program = std::env::current_exe()?;
    let mut code = String::new();
    for (name, value) in [("LAB", program.display().to_string())]
        .into_iter()
        .chain([identity(found)])
        .chain([("BITCOIN_DIR", lab.bitcoind().dir().display().to_string())])
    {
        writeln!(code, "export {name}={}", quoted(&value))?;
    }
    for node in lab.nodes() {
        for (name, value) in variables(node) {
            writeln!(code, "export {name}={}", quoted(&value))?;
        }
        let name = node.name();
        writeln!(code, "{name}-cli() {{ \"$LAB\" cli {name} \"$@\"; }}")?;
        writeln!(code, "{name}-log() {{ \"$LAB\" logs {name} \"$@\"; }}")?;
    }
    for (word, command) in WORDS {
        writeln!(code, "{word}() {{ \"$LAB\" {command} \"$@\"; }}")?;
    }
    Ok(code)
}

fn unset(lab: &Lab) -> String {
    let mut code = "unset LAB_NAME LAB_DIR BITCOIN_DIR\n".to_owned();
    for node in lab.nodes() {
        let names = variables(node).map(|(name, _)| name);
        let _ = writeln!(code, "unset {}", names.join(" "));
        let _ = writeln!(code, "unset -f {0}-cli {0}-log", node.name());
    }
    let words = WORDS.map(|(word, _)| word);
    let _ = writeln!(code, "unset -f {}", words.join(" "));
    code
}

/// The workshop's words, besides those of each node.
const WORDS: [(&str, &str); 2] = [("bt-cli", "bitcoin-cli"), ("connect", "connect")];

/// What names the lab to `lab` itself.
fn identity(found: &Found) -> (&'static str, String) {
    match &found.name {
        Some(name) => ("LAB_NAME", name.clone()),
        None => ("LAB_DIR", found.dir.display().to_string()),
    }
}

/// What there is to know of a node: `L1_ID` and so on.
pub fn variables(node: &Node) -> [(String, String); 4] {
    let prefix = node.name().to_uppercase().replace('-', "_");
    [
        (format!("{prefix}_ID"), node.id().to_owned()),
        (format!("{prefix}_PORT"), node.port().to_string()),
        (format!("{prefix}_DIR"), node.dir().display().to_string()),
        (
            format!("{prefix}_RPC"),
            node.rpc_path().display().to_string(),
        ),
    ]
}

/// In single quotes, whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
