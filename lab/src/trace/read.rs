//! Reads a lab's trace: what the lab wrote down, and what others wrote in its folder.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::node_log::{Level, NodeLog};
use super::{Entry, FILE, Kind, sources};
use crate::node::NETWORK;
use crate::remote::description::Description;
use crate::{Error, Result};

/// A trace has at most this many entries: of more, the newest.
pub const MOST: usize = 50_000;

/// A trace has at most so many bytes of data and text: of more, those of the newest.
const MOST_BYTES: usize = 48 << 20;

/// What happened in a lab, in the order of time.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// The lab's folder.
    pub dir: PathBuf,
    /// What happened.
    pub entries: Vec<Entry>,
    /// What is not here, and why.
    pub notes: Vec<String>,
    /// The nodes' names, in order.
    pub nodes: Vec<String>,
}

impl Trace {
    /// Reads the trace of the lab in this folder, which may be up, have ended, or have
    /// been killed. Of the nodes' logs it has the lines from `level` on, all lines of
    /// the plugins that are not lightningd's own, and what else they tell: connections,
    /// blocks, hooks; below `info` the BOLT messages, too.
    ///
    /// # Errors
    /// [`Error::Usage`] if this is not the folder of a lab.
    pub fn read(dir: &Path, level: Level) -> Result<Trace> {
        let mut trace = Trace {
            dir: dir.to_owned(),
            ..Trace::default()
        };
        let mut names = HashMap::new();
        if let Ok(described) = Description::read(dir) {
            for node in described.nodes {
                trace.nodes.push(node.name.clone());
                names.insert(node.id, node.name);
            }
        }
        let mut folders: Vec<PathBuf> = std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.join("output").exists())
            .collect();
        folders.sort();
        trace.read_own(dir);
        if folders.is_empty() && trace.entries.is_empty() {
            return Err(Error::usage(format!(
                "no trace in {}: it is not the folder of a lab, which has a {FILE} and a folder for each node",
                dir.display()
            )));
        }
        for entry in &trace.entries {
            if entry.kind == Kind::Ready
                && let Some(id) = &entry.text
            {
                names.insert(id.clone(), entry.from.clone());
            }
        }
        // A wire may have those of other labs, too.
        let since = trace.entries.first().map(|entry| entry.at.clone());
        for folder in &folders {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            let output = folder.join("output");
            let printed = sources::printed(&name, &output, &trace.entries, &mut trace.notes);
            trace.entries.extend(printed);
            if name != "bitcoind" {
                if !trace.nodes.iter().any(|node| *node == name) {
                    trace.nodes.push(name.clone().into_owned());
                }
                let derived = of_node(&name, folder, &names, level, &mut trace.notes);
                trace.entries.extend(derived);
            }
        }
        if let Some(since) = since {
            trace.entries.retain(|entry| entry.at >= since);
        }
        // Times are text of one form, in which more digits come before fewer: a line of
        // a log comes at the end of its millisecond.
        trace.entries.sort_by(|a, b| a.at.cmp(&b.at));
        trace.drop_twice_printed();
        trace.bound();
        trace.bound_bytes(MOST_BYTES);
        Ok(trace)
    }

    /// Reads what the lab wrote itself.
    fn read_own(&mut self, dir: &Path) {
        let mut torn = 0;
        for line in sources::lines(&dir.join(FILE), &mut self.notes) {
            match serde_json::from_str(&line) {
                Ok(entry) => self.entries.push(entry),
                Err(_) => torn += usize::from(!line.trim().is_empty()),
            }
        }
        if torn > 0 {
            let lines = if torn == 1 {
                "1 line".to_owned()
            } else {
                format!("{torn} lines")
            };
            self.notes.push(format!("{lines} of {FILE} cannot be read"));
        }
        if self.entries.is_empty() {
            self.notes.push(format!(
                "there is no {FILE}: the lab wrote down nothing itself"
            ));
        }
    }

    /// A tee knows which plugin printed a line that the daemon's output has, too.
    fn drop_twice_printed(&mut self) {
        let mut teed: HashMap<(String, String), usize> = HashMap::new();
        let node_of = |lane: &str| lane.split('/').next().unwrap_or_default().to_owned();
        for entry in self
            .entries
            .iter()
            .filter(|entry| entry.kind == Kind::Stderr)
        {
            if entry.from.contains('/') {
                let key = (node_of(&entry.from), entry.text.clone().unwrap_or_default());
                *teed.entry(key).or_default() += 1;
            }
        }
        self.entries.retain(|entry| {
            if entry.kind != Kind::Stderr || entry.from.contains('/') {
                return true;
            }
            let key = (entry.from.clone(), entry.text.clone().unwrap_or_default());
            match teed.get_mut(&key) {
                Some(left) if *left > 0 => {
                    *left -= 1;
                    false
                }
                _ => true,
            }
        });
    }

    /// Leaves out what is too much: of lines, before anything else.
    fn bound(&mut self) {
        let more = self.entries.len().saturating_sub(MOST);
        if more == 0 {
            return;
        }
        let is_line = |entry: &Entry| matches!(entry.kind, Kind::Log | Kind::Stderr) && !entry.bad;
        let lines = self.entries.iter().filter(|entry| is_line(entry)).count();
        let (mut of_lines, mut of_others) = (more.min(lines), more.saturating_sub(lines));
        self.notes.push(format!(
            "there are more than {MOST} entries: the oldest are left out, {of_lines} lines and {of_others} others"
        ));
        self.entries.retain(|entry| {
            let left = if is_line(entry) {
                &mut of_lines
            } else {
                &mut of_others
            };
            let drop = *left > 0 && entry.kind != Kind::Lab;
            *left -= usize::from(drop);
            !drop
        });
    }

    /// Leaves out what the oldest sent, if all of it is too much.
    fn bound_bytes(&mut self, most: usize) {
        /// Of a text so many characters stay.
        const START: usize = 100;
        let (mut bytes, mut without) = (0, 0);
        for entry in self.entries.iter_mut().rev() {
            let data = entry.data.as_ref().map_or(0, |data| data.get().len());
            let text = entry.text.as_ref().map_or(0, String::len);
            if bytes + data + text <= most || data + text <= START {
                bytes += data + text;
                continue;
            }
            // What is older is left out, too, however short it is.
            bytes = most;
            without += 1;
            entry.cut = entry.cut.or(Some(data.max(text)));
            entry.data = None;
            entry.text = entry
                .text
                .take()
                .map(|text| text.chars().take(START).collect());
        }
        if without > 0 {
            self.notes.push(format!(
                "more than {} MiB were sent: of the oldest {without} it is left out",
                most >> 20
            ));
        }
    }

    /// Only what involves these nodes (or `lab`, `bitcoind`, `NODE/PLUGIN`); all if there
    /// are none.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name that nothing has; it lists those there are.
    pub fn keep_nodes(&mut self, nodes: &[String]) -> Result<()> {
        if nodes.is_empty() {
            return Ok(());
        }
        let lanes = self.lanes();
        let is_of = |lane: &str, node: &String| {
            lane == node
                || lane
                    .strip_prefix(node.as_str())
                    .is_some_and(|rest| rest.starts_with('/'))
        };
        for node in nodes {
            if !lanes.iter().any(|lane| is_of(lane, node)) {
                return Err(Error::usage(format!(
                    "nothing about `{node}`: there are {}",
                    lanes.join(", ")
                )));
            }
        }
        let wanted = |lane: &str| nodes.iter().any(|node| is_of(lane, node));
        self.entries
            .retain(|entry| wanted(&entry.from) || entry.to.as_deref().is_some_and(wanted));
        Ok(())
    }

    /// Only these topics, methods, hooks or levels; all if there are none.
    pub fn keep_topics(&mut self, topics: &[String]) {
        self.entries
            .retain(|entry| topics.is_empty() || topics.contains(&entry.name));
    }

    /// Only what happened at this time (RFC 3339) or later, or so long (`10s`) before the
    /// last entry.
    ///
    /// # Errors
    /// [`Error::Usage`] if it is neither.
    pub fn keep_since(&mut self, since: &str) -> Result<()> {
        let bad = || {
            Error::usage(format!(
                "`{since}` is neither a time like 2026-11-22T07:31:09Z nor a duration like 10s"
            ))
        };
        let from = if let Ok(time) = humantime::parse_rfc3339_weak(since) {
            time
        } else {
            let back: Duration = humantime::parse_duration(since).map_err(|_| bad())?;
            let last = self.entries.last().and_then(|entry| time_of(&entry.at));
            let last = last.unwrap_or_else(SystemTime::now);
            last.checked_sub(back).ok_or_else(bad)?
        };
        self.entries
            .retain(|entry| time_of(&entry.at).is_none_or(|at| at >= from));
        Ok(())
    }

    /// Who took part: the lab, bitcoind, the nodes in order, each followed by its plugins,
    /// then peers that are no nodes of the lab.
    pub fn lanes(&self) -> Vec<String> {
        let mut lanes: Vec<&str> = Vec::new();
        let mut seen = HashSet::new();
        for entry in &self.entries {
            for lane in std::iter::once(&entry.from).chain(&entry.to) {
                if seen.insert(lane.as_str()) {
                    lanes.push(lane);
                }
            }
        }
        let node = |lane: &str| {
            let name = lane.split('/').next();
            self.nodes
                .iter()
                .position(|node| Some(node.as_str()) == name)
        };
        // The sort keeps the order of plugins and peers.
        lanes.sort_by_key(|lane| match *lane {
            "lab" => (0, 0, false),
            "bitcoind" => (1, 0, false),
            lane => match node(lane) {
                Some(place) => (2, place, lane.contains('/')),
                None => (3, 0, false),
            },
        });
        lanes.into_iter().map(str::to_owned).collect()
    }
}

