//! Plugins of a node: started, listed, stopped.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Node;
use crate::{Error, Result};

/// Describes a plugin to start: an executable, in any language, and its options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plugin {
    path: PathBuf,
    #[serde(default)]
    options: Vec<(String, String)>,
}

impl Plugin {
    /// The plugin at this path. A relative path is made absolute here, since lightningd
    /// would look for it in its own folders.
    pub fn path(path: impl AsRef<Path>) -> Plugin {
        let path = path.as_ref();
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Plugin {
            path,
            options: Vec::new(),
        }
    }

    /// Sets an option that the plugin declares, named as on lightningd's command line
    /// without the dashes.
    #[must_use]
    pub fn option(mut self, name: impl Into<String>, value: impl ToString) -> Plugin {
        self.options.push((name.into(), value.to_string()));
        self
    }

    /// The executable.
    pub fn executable(&self) -> &Path {
        &self.path
    }

    /// Its options, in the order they were given.
    pub fn options(&self) -> &[(String, String)] {
        &self.options
    }
}

/// A plugin as `plugin list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PluginStatus {
    /// The full path of its executable, links resolved.
    pub name: String,
    /// False until it has answered `init`.
    pub active: bool,
    /// Whether it may be started and stopped while the node runs.
    pub dynamic: bool,
}

impl Node {
    /// Starts a plugin: `plugin start`. If it runs already and its file has
    /// changed since, lightningd restarts it.
    ///
    /// # Errors
    /// -3 if the plugin ends or misbehaves before it is up, -32602 if it cannot be
    /// run, or runs already unchanged; with the end of its standard error and a hint.
    pub async fn plugin_start(&self, plugin: &Plugin) -> Result<Vec<PluginStatus>> {
        let watch = self.watch();
        let started = self.watch_start(plugin.executable())?;
        let mut answer: Result<Listing> = self.call("plugin", plugin_start_params(plugin)).await;
        if let Err(error) = &mut answer {
            if let Error::Rpc { message, help, .. } = error {
                *help = started.refused(message);
            }
            // The caller gets the error; in the log it looks like a death.
            let name = plugin.executable().file_name().unwrap_or_default();
            self.excuse_end(&name.to_string_lossy(), watch);
        }
        Ok(answer?.plugins)
    }

    /// Stops a plugin, named by its file name or path: `plugin stop`.
    pub async fn plugin_stop(&self, name: &str) -> Result<()> {
        let watch = self.watch();
        let params = json!({"subcommand": "stop", "plugin": name});
        let answer = self.call::<Value>("plugin", params).await;
        // A plugin that subscribes to `shutdown` ends on its own, which looks like a
        // death.
        let name = Path::new(name).file_name().unwrap_or_default();
        self.excuse_end(&name.to_string_lossy(), watch);
        answer.map(drop)
    }

    /// All plugins, lightningd's own included: `plugin list`.
    pub async fn plugin_list(&self) -> Result<Vec<PluginStatus>> {
        let answer: Listing = self.call("plugin", json!({"subcommand": "list"})).await?;
        Ok(answer.plugins)
    }

    /// True if the plugin of this path is up.
    pub async fn plugin_active(&self, path: &Path) -> Result<bool> {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let listed = self.plugin_list().await?;
        Ok(listed
            .iter()
            .any(|plugin| Path::new(&plugin.name) == path && plugin.active))
    }
}

/// Options go beside `plugin` by name; lightningd refuses cln-rpc's
/// `PluginRequest.options` ("unknown parameter options").
pub(crate) fn plugin_start_params(plugin: &Plugin) -> Value {
    let mut params = Map::new();
    params.insert("subcommand".to_owned(), json!("start"));
    params.insert("plugin".to_owned(), json!(plugin.executable()));
    for (name, value) in plugin.options() {
        params.insert(name.clone(), json!(value));
    }
    Value::Object(params)
}

#[derive(Debug, Deserialize)]
struct Listing {
    plugins: Vec<PluginStatus>,
}
