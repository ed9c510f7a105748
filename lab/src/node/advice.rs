//! What to do about a plugin that does not start: the end of its standard error, and a
//! hint.
//!
//! lightningd knows only that a plugin ended or did not answer. Its standard error,
//! which is the node's, and its file know why.

use std::path::{Path, PathBuf};

use super::{Log, Node};
use crate::Result;

/// At most this many lines of standard error are quoted.
const LINES: usize = 12;

/// Watches the start of one plugin: see [`Node::watch_start`].
#[derive(Debug)]
pub struct StartWatch {
    /// The path as it was given.
    plugin: PathBuf,
    output: Log,
    log: Log,
}

impl Node {
    /// Watches what is printed and logged from now on, while the plugin of this path is
    /// started by `plugin start`.
    ///
    /// # Errors
    /// If the node's log or output cannot be looked at.
    pub fn watch_start(&self, plugin: impl AsRef<Path>) -> Result<StartWatch> {
        Ok(StartWatch {
            plugin: plugin.as_ref().to_owned(),
            output: self.output().from_now()?,
            log: self.log().from_now()?,
        })
    }

    /// What the node and its plugins print: their standard output and error, from the
    /// first line.
    pub fn output(&self) -> Log {
        Log::at(self.dir().join("output"))
    }

    /// The same for a plugin that ended while the node started.
    pub(crate) fn advice_at_start(&self, plugin: &Path) -> Result<String> {
        let name = plugin.file_name().unwrap_or_default().to_string_lossy();
        let killed = format!("plugin-{name}: Killing plugin: ");
        let ends = self.log().lines_with(&killed)?;
        // lightningd may log a second one, that follows from the first.
        let reasons: Vec<&str> = ends
            .iter()
            .filter_map(|line| Some(line.split_once(&killed)?.1))
            .collect();
        let watch = StartWatch {
            plugin: plugin.to_owned(),
            output: self.output(),
            log: self.log(),
        };
        Ok(watch.refused(&reasons.join("; ")))
    }
}

impl StartWatch {
    /// After the start was refused with this message: the end of what was printed since,
    /// and a hint, each on lines of its own; empty if nothing is known.
    pub fn refused(&self, message: &str) -> String {
        let stderr = self.output.tail(LINES).unwrap_or_default();
        let mut text = String::new();
        if !stderr.is_empty() {
            text.push_str("its stderr:");
            for line in &stderr {
                text.push_str("\n    ");
                text.push_str(line);
            }
        }
        if let Some(hint) = plugin_hint(&self.plugin, message, &stderr.join("\n")) {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str("hint: ");
            text.push_str(&hint);
        }
        text
    }

    /// What to say of a plugin that has not answered after a few seconds.
    pub fn waiting(&self) -> String {
        format!(
            "still waiting: {} has not answered; an answer has the request's `id`, ends with an empty line, \
             and must be flushed",
            self.plugin.display()
        )
    }

    /// After it was started: what lightningd only logs, such as a topic that it does not
    /// know, with the one that may have been meant.
    pub fn warnings(&self) -> Vec<String> {
        const UNKNOWN: &str = " is not a known notification topic";
        let name = self
            .plugin
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let ours = format!("plugin-{name}: ");
        let lines = self.log.lines_with(UNKNOWN).unwrap_or_default();
        let mut warnings = Vec::new();
        // lightningd looks at those of all plugins again.
        for line in lines.iter().filter(|line| line.contains(&ours)) {
            let Some(topic) = line.split('\'').nth(1) else {
                continue;
            };
            let meant =
                nearest(topic).map_or(String::new(), |name| format!("; did you mean `{name}`?"));
            warnings.push(format!(
                "no topic `{topic}` is known to this node{meant} (`lab topics` lists them)"
            ));
        }
        warnings
    }
}

