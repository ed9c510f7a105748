//! The failure report: everything one would look for after something went wrong.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::binaries::PROGRAMS;
use crate::bitcoin::Bitcoind;
use crate::node::Node;
use crate::process::daemon::{command_line, quoted};
use crate::process::files::last_lines;

/// At most this many lines of the logs, and of each file of events.
const LOG_LINES: usize = 40;
const EVENTS: usize = 5;
/// A line longer than this is cut.
const WIDTH: usize = 300;

/// A lab's failure report. Its text is made from the lab's folder when it is
/// shown.
#[derive(Debug)]
pub(crate) struct Report {
    dir: PathBuf,
    daemons: Vec<String>,
    awaited: Option<String>,
}

impl Report {
    /// Of the lab in this folder.
    pub fn new(dir: &Path) -> Report {
        Report {
            dir: dir.to_owned(),
            daemons: Vec::new(),
            awaited: None,
        }
    }

    /// Versions and command lines.
    pub fn daemons<'a>(
        mut self,
        bitcoind: &Bitcoind,
        nodes: impl Iterator<Item = &'a Node>,
    ) -> Report {
        self.daemons = vec![format!(
            "bitcoind: {} -datadir={}",
            quoted(&bitcoind.program().display().to_string()),
            quoted(&bitcoind.dir().display().to_string())
        )];
        for node in nodes {
            self.daemons.push(format!(
                "{}, {}: {}",
                node.name(),
                node.implementation(),
                command_line(&node.start_command())
            ));
        }
        self
    }

    /// The wait that timed out.
    pub fn awaited(mut self, awaited: Option<String>) -> Report {
        self.awaited = awaited;
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the lab in {} failed", self.dir.display())?;
        if let Some(awaited) = &self.awaited {
            section(f, "awaited", awaited.lines())?;
        }
        for path in recordings(&self.dir) {
            let lines = last_lines(&path, EVENTS);
            let title = format!("last recorded in {}", path.display());
            section(f, &title, lines.iter().map(String::as_str))?;
        }
        let merged = merged_logs(&self.dir);
        section(
            f,
            "the ends of the logs, by time",
            merged.iter().map(String::as_str),
        )?;
        section(f, "daemons", self.daemons.iter().map(String::as_str))?;
        section(f, "to run it again", [again().as_str()])
    }
}

fn section<'a>(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    lines: impl IntoIterator<Item = &'a str>,
) -> fmt::Result {
    let mut lines = lines.into_iter().peekable();
    if lines.peek().is_none() {
        return Ok(());
    }
    writeln!(f, "  {title}:")?;
    for line in lines {
        match line.char_indices().nth(WIDTH) {
            Some((end, _)) => writeln!(f, "    {}…", &line[..end])?,
            None => writeln!(f, "    {line}")?,
        }
    }
    Ok(())
}

/// Folders of daemons: each has one in the lab's.
fn folders(dir: &Path) -> Vec<PathBuf> {
    let mut folders = children(dir);
    folders.retain(|path| path.is_dir());
    folders
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Files of events: those of taps, and those that plugins write to the node's network
/// directory.
fn recordings(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in folders(dir) {
        found.extend(children(&folder.join(crate::node::NETWORK)));
        for tap in children(&folder.join("inline")) {
            found.extend(children(&tap));
        }
    }
    found.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "jsonl")
    });
    found
}

/// The last lines of all daemons' logs together, in the order of time, each with
/// its daemon's name before it. All of them begin their lines with the time in
/// one notation (RFC 3339, UTC), so that text sorts as time does.
fn merged_logs(dir: &Path) -> Vec<String> {
    let mut lines: Vec<(String, String)> = Vec::new();
    for folder in folders(dir) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        for log in [folder.join("log"), folder.join("regtest/debug.log")] {
            let mut time = String::new();
            for line in last_lines(&log, LOG_LINES) {
                // A line without a time belongs to the one before it.
                if let Some(own) = line.split(' ').next().filter(|word| is_time(word)) {
                    time = own.trim_end_matches('Z').to_owned();
                }
                lines.push((time.clone(), format!("{name}| {line}")));
            }
        }
        // What it printed before it had a log, or when it could not write to it.
        for line in last_lines(&folder.join("output"), EVENTS) {
            lines.push((String::new(), format!("{name}| {line}")));
        }
    }
    lines.sort_by(|a, b| a.0.cmp(&b.0));
    let timeless = lines.partition_point(|(time, _)| time.is_empty());
    let from = lines.len().saturating_sub(LOG_LINES).max(timeless);
    let shown = lines[..timeless].iter().chain(&lines[from..]);
    shown.map(|(_, line)| line.clone()).collect()
}

