//! The options that describe a lab.

use std::path::Path;
use std::str::FromStr;

use cln_lab::{Keep, Lab, LabBuilder, NodeKind, Plugin, binaries};

use super::usage;

/// A lab has at most this many nodes.
const MOST: u16 = 500;

#[derive(Debug, clap::Args)]
pub struct Kind {
    /// Which nodes: `auto` is lightningd if it is found, else the embedded node
    /// [env: LAB_NODE] [default: auto]
    // Not clap's `env`: for that an empty variable is a value, and one that is set is
    // an option that was given.
    #[arg(long, value_name = "auto|lightningd|embedded")]
    node: Option<NodeKind>,
}

impl Kind {
    /// The kind of the nodes: `--node`, else `LAB_NODE`, else `auto`.
    pub fn node(&self) -> anyhow::Result<NodeKind> {
        node_kind(self.node)
    }
}

/// The kind of the nodes: this one, else `LAB_NODE`, else `auto`.
pub fn node_kind(given: Option<NodeKind>) -> anyhow::Result<NodeKind> {
    let kind = given.map_or_else(NodeKind::from_env, Ok);
    kind.map_err(|error| usage(format!("LAB_NODE: {error}")))
}

/// `NAME=VALUE`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or_else(|| format!("`{text}` is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

#[derive(Debug, clap::Args)]
pub struct Spec {
    /// How many nodes: l1, l2, …
    #[arg(long, short, value_name = "N", default_value_t = 2,
        value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST)))]
    pub nodes: u16,
    /// Start this plugin with every node, with its options; can be repeated.
    /// `eventlog` without a path is the recorder of this project
    #[arg(long, short, value_name = "PATH[,OPTION=VALUE]…")]
    plugin: Vec<PluginArg>,
    /// Open a channel from each node to the next
    #[arg(long)]
    pub channels: bool,
    /// Start a NATS server with JetStream beside them, for `eventlog-publish`
    #[arg(long)]
    nats: bool,
    #[command(flatten)]
    kind: Kind,
    /// Keep the lab's folder at the end
    #[arg(long)]
    pub keep: bool,
}

impl Spec {
    /// What is done while it starts.
    pub fn starting(&self) -> String {
        let channels = if self.channels { ", then channels" } else { "" };
        format!("starting bitcoind and {} nodes{channels}", self.nodes)
    }

    /// The plugins' paths, if it has any.
    pub fn plugins(&self) -> Option<String> {
        let paths = self.plugin.iter().map(|plugin| plugin.0.executable());
        let paths: Vec<String> = paths.map(|path| path.display().to_string()).collect();
        (!paths.is_empty()).then(|| paths.join(", "))
    }

    pub fn builder(&self) -> anyhow::Result<LabBuilder> {
        let keep = if self.keep { Keep::Always } else { Keep::Never };
        let lab = Lab::builder()
            .kind(self.kind.node()?)
            .keep(keep)
            .without_gates()
            .nodes(self.nodes.into());
        let lab = if self.nats { lab.nats() } else { lab };
        let plugins = self.plugin.iter();
        Ok(plugins.fold(lab, |lab, plugin| lab.plugin(plugin.0.clone())))
    }
}

/// `PATH[,OPTION=VALUE]…`. A part without `=` belongs to the value before it, so
/// that a value can be a list: `eventlog,eventlog-topics=connect,disconnect`.
#[derive(Debug, Clone)]
pub struct PluginArg(pub Plugin);

impl FromStr for PluginArg {
    type Err = String;

    fn from_str(text: &str) -> Result<PluginArg, String> {
        let (path, rest) = match text.split_once(',') {
            Some((path, rest)) => (path, Some(rest)),
            None => (text, None),
        };
        let mut options: Vec<(String, String)> = Vec::new();
        for piece in rest.into_iter().flat_map(|rest| rest.split(',')) {
            match (piece.split_once('='), options.last_mut()) {
                (Some((name, value)), _) if !name.is_empty() => {
                    options.push((name.trim_start_matches("--").to_owned(), value.to_owned()));
                }
                (None, Some((_, value))) => {
                    value.push(',');
                    value.push_str(piece);
                }
                _ => return Err(format!("`{piece}` is not OPTION=VALUE")),
            }
        }
        let plugin = options
            .into_iter()
            .fold(find(path)?, |plugin, (name, value)| {
                plugin.option(name, value)
            });
        Ok(PluginArg(plugin))
    }
}

/// A plugin's executable: a path, or the name of a program of this project.
fn find(path: &str) -> Result<Plugin, String> {
    let given = Path::new(path);
    if path.is_empty() {
        return Err("no path".to_owned());
    }
    let found = if !given.exists() && !path.contains('/') {
        let variable = path.to_uppercase().replace('-', "_");
        binaries::built(&variable, path).map_err(|_| {
            format!("no file `{path}` here, and no such program beside `lab` or on the PATH")
        })?
    } else {
        given.to_owned()
    };
    let metadata = found
        .metadata()
        .map_err(|error| format!("{}: {error}", found.display()))?;
    use std::os::unix::fs::PermissionsExt;
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        return Err(format!(
            "{} is not an executable file: run `chmod +x` on it, and let its first line name its interpreter \
             (`#!/usr/bin/env python3`)",
            found.display()
        ));
    }
    Ok(Plugin::path(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_follow_the_path() {
        let parse = |text: &str| text.parse::<PluginArg>().map(|plugin| plugin.0);
        let plugin = parse("/bin/sh,a=1,b=x,y,--c=p=q,d=").expect("well-formed");
        let expected = [("a", "1"), ("b", "x,y"), ("c", "p=q"), ("d", "")];
        let seen: Vec<_> = plugin
            .options()
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            (plugin.executable(), seen),
            (Path::new("/bin/sh"), expected.to_vec())
        );
        for wrong in [
            "",
            "/bin/sh,x",
            "/bin/sh,=1",
            "/nonexistent",
            "/etc/passwd",
            "/bin",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
