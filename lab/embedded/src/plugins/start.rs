//! From a file to a running plugin.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::end::end;
use super::fingerprint::Fingerprint;
use super::manifest::{CALLED_HOOKS, Manifest, OptionKind, Refusal};
use super::plugin::{Plugin, Stage, Terminated};
use super::{files, hooks, process, settings};
use crate::log::Level;
use crate::node::Node;
use crate::option_table;
use crate::options::{ConfigVar, Source, os_error};

/// How long a plugin may take to answer `getmanifest`, and again for `init`.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// Starts the configured plugins and reads all manifests; then every option is
/// known.
///
/// # Errors
/// An option is unknown or has a wrong value, or a plugin's process cannot be
/// started.
pub async fn all(node: &Arc<Node>) -> Result<(), String> {
    let mut started = Vec::new();
    for (path, important) in files::configured(node)? {
        match register(node, &path, important) {
            Ok(Some(plugin)) => started.push(plugin),
            Ok(None) => {}
            Err(e) => return Err(format!("error starting plugin '{}': {e}", path.display())),
        }
    }
    let mut phases = tokio::task::JoinSet::new();
    for plugin in started {
        let node = node.clone();
        phases.spawn(async move { manifest_phase(&node, &plugin, None, None).await });
    }
    // A plugin that fails has been ended and logged; the node starts without it.
    while phases.join_next().await.is_some() {}

    for var in &node.config.unknown {
        let option = node
            .plugins
            .all()
            .iter()
            .filter_map(|p| p.manifest())
            .find_map(|m| m.options.iter().find(|o| o.name == var.name).cloned());
        match option {
            Some(option) => {
                let var = settings::settle(&option, var.clone())?;
                node.plugins.settings().set(var);
            }
            None => return Err(var.complain("unknown option")),
        }
    }
    Ok(())
}

/// Starts a plugin's process, unless it runs already from the file as it is now
/// (`None`).
fn register(node: &Arc<Node>, path: &Path, important: bool) -> Result<Option<Arc<Plugin>>, String> {
    if let Some(old) = node.plugins.with_path(path) {
        if important {
            old.important.store(true, Ordering::Relaxed);
        }
        if old.is_important() || !old.file.differs(path) {
            return Ok(None);
        }
        end(node, &old, Level::Info, "Plugin changed, needs restart.");
    }
    let plugin = process::spawn(node, path, Fingerprint::of(path), important)?;
    node.plugins.add(plugin.clone());
    Ok(Some(plugin))
}

/// Why `plugin start` fails.
#[derive(Debug)]
pub enum StartError {
    /// From the same file.
    AlreadyRuns,
    Failed(String),
}

/// `plugin start`: starts one plugin, with options of its own.
pub async fn one(
    node: &Arc<Node>,
    path: &Path,
    options: Map<String, Value>,
    caller: &str,
) -> Result<(), StartError> {
    let path = path
        .canonicalize()
        .map_err(|e| StartError::Failed(os_error(&e)))?;
    let plugin = register(node, &path, false)
        .map_err(StartError::Failed)?
        .ok_or(StartError::AlreadyRuns)?;
    bring_up(node, &plugin, Some(options), Some(caller))
        .await
        .map_err(StartError::Failed)
}

/// Starts those of these files that do not run yet; returns once each of them
/// runs or has ended.
///
/// # Errors
/// The process of one of them cannot be started.
async fn many(node: &Arc<Node>, files: Vec<PathBuf>, caller: &str) -> Result<(), String> {
    let mut tasks = tokio::task::JoinSet::new();
    for path in files {
        if node.plugins.is_disabled(&path) {
            node.log.info(
                "plugin-manager",
                format!("{}: disabled via disable-plugin", path.display()),
            );
            continue;
        }
        let plugin = register(node, &path, false)
            .map_err(|e| format!("Failed to register {}: {e}", path.display()))?;
        if let Some(plugin) = plugin {
            let (node, caller) = (node.clone(), caller.to_owned());
            tasks.spawn(async move { bring_up(&node, &plugin, None, Some(&caller)).await });
        }
    }
    while tasks.join_next().await.is_some() {}
    Ok(())
}

