//! `lab env`

use std::fmt::Write;

use cln_lab::{Lab, Node, quoted};

use super::out;
use super::target::{Found, Target};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  eval \"$(lab env)\"            then: l1-cli getinfo, l1-log -f, bt-cli getblockcount, connect 1 2
  eval \"$(lab env --unset)\"    remove them again

For bash and zsh. Besides the functions there are variables: LAB_NAME; LAB_NODES, the nodes' names; for
each node L1_ID, L1_PORT, L1_DIR (its --lightning-dir) and L1_RPC (its socket); BITCOIN_DIR,
bitcoind's data directory.")]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Print code that undoes it all
    #[arg(long)]
    unset: bool,
}

/// Prints shell code: the workshop's commands as functions, and variables.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let found = args.target.find().await?;
    let lab = Lab::attach(&found.dir)?;
    let code = if args.unset {
        unset(&lab)
    } else {
        set(&found, &lab)?
    };
    out::bytes(code.as_bytes())
}

fn set(found: &Found, lab: &Lab) -> anyhow::Result<String> {
    let program = std::env::current_exe()?;
    let mut code = String::new();
    // An alias of the same name would take precedence.
    let words = words(lab).join(" ");
    writeln!(code, "unalias {words} 2>/dev/null || true")?;
    for (name, value) in [("LAB", program.display().to_string())]
        .into_iter()
        .chain([identity(found)])
        .chain(of_lab(lab))
    {
        writeln!(code, "export {name}={}", quoted(&value))?;
    }
    for node in lab.nodes() {
        for (name, value) in of_node(node) {
            writeln!(code, "export {name}={}", quoted(&value))?;
        }
        let name = node.name();
        writeln!(
            code,
            "function {name}-cli {{ \"$LAB\" cli {name} \"$@\"; }}"
        )?;
        writeln!(
            code,
            "function {name}-log {{ \"$LAB\" logs {name} \"$@\"; }}"
        )?;
    }
    for (word, command) in WORDS {
        writeln!(code, "function {word} {{ \"$LAB\" {command} \"$@\"; }}")?;
    }
    Ok(code)
}

fn unset(lab: &Lab) -> String {
    let mut variables = vec!["LAB_NAME".to_owned(), "LAB_DIR".to_owned()];
    variables.extend(of_lab(lab).map(|(name, _)| name.to_owned()));
    variables.extend(
        lab.nodes()
            .into_iter()
            .flat_map(of_node)
            .map(|(name, _)| name),
    );
    let words = words(lab).join(" ");
    format!(
        "unset {}\nunset -f {words} 2>/dev/null || true\n",
        variables.join(" ")
    )
}

fn words(lab: &Lab) -> Vec<String> {
    let of_node = |node: &Node| {
        [
            format!("{}-cli", node.name()),
            format!("{}-log", node.name()),
        ]
    };
    let words = WORDS.iter().map(|(word, _)| (*word).to_owned());
    lab.nodes()
        .into_iter()
        .flat_map(of_node)
        .chain(words)
        .collect()
}

/// The workshop's commands, besides those of each node.
const WORDS: [(&str, &str); 2] = [("bt-cli", "bitcoin-cli"), ("connect", "connect")];

/// The variable by which `lab` finds the lab.
fn identity(found: &Found) -> (&'static str, String) {
    match &found.name {
        Some(name) => ("LAB_NAME", name.clone()),
        None => ("LAB_DIR", found.dir.display().to_string()),
    }
}

/// Every variable that describes the lab and its nodes.
pub fn variables(lab: &Lab) -> Vec<(String, String)> {
    let of_lab = of_lab(lab).map(|(name, value)| (name.to_owned(), value));
    let of_nodes = lab.nodes().into_iter().flat_map(of_node);
    of_lab.into_iter().chain(of_nodes).collect()
}

fn of_lab(lab: &Lab) -> [(&'static str, String); 2] {
    let names: Vec<&str> = lab.nodes().into_iter().map(Node::name).collect();
    [
        ("LAB_NODES", names.join(" ")),
        ("BITCOIN_DIR", lab.bitcoind().dir().display().to_string()),
    ]
}

/// The variables of a node: `L1_ID` and so on.
fn of_node(node: &Node) -> [(String, String); 4] {
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
