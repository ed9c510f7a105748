//! listconfigs.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::amount::parse_msat;
use crate::node::Node;
use crate::option_table::{self, Kind};
use crate::options::{self, ConfigVar};
use crate::plugins::manifest::{OptionKind, PluginOption};
use crate::plugins::plugin::Plugin;
use crate::rpc::call::{Call, Stop};
use crate::rpc::error::RpcError;
use crate::rpc::params::{self, opt};

/// `listconfigs`
pub async fn listconfigs(call: &Call) -> Result<Value, Stop> {
    let mut name = None;
    call.params
        .read(vec![opt("config", &mut name, params::string)])?;
    call.done_if_check()?;
    let all = all(&call.node);
    let configs: Map<String, Value> = match name {
        None => all,
        Some(name) => match all.get(&name) {
            Some(config) => [(name.clone(), config.clone())].into_iter().collect(),
            None if option_table::is_known(&name) || find(&call.node, &name).is_some() => {
                Map::new()
            }
            None => {
                return Err(RpcError::bad(
                    "config",
                    "Unknown config option",
                    json!(name).to_string(),
                )
                .into());
            }
        },
    };
    Ok(json!({ "configs": configs }))
}

/// Every option that has a value, was set, or is a plugin's.
fn all(node: &Node) -> Map<String, Value> {
    let mut all = Map::new();
    let vars = &node.config.vars;
    let of = |name: &str| vars.iter().filter(|v| v.name == name).collect::<Vec<_>>();
    for own in option_table::OWN {
        let set = of(own.name);
        let value = |v: &&ConfigVar| typed(own.kind, v.value.as_deref().unwrap_or_default());
        let entry = if own.multi {
            // The values of a multi option are a list, except for the log level.
            if own.name == "log-level" {
                json!({ "value_str": node.config.log.level.name(), "source": source(set.last().copied()) })
            } else {
                let values: Vec<_> = set.iter().map(value).collect();
                let sources: Vec<_> = set.iter().map(|v| v.source.to_string()).collect();
                json!({ key(own.kind, true): values, "sources": sources })
            }
        } else {
            let given = set.last().map(value);
            let Some(value) = given.or_else(|| default_of(node, own.name)) else {
                continue;
            };
            json!({ key(own.kind, false): value, "source": source(set.last().copied()) })
        };
        all.insert(own.name.into(), entry);
    }
    for flag in option_table::OWN_FLAGS {
        let set = of(flag);
        all.insert(
            (*flag).into(),
            json!({ "set": !set.is_empty(), "source": source(set.last().copied()) }),
        );
    }
    for name in &node.config.no_effect {
        let set = of(name);
        let entry = match option_table::NO_EFFECT.iter().find(|o| o.name == name) {
            Some(option) => shown(option, &set),
            // A flag, or a developer's option, which takes a value if there is an `=`.
            None => match set.last().and_then(|v| v.value.as_ref()) {
                Some(value) => json!({ "value_str": value, "source": source(set.last().copied()) }),
                None => json!({ "set": true, "source": source(set.last().copied()) }),
            },
        };
        all.insert(name.clone(), entry);
    }
    for plugin in node.plugins.all() {
        for option in plugin.manifest().iter().flat_map(|m| &m.options) {
            if let Some(entry) = plugin_option(node, &plugin, option) {
                all.insert(option.name.clone(), Value::Object(entry));
            }
        }
    }
    all
}

fn key(kind: Kind, multi: bool) -> &'static str {
    match (kind, multi) {
        (Kind::Str, false) => "value_str",
        (Kind::Int, false) => "value_int",
        (Kind::Bool, false) => "value_bool",
        (Kind::Msat, false) => "value_msat",
        (Kind::Str, true) => "values_str",
        (Kind::Int, true) => "values_int",
        (Kind::Bool, true) => "values_bool",
        (Kind::Msat, true) => "values_msat",
    }
}

fn typed(kind: Kind, text: &str) -> Value {
    match kind {
        Kind::Str => json!(text),
        Kind::Int => text.parse::<i64>().map_or(Value::Null, Value::from),
        Kind::Msat => parse_msat(text).map_or(Value::Null, Value::from),
        Kind::Bool => options::parse_bool(text).map_or(Value::Null, Value::from),
    }
}

fn source(var: Option<&ConfigVar>) -> String {
    var.map_or_else(|| "default".into(), |v| v.source.to_string())
}

/// An option that was set and has no effect.
fn shown(option: &option_table::ValueOption, set: &[&ConfigVar]) -> Value {
    let value = |v: &&ConfigVar| typed(option.kind, v.value.as_deref().unwrap_or_default());
    if option.multi {
        let values: Vec<_> = set.iter().map(value).collect();
        let sources: Vec<_> = set.iter().map(|v| v.source.to_string()).collect();
        json!({ key(option.kind, true): values, "sources": sources })
    } else {
        json!({ key(option.kind, false): set.last().map(value), "source": source(set.last().copied()) })
    }
}

/// The value of an option that was not set.
fn default_of(node: &Node, name: &str) -> Option<Value> {
    Some(match name {
        "alias" => json!(node.alias()),
        "rgb" => json!(node.color()),
        "network" => json!("regtest"),
        "lightning-dir" => json!(node.config.base_dir),
        "rpc-file" => json!("lightning-rpc"),
        "rpc-file-mode" => json!("0600"),
        "pid-file" => json!(node.config.pid_file),
        "log-timestamps" => json!(node.config.log.timestamps),
        "allow-deprecated-apis" => json!(node.config.deprecated_ok),
        "cltv-final" => json!(node.config.cltv_final),
        _ => return None,
    })
}

/// One option of a plugin; `None` if it has no value.
pub(super) fn plugin_option(
    node: &Node,
    plugin: &Plugin,
    option: &PluginOption,
) -> Option<Map<String, Value>> {
    let settings = node.plugins.settings();
    let set = settings.get(option);
    let mut entry = Map::new();
    let kind = match option.kind {
        OptionKind::Int => Kind::Int,
        OptionKind::Bool => Kind::Bool,
        _ => Kind::Str,
    };
    let shown = |var: &&ConfigVar| match option.kind {
        OptionKind::Conceal => json!("..."),
        _ => option.to_json(var.value.as_deref().unwrap_or_default()),
    };
    if option.kind == OptionKind::Flag {
        entry.insert("set".into(), json!(!set.is_empty()));
        entry.insert("source".into(), json!(source(set.last().copied())));
    } else if option.multi {
        entry.insert(key(kind, true).into(), set.iter().map(shown).collect());
        entry.insert(
            "sources".into(),
            set.iter().map(|v| json!(v.source.to_string())).collect(),
        );
    } else {
        let value = match (set.last(), &option.default) {
            (Some(var), _) => shown(var),
            (None, Some(default)) => option.to_json(default),
            (None, None) => return None,
        };
        entry.insert(key(kind, false).into(), value);
        entry.insert("source".into(), json!(source(set.last().copied())));
    }
    entry.insert("plugin".into(), json!(plugin.path));
    if option.dynamic {
        entry.insert("dynamic".into(), json!(true));
    }
    Some(entry)
}

/// A plugin's option by name, and the plugin.
pub(super) fn find(node: &Node, name: &str) -> Option<(Arc<Plugin>, PluginOption)> {
    node.plugins.all().into_iter().find_map(|plugin| {
        let option = plugin
            .manifest()?
            .options
            .iter()
            .find(|o| o.name == name)?
            .clone();
        Some((plugin, option))
    })
}
