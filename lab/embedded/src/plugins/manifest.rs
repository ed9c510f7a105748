//! A plugin's answer to `getmanifest`, checked as lightningd does, with its words.

use serde_json::{Map, Value};

use crate::features::FeatureSet;
use crate::options::parse_bool;
use bitcoin_hashes::hex::FromHex;
use cln_topics::Topic;

/// The hooks of lightningd.
pub const HOOKS: &[&str] = &[
    "commitment_revocation",
    "custommsg",
    "db_write",
    "htlc_accepted",
    "invoice_payment",
    "onion_message_recv",
    "onion_message_recv_secret",
    "openchannel",
    "openchannel2",
    "openchannel2_changed",
    "openchannel2_sign",
    "peer_connected",
    "rbf_channel",
    "recover",
    "rpc_command",
];

/// The hooks that the embedded node calls.
pub const CALLED_HOOKS: &[&str] = &["peer_connected", "rpc_command"];

/// The type of a plugin's option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionKind {
    /// Takes no value.
    Flag,
    Bool,
    Int,
    Str,
    /// A string that `listconfigs` does not show.
    Conceal,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginOption {
    /// Without `--`.
    pub name: String,
    pub kind: OptionKind,
    /// Whether it may be given more than once.
    pub multi: bool,
    /// Whether `setconfig` may change it.
    pub dynamic: bool,
    /// Checked against `kind`.
    pub default: Option<String>,
}

impl PluginOption {
    /// Checks a value; an error has lightningd's words.
    pub fn check(&self, value: &str) -> Result<(), String> {
        match self.kind {
            OptionKind::Int if value.parse::<i64>().is_err() => {
                Err(format!("'{value}' is not a number"))
            }
            OptionKind::Bool if parse_bool(value).is_none() => {
                Err(format!("Invalid argument '{value}'"))
            }
            _ => Ok(()),
        }
    }

    /// A checked value as in a plugin's `init`.
    pub fn to_json(&self, value: &str) -> Value {
        match self.kind {
            OptionKind::Int => value.parse::<i64>().map_or(Value::Null, Value::from),
            OptionKind::Bool => parse_bool(value).map_or(Value::Null, Value::from),
            OptionKind::Flag => Value::Bool(true),
            OptionKind::Str | OptionKind::Conceal => Value::from(value),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    pub name: String,
    /// Its parameters, for `help`.
    pub usage: String,
    pub deprecated: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    pub name: String,
    /// Plugins that must be asked after this one.
    pub before: Vec<String>,
    /// Plugins that must be asked before this one.
    pub after: Vec<String>,
    /// For `rpc_command`: only these methods; empty for all.
    pub filters: Vec<String>,
}

/// What a plugin declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Whether it may be started and stopped while the node runs.
    pub dynamic: bool,
    pub options: Vec<PluginOption>,
    pub methods: Vec<Method>,
    /// May contain `*`.
    pub subscriptions: Vec<String>,
    /// The topics it sends.
    pub topics: Vec<String>,
    pub hooks: Vec<Hook>,
    pub features: FeatureSet,
    /// Whether it supports the `check` command.
    pub can_check: bool,
}

/// Why a plugin must not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It disabled itself, for this reason.
    Disabled(String),
    /// Its manifest is wrong, in lightningd's words.
    Wrong(String),
}

fn wrong<T>(what: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Wrong(what.into()))
}

impl Manifest {
    /// Reads the answer to `getmanifest`.
    ///
    /// # Errors
    /// Why the plugin must not run; `quoted` is the answer as text for the error
    /// about a missing `result`.
    pub fn read(answer: &Value, quoted: &str) -> Result<Self, Refusal> {
        let Some(result) = answer.get("result").and_then(Value::as_object) else {
            return wrong(format!("Invalid/missing result tok in '{quoted}'"));
        };
        if let Some(reason) = result.get("disable") {
            return Err(Refusal::Disabled(text(reason)));
        }
        let dynamic = flag(result, "getmanifest", "dynamic")?;
        let features = features(result, dynamic)?;
        if let Some(messages) = result.get("custommessages") {
            custom_messages(messages)?;
        }
        match result.get("nonnumericids") {
            None => {}
            Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => return wrong("Plugin does not allow nonnumericids"),
            Some(other) => return wrong(format!("Invalid nonnumericids: {other}")),
        }
        let can_check = match result.get("cancheck") {
            None => false,
            Some(Value::Bool(can)) => *can,
            Some(other) => return wrong(format!("Invalid cancheck: {other}")),
        };
        Ok(Self {
            dynamic,
            topics: topics(result)?,
            options: options(result)?,
            methods: methods(result)?,
            subscriptions: subscriptions(result)?,
            hooks: hooks(result)?,
            features,
            can_check,
        })
    }
}