/// `plugin startdir`.
pub async fn dir(node: &Arc<Node>, dir: &Path, caller: &str) -> Result<(), String> {
    let files = files::executables(dir).map_err(|e| {
        format!(
            "Failed to open plugin-dir {}: {}",
            dir.display(),
            os_error(&e)
        )
    })?;
    many(node, files, caller).await
}

/// `plugin rescan`.
pub async fn rescan(node: &Arc<Node>, caller: &str) -> Result<(), String> {
    many(node, files::default_dir(node), caller).await
}

async fn bring_up(
    node: &Arc<Node>,
    plugin: &Arc<Plugin>,
    options: Option<Map<String, Value>>,
    caller: Option<&str>,
) -> Result<(), String> {
    manifest_phase(node, plugin, options, caller).await?;
    init_phase(node, plugin).await
}

/// Sends a request to a plugin that starts; one that takes too long is ended.
async fn ask(
    node: &Arc<Node>,
    plugin: &Arc<Plugin>,
    method: &str,
    params: Value,
    caller: Option<&str>,
) -> Result<Vec<u8>, String> {
    let answer = node.plugins.request(plugin, method, params, caller);
    match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Terminated)) => Err(plugin.ended().await),
        Err(_) => {
            let why = format!("timed out {}", plugin.stage().words());
            end(node, plugin, Level::Unusual, &why);
            Err(why)
        }
    }
}

/// Asks for the manifest and applies it. On any error the plugin has ended.
async fn manifest_phase(
    node: &Arc<Node>,
    plugin: &Arc<Plugin>,
    options: Option<Map<String, Value>>,
    caller: Option<&str>,
) -> Result<(), String> {
    let params = json!({ "allow-deprecated-apis": node.config.deprecated_ok });
    let answer = ask(node, plugin, "getmanifest", params, caller).await?;
    let quoted = String::from_utf8_lossy(&answer);
    let parsed = serde_json::from_slice(&answer).unwrap_or(Value::Null);
    let refused = |level, why: String| {
        end(node, plugin, level, &why);
        Err(why)
    };
    let manifest = match Manifest::read(&parsed, &quoted) {
        Ok(manifest) => manifest,
        Err(Refusal::Wrong(why)) => return refused(Level::Unusual, why),
        Err(Refusal::Disabled(why)) => {
            return refused(Level::Info, format!("disabled itself: {why}"));
        }
    };
    if let Err(why) = check_names(node, plugin, &manifest) {
        return refused(Level::Unusual, why);
    }
    let manifest = plugin.set_manifest(manifest);
    if let Err(why) = start_options(node, &manifest, options.unwrap_or_default()) {
        return refused(Level::Unusual, why);
    }
    if !node.plugins.startup() && !manifest.dynamic {
        return refused(Level::Info, "Not a dynamic plugin".into());
    }
    if !hooks::can_be_ordered(node, plugin) {
        return refused(
            Level::Unusual,
            "Cannot meet required hook dependencies".into(),
        );
    }
    node.add_features(&manifest.features);
    plugin.set_stage(Stage::NeedsInit);
    Ok(())
}

/// Refuses a method or an option whose name is taken.
fn check_names(node: &Node, plugin: &Plugin, manifest: &Manifest) -> Result<(), String> {
    for method in &manifest.methods {
        let taken_by = if (node.plugins.is_builtin)(&method.name) {
            Some("lightningd".to_owned())
        } else {
            node.plugins
                .with_method(&method.name)
                .map(|p| p.path.display().to_string())
        };
        if let Some(other) = taken_by {
            return Err(format!(
                "Could not register method \"{}\", a method with that name is already registered by plugin {other}",
                method.name
            ));
        }
    }
    for option in &manifest.options {
        let other = node.plugins.all().iter().any(|p| {
            !std::ptr::eq(&**p, plugin)
                && p.manifest()
                    .is_some_and(|m| m.options.iter().any(|o| o.name == option.name))
        });
        if other || option_table::is_known(&option.name) {
            return Err(format!("Option \"{}\" already registered", option.name));
        }
    }
    Ok(())
}