/// The topic whose name is most like this one, if any is much like it.
fn nearest(topic: &str) -> Option<&'static str> {
    let names = cln_topics::TOPICS.iter().map(|known| known.name);
    let alike = names.map(|name| (strsim::jaro_winkler(topic, name), name));
    let best = alike.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.8).then_some(best.1)
}

/// What the author of a plugin can do about this message of lightningd, given the
/// plugin's path and what it wrote to its standard error; `None` if nothing is known.
pub fn plugin_hint(plugin: &Path, message: &str, stderr: &str) -> Option<String> {
    let path = plugin.display();
    let file = plugin.file_name().unwrap_or_default().to_string_lossy();
    if plugin.is_dir() {
        return Some(format!("{path} is a folder: name the executable in it"));
    }
    if let Some(hint) = json_hint(message) {
        return Some(hint.to_owned());
    }
    if message.contains("is not executable: No such file") {
        return Some(if plugin.is_relative() {
            let path = plugin.strip_prefix(".").unwrap_or(plugin).display();
            format!("the node looks for a relative path in its own folders: give `$PWD/{path}`")
        } else {
            "there is no file at this path".to_owned()
        });
    }
    if message.contains("is not executable: Permission denied") {
        return Some(format!("run `chmod +x {path}`"));
    }
    if message.ends_with("Invalid argument") {
        return Some(format!(
            "it runs already, and its file has not changed since: change it, or run `plugin stop {file}` first"
        ));
    }
    if message.contains("Not a dynamic plugin") {
        return Some(
            "answer getmanifest with `\"dynamic\": true`, or start it with the node".to_owned(),
        );
    }
    // Before v23.11 without `RPC`.
    if message.contains("Failed to parse") && message.contains("JSON response") {
        return Some(STDOUT.to_owned());
    }
    if message.contains("timed out before replying") {
        return Some(format!(
            "an answer has the request's `id`, ends with an empty line, and must be flushed; {STDOUT}"
        ));
    }
    let ended = message.contains("exited before replying") || message.contains("opening pipe");
    if !ended {
        return None;
    }
    if let Some(hint) = first_line_hint(plugin) {
        return Some(hint);
    }
    if let Some((_, rest)) = stderr.split_once("No module named '") {
        let module = rest.split(['\'', '.']).next().unwrap_or_default();
        let package = if module == "pyln" {
            "pyln-client"
        } else {
            module
        };
        return Some(format!(
            "install `{package}` for the Python that the plugin's first line names; a node keeps the PATH it was \
             started with, so name a virtual environment's Python by its full path"
        ));
    }
    if stderr.contains("SyntaxError") {
        return Some("the plugin's text has a syntax error, at the line quoted above".to_owned());
    }
    Some(if stderr.is_empty() {
        "it ended without a word: a plugin answers getmanifest and init, and then reads stdin until its end".to_owned()
    } else {
        "run it in a shell to see the same".to_owned()
    })
}

/// What compiled programs start with: on Linux, and on macOS for one or several processors.
const PROGRAMS: [&[u8]; 3] = [b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe"];

const STDOUT: &str = "only JSON-RPC goes to stdout: print to stderr, or send a `log` notification";

/// What to do about a text that is nearly JSON; `None` if nothing is known.
pub fn json_hint(text: &str) -> Option<&'static str> {
    // A dict, as `str` and `print` write it.
    let is_dict = text.contains("{'") && text.contains("':");
    is_dict.then_some("that is how Python writes a dict: `json.dumps(…)` makes JSON of it")
}

