//! setconfig: changes an option that a plugin declares dynamic. It asks the plugin and
//! keeps the value in `config.setconfig`, which the configuration includes.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::listconfigs::{find, plugin_option};
use crate::node::Node;
use crate::option_table;
use crate::options::{self, ConfigVar, Source};
use crate::plugins::manifest::{OptionKind, PluginOption};
use crate::plugins::plugin::Plugin;
use crate::rpc::call::{Call, Stop};
use crate::rpc::error::{LIGHTNINGD, RpcError};
use crate::rpc::params::{self, Token, opt, req};

/// `setconfig`
pub async fn setconfig(call: &Call) -> Result<Value, Stop> {
    let (mut found, mut val, mut transient) = (None, None, None);
    let node = &call.node;
    call.params.read(vec![
        req("config", &mut found, |name, token: Token<'_>| {
            let wanted = token.text();
            let bad = |what| RpcError::bad(name, what, token.0);
            match find(node, &wanted) {
                Some((plugin, option)) if option.dynamic => Ok((plugin, option)),
                None if !option_table::is_known(&wanted) => Err(bad("Unknown config option")),
                _ => Err(bad("Not a dynamic config option")),
            }
        }),
        opt("val", &mut val, |_, token| Ok(token.value())),
        opt("transient", &mut transient, params::boolean),
    ])?;
    let Some((plugin, option)) = found else {
        return Err(RpcError::params("missing required parameter: config").into());
    };
    let transient = transient.unwrap_or(false);
    let values = values(&option, val)?;
    let files = Files::of(node, transient);
    if let Some(files) = &files {
        files.check(node, &option).map_err(RpcError::params)?;
    }
    ask(call, &plugin, &option, &values).await?;
    call.done_if_check()?;

    let kept = match files {
        Some(files) => files
            .keep(node, &option, &values)
            .map_err(|e| RpcError::new(LIGHTNINGD, e))?,
        None => values.iter().map(|_| Source::Transient).collect(),
    };
    let vars = values
        .into_iter()
        .zip(kept)
        .map(|(value, source)| ConfigVar {
            name: option.name.clone(),
            value,
            next_word: None,
            source,
        })
        .collect();
    node.plugins.settings().replace(&option.name, vars);
    let mut config = Map::new();
    config.insert("config".into(), json!(option.name));
    config.extend(plugin_option(node, &plugin, &option).unwrap_or_default());
    Ok(json!({ "config": config }))
}

/// The values to set: one for each line of the configuration, `None` for an
/// option that takes none.
fn values(option: &PluginOption, val: Option<Value>) -> Result<Vec<Option<String>>, RpcError> {
    let name = &option.name;
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), Into::into);
    let wrong = |what: String| Err(RpcError::params(what));
    let values = match (option.multi, &val) {
        (true, None) => vec![],
        (true, Some(Value::Array(list))) => list.iter().map(|v| Some(text(v))).collect(),
        (true, Some(_)) => return wrong(format!("{name} is a multi option: val must be an array")),
        (false, Some(Value::Array(_))) => {
            return wrong(format!(
                "{name} is not a multi option: val must not be an array"
            ));
        }
        (false, val) => match (option.kind == OptionKind::Flag, val) {
            (true, None) => vec![None],
            (true, Some(_)) => return wrong(format!("{name} does not take a value")),
            (false, None) => return wrong(format!("{name} requires a value")),
            (false, Some(val)) => vec![Some(text(val))],
        },
    };
    for value in values.iter().flatten() {
        // lightningd crashes on an invalid number.
        option
            .check(value)
            .map_err(|what| RpcError::params(format!("Error setting {name}: {what}")))?;
        if value.contains(['\n', '\r']) {
            return wrong(format!("Error setting {name}: a value is one line"));
        }
    }
    Ok(values)
}

/// Asks the plugin to accept the values, or for `check` whether it would.
async fn ask(
    call: &Call,
    plugin: &Plugin,
    option: &PluginOption,
    values: &[Option<String>],
) -> Result<(), Stop> {
    let mut params = Map::new();
    let method = if call.check {
        if !plugin.manifest().is_some_and(|m| m.can_check) {
            return Err(Stop::Checked);
        }
        params.insert("command_to_check".into(), json!("setconfig"));
        "check"
    } else {
        "setconfig"
    };
    params.insert("config".into(), json!(option.name));
    if option.multi {
        params.insert("val".into(), json!(values));
    } else if let [Some(value)] = values {
        params.insert("val".into(), json!(value));
    }
    let malformed = || {
        RpcError::new(
            LIGHTNINGD,
            format!("Malformed setvalue {} plugin return", option.name),
        )
    };
    let answer = call
        .node
        .plugins
        .request(plugin, method, Value::Object(params), Some(&call.id))
        .await
        .map_err(|_| RpcError::terminated())?;
    let answer: Value = serde_json::from_slice(&answer).map_err(|_| malformed())?;
    if let Some(error) = answer.get("error") {
        let code = error
            .get("code")
            .and_then(Value::as_i64)
            .and_then(|c| i32::try_from(c).ok());
        let message = error.get("message").and_then(Value::as_str);
        return Err(match (code, message) {
            (Some(code), Some(message)) => RpcError::new(code, message).into(),
            _ => malformed().into(),
        });
    }
    match answer.get("result") {
        Some(_) => Ok(()),
        None => Err(malformed().into()),
    }
}