pub(super) fn time_of(at: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(at).ok()
}

/// What is in a node's folder.
fn of_node(
    node: &str,
    folder: &Path,
    names: &HashMap<String, String>,
    level: Level,
    notes: &mut Vec<String>,
) -> Vec<Entry> {
    let mut log = NodeLog::new(node, names, level);
    for line in sources::lines(&folder.join("log"), notes) {
        log.push(&line);
    }
    let mut entries = log.entries;
    let network = folder.join(NETWORK);
    for (recorder, file) in recorders(folder, &network) {
        entries.extend(sources::recorded(
            node,
            &recorder,
            &sources::lines(&file, notes),
        ));
    }
    // Started with a tee: `teed/NAME`, and beside it the record.
    let teed = log.started.iter().filter(|path| {
        let folder = path.parent().and_then(Path::file_name);
        folder.is_some_and(|folder| folder == "teed")
    });
    let mut read = HashSet::new();
    for path in teed.filter(|path| read.insert(*path)) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let record = path.with_file_name(format!("{name}.wire"));
        let wire = sources::wire(node, &name, &sources::lines(&record, notes));
        // The log has its hooks as well, without what was sent.
        let lane = format!("{node}/{name}");
        entries.retain(|entry| {
            let hook = matches!(entry.kind, Kind::Hook | Kind::Answer);
            !(hook && (entry.from == lane || entry.to.as_ref() == Some(&lane)))
        });
        entries.extend(wire);
    }
    let config = std::fs::read_to_string(folder.join("config")).unwrap_or_default();
    let saved = config
        .lines()
        .find_map(|line| line.strip_prefix("dev-save-plugin-io="));
    if let Some(saved) = saved {
        entries.extend(sources::saved(node, &network.join(saved), MOST, notes));
    }
    entries
}