/// `2026-01-01T00:00:00…`
fn is_time(word: &str) -> bool {
    let bytes = word.as_bytes();
    bytes.len() >= 19 && bytes[4] == b'-' && bytes[10] == b'T' && bytes[0].is_ascii_digit()
}

/// The test whose thread this is: Rust's test harness names it after the test.
pub(super) fn test_of_thread() -> Option<String> {
    let thread = std::thread::current();
    let name = thread.name()?;
    (!matches!(name, "main" | "tokio-runtime-worker")).then(|| name.to_owned())
}

/// A command that repeats the run: this program with its arguments, the test's name
/// where the program runs several, and the environment variables that labs read.
fn again() -> String {
    let mut words = Vec::new();
    // What is not UTF-8 is shown as near as can be.
    for (name, value) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let ours = name.starts_with("LAB_") && name != "LAB_NODES_DIR";
        if ours || PROGRAMS.contains(&&*name) {
            words.push(format!("{name}={}", quoted(&value.to_string_lossy())));
        }
    }
    words.sort();
    let exe = std::env::current_exe().unwrap_or_default();
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let test = test_of_thread();
    words.extend(match cargo_target(&exe) {
        Some(target) => vec![
            "cargo".to_owned(),
            "test".to_owned(),
            target,
            "--".to_owned(),
        ],
        None => vec![quoted(&exe.display().to_string())],
    });
    let named = arguments.iter().any(|argument| argument == "--exact");
    match test {
        Some(test) if !named => words.extend(["--exact".to_owned(), quoted(&test)]),
        _ => words.extend(arguments.iter().map(|argument| quoted(argument))),
    }
    words.join(" ")
}

/// cargo's arguments for this program, if it is an integration test that cargo or
/// nextest runs: `-p PACKAGE --test NAME`.
fn cargo_target(exe: &Path) -> Option<String> {
    let package = std::env::var("CARGO_PKG_NAME").ok()?;
    // `NAME-HASH`
    let (name, _) = exe.file_stem()?.to_str()?.rsplit_once('-')?;
    let folder = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR")?);
    is_test(&folder, name).then(|| format!("-p {package} --test {name}"))
}

/// True if the package in this folder has an integration test of this name: a file
/// where cargo finds it, or one that its manifest names.
fn is_test(folder: &Path, name: &str) -> bool {
    let tests = folder.join("tests");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    tests.join(format!("{name}.rs")).is_file()
        || tests.join(name).join("main.rs").is_file()
        || manifest.split("[[test]]").skip(1).any(|test| {
            test.lines()
                .take_while(|line| !line.starts_with('['))
                .any(|line| line.replace(' ', "") == format!("name=\"{name}\""))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_found_where_cargo_finds_them() {
        let dir = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        };
        write("tests/file.rs", "");
        write("tests/folder/main.rs", "");
        write(
            "Cargo.toml",
            "[[test]]\nharness = false\nname = \"named\"\n\n[[bench]]\nname = \"bench\"\n",
        );
        for (name, expected) in [
            ("file", true),
            ("folder", true),
            ("named", true),
            ("bench", false),
            ("lab", false),
        ] {
            assert_eq!(is_test(dir.path(), name), expected, "{name}");
        }
    }

    #[test]
    fn logs_are_merged_by_time() {
        let dir = tempfile::tempdir().expect("a folder");
        for (name, log) in [
            (
                "l1",
                "2026-01-01T00:00:01.000Z one\n2026-01-01T00:00:03.000Z three\nand more\n",
            ),
            ("l2", "2026-01-01T00:00:02.500Z two\n"),
        ] {
            std::fs::create_dir(dir.path().join(name)).expect("a folder");
            std::fs::write(dir.path().join(name).join("log"), log).expect("a log");
        }
        std::fs::write(dir.path().join("l2/output"), "said\n").expect("output");
        let lines = merged_logs(dir.path());
        let texts: Vec<&str> = lines
            .iter()
            .map(|line| line.rsplit(' ').next().expect("a word"))
            .collect();
        assert_eq!(texts, ["said", "one", "two", "three", "more"]);
        assert!(lines[4].starts_with("l1| "), "{lines:?}");
    }
}
