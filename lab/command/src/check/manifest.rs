//! A manifest as a release reads it: what its `plugin_parse_getmanifest_response` refuses.

use serde_json::Value;

use super::codes;
use super::finding::Finding;
use super::release::Release;

/// The members of a manifest that the check needs.
#[derive(Debug, Clone, Default)]
pub struct Manifest {
    /// The topics.
    pub subscriptions: Vec<String>,
    /// The hooks.
    pub hooks: Vec<String>,
    /// The methods.
    pub methods: Vec<String>,
    /// The topics that it may send.
    pub notifications: Vec<String>,
    /// Its options.
    pub options: Vec<Value>,
    /// It takes ids that are strings, as it says itself.
    pub strings: bool,
    /// Why it does not want to run.
    pub disabled: Option<String>,
}

impl Manifest {
    /// Reads what is there; [`findings`] says what is wrong with the rest.
    pub fn read(manifest: &Value) -> Manifest {
        let strings = |member: &str, name: &str| {
            let elements = manifest[member].as_array().into_iter().flatten();
            let text = |element: &Value| {
                element
                    .as_str()
                    .or(element[name].as_str())
                    .map(str::to_owned)
            };
            elements.filter_map(text).collect()
        };
        Manifest {
            subscriptions: strings("subscriptions", ""),
            hooks: strings("hooks", "name"),
            methods: strings("rpcmethods", "name"),
            notifications: strings("notifications", "method"),
            options: manifest["options"].as_array().cloned().unwrap_or_default(),
            strings: manifest["nonnumericids"] == true,
            disabled: manifest.get("disable").map(text),
        }
    }
}

/// What this release does not accept in a manifest, and what it accepts but never sends.
pub fn findings(manifest: &Value, release: &Release) -> Vec<Finding> {
    let mut found = Vec::new();
    let invalid = |subject: &str, text: String| Finding::new(&codes::MANIFEST, subject, text);
    for (member, required) in [
        ("options", true),
        ("rpcmethods", true),
        ("subscriptions", false),
        ("notifications", false),
        ("custommessages", false),
    ] {
        match manifest.get(member) {
            None if required => found.push(invalid(member, format!("`{member}` is missing"))),
            Some(value) if !value.is_array() => {
                found.push(invalid(
                    member,
                    format!("`{member}` is not an array: {value}"),
                ));
            }
            _ => {}
        }
    }
    for member in ["dynamic", "nonnumericids", "cancheck"] {
        if manifest
            .get(member)
            .is_some_and(|value| !value.is_boolean())
        {
            let text = format!("`{member}` is neither true nor false: {}", manifest[member]);
            found.push(invalid(member, text));
        }
    }
    if manifest["nonnumericids"] == false && release.since(25, 5) {
        let text = "`nonnumericids` is false, but ids are strings from v25.05 on".to_owned();
        found.push(invalid("nonnumericids", text));
    }
    found.extend(featurebits(manifest).map(|text| invalid("featurebits", text)));
    let array = |member: &str| manifest[member].as_array().into_iter().flatten();
    for topic in array("subscriptions") {
        found.extend(subscription(topic, release));
    }
    for hook in array("hooks") {
        found.extend(self::hook(hook, release));
    }
    let mut names = Vec::new();
    for option in array("options") {
        found.extend(self::option(option, release, &mut names));
    }
    let mut names = Vec::new();
    for method in array("rpcmethods") {
        found.extend(self::method(method, release, &mut names));
    }
    for sent in array("notifications") {
        let Some(topic) = sent["method"].as_str() else {
            let text = format!("an element has no `method`: {sent}");
            found.push(invalid("notifications", text));
            continue;
        };
        if cln_topics::Topic::find(topic)
            .is_some_and(|topic| topic.is_native() && topic.is_sent_by(release.number))
        {
            let text = format!("it wants to send `{topic}`, which only lightningd may");
            found.push(Finding::new(&codes::NATIVE, topic, text));
        }
    }
    found
}

fn featurebits(manifest: &Value) -> Option<String> {
    let bits = manifest.get("featurebits")?;
    let places = ["init", "node", "channel", "invoice"].map(|place| bits[place].as_str());
    let hex =
        |text: &str| text.len().is_multiple_of(2) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let mut set = places.into_iter().flatten().filter(|text| !text.is_empty());
    let bad = set.clone().find(|text| !hex(text));
    if let Some(bad) = bad {
        return Some(format!("`featurebits`: `{bad}` is not hexadecimal"));
    }
    let dynamic = manifest["dynamic"] == true && set.next().is_some();
    dynamic.then(|| "`featurebits` are only for plugins that are not `dynamic`".to_owned())
}

fn subscription(topic: &Value, release: &Release) -> Option<Finding> {
    let Some(topic) = topic.as_str() else {
        let text = format!("an element is not a string: {topic}");
        return Some(Finding::new(&codes::MANIFEST, "subscriptions", text));
    };
    let never = |text: String| Some(Finding::new(&codes::TOPIC, topic, text));
    if topic == "*" {
        let known = release.since(23, 8);
        return (!known)
            .then(|| never("`*` is no wildcard before v23.08: it receives nothing".to_owned()))?;
    }
    if release.sends(topic) {
        return None;
    }
    if let Some(known) = cln_topics::Topic::find(topic) {
        let when = match known.until {
            Some(until) if release.number >= until => format!("no more from {until} on"),
            _ => format!("only from {} on", known.since),
        };
        return never(format!("`{topic}` is sent {when}"));
    }
    let near = near(topic, cln_topics::TOPICS.iter().map(|known| known.name));
    never(match near {
        Some(near) => format!("nobody sends `{topic}`: is `{near}` meant?"),
        // lightningd says as much, at its level `unusual`.
        None => format!("`{topic}` is no topic of lightningd: only another plugin can send it"),
    })
}