/// The node's configuration file, and the one that `setconfig` writes, which the first
/// includes.
struct Files {
    base: PathBuf,
    set: PathBuf,
}

impl Files {
    fn of(node: &Node, transient: bool) -> Option<Self> {
        let base = node
            .config
            .conf
            .clone()
            .unwrap_or_else(|| node.config.net_dir.join("config"));
        let mut set = base.clone().into_os_string();
        set.push(".setconfig");
        (!transient).then(|| Self {
            base,
            set: set.into(),
        })
    }

    /// The name of the file that `setconfig` writes, which is beside the other.
    fn set_name(&self) -> String {
        self.set
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// Checks that every line to replace is still as it was read.
    fn check(&self, node: &Node, option: &PluginOption) -> Result<(), String> {
        let settings = node.plugins.settings();
        for var in settings.get(option) {
            let Source::File(path, number) = &var.source else {
                continue;
            };
            let lines = read_lines(path)?;
            let Some(line) = lines.get(number - 1) else {
                return Err(format!(
                    "Configfile {} no longer has {number} lines!",
                    path.display()
                ));
            };
            let expected = line_of(&option.name, var.value.as_deref());
            if line.trim() != expected {
                return Err(format!(
                    "Configfile {} line {number} changed from {expected} to {line}!",
                    path.display()
                ));
            }
        }
        Ok(())
    }

    /// Writes the values and comments out those they replace; gives the place of each.
    fn keep(
        &self,
        node: &Node,
        option: &PluginOption,
        values: &[Option<String>],
    ) -> Result<Vec<Source>, String> {
        let mut set = if self.set.exists() {
            read_lines(&self.set)?
        } else {
            vec!["# Written by setconfig; edit it only while the node is stopped.".into()]
        };
        let mut free = Vec::new();
        let settings = node.plugins.settings();
        for var in settings.get(option) {
            let Source::File(path, number) = &var.source else {
                continue;
            };
            if *path == self.set {
                free.push(*number);
            } else {
                self.comment_out(path, *number)?;
            }
        }
        let mut sources = Vec::new();
        let mut free = free.into_iter();
        for value in values {
            let line = line_of(&option.name, value.as_deref());
            let number = match free.next() {
                Some(number) if number <= set.len() => {
                    set[number - 1] = line;
                    number
                }
                _ => {
                    set.push(line);
                    set.len()
                }
            };
            sources.push(Source::File(self.set.clone(), number));
        }
        for number in free {
            if let Some(line) = set.get_mut(number - 1) {
                *line = format!("# {line}");
            }
        }
        write_lines(&self.set, &set)?;
        self.include()?;
        Ok(sources)
    }

    fn comment_out(&self, path: &PathBuf, number: usize) -> Result<(), String> {
        let mut lines = read_lines(path)?;
        if let Some(line) = lines.get_mut(number - 1) {
            let set = self.set_name();
            *line = format!("# setconfig commented out (see {set}): {line}");
        }
        write_lines(path, &lines)
    }

    /// Makes the node's configuration file include the one that `setconfig` writes.
    fn include(&self) -> Result<(), String> {
        let mut lines = if self.base.exists() {
            read_lines(&self.base)?
        } else {
            vec![]
        };
        let include = format!("include {}", self.set_name());
        if lines.iter().any(|line| line.trim() == include) {
            return Ok(());
        }
        lines.push("# Inserted by setconfig".into());
        lines.push(include);
        write_lines(&self.base, &lines)
    }
}

fn line_of(name: &str, value: Option<&str>) -> String {
    match value {
        Some(value) => format!("{name}={value}"),
        None => name.to_owned(),
    }
}

fn read_lines(path: &PathBuf) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        format!(
            "Could not load configfile {}: {}",
            path.display(),
            options::os_error(&e)
        )
    })?;
    Ok(text.lines().map(Into::into).collect())
}

/// Replaces a file with a new one of the same mode (0600 if there was none).
fn write_lines(path: &PathBuf, lines: &[String]) -> Result<(), String> {
    use std::io::Write;
    let fail = |e: std::io::Error| {
        format!(
            "Cannot write to config file {}: {}",
            path.display(),
            options::os_error(&e)
        )
    };
    let dir = path.parent().unwrap_or(std::path::Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(fail)?;
    for line in lines {
        writeln!(file, "{line}").map_err(fail)?;
    }
    if let Ok(meta) = std::fs::metadata(path) {
        file.as_file()
            .set_permissions(meta.permissions())
            .map_err(fail)?;
    }
    file.persist(path).map_err(|e| fail(e.error))?;
    Ok(())
}
