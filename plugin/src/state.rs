//! The state file, `eventlog.jsonl.state`: the last sequence number, and how the
//! plugin ended. It outlives a log file that is moved away, deleted or compressed,
//! so that no number is given twice, and a start knows what came before it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cursor::Epoch;
use crate::older;
use crate::reader::LARGEST;

/// The topic of the record at each start.
pub const STARTED: &str = "eventlog_started";

/// The file's size in bytes: each write replaces all of it at once.
const SIZE: usize = 256;

/// What is known from one start to the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The last sequence number given.
    pub last_seq: u64,
    /// Did the plugin end on its own? False while it runs.
    pub ended: bool,
    /// Notifications lost at that end, for they could not be written.
    pub lost: u64,
    /// Which numbers these are.
    #[serde(default)]
    pub epoch: Epoch,
    /// The log file at that end.
    #[serde(default)]
    pub log: Option<Mark>,
}

/// By which the log file is known again: one that was cut, replaced or brought back
/// from a backup has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Its inode.
    pub inode: u64,
    /// Its length, in bytes.
    pub length: u64,
    /// When it was last changed in any way, in nanoseconds: no tool sets that.
    pub changed: i128,
}

/// The state file, open if that is possible.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
    file: Option<File>,
    known: Known,
    /// A failure was logged.
    failed: bool,
}

impl State {
    /// Opens the state of this log file, or makes it; gives what it says.
    pub fn open(log: &Path) -> (Self, Option<Known>) {
        let mut name = log.as_os_str().to_owned();
        name.push(".state");
        let mut state = Self {
            path: PathBuf::from(name),
            file: None,
            known: Known::default(),
            failed: false,
        };
        let known = match state.reopen() {
            Ok(()) => state.read(),
            Err(error) => {
                state.fail(&error);
                None
            }
        };
        (state, known)
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.file = None;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .mode(0o600)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(&self.path)?;
        let metadata = file.metadata()?;
        let own = metadata.uid() == nix::unistd::geteuid().as_raw();
        if !metadata.is_file() || metadata.nlink() != 1 || !own {
            return Err(io::Error::other("not a regular file of lightningd's user"));
        }
        self.file = Some(file);
        Ok(())
    }

    fn read(&self) -> Option<Known> {
        let mut bytes = [0; SIZE];
        let length = self.file.as_ref()?.read_at(&mut bytes, 0).ok()?;
        let known: Known = serde_json::from_slice(&bytes[..length]).ok()?;
        (known.last_seq <= LARGEST).then_some(known)
    }

    /// Notes the last number given.
    pub fn note(&mut self, last_seq: u64) {
        self.known = Known {
            last_seq,
            ended: false,
            lost: 0,
            epoch: self.known.epoch,
            log: None,
        };
        self.write();
    }

    /// Begins a run, before any of its numbers is seen: gives the epoch of them. That of
    /// the run before stays if it ended on its own, with the log file that is there now,
    /// and if the disk has confirmed that this one began: otherwise a power failure could
    /// bring that end back.
    pub fn begin(&mut self, before: Option<Known>, last_seq: u64, log: Option<Mark>) -> Epoch {
        let clean = before.filter(|known| {
            known.ended && known.epoch != Epoch::NONE && known.log.is_some() && known.log == log
        });
        self.known.epoch = clean.map_or_else(Epoch::random, |known| known.epoch);
        self.note(last_seq);
        self.sync();
        if self.failed && clean.is_some() {
            self.known.epoch = Epoch::random();
            self.note(last_seq);
        }
        self.known.epoch
    }

    /// Notes the end.
    pub fn end(&mut self, lost: u64, log: Option<Mark>) {
        self.known.ended = true;
        self.known.log = log;
        self.known.lost = lost;
        self.write();
        self.sync();
    }

    /// Waits for the disk.
    pub fn sync(&mut self) {
        let synced = self.file.as_ref().map(File::sync_data);
        if let Some(Err(error)) = synced {
            self.fail(&error);
        }
    }

    /// Makes the file anew should it have been moved away or deleted.
    pub fn find(&mut self) {
        let there = fs::symlink_metadata(&self.path).ok();
        let open = self.file.as_ref().and_then(|file| file.metadata().ok());
        if open.is_none()
            || there.as_ref().map(older::identity) != open.as_ref().map(older::identity)
        {
            match self.reopen() {
                Ok(()) => self.write(),
                Err(error) => self.fail(&error),
            }
        }
    }