/// A string as it is, anything else as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

fn flag(from: &Map<String, Value>, of: &str, name: &str) -> Result<bool, Refusal> {
    match from.get(name) {
        None => Ok(false),
        Some(Value::Bool(on)) => Ok(*on),
        Some(other) => wrong(format!("{of}: invalid \"{name}\" field {}", text(other))),
    }
}

/// The array `result.NAME`, empty if it is missing.
fn array<'a>(result: &'a Map<String, Value>, name: &str) -> Result<&'a [Value], Refusal> {
    match result.get(name) {
        None => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => wrong(format!("\"result.{name}\" is not an array")),
    }
}

fn features(result: &Map<String, Value>, dynamic: bool) -> Result<FeatureSet, Refusal> {
    let mut set = FeatureSet::empty();
    let Some(given) = result.get("featurebits") else {
        return Ok(set);
    };
    for (name, bits) in [
        ("init", &mut set.init),
        ("node", &mut set.node),
        ("channel", &mut set.channel),
        ("invoice", &mut set.invoice),
    ] {
        let Some(value) = given.get(name) else {
            continue;
        };
        match value.as_str().map(Vec::from_hex) {
            Some(Ok(bytes)) => *bits = bytes,
            _ => {
                return wrong(format!(
                    "Featurebits returned by plugin is not a valid hexadecimal string: {}",
                    text(value)
                ));
            }
        }
    }
    if dynamic && set != FeatureSet::empty() {
        return wrong(format!(
            "Custom featurebits only allows for non-dynamic plugins: dynamic=1, featurebits={given}"
        ));
    }
    Ok(set)
}

fn custom_messages(messages: &Value) -> Result<(), Refusal> {
    let Some(list) = messages.as_array() else {
        return wrong(format!("custommessages must be array, not '{messages}'"));
    };
    for (i, message) in list.iter().enumerate() {
        if message.as_u64().is_none_or(|n| n > 65535) {
            return wrong(format!("custommessages {i} not a u16: '{message}'"));
        }
    }
    Ok(())
}

fn topics(result: &Map<String, Value>) -> Result<Vec<String>, Refusal> {
    let mut topics = Vec::new();
    for (i, item) in array(result, "notifications")?.iter().enumerate() {
        if !item.is_object() {
            return wrong(format!("\"result.notifications[{i}]\" is not an object"));
        }
        let Some(name) = item.get("method").and_then(Value::as_str) else {
            return wrong(format!(
                "\"result.notifications[{i}].name\" missing or not a string."
            ));
        };
        if is_native(name) {
            return wrong(format!(
                "plugin attempted to register a native notification topic \"{name}\", \
                 these may however only be sent by lightningd"
            ));
        }
        topics.push(name.to_owned());
    }
    Ok(topics)
}

fn options(result: &Map<String, Value>) -> Result<Vec<PluginOption>, Refusal> {
    if !result.contains_key("options") {
        return wrong("\"result.options\" was not found in the manifest");
    }
    let mut options: Vec<PluginOption> = Vec::new();
    for item in array(result, "options")? {
        let option = option(item)?;
        if options.iter().any(|o| o.name == option.name) {
            return wrong(format!("Option \"{}\" already registered", option.name));
        }
        options.push(option);
    }
    Ok(options)
}

