//! The end of plugins: one that fails or is stopped, and all of them with the node.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::native_line;
use super::plugin::{Plugin, Stage};
use crate::log::Level;
use crate::node::{Ending, Node};

/// How long a plugin that subscribed to `shutdown` may take to exit.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(30);

/// How long one that did not may take to exit after the end of its input, when
/// the node stops.
const EOF_WITHIN: Duration = Duration::from_secs(2);

/// Ends a plugin: kills it, fails the requests it has not answered, removes it and
/// notifies the others.
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
    node.notify("plugin_stopped", plugin.about());
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

/// `plugin stop`: notifies it if it subscribed to `shutdown`, and kills it if it
/// does not exit.
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

/// Ends all plugins with the node: those that subscribed to `shutdown` get it and
/// half a minute, the others see the end of their input; what then still runs is
/// killed. Afterwards no process of a plugin is left.
pub async fn all(node: &Arc<Node>) {
    node.plugins.begin_shutdown();
    let mut tasks = tokio::task::JoinSet::new();
    for plugin in node.plugins.all() {
        let asked = plugin.running() && plugin.subscriptions("shutdown") > 0;
        if asked {
            plugin.send(native_line("shutdown", json!({})).into());
        } else if plugin.stage() == Stage::Running {
            plugin.close_stdin();
        } else {
            end(node, &plugin, Level::Debug, "the node stops");
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
