//! The tee at work: the plugin's process, and beside it one that copies.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use cln_lab::{Error, IoContext, Messages, Result};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::record::{Recorder, Sender};

/// Becomes the plugin, with a process beside it that copies what passes into `record`.
///
/// lightningd then has the plugin itself as its child, and ends it as any other. Returns
/// only if it cannot be run.
///
/// # Errors
/// If it cannot be run, or a pipe cannot be made.
pub fn run(record: &Path, plugin: &Path) -> Result<std::convert::Infallible> {
    let (stdin, to_plugin) = pipe().doing("make a pipe for", plugin)?;
    let (from_plugin, stdout) = pipe().doing("make a pipe for", plugin)?;
    let (from_stderr, stderr) = pipe().doing("make a pipe for", plugin)?;
    Recorder::open(record)?
        .text(
            Sender::Tee,
            format!("started, process {}", std::process::id()),
        )
        .doing("write", record)?;
    let ends = [to_plugin.as_fd(), from_plugin.as_fd(), from_stderr.as_fd()];
    let inherit = |flag: FdFlag| -> Result<()> {
        for end in ends {
            fcntl(end, FcntlArg::F_SETFD(flag)).doing("pass a pipe of", plugin)?;
        }
        Ok(())
    };
    let lab = std::env::current_exe().doing("find the program", "lab")?;
    inherit(FdFlag::empty())?;
    // A child of nobody's: the plugin must not find one that it did not start. A shell
    // gives a background process an empty input, hence descriptor 9.
    let status = Command::new("sh")
        .args(["-c", "exec 9<&0; \"$@\" <&9 9<&- &", "sh"])
        .arg(lab)
        .args(["tee", "--relay"])
        .args(ends.map(|end| end.as_raw_fd().to_string()))
        .arg(record)
        .status()
        .doing("run", "sh")?;
    inherit(FdFlag::FD_CLOEXEC)?;
    if !status.success() {
        return Err(Error::usage(format!(
            "the tee could not be started: {status}"
        )));
    }
    let error = Command::new(plugin)
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .exec();
    Err(error).doing("run", plugin)
}

/// Copies, until the plugin has closed its output: our stdin to the first of these
/// descriptors, the second to our stdout, the third to our stderr.
///
/// # Errors
/// If the record cannot be opened.
pub fn relay(ends: [RawFd; 3], record: &Path) -> Result<()> {
    // SAFETY: they were passed to us, see `run`, and nobody else in this process has them.
    let [to_plugin, from_plugin, from_stderr] =
        ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
    let recorder = Arc::new(Mutex::new(Recorder::open(record)?));
    let copy = |mut from: Box<dyn Read + Send>, mut to: Box<dyn Write + Send>, sender| {
        let recorder = Arc::clone(&recorder);
        std::thread::spawn(move || {
            let mut cut = Cut::new(sender);
            let mut buffer = [0; 16 * 1024];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                // Recorded first: what has arrived is in the record. One that cannot be
                // written keeps nothing from passing.
                let mut recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = cut.push(&buffer[..count], &mut recorder);
                drop(recorder);
                if to
                    .write_all(&buffer[..count])
                    .and_then(|()| to.flush())
                    .is_err()
                {
                    return;
                }
            }
        })
    };
    copy(
        Box::new(std::io::stdin()),
        Box::new(PipeWriter::from(to_plugin)),
        Sender::Lightningd,
    );
    let stderr = copy(
        Box::new(PipeReader::from(from_stderr)),
        Box::new(std::io::stderr()),
        Sender::Stderr,
    );
    // The plugin's stdout, and with us its last holder, ends when the plugin does.
    let _ = copy(
        Box::new(PipeReader::from(from_plugin)),
        Box::new(File::from(
            std::io::stdout()
                .as_fd()
                .try_clone_to_owned()
                .doing("copy", "stdout")?,
        )),
        Sender::Plugin,
    )
    .join();
    let _ = stderr.join();
    let mut recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner);
    recorder
        .text(Sender::Tee, "the plugin has closed its stdout".to_owned())
        .doing("write", record)
}

/// A longer line, in bytes, is recorded in pieces; of what is no message, no more is.
const LONGEST: usize = 16 * 1024;
/// More standard error, in bytes, is passed on and not recorded.
const STDERR: usize = 1 << 20;
/// A record's, about, in bytes: lines may be short.
const OVERHEAD: usize = 80;

/// Cuts one stream into what is recorded of it.
struct Cut {
    sender: Sender,
    messages: Messages,
    line: Vec<u8>,
    /// How much of standard error was recorded, in bytes of the record.
    recorded: usize,
}

impl Cut {
    fn new(sender: Sender) -> Cut {
        Cut {
            sender,
            messages: Messages::default(),
            line: Vec::new(),
            recorded: 0,
        }
    }

    fn push(&mut self, bytes: &[u8], recorder: &mut Recorder) -> std::io::Result<()> {
        if self.sender == Sender::Stderr {
            return self.push_stderr(bytes, recorder);
        }
        self.messages.push(bytes);
        loop {
            let unread = self.messages.start_of_rest(LONGEST);
            match self.messages.next() {
                Ok(Some(message)) => recorder.message(self.sender, message)?,
                Ok(None) => return Ok(()),
                Err(_) => {
                    // As it was written: nobody knows where it ends.
                    self.messages = Messages::default();
                    return recorder.text(self.sender, unread);
                }
            }
        }
    }
}

impl Cut {
    fn push_stderr(&mut self, bytes: &[u8], recorder: &mut Recorder) -> std::io::Result<()> {
        if self.recorded > STDERR {
            return Ok(());
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.line.len() > LONGEST {
                let line = std::mem::take(&mut self.line);
                self.recorded += line.len() + OVERHEAD;
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                recorder.text(Sender::Stderr, text)?;
            }
        }
        if self.recorded > STDERR {
            let text = "… more than this is not recorded: it is in the node's output";
            recorder.text(Sender::Stderr, text.to_owned())?;
        }
        Ok(())
    }
}

/// The paths that belong to a plugin's tee.
pub(super) fn beside(plugin: &Path) -> (PathBuf, PathBuf) {
    let name = plugin.file_name().unwrap_or_default();
    let folder = plugin.with_file_name("teed");
    let mut record = name.to_owned();
    record.push(".wire");
    (folder.join(name), folder.join(record))
}
