//! What a node's log says happened.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::output::cut;
use super::{Entry, Kind};

/// The level of a line in a node's log.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Every message of the wire, as hexadecimal digits.
    Io,
    /// The finest.
    Trace,
    /// What daemons do.
    Debug,
    /// What an operator wants to know.
    Info,
    /// What is odd.
    #[default]
    Unusual,
    /// What should never be.
    Broken,
}

impl std::str::FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Level, String> {
        serde_json::from_value(text.to_lowercase().into())
            .map_err(|_| format!("`{text}`: use debug, info, unusual or broken"))
    }
}

/// A line: `TIME LEVEL SOURCE: TEXT`.
struct Line<'a> {
    at: &'a str,
    level: Level,
    source: &'a str,
    text: &'a str,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Line<'a>> {
        let (at, rest) = line.split_once(' ')?;
        let (level, rest) = rest.split_once(' ')?;
        let (source, text) = rest.trim_start().split_once(": ")?;
        let level = match level {
            "TRACE" => Level::Trace,
            "DEBUG" => Level::Debug,
            "INFO" => Level::Info,
            "UNUSUAL" => Level::Unusual,
            "**BROKEN**" => Level::Broken,
            "IO_IN" | "IO_OUT" => Level::Io,
            _ => return None,
        };
        is_time(at).then_some(Line {
            at,
            level,
            source,
            text,
        })
    }
}

/// `2026-01-01T00:00:00…Z`
pub(super) fn is_time(word: &str) -> bool {
    let bytes = word.as_bytes();
    bytes.len() >= 20 && bytes[4] == b'-' && bytes[10] == b'T' && bytes.ends_with(b"Z")
}

/// Reads the log of one node.
pub(super) struct NodeLog<'a> {
    node: &'a str,
    /// The nodes' names, by their ids.
    names: &'a HashMap<String, String>,
    /// Lines from this level on are entries; those of a user's plugin always.
    from: Level,
    /// The folder of lightningd's own plugins.
    own: Option<PathBuf>,
    /// The others, by file name.
    plugins: HashSet<String>,
    /// Where executables of plugins are.
    pub started: Vec<PathBuf>,
    pub entries: Vec<Entry>,
    /// The last line is an entry: one without a time belongs to it.
    open: bool,
}

