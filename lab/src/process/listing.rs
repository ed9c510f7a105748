//! The processes of this machine, as `/proc` shows them, or ps(1) where there is none.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::Result;
use crate::error::IoContext;

/// A running process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its command line.
    pub command: String,
}

/// The processes of a process group.
///
/// # Errors
/// If there is neither `/proc` nor ps(1).
pub(crate) fn in_group(group: u32) -> Result<Vec<Process>> {
    list(group, |_| true)
}

/// Those processes of a process group that a signal has stopped.
///
/// # Errors
/// If there is neither `/proc` nor ps(1).
pub(crate) fn stopped_in_group(group: u32) -> Result<Vec<Process>> {
    list(group, |state| state.starts_with(['T', 't']))
}

fn list(group: u32, wanted: impl Fn(&str) -> bool) -> Result<Vec<Process>> {
    if stat("/proc/self").is_some() {
        let members = stats().filter(|(_, stat)| stat.group == group && wanted(&stat.state));
        let process = |(folder, _): (PathBuf, Stat)| {
            Some(Process {
                pid: folder.file_name()?.to_str()?.parse().ok()?,
                command: command_line(&folder),
            })
        };
        return Ok(members.filter_map(process).collect());
    }
    let columns = ["-o", "pgid=", "-o", "pid=", "-o", "stat=", "-o", "args="];
    let listing = ps(&[&["-A"], &columns[..]].concat())?;
    let word = |text| str::split_once(str::trim_start(text), char::is_whitespace);
    let process = |line| {
        let (pgid, rest) = word(line)?;
        let (pid, rest) = word(rest)?;
        let (state, command) = word(rest)?;
        (pgid.parse() == Ok(group) && wanted(state)).then_some(())?;
        Some(Process {
            pid: pid.parse().ok()?,
            command: command.trim_start().to_owned(),
        })
    };
    Ok(listing.lines().filter_map(process).collect())
}

/// True if the process has `dir` on its command line, as every daemon of a lab
/// has: a process id alone may belong to another program by now.
pub(crate) fn runs_in(pid: u32, dir: &Path) -> bool {
    let command = if stat("/proc/self").is_some() {
        command_line(Path::new(&format!("/proc/{pid}")))
    } else {
        ps(&["-o", "args=", "-p", &pid.to_string()]).unwrap_or_default()
    };
    command.contains(&*dir.to_string_lossy())
}

/// The words of a process's command line, by its folder of `/proc`; empty if it has
/// ended.
fn command_line(folder: &Path) -> String {
    let words = std::fs::read(folder.join("cmdline")).unwrap_or_default();
    let words = words.strip_suffix(b"\0").unwrap_or(&words);
    String::from_utf8_lossy(words).replace('\0', " ")
}

fn ps(arguments: &[&str]) -> Result<String> {
    let output = Command::new("ps")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .doing("run", "ps")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// True if there is a process of this id that has not ended. A zombie has.
pub fn is_alive(pid: u32) -> bool {
    let ended = stat(format!("/proc/{pid}")).is_some_and(|stat| stat.ended);
    !ended && kill(Pid::from_raw(pid as i32), None) != Err(Errno::ESRCH)
}

/// True if every member of process group `pgid` has ended and only waits to be
/// reaped, as happens in containers whose first process reaps nobody. Needs
/// `/proc`; false without it.
pub(crate) fn only_zombies(pgid: u32) -> bool {
    let mut members = stats().filter(|(_, stat)| stat.group == pgid).peekable();
    members.peek().is_some() && members.all(|(_, stat)| stat.ended)
}

/// True if every thread of a process, and of those it started, waits for something.
/// Needs `/proc`; false without it.
pub(crate) fn is_asleep(pid: u32) -> bool {
    // A thread may wake one that was looked at before, and sleep when its turn comes:
    // neither has run between two looks if all are asleep.
    let looks = [(); 2].map(|()| {
        let mut runs = Vec::new();
        sleeps(pid, &mut runs).then_some(runs)
    });
    looks[0].is_some() && looks[0] == looks[1]
}

/// Whether each of its threads sleeps when it is looked at, and how often each has run:
/// see `/proc/PID/schedstat` in proc(5).
fn sleeps(pid: u32, runs: &mut Vec<String>) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.flatten().all(|thread| {
        let read = |name| std::fs::read_to_string(thread.path().join(name)).unwrap_or_default();
        runs.push(read("schedstat"));
        let stat = read("stat");
        let state = stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
        let children = read("children");
        let mut children = children.split_whitespace();
        state.is_none_or(|state| matches!(state, "S" | "I"))
            && children.all(|child| child.parse().is_ok_and(|child| sleeps(child, runs)))
    })
}

/// What a process's folder of `/proc` says.
struct Stat {
    /// A letter, as proc_pid_stat(5) has them.
    state: String,
    group: u32,
    ended: bool,
}

/// Those of all processes, with their folders.
fn stats() -> impl Iterator<Item = (PathBuf, Stat)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), stat(entry.path())?)))
}

fn stat(folder: impl AsRef<Path>) -> Option<Stat> {
    let stat = std::fs::read_to_string(folder.as_ref().join("stat")).ok()?;
    // `pid (name) state ppid pgrp …`: the name may hold anything, so from its end.
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let threads: u32 = fields.get(17)?.parse().ok()?;
    let state = *fields.first()?;
    Some(Stat {
        state: state.to_owned(),
        group: fields.get(2)?.parse().ok()?,
        // While other threads still end, so do its files and locks.
        ended: state == "Z" && threads <= 1,
    })
}
