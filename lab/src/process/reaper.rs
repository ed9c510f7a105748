//! Ends a lab's daemons when the lab itself can no longer do it.
//!
//! A process that is killed with `kill -9` runs no destructor, and
//! `PR_SET_PDEATHSIG` fires when the *thread* that spawned a child ends, which
//! an async runtime's threads do. So each lab keeps one small shell process that
//! reads a pipe from it. The lab's end, however it comes, closes the pipe; the
//! shell then kills what was still registered and removes the lab's folder.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use crate::Result;
use crate::error::IoContext;
use crate::lock::lock;

/// Reads `+PID`, `-PID`, `keep`, `quit`, a line each. At the end of input it
/// kills the process group of each registered PID. It ignores the signals of a
/// terminal: the lab handles Ctrl-C, and the lab's death ends the input. It waits at
/// most half a second for them to be gone before it removes the folder: where
/// nobody reaps orphans, they look alive for ever.
const SCRIPT: &str = r#"
trap '' INT TERM HUP QUIT
dir=$1 pids=' ' keep=
while read -r line; do
    pid=${line#?}
    case $line in
        +*) pids="$pids$pid " ;;
        -*) case $pids in *" $pid "*) pids="${pids%%" $pid "*} ${pids#*" $pid "}" ;; esac ;;
        keep) keep=yes ;;
        quit) exit 0 ;;
    esac
done
for pid in $pids; do kill -KILL "-$pid" 2>/dev/null; done
tries=0
for pid in $pids; do
    while kill -0 "-$pid" 2>/dev/null && [ "$tries" -lt 25 ]; do
        tries=$((tries + 1)); sleep 0.02
    done
done
[ -n "$keep" ] || rm -rf -- "$dir"
"#;

/// The shell process, which outlives the lab by a moment.
#[derive(Debug)]
pub(crate) struct Reaper {
    child: Child,
    pipe: Mutex<File>,
}

impl Reaper {
    /// Starts watching over `dir`, the lab's folder.
    pub(crate) fn start(dir: &Path) -> Result<Reaper> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "cln-lab-reaper"])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()
            .doing("start the reaper", "/bin/sh")?;
        let Some(stdin) = child.stdin.take() else {
            unreachable!("stdin is piped");
        };
        Ok(Reaper {
            child,
            pipe: Mutex::new(File::from(OwnedFd::from(stdin))),
        })
    }

    /// Makes a command register its own process between fork and exec, so that
    /// there is no moment in which it runs unregistered. The child becomes the
    /// leader of its own process group.
    pub(crate) fn watch(&self, command: &mut Command) {
        command.process_group(0);
        let pipe = lock(&self.pipe).as_raw_fd();
        let register = move || {
            // Between fork and exec: no allocation, only `write`.
            let (line, len) = plus_line(std::process::id());
            let mut written = 0;
            while written < len {
                // SAFETY: `line` is valid for `len` bytes; the descriptor is the
                // reaper's pipe, which its owner keeps open across the fork.
                let n = unsafe {
                    nix::libc::write(pipe, line[written..len].as_ptr().cast(), len - written)
                };
                if n < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                written += n as usize;
            }
            Ok(())
        };
        // SAFETY: the closure only calls `getpid` and `write`, which are safe
        // between fork and exec (signal-safety(7)).
        unsafe { command.pre_exec(register) };
    }

    /// The process group is gone and must not be killed: its number may be
    /// another group's soon.
    pub(crate) fn forget(&self, pid: u32) {
        self.send(&format!("-{pid}\n"));
    }

    /// From now on the folder stays, whatever happens.
    pub(crate) fn keep_folder(&self) {
        self.send("keep\n");
    }

    fn send(&self, line: &str) {
        // Without the reaper, the lab still cleans up when it ends in good order.
        if let Err(error) = lock(&self.pipe).write_all(line.as_bytes()) {
            tracing::warn!(%error, "the reaper is gone");
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.send("quit\n");
        let _ = self.child.wait();
    }
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
