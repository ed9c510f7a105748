//! `lab add`

use cln_lab::{NodeKind, NodeSpec};

use super::out;
use super::progress::Progress;
use super::spec::{PluginArg, pair};
use super::target::Target;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab add                                         one more node: l3 after l1 and l2
  lab add carol --option fee-base=10 --plugin ./my-plugin.py
  lab add --node embedded

`eval \"$(lab env)\"` again defines its l3-cli.")]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// The node's name [default: l and its place]
    node_name: Option<String>,
    /// Start this plugin with it, with its options; can be repeated
    #[arg(long, short, value_name = "PATH[,OPTION=VALUE]…")]
    plugin: Vec<PluginArg>,
    /// Set an option of lightningd; can be repeated
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    option: Vec<String>,
    /// Set a variable of its environment; can be repeated
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// Which node [default: as the others]
    #[arg(long, value_name = "auto|lightningd|embedded")]
    node: Option<NodeKind>,
}

impl Args {
    fn spec(&self) -> NodeSpec {
        let mut spec = NodeSpec::new();
        if let Some(name) = &self.node_name {
            spec = spec.name(name);
        }
        if let Some(kind) = self.node {
            spec = spec.kind(kind);
        }
        for option in &self.option {
            let option = option.trim_start_matches("--");
            spec = match option.split_once('=') {
                Some((name, value)) => spec.option(name, value),
                None => spec.flag(option),
            };
        }
        for plugin in &self.plugin {
            spec = spec.plugin(plugin.0.clone());
        }
        let set = |spec: NodeSpec, (name, value): &(String, String)| spec.env(name, value);
        self.env.iter().fold(spec, set)
    }
}

/// Returns when the node is ready.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let lab = args.target.lab().await?;
    let added = lab.add_node(args.spec());
    let node = Progress::during("starting a node", added).await?;
    out::line(format_args!(
        "{} is up  {}  127.0.0.1:{}",
        node.name(),
        node.id(),
        node.port()
    ))
}