/// What a misspelt name most likely is, if it is one: the nearest of these, at most two
/// letters away.
fn near<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |known: &str| strsim::damerau_levenshtein(known, name);
    known
        .min_by_key(|known| distance(known))
        .filter(|known| distance(known) <= 2)
}

fn hook(hook: &Value, release: &Release) -> Option<Finding> {
    let Some(name) = hook.as_str().or(hook["name"].as_str()) else {
        let text = format!("an element has no `name`: {hook}");
        return Some(Finding::new(&codes::MANIFEST, "hooks", text));
    };
    if release.has_hook(name) {
        return None;
    }
    let since = match cln_topics::Hook::find(name) {
        Some(hook) => format!("it came with {}", hook.since),
        None => match near(name, cln_topics::HOOKS.iter().map(|hook| hook.name)) {
            Some(near) => format!("no release has it: is `{near}` meant?"),
            None => "no release has it".to_owned(),
        },
    };
    let text = format!("`{name}` is no hook of this release: {since}");
    Some(Finding::new(&codes::HOOK_UNKNOWN, name, text))
}

fn option(option: &Value, release: &Release, seen: &mut Vec<String>) -> Option<Finding> {
    let name = option["name"].as_str().unwrap_or_default();
    let refused = |text: String| Some(Finding::new(&codes::OPTION, name, text));
    if let Some(missing) = ["name", "description", "type"]
        .iter()
        .find(|m| option.get(**m).is_none())
    {
        return refused(format!("an option has no `{missing}`: {option}"));
    }
    let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
    if release.since(23, 8) && !name.chars().all(lower) {
        return refused(format!(
            "option `{name}`: only a-z, 0-9, _ and - are allowed from v23.08 on"
        ));
    }
    if release.options.contains(name) {
        let text = format!("lightningd has an option `{name}`");
        return Some(Finding::new(&codes::TAKEN, name, text));
    }
    if seen.iter().any(|other| other == name) {
        let text = format!("option `{name}` is there twice");
        return Some(Finding::new(&codes::TAKEN, name, text));
    }
    seen.push(name.to_owned());
    let kind = option["type"].as_str().unwrap_or_default();
    match kind {
        "string" | "int" | "bool" | "flag" => {}
        "string-conceal" if release.since(24, 11) => {}
        "string-conceal" => {
            return refused(format!(
                "option `{name}`: type `string-conceal` came with v24.11"
            ));
        }
        other => {
            return refused(format!("option `{name}`: `{other}` is no type of options"));
        }
    }
    for member in ["multi", "dynamic"] {
        if option.get(member).is_some_and(|value| !value.is_boolean()) {
            return refused(format!("option `{name}`: `{member}` is {}", option[member]));
        }
    }
    if option["multi"] == true && matches!(kind, "bool" | "flag") {
        return refused(format!("option `{name}`: a {kind} cannot be `multi`"));
    }
    default(option, name, kind, release)
}

/// The default value, which lightningd reads as it would from the command line.
fn default(option: &Value, name: &str, kind: &str, release: &Release) -> Option<Finding> {
    let default = option.get("default")?;
    let text = match default {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let words = ["true", "false", "True", "False", "1", "0", "yes", "no"];
    let valid = match kind {
        // Before v23.08 it was not looked at, and until v24.05 it only logged a line.
        "flag" if release.since(24, 5) => *default == false || default.is_null(),
        "flag" => true,
        _ if default.is_null() => true,
        "int" => text.parse::<i64>().is_ok(),
        "bool" => words.contains(&&text[..]),
        _ => true,
    };
    (!valid).then(|| {
        let text = format!("option `{name}`: the default {default} is no {kind}");
        Finding::new(&codes::OPTION, name, text)
    })
}

fn method(method: &Value, release: &Release, seen: &mut Vec<String>) -> Option<Finding> {
    let Some(name) = method["name"].as_str() else {
        let text = format!("an element has no `name`: {method}");
        return Some(Finding::new(&codes::MANIFEST, "rpcmethods", text));
    };
    let mut needed = vec!["usage"];
    if !release.since(24, 8) {
        needed.push("description");
    }
    if let Some(missing) = needed.iter().find(|member| !method[**member].is_string()) {
        let text = format!("method `{name}` has no `{missing}`");
        return Some(Finding::new(&codes::MANIFEST, name, text));
    }
    let taken = if release.methods.contains(name) {
        format!("lightningd, or a plugin shipped with it, has a method `{name}`")
    } else if seen.iter().any(|other| other == name) {
        format!("method `{name}` is there twice")
    } else {
        seen.push(name.to_owned());
        return None;
    };
    Some(Finding::new(&codes::TAKEN, name, taken))
}

/// A reason as text: lightningd takes any value.
fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}
