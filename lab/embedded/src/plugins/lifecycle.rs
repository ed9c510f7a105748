//! From a file to a running plugin, and to its end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::fingerprint::Fingerprint;
use super::manifest::{CALLED_HOOKS, Manifest, Refusal};
use super::process::{Plugin, Stage, Terminated};
use super::{files, hooks, native_line, settings};
use crate::log::Level;
use crate::node::{Ending, Node};
use crate::option_table;
use crate::options::{ConfigVar, Source, os_error};
use crate::rpc::commands;

/// How long a plugin may take to answer `getmanifest`, and again `init`.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// How long a plugin that asked for `shutdown` may take to go.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(30);

/// How long one that did not may take to go after the end of its input, when
/// the node ends.
const EOF_WITHIN: Duration = Duration::from_secs(2);

/// Starts what the configuration names and reads all manifests; then every
/// option is known.
///
/// # Errors
/// An option that nobody knows or that has a wrong value; a plugin that cannot
/// be started at all.
pub async fn start_all(node: &Arc<Node>) -> Result<(), String> {
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
    // A plugin that fails is gone, and said so; the node starts without it.
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

/// Starts the process of a plugin that does not run yet, or whose file is no
/// longer what runs. `None` when it runs as it is.
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
    let plugin = Plugin::spawn(node, path, Fingerprint::of(path), important)?;
    node.plugins.add(plugin.clone());
    Ok(Some(plugin))
}

/// Why `plugin start` did not work.
#[derive(Debug)]
pub enum StartError {
    /// It runs already, from the same file.
    AlreadyRuns,
    /// What became of it.
    Failed(String),
}