    fn write(&mut self) {
        let Some(file) = &self.file else { return };
        let mut bytes = serde_json::to_vec(&self.known).unwrap_or_default();
        bytes.resize(SIZE - 1, b' ');
        bytes.push(b'\n');
        let deleted = || file.metadata().is_ok_and(|now| now.nlink() == 0);
        match file.write_all_at(&bytes, 0) {
            Ok(()) if deleted() => self.find(),
            Ok(()) => {}
            Err(error) => self.fail(&error),
        }
    }

    /// Recording does not depend on it: one line in the log.
    fn fail(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failed, true) {
            log::warn!(
                "{}: {error}; should the log file be moved away before a restart, \
                 sequence numbers may be given twice",
                self.path.display()
            );
        }
    }
}

/// The payload of the record at a start: `lightningd`, its version; `eventlog`, the
/// plugin's; `last_seq`, the last number before; `previous`, how the run before
/// ended: `none` (there was none), `ended`, `killed` (or the machine went down),
/// or `unknown`; `lost`, how many notifications that were received then are not
/// recorded, `null` if that is not known; `missing`, if the last numbers are in no
/// record that is found, the first and the last of them: that run was killed, could
/// not write, or wrote `text`; `previous_epoch`, the epoch of `last_seq`, if that is
/// known. Whatever lightningd sent between the two runs is not
/// recorded in any case.
///
/// `recorded` is the last number found in the files.
pub fn started(known: Option<Known>, recorded: u64, last_seq: u64) -> Value {
    let (previous, lost) = match known {
        Some(known) if known.ended => ("ended", json!(known.lost)),
        Some(_) => ("killed", Value::Null),
        None if last_seq == 0 => ("none", json!(0)),
        None => ("unknown", Value::Null),
    };
    let mut started = json!({
        "lightningd": std::env::var("LIGHTNINGD_VERSION").ok(),
        "eventlog": env!("CARGO_PKG_VERSION"),
        "last_seq": last_seq,
        "previous": previous,
        "lost": lost,
    });
    if let Some(known) = known {
        started["previous_epoch"] = json!(known.epoch);
    }
    if 0 < recorded && recorded < last_seq {
        started["missing"] = json!([recorded + 1, last_seq]);
    }
    started
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn the_state_outlives_the_process_and_a_missing_file() {
        let dir = TempDir::new().unwrap();
        let log = dir.path().join("log");
        let (mut state, known) = State::open(&log);
        assert_eq!(known, None);
        state.note(u64::MAX / 4);
        let (mut state, known) = State::open(&log);
        assert_eq!(known.map(|known| known.ended), Some(false));
        state.note(7);
        fs::remove_file(dir.path().join("log.state")).unwrap();
        state.find();
        let mark = Mark {
            inode: u64::MAX,
            length: u64::MAX,
            changed: i64::MAX.into(),
        };
        state.end(3, Some(mark));
        let ended = Known {
            last_seq: 7,
            ended: true,
            lost: 3,
            epoch: Epoch::NONE,
            log: Some(mark),
        };
        assert_eq!(State::open(&log).1, Some(ended));
        assert_eq!(started(Some(ended), 7, 7)["lost"], 3);
        assert_eq!(started(None, 0, 0)["previous"], "none");
        assert_eq!(started(None, 5, 5)["lost"], Value::Null);
    }

    #[test]
    fn a_deleted_file_is_made_anew_and_a_number_too_large_is_not_believed() {
        let dir = TempDir::new().unwrap();
        let log = dir.path().join("log");
        let (mut state, _) = State::open(&log);
        fs::remove_file(dir.path().join("log.state")).unwrap();
        state.note(7);
        assert_eq!(State::open(&log).1.map(|known| known.last_seq), Some(7));
        state.note(u64::MAX - 1);
        assert_eq!(State::open(&log).1, None);
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let dir = TempDir::new().unwrap();
        let target = dir.path().join("target");
        fs::write(&target, "x").unwrap();
        symlink(&target, dir.path().join("log.state")).unwrap();
        let (mut state, known) = State::open(&dir.path().join("log"));
        assert_eq!(known, None);
        state.note(7);
        assert_eq!(fs::read_to_string(target).unwrap(), "x");
    }
}
