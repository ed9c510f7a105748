//! The values of plugins' options: from the command line, the configuration files,
//! `plugin start`, `setconfig`.

use serde_json::{Map, Value};

use super::manifest::{OptionKind, PluginOption};
use crate::options::{ConfigVar, Source};

/// Values in the order in which they were set: the last one counts.
#[derive(Debug, Default)]
pub struct Settings {
    vars: Vec<ConfigVar>,
}

impl Settings {
    /// Adds a value, which must be valid for the option.
    pub fn set(&mut self, var: ConfigVar) {
        self.vars.push(var);
    }

    /// The values of an option; empty if it was not set.
    pub fn get(&self, option: &PluginOption) -> Vec<&ConfigVar> {
        let all: Vec<_> = self.vars.iter().filter(|v| v.name == option.name).collect();
        // A value from `plugin start` replaces those before it.
        let from = all
            .iter()
            .position(|v| v.source == Source::PluginStart)
            .unwrap_or(0);
        if option.multi {
            all[from..].to_vec()
        } else {
            all.last().into_iter().copied().collect()
        }
    }

    /// Replaces every value of an option.
    pub fn replace(&mut self, name: &str, with: Vec<ConfigVar>) {
        self.vars.retain(|v| v.name != name);
        self.vars.extend(with);
    }

    /// Removes the values that `plugin start` set for these options.
    pub fn forget_start(&mut self, options: &[PluginOption]) {
        self.vars.retain(|v| {
            v.source != Source::PluginStart || !options.iter().any(|o| o.name == v.name)
        });
    }

    /// The `options` of a plugin's `init`.
    pub fn to_json(&self, options: &[PluginOption]) -> Map<String, Value> {
        let mut map = Map::new();
        for option in options {
            let set = self.get(option);
            let value = |text: Option<&str>| option.to_json(text.unwrap_or_default());
            let json = if set.is_empty() {
                match &option.default {
                    None => continue,
                    Some(default) if option.multi => Value::Array(vec![value(Some(default))]),
                    Some(default) => value(Some(default)),
                }
            } else if option.multi {
                set.iter().map(|v| value(v.value.as_deref())).collect()
            } else {
                value(set[0].value.as_deref())
            };
            map.insert(option.name.clone(), json);
        }
        map
    }
}

/// Checks a value that was given for an option.
///
/// # Errors
/// What is wrong with it, in lightningd's words.
pub fn settle(option: &PluginOption, mut var: ConfigVar) -> Result<ConfigVar, String> {
    if option.kind == OptionKind::Flag {
        var.settle_flag()?;
    } else {
        let value = var.settle_argument()?.to_owned();
        option.check(&value).map_err(|what| var.complain(what))?;
    }
    Ok(var)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn option(name: &str, kind: OptionKind, multi: bool, default: Option<&str>) -> PluginOption {
        PluginOption {
            name: name.into(),
            kind,
            multi,
            dynamic: false,
            default: default.map(Into::into),
        }
    }

    fn var(name: &str, value: Option<&str>, source: Source) -> ConfigVar {
        ConfigVar {
            name: name.into(),
            value: value.map(Into::into),
            next_word: None,
            source,
        }
    }

    #[test]
    fn values_for_init() {
        let options = [
            option("s", OptionKind::Str, false, Some("d")),
            option("n", OptionKind::Int, true, Some("1")),
            option("f", OptionKind::Flag, false, None),
            option("b", OptionKind::Bool, false, Some("true")),
        ];
        let mut settings = Settings::default();
        assert_eq!(
            json!(settings.to_json(&options)),
            json!({"s": "d", "n": [1], "b": true})
        );
        let line = |name: &str, value| var(name, value, Source::CommandLine);
        settings.set(line("s", Some("x")));
        settings.set(line("s", Some("y")));
        settings.set(line("n", Some("2")));
        settings.set(line("n", Some("3")));
        settings.set(line("f", None));
        settings.set(line("b", Some("off")));
        assert_eq!(
            json!(settings.to_json(&options)),
            json!({"s": "y", "n": [2, 3], "f": true, "b": false})
        );
        settings.set(var("s", Some("z"), Source::PluginStart));
        assert_eq!(settings.to_json(&options)["s"], "z");
        settings.forget_start(&options);
        assert_eq!(settings.to_json(&options)["s"], "y");
    }

    #[test]
    fn a_wrong_value_is_refused() {
        let int = option("n", OptionKind::Int, false, None);
        let error = settle(&int, var("n", Some("x"), Source::CommandLine)).unwrap_err();
        assert_eq!(error, "--n=x: 'x' is not a number");
        let flag = option("f", OptionKind::Flag, false, None);
        let error = settle(&flag, var("f", Some("1"), Source::CommandLine)).unwrap_err();
        assert_eq!(error, "--f=1: doesn't allow an argument");
    }
}