/// Starts one plugin while the node runs, with options of its own.
///
/// # Errors
/// What became of it.
pub async fn start(
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
/// runs or is gone.
///
/// # Errors
/// One of the files cannot be started at all.
pub async fn start_many(node: &Arc<Node>, files: Vec<PathBuf>, caller: &str) -> Result<(), String> {
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
///
/// # Errors
/// lightningd's words.
pub async fn start_dir(node: &Arc<Node>, dir: &Path, caller: &str) -> Result<(), String> {
    let files = files::executables(dir).map_err(|e| {
        format!(
            "Failed to open plugin-dir {}: {}",
            dir.display(),
            os_error(&e)
        )
    })?;
    start_many(node, files, caller).await
}

/// `plugin rescan`.
///
/// # Errors
/// One of the files cannot be started at all.
pub async fn rescan(node: &Arc<Node>, caller: &str) -> Result<(), String> {
    start_many(node, files::default_dir(node), caller).await
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

/// Sends a request and waits for the answer as long as a plugin on its way up
/// may take.
async fn ask(
    node: &Arc<Node>,
    plugin: &Arc<Plugin>,
    method: &str,
    params: Value,
    caller: Option<&str>,
) -> Result<Vec<u8>, String> {
    match tokio::time::timeout(ANSWER_WITHIN, plugin.request(node, method, params, caller)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Terminated)) => Err(plugin.ended().await),
        Err(_) => {
            let why = format!("timed out {}", plugin.stage().words());
            end(node, plugin, Level::Unusual, &why);
            Err(why)
        }
    }
}

/// Asks for the manifest and takes it up. On any error the plugin is gone.
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

/// A name is one plugin's, or lightningd's.
fn check_names(node: &Node, plugin: &Plugin, manifest: &Manifest) -> Result<(), String> {
    for method in &manifest.methods {
        let taken_by = if commands::is_builtin(&method.name) {
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

/// Takes up the options of `plugin start PATH name=value`.
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
        let is_flag = option.kind == super::manifest::OptionKind::Flag;
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

/// Sends `init`. On any error the plugin is gone.
async fn init_phase(node: &Arc<Node>, plugin: &Arc<Plugin>) -> Result<(), String> {
    let Some(manifest) = plugin.manifest() else {
        return Err(plugin.death().unwrap_or_default());
    };
    warn_of(node, plugin, &manifest);
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
    node.notify("plugin_started", about(plugin));
    Ok(())
}

/// The socket's name, relative to the node's folder where it is in it.
fn rpc_file_name(node: &Node) -> &Path {
    let file = &node.config.rpc_file;
    file.strip_prefix(&node.config.net_dir).unwrap_or(file)
}

/// Says what the plugin asked for and will not get.
fn warn_of(node: &Node, plugin: &Plugin, manifest: &Manifest) {
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

/// The body of `plugin_started` and `plugin_stopped`.
fn about(plugin: &Plugin) -> Value {
    let manifest = plugin.manifest();
    let methods: Vec<_> = manifest
        .iter()
        .flat_map(|m| m.methods.iter().map(|m| m.name.as_str()))
        .collect();
    json!({ "plugin_name": plugin.name, "plugin_path": plugin.path, "methods": methods })
}

/// Sends `init` to all that have given their manifest; returns once each runs
/// or is gone.
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

/// Ends a plugin: kills it, fails what it owed, forgets it, tells the others.
pub fn end(node: &Arc<Node>, plugin: &Arc<Plugin>, level: Level, why: &str) {
    if !plugin.mark_dead(why) {
        return;
    }
    node.log
        .log(level, &plugin.source(), format!("Killing plugin: {why}"));
    plugin.destroy();
    node.plugins.remove(plugin);
    if let Some(manifest) = plugin.manifest() {
        node.plugins.settings().forget_start(&manifest.options);
    }
    if node.plugins.shutting_down() {
        return;
    }
    node.notify("plugin_stopped", about(plugin));
    if plugin.is_important() {
        node.log.broken(
            &plugin.source(),
            "Plugin marked as important, shutting down lightningd!",
        );
        let node = node.clone();
        tokio::spawn(async move {
            node.stop().await;
            node.advance_ending(Ending::Exit(1));
        });
    }
}

/// `plugin stop`: tells it, if it asked for `shutdown`, and kills it in the end.
pub async fn stop(node: &Arc<Node>, plugin: &Arc<Plugin>) {
    plugin.important.store(false, Ordering::Relaxed);
    if plugin.running() && plugin.subscriptions("shutdown") > 0 {
        plugin.send(native_line("shutdown", json!({})).into());
        if tokio::time::timeout(SHUTDOWN_WITHIN, plugin.ended())
            .await
            .is_ok()
        {
            return;
        }
        node.log
            .unusual(&plugin.source(), "Timeout on shutdown: killing anyway");
    }
    end(node, plugin, Level::Info, "stopped by lightningd via RPC");
}

/// Ends all plugins, for good: those that asked for `shutdown` get it and half
/// a minute; the others see the end of their input; what then still runs is
/// killed. No process of a plugin is left afterwards.
pub async fn shutdown(node: &Arc<Node>) {
    node.plugins.begin_shutdown();
    let mut tasks = tokio::task::JoinSet::new();
    for plugin in node.plugins.all() {
        let asked = plugin.running() && plugin.subscriptions("shutdown") > 0;
        if asked {
            plugin.send(native_line("shutdown", json!({})).into());
        } else if plugin.stage() == Stage::Running {
            plugin.close_stdin();
        } else {
            end(node, &plugin, Level::Debug, "the node ends");
        }
        let node = node.clone();
        tasks.spawn(async move {
            let within = if asked { SHUTDOWN_WITHIN } else { EOF_WITHIN };
            if tokio::time::timeout(within, plugin.gone()).await.is_err() {
                node.log.debug(
                    "lightningd",
                    format!(
                        "{}: failed to self-terminate in time, killing.",
                        plugin.name
                    ),
                );
                end(
                    &node,
                    &plugin,
                    Level::Debug,
                    "failed to self-terminate in time",
                );
                plugin.gone().await;
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}