/// What is wrong with a script's first line, if anything is.
fn first_line_hint(plugin: &Path) -> Option<String> {
    let bytes = std::fs::read(plugin).ok()?;
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    let Some(command) = line.strip_prefix(b"#!") else {
        let is_program = PROGRAMS.iter().any(|start| bytes.starts_with(start));
        let is_text = std::str::from_utf8(&bytes).is_ok() && !bytes.contains(&0);
        let hint = match () {
            () if is_program => return None,
            () if bytes.is_empty() => "the file is empty: is it saved?",
            () if is_text => {
                "its first line names no interpreter, so /bin/sh ran it: begin it with `#!/usr/bin/env python3` or the like"
            }
            () => "it is neither a text nor a program of this system",
        };
        return Some(hint.to_owned());
    };
    if command.ends_with(b"\r") {
        return Some(format!(
            "its lines end as on Windows (CRLF): run `sed -i 's/\\r$//' {}`",
            plugin.display()
        ));
    }
    let command = String::from_utf8_lossy(command);
    let mut words = command.split_whitespace();
    let interpreter = words.next()?;
    if !Path::new(interpreter).exists() {
        return Some(format!(
            "its first line names {interpreter}, which does not exist"
        ));
    }
    let named = words.find(|word| !word.starts_with('-'))?;
    let missing = interpreter.ends_with("/env") && which::which(named).is_err();
    missing.then(|| format!("its first line names {named}, which is not on the PATH"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_has_its_hint() {
        const EXITED: &str = "x: exited before replying to getmanifest";
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.py");
        for (text, message, stderr, expected) in [
            ("#!/bin/sh\r\n", EXITED, "", "CRLF"),
            ("import sys\n", EXITED, "", "names no interpreter"),
            (
                "#!/usr/bin/pyton3\n",
                "x: opening pipe: No such file or directory",
                "",
                "names /usr/bin/pyton3",
            ),
            (
                "#!/usr/bin/env pyton3\n",
                EXITED,
                "",
                "names pyton3, which is not on the PATH",
            ),
            (
                "#!/bin/sh\n",
                EXITED,
                "ModuleNotFoundError: No module named 'pyln.client'",
                "install `pyln-client`",
            ),
            (
                "#!/bin/sh\n",
                EXITED,
                "SyntaxError: invalid",
                "syntax error",
            ),
            ("#!/bin/sh\n", EXITED, "", "ended without a word"),
            ("#!/bin/sh\n", EXITED, "oops", "run it in a shell"),
            (
                "",
                "x: timed out before replying to init",
                "",
                "must be flushed",
            ),
            (
                "",
                "Failed to parse RPC JSON response 'hello'",
                "",
                "only JSON-RPC goes to stdout",
            ),
            ("", "x is not executable: Permission denied", "", "chmod +x"),
            ("", "x.py: Invalid argument", "", "plugin stop x.py"),
            ("", "Not a dynamic plugin", "", "dynamic"),
            ("", EXITED, "", "the file is empty"),
            ("\u{1}\0\u{2}\n", EXITED, "", "neither a text nor a program"),
            ("\u{7f}ELF\0", EXITED, "", "ended without a word"),
            (
                "",
                "x: JSON-RPC message does not contain \"jsonrpc\" field: '{'id': 1}'",
                "",
                "json.dumps",
            ),
        ] {
            std::fs::write(&path, text).expect("write");
            let hint = plugin_hint(&path, message, stderr).unwrap_or_default();
            assert!(hint.contains(expected), "{message}, {stderr}: {hint}");
        }
        let missing = "/lab/l1/plugins/x.py is not executable: No such file or directory";
        for path in ["x.py", "./x.py"] {
            let relative = plugin_hint(Path::new(path), missing, "").expect("a hint");
            assert!(relative.contains("$PWD/x.py"), "{relative}");
        }
        assert_eq!(plugin_hint(&path, "anything else", ""), None);
        let folder = plugin_hint(dir.path(), "opening pipe: Permission denied", "");
        assert!(folder.is_some_and(|hint| hint.contains("is a folder")));
    }

    #[test]
    fn a_misspelt_topic_is_recognized() {
        assert_eq!(nearest("conect"), Some("connect"));
        assert_eq!(nearest("invoice_created"), Some("invoice_creation"));
        assert_eq!(nearest("zzz"), None);
    }
}
