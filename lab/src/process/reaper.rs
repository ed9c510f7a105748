//! Ends a lab's processes and removes its folder, however the lab itself ends.
//!
//! A process that is killed with `kill -9` runs no destructor. So each lab keeps one
//! small shell process, the reaper, that reads a pipe from it. The lab's end, however
//! it comes, closes the pipe; the reaper then kills what is left and removes the
//! folder. There is no second way for an end in good order.
//!
//! It knows what is left in two ways: from the process groups registered with it, and
//! from the environment of each process in `/proc`, which has the lab's [`MARK`] also
//! if the process has a session of its own.
//!
//! If lab and reaper are killed together, the kernel kills the lab's children
//! ([`super::lasting`]), which ends what they started unless it ignores the end of its
//! input; a reaper for the same folder, started by the next lab, does the rest.
//!
//! A PID namespace would leave nothing even then. But in it lightningd and its plugins
//! have other process ids than outside: the ids in pid files and logs would be those of
//! strangers, and gdb could run no node. Most containers allow none, anyway.

use std::io::{Error, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;

use crate::lock::lock;

/// The environment variable of all processes of a lab: the lab's folder.
const MARK: &str = "CLN_LAB_FOLDER";

/// Keeps the folder.
const KEEP: &str = "keep\n";

/// Lets it end, also if a process that the lab forked holds the pipe open.
const END: &str = "end\n";

/// Reads `+PID`, `-PID`, `keep` and `end`, a line each. At the end of input it kills the
/// process group of each registered PID, and every process that has the mark, and
/// removes the folder. It ignores the signals of a terminal: the lab handles Ctrl-C,
/// and the lab's death ends the input. It waits at most half a second for the processes
/// to be gone: where nobody reaps orphans, they look alive for ever.
const SCRIPT: &str = r#"
trap '' INT TERM HUP QUIT
dir=$1 mark=$2 groups=' ' keep=
while read -r line; do
    group=${line#?}
    case $line in
        +*) groups="$groups$group " ;;
        -*) case $groups in *" $group "*) groups="${groups%%" $group "*} ${groups#*" $group "}" ;; esac ;;
        keep) keep=yes ;;
        end) break ;;
    esac
