//! plugin start, stop, startdir, rescan, list.

use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use serde_json::{Map, Value, json};

use crate::plugins::end;
use crate::plugins::start::{self, StartError};
use crate::rpc::call::{Call, Stop};
use crate::rpc::error::{PLUGIN_ERROR, RpcError};
use crate::rpc::params::{self, req};

/// `plugin`
pub async fn plugin(call: &Call) -> Result<Value, Stop> {
    let mut subcommand = None;
    call.params.read_some(
        vec![req("subcommand", &mut subcommand, params::string)],
        true,
    )?;
    match subcommand.unwrap_or_default().as_str() {
        "start" => start(call).await,
        "stop" => stop(call).await,
        "startdir" => startdir(call).await,
        "rescan" => {
            only_subcommand(call)?;
            call.done_if_check()?;
            start::rescan(&call.node, &call.id)
                .await
                .map_err(RpcError::params)?;
            Ok(list(call, "rescan"))
        }
        "list" => {
            only_subcommand(call)?;
            call.done_if_check()?;
            Ok(list(call, "list"))
        }
        other => Err(RpcError::params(format!("Unknown subcommand '{other}'")).into()),
    }
}

fn only_subcommand(call: &Call) -> Result<(), Stop> {
    let mut subcommand = None;
    Ok(call
        .params
        .read(vec![req("subcommand", &mut subcommand, params::string)])?)
}

/// The answer of most subcommands.
fn list(call: &Call, subcommand: &str) -> Value {
    let plugins: Vec<_> = call
        .node
        .plugins
        .all()
        .iter()
        .map(|p| json!({ "name": p.path, "active": p.running(), "dynamic": p.dynamic() }))
        .collect();
    json!({ "command": subcommand, "plugins": plugins })
}

async fn start(call: &Call) -> Result<Value, Stop> {
    let (mut subcommand, mut path) = (None, None);
    call.params.read_some(
        vec![
            req("subcommand", &mut subcommand, params::string),
            req("plugin", &mut path, params::string),
        ],
        true,
    )?;
    let path = path.unwrap_or_default();
    // A plugin's options must have names.
    let options: Map<String, Value> = if call.params.by_position() {
        if call.params.positional().len() != 2 {
            return Err(RpcError::params("Extra parameters must be in object").into());
        }
        Map::new()
    } else {
        let mut options = call.params.to_map();
        options.shift_remove("subcommand");
        options.shift_remove("plugin");
        options
    };
    let node = &call.node;
    let mut file = PathBuf::from(&path);
    if access(&file, AccessFlags::X_OK).is_err() {
        file = node.plugins.default_dir.join(&path);
    }
    if let Err(errno) = access(&file, AccessFlags::X_OK) {
        return Err(RpcError::params(format!(
            "{} is not executable: {}",
            file.display(),
            errno.desc()
        ))
        .into());
    }
    call.done_if_check()?;
    match start::one(node, &file, options, &call.id).await {
        Ok(()) => Ok(list(call, "start")),
        // lightningd's words, which come from a stale errno.
        Err(StartError::AlreadyRuns) => {
            Err(RpcError::params(format!("{}: Invalid argument", file.display())).into())
        }
        Err(StartError::Failed(why)) => {
            let shown = file.canonicalize().unwrap_or(file);
            Err(RpcError::new(PLUGIN_ERROR, format!("{}: {why}", shown.display())).into())
        }
    }
}

async fn startdir(call: &Call) -> Result<Value, Stop> {
    let (mut subcommand, mut dir) = (None, None);
    call.params.read(vec![
        req("subcommand", &mut subcommand, params::string),
        req("directory", &mut dir, params::string),
    ])?;
    let dir = dir.unwrap_or_default();
    if !Path::new(&dir).exists() {
        return Err(RpcError::params(format!("Could not open {dir}")).into());
    }
    call.done_if_check()?;
    start::dir(&call.node, Path::new(&dir), &call.id)
        .await
        .map_err(RpcError::params)?;
    Ok(list(call, "startdir"))
}

async fn stop(call: &Call) -> Result<Value, Stop> {
    let (mut subcommand, mut name) = (None, None);
    call.params.read(vec![
        req("subcommand", &mut subcommand, params::string),
        req("plugin", &mut name, params::string),
    ])?;
    call.done_if_check()?;
    let name = name.unwrap_or_default();
    let Some(plugin) = call.node.plugins.named(&name) else {
        return Err(RpcError::params(format!("Could not find plugin {name}")).into());
    };
    if !plugin.dynamic() {
        return Err(
            RpcError::params(format!("{name} cannot be managed when lightningd is up")).into(),
        );
    }
    end::stop(&call.node, &plugin).await;
    Ok(json!({ "command": "stop", "result": format!("Successfully stopped {}.", plugin.name) }))
}