/// Sets the options of `plugin start PATH name=value`.
fn start_options(
    node: &Node,
    manifest: &Manifest,
    given: Map<String, Value>,
) -> Result<(), String> {
    for (name, value) in given {
        let Some(option) = manifest.options.iter().find(|o| o.name == name) else {
            return Err(format!("unknown parameter {name}"));
        };
        let value = match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let is_flag = option.kind == OptionKind::Flag;
        let var = ConfigVar {
            name,
            value: (!is_flag).then_some(value),
            next_word: None,
            source: Source::PluginStart,
        };
        let var = settings::settle(option, var)?;
        node.plugins.settings().set(var);
    }
    Ok(())
}

/// Sends `init`. On any error the plugin has ended.
async fn init_phase(node: &Arc<Node>, plugin: &Arc<Plugin>) -> Result<(), String> {
    let Some(manifest) = plugin.manifest() else {
        return Err(plugin.death().unwrap_or_default());
    };
    warn(node, plugin, &manifest);
    let options = node.plugins.settings().to_json(&manifest.options);
    let params = json!({
        "options": options,
        "configuration": {
            "lightning-dir": node.config.net_dir,
            "rpc-file": rpc_file_name(node),
            "startup": node.plugins.startup(),
            "network": "regtest",
            "feature_set": node.features().to_init_json(),
        },
    });
    plugin.set_stage(Stage::Init);
    let answer = ask(node, plugin, "init", params, None).await?;
    let answer: Value = serde_json::from_slice(&answer).unwrap_or(Value::Null);
    if let Some(why) = answer.get("result").and_then(|r| r.get("disable")) {
        let why = format!(
            "disabled itself at init: {}",
            why.as_str().map_or_else(|| why.to_string(), Into::into)
        );
        end(node, plugin, Level::Debug, &why);
        return Err(why);
    }
    if let Some(why) = plugin.death() {
        return Err(why);
    }
    plugin.set_stage(Stage::Running);
    node.notify("plugin_started", plugin.about());
    Ok(())
}

/// The socket's path, relative to the node's folder if it is inside.
fn rpc_file_name(node: &Node) -> &Path {
    let file = &node.config.rpc_file;
    file.strip_prefix(&node.config.net_dir).unwrap_or(file)
}

/// Logs what the plugin asks for and will not get.
fn warn(node: &Node, plugin: &Plugin, manifest: &Manifest) {
    for topic in &manifest.subscriptions {
        if topic != "*" && !node.plugins.knows_topic(topic) {
            node.log.unusual(
                &plugin.source(),
                format!("topic '{topic}' is not a known notification topic"),
            );
        }
    }
    for hook in &manifest.hooks {
        if !CALLED_HOOKS.contains(&hook.name.as_str()) {
            node.log.info(
                &plugin.source(),
                format!(
                    "hook {} is accepted, but the embedded node never calls it",
                    hook.name
                ),
            );
        }
    }
}

/// Sends `init` to all that have sent their manifest; returns once each runs or
/// has ended.
pub async fn init_all(node: &Arc<Node>) {
    let mut tasks = tokio::task::JoinSet::new();
    for plugin in node.plugins.all() {
        if plugin.stage() == Stage::NeedsInit {
            let node = node.clone();
            tasks.spawn(async move { init_phase(&node, &plugin).await });
        }
    }
    while tasks.join_next().await.is_some() {}
    node.plugins.end_startup();
}