done
for group in $groups; do kill -KILL "-$group" 2>/dev/null; done
alive() {
    set -- $(grep -lszxF -e "$mark" /proc/[0-9]*/environ 2>/dev/null)
    for file; do
        pid=${file#/proc/}
        kill -KILL "${pid%/environ}" 2>/dev/null
    done
    [ $# -gt 0 ] && return
    for group in $groups; do kill -0 "-$group" 2>/dev/null && return; done
    return 1
}
tries=0
while [ "$tries" -lt 25 ] && alive; do tries=$((tries + 1)); sleep 0.02; done
[ -z "$keep" ] || exit 0
# What is being killed can still make a file.
tries=0
until rm -rf -- "$dir" || [ "$tries" -ge 25 ]; do tries=$((tries + 1)); sleep 0.02; done 2>/dev/null
[ ! -e "$dir" ]
"#;

/// The shell process, which outlives the lab by a moment.
///
/// Dropping it ends all processes of the lab, and waits until they and the folder are
/// gone.
#[derive(Debug)]
pub(crate) struct Reaper {
    dir: PathBuf,
    shell: Mutex<Child>,
    keeps_folder: AtomicBool,
}

impl Reaper {
    /// Starts watching over `dir`, the lab's folder, which need not exist yet.
    ///
    /// # Errors
    /// If no process can be started.
    pub(crate) fn start(dir: &Path) -> std::io::Result<Reaper> {
        Ok(Reaper {
            shell: Mutex::new(shell(dir)?),
            dir: dir.to_owned(),
            keeps_folder: AtomicBool::new(false),
        })
    }

    /// Marks a command, and makes it register its own process between fork and exec, so
    /// that there is no moment in which it runs unregistered. The child becomes the
    /// leader of its own process group.
    pub(super) fn watch(&self, command: &mut Command) {
        command.env(MARK, &self.dir).process_group(0);
        let shell = lock(&self.shell);
        let Some(pipe) = shell.stdin.as_ref().map(AsRawFd::as_raw_fd) else {
            unreachable!("its input is a pipe, closed by its end");
        };
        // SAFETY: the closure allocates nothing and only makes calls that are safe
        // between fork and exec (signal-safety(7)); the pipe is open across the fork.
        unsafe { command.pre_exec(move || register(pipe)) };
    }

    /// Registers the process group of a process that is there already.
    pub(crate) fn adopt(&self, pid: u32) {
        self.send(&format!("+{pid}\n"));
    }

    /// The process group is gone and must not be killed: its number may be
    /// another group's soon.
    pub(super) fn forget(&self, pid: u32) {
        self.send(&format!("-{pid}\n"));
    }

    /// From now on the folder stays, whatever happens.
    pub(crate) fn keep_folder(&self) {
        self.keeps_folder.store(true, Ordering::Relaxed);
        self.send(KEEP);
    }

    /// An error if it has ended: nobody would clean up after a lab that is killed.
    ///
    /// # Errors
    /// With its process id, and what to do.
    pub(crate) fn check_alive(&self) -> std::io::Result<()> {
        let mut shell = lock(&self.shell);
        match shell.try_wait()? {
            None => Ok(()),
            Some(status) => Err(Error::other(format!(
                "the lab's reaper (process {}), which cleans up after a lab that is killed, has \
                 ended: {status}; end this lab and start another",
                shell.id()
            ))),
        }
    }

    fn send(&self, line: &str) {
        if let Err(error) = send(&mut lock(&self.shell), line) {
            tracing::warn!(%error, "the reaper is gone");
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        let keeps_folder = *self.keeps_folder.get_mut();
        self.send(END);
        let mut ended = lock(&self.shell).wait();
        if !ended.as_ref().is_ok_and(ExitStatus::success) {
            // It was killed: another one does its work.
            ended = shell(&self.dir).and_then(|mut shell| {
                if keeps_folder {
                    send(&mut shell, KEEP)?;
                }
                send(&mut shell, END)?;
                shell.wait()
            });
        }
        if !ended.as_ref().is_ok_and(ExitStatus::success) {
            tracing::warn!(?ended, dir = %self.dir.display(), "could not clean up");
        }
    }
}

fn shell(dir: &Path) -> std::io::Result<Child> {
    Command::new("/bin/sh")
        .args(["-c", SCRIPT, "cln-lab-reaper"])
        .arg(dir)
        .arg(format!("{MARK}={}", dir.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .process_group(0)
        .spawn()
}

fn send(shell: &mut Child, line: &str) -> std::io::Result<()> {
    match &mut shell.stdin {
        Some(pipe) => pipe.write_all(line.as_bytes()),
        None => Ok(()),
    }
}

/// Writes `+PID`. A reaper that is gone must not kill by SIGPIPE, which has its default
/// effect here.
fn register(pipe: i32) -> std::io::Result<()> {
    let (line, len) = plus_line(std::process::id());
    // SAFETY: `line` is valid for `len` bytes, which a pipe takes at once.
    let written = unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        let written = libc::write(pipe, line.as_ptr().cast(), len);
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        written
    };
    if written < 0 {
        return Err(Error::last_os_error());
    }
    Ok(())
}

/// `+PID\n`, without allocating.
fn plus_line(mut pid: u32) -> ([u8; 12], usize) {
    let mut digits = [0u8; 10];
    let mut n = 0;
    loop {
        digits[n] = b'0' + (pid % 10) as u8;
        pid /= 10;
        n += 1;
        if pid == 0 {
            break;
        }
    }
    let mut line = [0u8; 12];
    line[0] = b'+';
    for i in 0..n {
        line[1 + i] = digits[n - 1 - i];
    }
    line[n + 1] = b'\n';
    (line, n + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_are_written_without_allocating() {
        for pid in [1, 9, 10, 4_194_304, u32::MAX] {
            let (line, len) = plus_line(pid);
            assert_eq!(
                std::str::from_utf8(&line[..len]).expect("ascii"),
                format!("+{pid}\n")
            );
        }
    }
}