fn option(item: &Value) -> Result<PluginOption, Refusal> {
    let empty = Map::new();
    let given = item.as_object().unwrap_or(&empty);
    let (Some(name), Some(kind), Some(_)) = (
        given.get("name").map(text),
        given.get("type").map(text),
        given.get("description"),
    ) else {
        return wrong("An option is missing either \"name\", \"description\" or \"type\"");
    };
    let sane = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if !name.bytes().all(sane) {
        return wrong("Option \"name\" must be lowercase alphanumeric, plus _ or -'");
    }
    let dashed = format!("--{name}");
    let multi = flag(given, &dashed, "multi")?;
    let dynamic = flag(given, &dashed, "dynamic")?;
    let kind = match kind.as_str() {
        "flag" => OptionKind::Flag,
        "string" => OptionKind::Str,
        "string-conceal" => OptionKind::Conceal,
        "int" => OptionKind::Int,
        "bool" => OptionKind::Bool,
        _ => {
            return wrong("Only \"string\", \"int\", \"bool\", and \"flag\" options are supported");
        }
    };
    match kind {
        OptionKind::Flag if multi => return wrong("flag type cannot be multi"),
        OptionKind::Bool if multi => return wrong("bool type cannot be multi"),
        _ => {}
    }
    let mut option = PluginOption {
        name,
        kind,
        multi,
        dynamic,
        default: None,
    };
    if let Some(given) = given.get("default").filter(|d| !d.is_null()) {
        option.default = default(&option, given)?;
    }
    Ok(option)
}

/// The default of an option, `None` for that of a flag.
fn default(option: &PluginOption, given: &Value) -> Result<Option<String>, Refusal> {
    if option.kind == OptionKind::Flag {
        return if given == &Value::Bool(false) {
            Ok(None)
        } else {
            wrong(format!(
                "--{} type flag default must be 'false' not {given}",
                option.name
            ))
        };
    }
    let default = text(given);
    match option.check(&default) {
        Ok(()) => Ok(Some(default)),
        Err(what) => wrong(format!("Invalid default '{default}': {what}")),
    }
}

fn methods(result: &Map<String, Value>) -> Result<Vec<Method>, Refusal> {
    if !result.contains_key("rpcmethods") {
        return wrong("\"result.rpcmethods\" missing");
    }
    let mut methods = Vec::new();
    for item in array(result, "rpcmethods")? {
        let Some(name) = item.get("name").and_then(Value::as_str) else {
            return wrong(format!("rpcmethod does not have a string \"name\": {item}"));
        };
        let usage = match item.get("usage") {
            None => return wrong("\"usage\" not provided by plugin"),
            Some(Value::String(usage)) => usage.clone(),
            Some(_) => return wrong(format!("\"usage\" is not a string: {item}")),
        };
        let deprecated = match item.get("deprecated") {
            None | Some(Value::Bool(false)) => false,
            Some(Value::Bool(true) | Value::Array(_)) => true,
            Some(other) => {
                return wrong(format!(
                    "\"deprecated\" must be an array of 1 or 2 elements, not {other}"
                ));
            }
        };
        methods.push(Method {
            name: name.to_owned(),
            usage,
            deprecated,
        });
    }
    Ok(methods)
}

fn subscriptions(result: &Map<String, Value>) -> Result<Vec<String>, Refusal> {
    let mut subscriptions = Vec::new();
    for (i, item) in array(result, "subscriptions")?.iter().enumerate() {
        match item.as_str() {
            Some(topic) => subscriptions.push(topic.to_owned()),
            None => {
                return wrong(format!(
                    "result.subscriptions[{i}] is not a string: '{item}'"
                ));
            }
        }
    }
    Ok(subscriptions)
}

fn hooks(result: &Map<String, Value>) -> Result<Vec<Hook>, Refusal> {
    let list = result.get("hooks").and_then(Value::as_array);
    let mut hooks: Vec<Hook> = Vec::new();
    for item in list.into_iter().flatten() {
        let names = |key: &str| -> Vec<String> {
            let list = item.get(key).and_then(Value::as_array);
            list.into_iter().flatten().map(text).collect()
        };
        let name = if item.is_object() {
            match item.get("name") {
                Some(name) => text(name),
                None => return wrong(format!("no name in hook obj {item}")),
            }
        } else {
            text(item)
        };
        if !HOOKS.contains(&name.as_str()) {
            return wrong(format!("Unknown hook name {name}"));
        }
        if hooks.iter().any(|h| h.name == name) {
            return wrong(format!("Registered for hook {name} multiple times"));
        }
        if item.get("filters").is_some() && !matches!(name.as_str(), "rpc_command" | "custommsg") {
            return wrong(format!("Hook {name} does not allow filters"));
        }
        hooks.push(Hook {
            before: names("before"),
            after: names("after"),
            filters: names("filters"),
            name,
        });
    }
    Ok(hooks)
}

