//! A plugin that keeps every byte lightningd sends to it, and answers every hook so that
//! lightningd continues as without it.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use cln_lab::{IoContext, Messages, Plugin, Result, Version, binaries, quoted, write_executable};
use cln_topics::{Hook, hooks_of, sent_by};
use cln_wire::scan::{End, Scan};

use super::checks::unexpected;

/// Its method, which returns its parameters, and the start of its options' names.
pub(super) const NAME: &str = "witness";

/// The plugin's executable, and the folder with what it keeps.
#[derive(Debug)]
pub(super) struct Witness {
    folder: TempDir,
}

/// What one process of the plugin has received, from its start on.
#[derive(Debug)]
pub(super) struct Heard {
    /// The node.
    pub node: String,
    /// The variables that lightningd added to its environment.
    pub environment: Value,
    /// Every message, byte for byte without the empty line after it.
    pub messages: Vec<String>,
}

impl Witness {
    /// Makes it, for a lightningd of this version: it subscribes to every topic, to `log`
    /// only if asked, and registers those of these hooks that the release has.
    pub(super) fn create(version: &Version, log: bool, hooks: &[&str]) -> Result<Witness> {
        let folder = TempDir::new().doing("create a folder in", std::env::temp_dir())?;
        let manifest = manifest(version, log, hooks).to_string();
        let lab = binaries::built("LAB", "lab")?;
        let path = folder.path().join(NAME);
        let words = [
            lab.display().to_string(),
            folder.path().display().to_string(),
            manifest,
        ];
        let [lab, record, manifest] = words.map(|word| quoted(&word));
        let script = format!("#!/bin/sh\nexec {lab} witness {record} {manifest}\n");
        write_executable(&path, &script)?;
        Ok(Witness { folder })
    }

    pub(super) fn plugin(&self) -> Plugin {
        Plugin::path(self.folder.path().join(NAME))
    }

    /// What its processes have received by now, in the order they started.
    pub(super) fn heard(&self) -> Result<Vec<Heard>> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(&self.folder).doing("list", self.folder.path())? {
            let path = entry.doing("list", self.folder.path())?.path();
            if let Some((start, node)) = path.file_stem().and_then(|s| s.to_str()?.split_once('-'))
                && path
                    .extension()
                    .is_some_and(|extension| extension == "stdin")
            {
                files.insert((start.to_owned(), node.to_owned()), path);
            }
        }
        let read = |((_, node), path): ((String, String), PathBuf)| {
            let environment = path.with_extension("json");
            let environment = fs::read_to_string(&environment).doing("read", &environment)?;
            let stdin = fs::read(&path).doing("read", &path)?;
            Ok(Heard {
                environment: serde_json::from_str(&environment)
                    .map_err(|error| unexpected(&node, error.to_string()))?,
                messages: messages(&stdin).map_err(|why| unexpected(&node, why))?,
                node,
            })
        };
        files.into_iter().map(read).collect()
    }
}

/// The whole messages of a stream, checked to end with an empty line each.
fn messages(stream: &[u8]) -> std::result::Result<Vec<String>, String> {
    let (mut scan, mut at, mut found) = (Scan::default(), 0, Vec::new());
    while let Some((length, end)) = scan.advance(&stream[at..]) {
        let text = String::from_utf8_lossy(&stream[at..at + length]);
        let between = if found.is_empty() { "" } else { "\n\n" };
        match (end, text.strip_prefix(between)) {
            (End::Message, Some(message)) if !message.starts_with(char::is_whitespace) => {
                found.push(message.to_owned());
            }
            _ => return Err(format!("expected a message after an empty line: `{text}`")),
        }
        at += length;
    }
    Ok(found)
}

fn manifest(version: &Version, log: bool, hooks: &[&str]) -> Value {
    // `*` is every topic but `log`; before v23.08 lightningd does not know it.
    let subscriptions: Vec<&str> = if version.at_least(23, 8) {
        let log = log.then_some("log");
        std::iter::once("*").chain(log).collect()
    } else {
        let topics = sent_by(Some(version.release())).map(|topic| topic.name);
        topics.chain([super::plugins::WEATHER]).collect()
    };
    let known: Vec<&Hook> = hooks_of(version.release())
        .filter(|hook| hooks.contains(&hook.name))
        .collect();
    let option = |name: &str, kind: &str, default: Value| {
        json!({
            "name": format!("{NAME}-{name}"),
            "type": kind,
            "default": default,
            "description": "one of its type",
            "dynamic": name == "dynamic",
        })
    };
    json!({
        // lightningd asks for it before the first write, and would for the last.
        "dynamic": !hooks.contains(&"db_write"),
        "nonnumericids": true,
        "options": [
            option("string", "string", json!("text")),
            option("int", "int", json!(7)),
            option("bool", "bool", json!(true)),
            option("flag", "flag", json!(false)),
            option("dynamic", "string", json!("before")),
        ],
        "rpcmethods": [{
            "name": NAME,
            "usage": "[first] [second]",
            "description": "Returns its parameters",
        }],
        "subscriptions": subscriptions,
        "hooks": known.iter().map(|hook| registered(hook.name)).collect::<Vec<_>>(),
    })
}