impl<'a> NodeLog<'a> {
    pub fn new(node: &'a str, names: &'a HashMap<String, String>, from: Level) -> NodeLog<'a> {
        NodeLog {
            node,
            names,
            from,
            own: None,
            plugins: HashSet::new(),
            started: Vec::new(),
            entries: Vec::new(),
            open: false,
        }
    }

    pub fn push(&mut self, line: &str) {
        let Some(parsed) = Line::parse(line) else {
            // A traceback, say.
            if let (true, Some(entry)) = (self.open && !is_timed(line), self.entries.last_mut()) {
                let text = entry.text.get_or_insert_default();
                *text = cut(&format!("{text}\n{line}"));
            }
            return;
        };
        let entry = self.entry(&parsed);
        self.open = entry.is_some();
        self.entries.extend(entry.map(|mut entry| {
            parsed.at.clone_into(&mut entry.at);
            entry
        }));
    }

    /// What a line says, if it is worth an entry.
    fn entry(&mut self, line: &Line<'_>) -> Option<Entry> {
        let plugin = line.source.strip_prefix("plugin-");
        if let Some(entry) = self.plugin_start(line) {
            return entry;
        }
        let users = plugin.filter(|name| self.plugins.contains(*name));
        if let Some(name) = users
            && let Some(why) = line.text.strip_prefix("Killing plugin: ")
        {
            // At debug level, the node is ending.
            let asked = line.level <= Level::Debug || why.starts_with("stopped by lightningd");
            let end = Entry::new(Kind::End, self.lane(name)).text(cut(why));
            return Some(end.bad(!asked));
        }
        if let Some(entry) = self.hook(line).or_else(|| self.peer(line)) {
            return Some(entry);
        }
        if let Some(block) = line.text.strip_prefix("Adding block ") {
            let (height, hash) = block.split_once(": ").unwrap_or((block, ""));
            let block = Entry::new(Kind::Block, "bitcoind").to(self.node);
            return Some(block.name(height).text(hash));
        }
        let lane = match users {
            Some(name) => self.lane(name),
            None if line.level >= self.from => self.node.to_owned(),
            None => return None,
        };
        let text = if users.is_some() || line.source == "lightningd" {
            line.text.to_owned()
        } else {
            format!("{}: {}", line.source, line.text)
        };
        let level = format!("{:?}", line.level).to_lowercase();
        let logged = Entry::new(Kind::Log, lane).name(level).text(cut(&text));
        Some(logged.bad(line.level == Level::Broken))
    }

    /// `started(PID) PATH`; of lightningd's own plugins nothing.
    fn plugin_start(&mut self, line: &Line<'_>) -> Option<Option<Entry>> {
        let rest = line.text.strip_prefix("started(")?;
        let (pid, path) = rest.split_once(") ")?;
        let path = Path::new(path);
        let name = path.file_name()?.to_string_lossy().into_owned();
        // One that every release has, and that no lab replaces.
        if name == "autoclean" {
            self.own = path.parent().map(Path::to_owned);
        }
        let own = self.own.as_ref().is_some_and(|own| path.starts_with(own));
        if own || name == "bcli" {
            return Some(None);
        }
        self.started.push(path.to_owned());
        let start = Entry::new(Kind::Start, self.node).to(self.lane(&name));
        self.plugins.insert(name);
        let start = start.text(path.display().to_string());
        Some(Some(start.json(&format!("{{\"pid\":{pid}}}"))))
    }

    /// `Calling HOOK hook of plugin NAME`, `Plugin NAME returned from HOOK hook call`.
    fn hook(&self, line: &Line<'_>) -> Option<Entry> {
        if let Some(called) = line.text.strip_prefix("Calling ") {
            let (hook, name) = called.split_once(" hook of plugin ")?;
            let lane = self.plugins.contains(name).then(|| self.lane(name))?;
            return Some(Entry::new(Kind::Hook, self.node).to(lane).name(hook));
        }
        let (name, rest) = line.text.strip_prefix("Plugin ")?.split_once(' ')?;
        let hook = rest
            .strip_prefix("returned from ")?
            .strip_suffix(" hook call")?;
        let lane = self.plugins.contains(name).then(|| self.lane(name))?;
        Some(Entry::new(Kind::Answer, lane).to(self.node).name(hook))
    }

    /// Of lines about a peer, whose id is before their source.
    fn peer(&self, line: &Line<'_>) -> Option<Entry> {
        let (id, _) = line.source.split_once('-')?;
        if id.len() != 66 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let name = self.names.get(id);
        let peer = name.map_or(id, String::as_str);
        let all = self.from <= Level::Debug;
        let between = |kind| Entry::new(kind, self.node).to(peer);
        match line.text {
            // lightningd's; the embedded node's.
            "Connect OUT" => Some(between(Kind::Connect)),
            text if text.starts_with("Connecting to ") => Some(between(Kind::Connect).text(text)),
            "peer_disconnect_done" | "peer_disconnected" => Some(between(Kind::Disconnect)),
            text if all && text.starts_with("peer_out ") => {
                Some(between(Kind::Message).name(&text["peer_out ".len()..]))
            }
            // That of a node of the lab is in its own log.
            text if all && name.is_none() && text.starts_with("peer_in ") => {
                let message = Entry::new(Kind::Message, peer).to(self.node);
                Some(message.name(&text["peer_in ".len()..]))
            }
            _ => None,
        }
    }

    fn lane(&self, plugin: &str) -> String {
        format!("{}/{plugin}", self.node)
    }
}

