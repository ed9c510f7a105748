//! The corpus of a release: one message of each form and shape, from what scenarios
//! recorded; and whether a recording agrees with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use cln_lab::corpus::{Corpus, Kind, Message, Shape, Type};
use cln_lab::{IoContext, Result, Version};

use super::checks::unexpected;
use super::forms::{form_of, shape_of};
use super::{Scenario, scenarios};

/// Writes into the corpus of this version, in `folder`, what a scenario has recorded, in
/// place of what it recorded before. The rest stays.
///
/// # Errors
/// If the file cannot be read or written, or has a line that is no message.
pub fn write(
    folder: &Path,
    version: &Version,
    scenario: &Scenario,
    recorded: &[Message],
) -> Result<()> {
    let path = folder.join(format!("{version}.jsonl"));
    let before = match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        text => text.doing("read", &path)?,
    };
    let mut messages = Vec::new();
    for line in before.lines() {
        let message: Message = serde_json::from_str(line)
            .map_err(|error| unexpected(path.display().to_string(), error.to_string()))?;
        if message.scenario != scenario.name {
            messages.push(message);
        }
    }
    messages.extend_from_slice(recorded);
    let mut text = String::new();
    for message in distilled(messages) {
        let line = serde_json::to_string(&message).map_err(std::io::Error::from);
        text.push_str(&line.doing("write", &path)?);
        text.push('\n');
    }
    fs::create_dir_all(folder).doing("create folder", folder)?;
    fs::write(&path, text).doing("write", &path)
}

/// What distinguishes a message before its shape does. With deprecated APIs first.
type Key = (Kind, String, String, bool);

/// One message of each form and shape, sorted by kind, name and form.
fn distilled(mut messages: Vec<Message>) -> Vec<Message> {
    // Of two that are alike, the one of the earlier scenario is kept.
    let place = |name: &str| scenarios().position(|scenario| scenario.name == name);
    messages.sort_by_key(|message| place(&message.scenario));
    let mut forms: BTreeMap<Key, BTreeMap<Shape, Message>> = BTreeMap::new();
    for message in messages {
        let key = (
            message.kind,
            message.name.clone(),
            form_of(&message),
            !message.deprecated,
        );
        let shape = match message.kind {
            Kind::Answer | Kind::Help => Shape::default(),
            _ => shape_of(&message),
        };
        forms
            .entry(key)
            .or_default()
            .entry(shape)
            .or_insert(message);
    }
    let mut kept = Vec::new();
    for ((kind, name, form, off), variants) in &forms {
        let on = forms.get(&(*kind, name.clone(), form.clone(), false));
        let shapes: Vec<&Shape> = variants.keys().collect();
        for (shape, message) in variants {
            if *off && on.is_some_and(|on| on.contains_key(shape)) {
                continue;
            }
            let label = label(shape, &shapes);
            let words = [form.as_str(), &label];
            let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
            kept.push(Message {
                form: words.join(" "),
                ..message.clone()
            });
        }
    }
    kept.sort_by_cached_key(|message| {
        let (name, form) = (message.name.clone(), message.form.clone());
        (message.kind, name, form, !message.deprecated)
    });
    kept
}

/// How a shape differs from the others of its form: the members that not all have, and
/// the types of those that have others.
fn label(shape: &Shape, all: &[&Shape]) -> String {
    let differs = |path: &str, types: &BTreeSet<Type>| {
        all.iter().any(|other| other.types(path) != Some(types))
    };
    let mut words: Vec<String> = Vec::new();
    let mut last = String::from("\0");
    for (path, types) in shape.members().filter(|(path, types)| differs(path, types)) {
        if path.starts_with(&last) {
            continue;
        }
        last = path.to_owned();
        let name = path.rsplit('.').next().unwrap_or(path);
        let known = all.iter().all(|other| other.types(path).is_some());
        let types: Vec<String> = types
            .iter()
            .filter(|_| known)
            .map(Type::to_string)
            .collect();
        words.push(match types.join("|") {
            none if none.is_empty() => format!("+{name}"),
            types => format!("{name}:{types}"),
        });
    }
    words.join(" ")
}