/// A hook in a manifest. The plugins shipped with lightningd that answer some calls for
/// good come after.
fn registered(hook: &str) -> Value {
    json!({"name": hook, "before": ["offers", "fetchinvoice", "cln-xpay"]})
}

/// Plays the plugin until its stdin ends, or `shutdown` comes.
///
/// # Errors
/// If `folder` cannot be written, or lightningd does not read.
pub fn run(folder: &Path, manifest: &Value) -> Result<()> {
    let (record, mut file) = record(folder)?;
    let (mut stdin, mut stdout) = (std::io::stdin(), std::io::stdout());
    let (mut messages, mut buffer) = (Messages::default(), [0; 16 * 1024]);
    loop {
        let count = stdin.read(&mut buffer).doing("read", "stdin")?;
        if count == 0 {
            return Ok(());
        }
        file.write_all(&buffer[..count]).doing("write", &record)?;
        messages.push(&buffer[..count]);
        while let Some(message) = messages.next::<Value>().doing("read", "stdin")? {
            let method = message["method"].as_str().unwrap_or_default();
            if method == "shutdown" {
                return Ok(());
            }
            if let Some(id) = message.get("id") {
                let result = result(method, &message["params"], manifest);
                let answer = json!({"jsonrpc": "2.0", "id": id, "result": result});
                write!(stdout, "{answer}\n\n").doing("write", "stdout")?;
                stdout.flush().doing("write", "stdout")?;
            }
        }
    }
}

/// What lets lightningd continue as if there were no plugin.
fn result(method: &str, params: &Value, manifest: &Value) -> Value {
    match method {
        "getmanifest" => manifest.clone(),
        "init" | "setconfig" => json!({}),
        NAME => json!({"params": params}),
        // Without the transaction in the answer, lightningd ends.
        "openchannel2_changed" | "openchannel2_sign" => {
            json!({"result": "continue", "psbt": params[method]["psbt"]})
        }
        _ => json!({"result": "continue"}),
    }
}

/// A file for this process, with its environment in another beside it.
fn record(folder: &Path) -> Result<(PathBuf, fs::File)> {
    let start = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    // lightningd runs in the folder of the network, in that of the node.
    let cwd = std::env::current_dir().doing("find", "the current folder")?;
    let node = cwd.parent().and_then(Path::file_name).unwrap_or_default();
    let name = format!("{:020}-{}", start.as_nanos(), node.to_string_lossy());
    let environment = folder.join(&name).with_extension("json");
    let added = Value::Object(added_to_environment());
    fs::write(&environment, added.to_string()).doing("write", &environment)?;
    let path = folder.join(name).with_extension("stdin");
    let mut options = OpenOptions::new();
    let file = options.create_new(true).append(true).open(&path);
    let file = file.doing("create", &path)?;
    Ok((path, file))
}

/// The variables that lightningd added or changed: those that it was not started with.
fn added_to_environment() -> Map<String, Value> {
    // What a shell sets.
    const SHELL: [&str; 4] = ["PWD", "OLDPWD", "SHLVL", "_"];
    let parent = format!("/proc/{}/environ", std::os::unix::process::parent_id());
    // Where there is no /proc: rather nothing than what is somebody's.
    let Ok(inherited) = fs::read(&parent) else {
        return Map::new();
    };
    let inherited: Vec<&[u8]> = inherited.split(|byte| *byte == 0).collect();
    let added = std::env::vars().filter(|(name, value)| {
        let line = format!("{name}={value}");
        !SHELL.contains(&&name[..]) && !inherited.contains(&line.as_bytes())
    });
    added.map(|(name, value)| (name, value.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_into_its_messages() {
        let stream = b"{\"a\":\n1}\n\n{ \"b\": {} }\n\n{\"c\"";
        let found = messages(stream).expect("messages");
        assert_eq!(found, ["{\"a\":\n1}", "{ \"b\": {} }"]);
        for bad in ["{}\n{}", "{}{}", "{}\n\n\n{}", "{}\n\noops\n\n"] {
            assert!(messages(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_release_is_asked_only_for_what_it_has() {
        let manifest = |version: &str| {
            let version: Version = version.parse().expect("a version");
            manifest(&version, true, &["recover", "custommsg"])
        };
        let (old, new) = (manifest("v23.05.2"), manifest("v23.08.1"));
        assert_eq!(old["hooks"], json!([registered("custommsg")]));
        assert_eq!(
            new["hooks"],
            json!([registered("custommsg"), registered("recover")])
        );
        assert_eq!(new["subscriptions"], json!(["*", "log"]));
        let names = old["subscriptions"].as_array().expect("an array");
        assert!(names.contains(&json!("connect")) && !names.contains(&json!("log")));
    }
}