/// The files of recorders, each with its plugin's name: those of plugins in the network
/// directory, and those of taps.
fn recorders(folder: &Path, network: &Path) -> Vec<(String, PathBuf)> {
    let children = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    };
    let is_record = |path: &PathBuf| {
        path.extension()
            .is_some_and(|extension| extension == "jsonl")
    };
    let own = children(network).into_iter().filter(is_record);
    let own = own.map(|path| {
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        (name, path)
    });
    let taps = children(&folder.join("inline"));
    let taps = taps
        .iter()
        .map(|tap| tap.join("events.jsonl"))
        .filter(|path| path.exists());
    own.chain(taps.map(|path| ("tap".to_owned(), path)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, path: &str, text: &str) {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }

    /// A lab as it is left by one that was killed.
    fn left() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        write(
            dir.path(),
            FILE,
            r#"{"trace-version":1,"at":"2026-01-01T00:00:01.000000Z","kind":"lab","from":"lab","new":"member"}
{"at":"2026-01-01T00:00:02.000500Z","kind":"request","from":"lab","to":"l1","name":"connect","data":{"a":1.50}}
{"at":"2026-01-01T00:00:02.900000Z","kind":"stderr","from":"l1","text":"one"}
{"at":"20"#,
        );
        write(dir.path(), "bitcoind/output", "");
        write(dir.path(), "l2/output", "");
        write(dir.path(), "l1/output", "one\ntwo\nthree\n");
        write(
            dir.path(),
            "l1/log",
            &format!(
                "2026-01-01T00:00:02.000Z DEBUG   plugin-manager: started(1) {0}/w/teed/p\n\
                 2026-01-01T00:00:02.000Z UNUSUAL lightningd: odd\n",
                dir.path().display()
            ),
        );
        write(
            dir.path(),
            "w/teed/p.wire",
            r#"{"at":"2025-01-01T00:00:02.2Z","from":"stderr","text":"of another lab"}
{"at":"2026-01-01T00:00:02.2Z","from":"stderr","text":"two"}
"#,
        );
        write(
            dir.path(),
            "l1/regtest/eventlog.jsonl",
            r#"{"received_at":"2026-01-01T00:00:02.100000Z","topic":"connect","payload":{}}"#,
        );
        dir
    }

    #[test]
    fn everything_is_read_in_the_order_of_time() {
        let dir = left();
        let trace = Trace::read(dir.path(), Level::Unusual).expect("a trace");
        let seen: Vec<String> = trace
            .entries
            .iter()
            .map(|entry| format!("{:?} {} {}", entry.kind, entry.from, entry.name))
            .collect();
        assert_eq!(
            seen,
            [
                "Lab lab ",
                "Request lab connect",
                "Start l1 ",
                "Log l1 unusual",
                "Notification l1 connect",
                "Stderr l1/p ",
                "Stderr l1 ",
                "Stderr l1 ",
            ]
        );
        let printed = trace
            .entries
            .iter()
            .filter(|entry| entry.kind == Kind::Stderr);
        let printed: Vec<_> = printed.filter_map(|entry| entry.text.as_deref()).collect();
        assert_eq!(printed, ["two", "one", "three"]);
        assert_eq!(trace.notes, ["1 line of trace.jsonl cannot be read"]);
        assert_eq!(trace.lanes(), ["lab", "l1", "l1/p", "l1/eventlog"]);
    }

    #[test]
    fn what_is_wanted_is_kept() {
        let dir = left();
        let trace = || Trace::read(dir.path(), Level::Unusual).expect("a trace");
        let mut one = trace();
        one.keep_nodes(&["l1/p".to_owned()]).expect("known");
        assert_eq!(one.entries.len(), 2);
        let error = one
            .keep_nodes(&["l3".to_owned()])
            .expect_err("unknown")
            .to_string();
        assert!(error.contains("l1/p"), "{error}");
        let mut one = trace();
        one.keep_topics(&["connect".to_owned()]);
        assert_eq!(one.entries.len(), 2);
        let mut one = trace();
        one.keep_since("2026-01-01T00:00:02.150Z").expect("a time");
        assert_eq!(one.entries[0].from, "l1/p");
        assert!(one.keep_since("x").is_err() && one.keep_since("10").is_err());
        let nothing = tempfile::tempdir().expect("a folder");
        assert!(Trace::read(nothing.path(), Level::Unusual).is_err());
    }

    #[test]
    fn what_the_oldest_sent_is_left_out() {
        let sent =
            |n: usize| Entry::new(Kind::Answer, "l1").json(&format!("[\"{}\"]", "x".repeat(n)));
        let mut trace = Trace {
            entries: vec![sent(10), sent(3000), sent(1000), sent(1000)],
            ..Trace::default()
        };
        trace.bound_bytes(2500);
        let left: Vec<_> = trace
            .entries
            .iter()
            .map(|entry| (entry.data.is_some(), entry.cut))
            .collect();
        assert_eq!(
            left,
            [
                (true, None),
                (false, Some(3004)),
                (true, None),
                (true, None)
            ]
        );
        assert!(
            trace.notes[0].contains("the oldest 1 "),
            "{:?}",
            trace.notes
        );
    }

    #[test]
    fn a_flood_is_bounded_and_leaves_the_rest() {
        let dir = left();
        let mut line = String::new();
        for n in 0..MOST + 1000 {
            line.push_str(&format!(
                "2026-01-01T00:00:03.{:06}Z UNUSUAL lightningd: flood\n",
                n % 1_000_000
            ));
        }
        write(dir.path(), "l2/log", &line);
        let trace = Trace::read(dir.path(), Level::Unusual).expect("a trace");
        assert_eq!(trace.entries.len(), MOST);
        assert!(
            trace
                .entries
                .iter()
                .any(|entry| entry.kind == Kind::Request)
        );
        assert!(
            trace.notes.iter().any(|note| note.contains("left out")),
            "{:?}",
            trace.notes
        );
    }
}