/// Checks that messages have the shapes that the corpus of their release has: no member
/// and type that it lacks, and every member that it always has.
///
/// # Errors
/// [`cln_lab::Error::Answer`] with every difference.
pub fn check(corpus: &Corpus, recorded: &[Message]) -> Result<()> {
    let mut known: BTreeMap<(Kind, String), Vec<(String, Shape)>> = BTreeMap::new();
    for message in corpus.messages() {
        let (form, shape) = (form_of(&message), shape_of(&message));
        let of_name = known.entry((message.kind, message.name)).or_default();
        of_name.push((form, shape));
    }
    let mut wrong = BTreeSet::new();
    for message in recorded {
        // The answers are compared by whoever needs them: their members are options.
        if matches!(message.kind, Kind::Answer | Kind::Help) {
            continue;
        }
        let of_name = known.get(&(message.kind, message.name.clone()));
        let of_name = of_name.map_or(&[][..], Vec::as_slice);
        let form = form_of(message);
        let same: Vec<&Shape> = of_name
            .iter()
            .filter(|(f, _)| *f == form)
            .map(|(_, s)| s)
            .collect();
        let candidates = if same.is_empty() {
            of_name.iter().map(|(_, shape)| shape).collect()
        } else {
            same
        };
        if let Some(why) = difference(&shape_of(message), &candidates) {
            wrong.insert(format!(
                "{} `{}` {form}: {why}: {}",
                message.kind, message.name, message.message
            ));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = wrong.into_iter().collect();
    Err(unexpected(
        format!(
            "lightningd, compared with lab/corpus/{}.jsonl",
            corpus.version()
        ),
        lines.join("\n    "),
    ))
}

/// How a shape differs from those that are known.
fn difference(shape: &Shape, known: &[&Shape]) -> Option<String> {
    let Some((first, rest)) = known.split_first() else {
        return Some("the corpus has none".to_owned());
    };
    let has = |path: &str, kind: &Type| {
        known
            .iter()
            .any(|known| known.types(path).is_some_and(|types| types.contains(kind)))
    };
    for (path, types) in shape.members() {
        if let Some(kind) = types.iter().find(|kind| !has(path, kind)) {
            return Some(format!("`{path}` is {kind}, which the corpus has not seen"));
        }
    }
    let always = rest
        .iter()
        .fold((*first).clone(), |all, known| all.common(known));
    let mut always = always.members().map(|(path, _)| path);
    let missing = always.find(|path| {
        // An empty array has no elements to look at.
        let array = path.rfind("[]").map(|end| &path[..end + 2]);
        let empty = array.is_some_and(|elements| shape.types(elements).is_none());
        shape.types(path).is_none() && !empty
    });
    missing.map(|path| format!("`{path}` is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn message(name: &str, deprecated: bool, payload: &Value) -> Message {
        Message {
            kind: Kind::Notification,
            name: name.to_owned(),
            form: String::new(),
            deprecated,
            scenario: "connect".to_owned(),
            message: json!({"method": name, "params": {name: payload}}).to_string(),
        }
    }

    #[test]
    fn one_of_each_form_and_shape_is_kept() {
        let plain = json!({"label": "a", "preimage": "00"});
        let amount = json!({"label": "a", "preimage": "00", "msat": 1});
        let kept = distilled(vec![
            message("invoice_creation", true, &plain),
            message("invoice_creation", true, &plain),
            message("invoice_creation", true, &amount),
            message("connect", true, &json!({"direction": "in"})),
            message("connect", true, &json!({"direction": "out"})),
            message("connect", false, &json!({"direction": "out"})),
            message("connect", false, &json!({"direction": "out", "x": null})),
        ]);
        let kept: Vec<(&str, &str, bool)> = kept
            .iter()
            .map(|m| (m.name.as_str(), m.form.as_str(), m.deprecated))
            .collect();
        let expected = [
            ("connect", "in", true),
            ("connect", "out", true),
            ("connect", "out +x", false),
            ("invoice_creation", "", true),
            ("invoice_creation", "+msat", true),
        ];
        assert_eq!(kept, expected);
    }

    #[test]
    fn a_scenario_replaces_only_what_it_recorded_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let version: Version = "v26.06.6".parse().expect("a version");
        let scenario = |name| scenarios().find(|s| s.name == name).expect("a scenario");
        let capture = |name: &'static str, form: &str| {
            let mut message = message("connect", true, &json!({"direction": form}));
            message.scenario = name.to_owned();
            write(folder.path(), &version, scenario(name), &[message]).expect("written");
            let path = folder.path().join("v26.06.6.jsonl");
            let text = fs::read_to_string(path).expect("the file");
            let lines = text.lines().map(serde_json::from_str::<Message>);
            let messages = lines.map(|line| line.expect("a message"));
            messages.map(|message| message.form).collect::<Vec<_>>()
        };
        assert_eq!(capture("connect", "in"), ["in"]);
        assert_eq!(capture("disconnect", "out"), ["in", "out"]);
        assert_eq!(capture("connect", "both"), ["both", "out"]);
        // A file with anything else in it is left as it is.
        let path = folder.path().join("v26.06.6.jsonl");
        fs::write(&path, "oops\n").expect("write");
        write(folder.path(), &version, scenario("connect"), &[]).expect_err("no message");
        assert_eq!(fs::read_to_string(&path).expect("the file"), "oops\n");
    }

    #[test]
    fn another_shape_is_found() {
        let shape = |value: Value| Shape::of(&value);
        let known = [
            shape(json!({"a": 1, "b": ["x"]})),
            shape(json!({"a": 1, "c": null, "b": ["x"]})),
        ];
        let difference = |value| difference(&shape(value), &known.iter().collect::<Vec<_>>());
        for same in [
            json!({"a": 2, "b": ["y", "z"]}),
            json!({"a": 2, "b": [], "c": null}),
        ] {
            assert_eq!(difference(same), None);
        }
        for (other, part) in [
            (json!({"b": []}), "`a` is missing"),
            (json!({"a": "1", "b": []}), "`a` is string"),
            (json!({"a": 1, "b": [], "d": 1}), "`d` is number"),
            (json!({"a": 1, "b": [1]}), "`b[]` is number"),
        ] {
            let why = difference(other).expect("a difference");
            assert!(why.starts_with(part), "{why}");
        }
    }
}