/// Whether lightningd itself sends a topic; a plugin may not.
fn is_native(topic: &str) -> bool {
    Topic::find(topic).is_some_and(Topic::is_native)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(result: Value) -> Result<Manifest, Refusal> {
        Manifest::read(&json!({ "result": result }), "…")
    }

    #[test]
    fn native_topics() {
        for topic in ["connect", "plugin_stopped", "shutdown"] {
            assert!(is_native(topic), "{topic}");
        }
        for topic in ["pay_part_start", "mine"] {
            assert!(!is_native(topic), "{topic}");
        }
    }

    #[test]
    fn a_full_manifest() {
        let manifest = read(json!({
            "dynamic": true,
            "options": [
                {"name": "a", "type": "string", "default": "x", "description": ""},
                {"name": "b", "type": "int", "default": 5, "description": "", "multi": true},
                {"name": "c", "type": "bool", "default": "true", "description": "", "dynamic": true},
                {"name": "d", "type": "flag", "default": false, "description": ""},
                {"name": "e", "type": "string", "default": null, "description": ""},
            ],
            "rpcmethods": [{"name": "hi", "usage": "[who]", "description": "x"}],
            "subscriptions": ["connect", "*"],
            "notifications": [{"method": "mine"}],
            "hooks": ["rpc_command", {"name": "peer_connected", "before": ["p"]}],
            "nonnumericids": true,
        }))
        .unwrap();
        let defaults: Vec<_> = manifest
            .options
            .iter()
            .map(|o| o.default.as_deref())
            .collect();
        assert_eq!(defaults, [Some("x"), Some("5"), Some("true"), None, None]);
        assert_eq!(manifest.options[1].to_json("7"), json!(7));
        assert_eq!(manifest.hooks[1].before, ["p"]);
        assert!(manifest.dynamic && !manifest.can_check);
    }

    #[test]
    fn errors_have_lightningds_words() {
        let with = |key: &str, value: Value| {
            let mut base = json!({"options": [], "rpcmethods": []});
            base[key] = value;
            read(base).unwrap_err()
        };
        for (key, value, want) in [
            (
                "dynamic",
                json!(3),
                "getmanifest: invalid \"dynamic\" field 3",
            ),
            ("options", json!({}), "\"result.options\" is not an array"),
            (
                "options",
                json!([{"name": "a"}]),
                "An option is missing either \"name\", \"description\" or \"type\"",
            ),
            (
                "options",
                json!([{"name": "A", "type": "string", "description": ""}]),
                "Option \"name\" must be lowercase alphanumeric, plus _ or -'",
            ),
            (
                "options",
                json!([{"name": "a", "type": "x", "description": ""}]),
                "Only \"string\", \"int\", \"bool\", and \"flag\" options are supported",
            ),
            (
                "options",
                json!([{"name": "a", "type": "int", "description": "", "default": "x"}]),
                "Invalid default 'x': 'x' is not a number",
            ),
            (
                "rpcmethods",
                json!([{"name": "a"}]),
                "\"usage\" not provided by plugin",
            ),
            (
                "subscriptions",
                json!([1]),
                "result.subscriptions[0] is not a string: '1'",
            ),
            (
                "notifications",
                json!([{"method": "connect"}]),
                "plugin attempted to register a native notification topic \"connect\", these may however only be sent by lightningd",
            ),
            ("hooks", json!(["nosuch"]), "Unknown hook name nosuch"),
            (
                "nonnumericids",
                json!(false),
                "Plugin does not allow nonnumericids",
            ),
        ] {
            assert_eq!(with(key, value), Refusal::Wrong(want.into()));
        }
        assert_eq!(with("disable", json!("no")), Refusal::Disabled("no".into()));
        assert_eq!(
            Manifest::read(&json!({"result": "nope"}), "QUOTED").unwrap_err(),
            Refusal::Wrong("Invalid/missing result tok in 'QUOTED'".into())
        );
    }

    proptest! {
        #[test]
        fn no_answer_panics(
            key in prop::sample::select(vec!["options", "rpcmethods", "subscriptions", "notifications", "hooks", "featurebits", "custommessages"]),
            json in "[\\[{\"a0:,}\\]]{0,40}",
        ) {
            if let Ok(value) = serde_json::from_str::<Value>(&json) {
                let mut base = json!({"options": [], "rpcmethods": []});
                base[key] = value;
                let _ = read(base);
            }
        }
    }
}