fn is_timed(line: &str) -> bool {
    line.split(' ').next().is_some_and(is_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(from: Level, text: &str) -> Vec<Entry> {
        let id = "02".repeat(33);
        let names = HashMap::from([(id, "l2".to_owned())]);
        let mut log = NodeLog::new("l1", &names, from);
        text.lines().for_each(|line| log.push(line));
        log.entries
    }

    /// As v23.02.2, v25.05 and v26.06.6 log.
    const LOG: &str = "\
2026-11-22T07:31:09.165Z DEBUG   plugin-manager: started(89) /opt/cln/plugins/autoclean
2026-11-22T07:31:09.202Z UNUSUAL plugin-bookkeeper: topic 'x' is not known
2026-11-22T07:31:09.409Z DEBUG   plugin-manager: started(9973) /tmp/my.py
2026-11-22T07:31:09.410Z DEBUG   plugin-my.py: hello
2026-11-22T07:31:09.411Z **BROKEN** plugin-my.py: Traceback
  File \"x\"
2026-11-22T07:31:09.418Z DEBUG   020202020202020202020202020202020202020202020202020202020202020202-connectd: Connect OUT
2026-11-22T07:31:09.419Z DEBUG   020202020202020202020202020202020202020202020202020202020202020202-connectd: peer_out WIRE_INIT
2026-11-22T07:31:09.420Z DEBUG   lightningd: Calling peer_connected hook of plugin my.py
2026-11-22T07:31:09.421Z DEBUG   lightningd: Plugin my.py returned from peer_connected hook call
2026-11-22T07:31:10.413Z DEBUG   lightningd: Adding block 102: 4ef4
2026-11-22T07:31:10.438Z DEBUG   020202020202020202020202020202020202020202020202020202020202020202-lightningd: peer_disconnected
2026-11-22T07:31:10.500Z INFO    plugin-my.py: Killing plugin: exited during normal operation
2026-11-22T07:31:10.501Z INFO    lightningd: hello
";

    #[test]
    fn a_log_says_what_happened() {
        let seen: Vec<String> = read(Level::Unusual, LOG)
            .iter()
            .map(|entry| {
                let to = entry.to.as_deref().unwrap_or("-");
                let bad = if entry.bad { "!" } else { "" };
                format!("{:?}{bad} {} {to} {}", entry.kind, entry.from, entry.name)
            })
            .collect();
        assert_eq!(
            seen,
            [
                "Log l1 - unusual",
                "Start l1 l1/my.py ",
                "Log l1/my.py - debug",
                "Log! l1/my.py - broken",
                "Connect l1 l2 ",
                "Hook l1 l1/my.py peer_connected",
                "Answer l1/my.py l1 peer_connected",
                "Block bitcoind l1 102",
                "Disconnect l1 l2 ",
                "End! l1/my.py - ",
            ]
        );
    }

    #[test]
    fn a_line_without_a_time_belongs_to_the_one_before() {
        let all = read(Level::Unusual, LOG);
        assert_eq!(all[3].text.as_deref(), Some("Traceback\n  File \"x\""));
    }

    #[test]
    fn all_of_it_on_demand() {
        let all = read(Level::Debug, LOG);
        let message = |entry: &&Entry| entry.kind == Kind::Message;
        assert_eq!(
            all.iter().find(message).map(|m| m.name.as_str()),
            Some("WIRE_INIT")
        );
        assert!(
            all.iter()
                .any(|entry| entry.text.as_deref() == Some("hello"))
        );
    }

    proptest::proptest! {
        /// Whatever is in a log.
        #[test]
        fn any_log_is_read(text in "(2026-11-22T07:31:09.1Z )?(DEBUG |INFO {4})?(plugin-|0{66}-)?(started\\(|Plugin |Calling |: |\\n|[^x]){0,20}") {
            read(Level::Io, &text);
        }
    }
}
