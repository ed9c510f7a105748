//! The file: opened safely, appended to, closed properly, rotated.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

use crate::older;
use crate::state::Mark;

/// The file may hold preimages: it is its owner's alone.
const MODE: u32 = 0o600;

/// How long a plugin process that was just replaced may hold on to the file.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// The open file.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: Flock<File>,
    /// Device and inode: is what lies at the path still this file?
    identity: (u64, u64),
    length: u64,
    /// It ends within a line.
    torn: bool,
}

/// Why a path cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not a file that this process should append to, or there is no
    /// access to it. It needs a person, or another path.
    #[error("{}: {reason}", path.display())]
    Unusable {
        /// The path.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The system could not do it now: disk full, an input or output error.
    #[error("{}: {source}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The file at the path now.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// The file that is open.
    Same,
    /// Nothing, or something else: moved away, deleted, replaced.
    Other,
}

impl LogFile {
    /// Opens the file to append, or makes it. A link is not followed, for in a
    /// folder that others can write it may point anywhere; another user's file
    /// is refused, for that user could read it.
    ///
    /// # Errors
    /// [`Error::Unusable`] or [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let unusable = |reason: String| Error::Unusable {
            path: path.to_owned(),
            reason,
        };
        let io = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
        let file = open_or_make(path).map_err(|source| {
            unopenable(&source).map_or_else(|| io(source), |reason| unusable(reason.to_owned()))
        })?;
        let metadata = file.metadata().map_err(io)?;
        unsuitable(&metadata).map_or(Ok(()), |reason| Err(unusable(reason)))?;
        let file = lock(file).map_err(|reason| unusable(reason.to_owned()))?;
        if metadata.mode() & 0o077 != 0 {
            make_private(path, &file, metadata.mode()).map_err(unusable)?;
        }
        let length = metadata.len();
        let torn = ends_within_a_line(&file, length).map_err(io)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            identity: older::identity(&metadata),
            length,
            torn,
        })
    }

    /// Its length, in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// By which it is known again.
    pub fn mark(&self) -> Option<Mark> {
        let now = self.file.metadata().ok()?;
        let changed = i128::from(now.ctime()) * 1_000_000_000 + i128::from(now.ctime_nsec());
        Some(Mark {
            inode: now.ino(),
            length: now.len(),
            changed,
        })
    }

    /// Does it end within a line? The next write closes that first.
    pub fn is_torn(&self) -> bool {
        self.torn
    }

    /// The file at the path now. What another process did to the open one is noticed
    /// by its length.
    pub fn place(&mut self) -> Place {
        match fs::symlink_metadata(&self.path) {
            Ok(metadata) if older::identity(&metadata) == self.identity => {
                if self.length != metadata.len() {
                    self.length = metadata.len();
                    self.torn = ends_within_a_line(&self.file, self.length).unwrap_or(true);
                }
                Place::Same
            }
            Ok(_) => Place::Other,
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Place::Other,
                // Not to be seen now is not the same as gone.
                _ => Place::Same,
            },
        }
    }

    /// Appends as many of the bytes as there is room for, in one call if the
    /// system takes them. Returns how many that were, and the error that
    /// stopped it.
    pub fn append(&mut self, bytes: &[u8]) -> (usize, Option<io::Error>) {
        if self.torn {
            if let Err(error) = self.file.write_all(b"\n") {
                return (0, Some(error));
            }
            self.length += 1;
            self.torn = false;
            log::warn!(
                "{}: its last line has no end (a crash, a power loss, or another process): the \
                 line is closed, and the next record begins on a line of its own",
                self.path.display()
            );
        }
        let mut written = 0;
        while written < bytes.len() {
            match self.file.write(&bytes[written..]) {
                Ok(0) => return (written, Some(io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    written += count;
                    self.length += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (written, Some(error)),
            }
        }
        (written, None)
    }

    /// Cuts off the part of a line that was written at the file's end: the whole
    /// line is written elsewhere.
    pub fn cut(&mut self, partial: u64) {
        let Some(length) = self.length.checked_sub(partial) else {
            return;
        };
        let same = self
            .file
            .metadata()
            .is_ok_and(|now| now.len() == self.length);
        if same && self.file.set_len(length).is_ok() {
            self.length = length;
        }
    }

    /// Waits until everything written is on the disk and survives a power loss.
    ///
    /// # Errors
    /// The disk's.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn open_or_make(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(MODE)
        // Without O_NONBLOCK opening a named pipe would not return.
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)
}

/// Why it could not be opened, if a person has to do something about it.
fn unopenable(error: &io::Error) -> Option<&'static str> {
    Some(match Errno::from_raw(error.raw_os_error()?) {
        Errno::EISDIR => "is a directory: name a file",
        Errno::ELOOP => "is a symbolic link, and links are not followed: name the file itself",
        Errno::ENOENT => "its folder does not exist: make it",
        Errno::ENOTDIR => "part of the path is a file, not a folder",
        Errno::EACCES | Errno::EPERM => {
            "permission denied: lightningd's user must be able to write it"
        }
        Errno::EROFS => "the file system is read-only",
        Errno::ENXIO => "is not a regular file",
        Errno::ENAMETOOLONG => "the name is too long",
        _ => return None,
    })
}

/// Why the opened file is not one to append to, if it is not.
fn unsuitable(metadata: &Metadata) -> Option<String> {
    let kind = metadata.file_type();
    if kind.is_fifo() {
        return Some("is a named pipe: name a regular file".to_owned());
    }
    if kind.is_char_device() {
        return Some("is a device: name a regular file".to_owned());
    }
    if !kind.is_file() {
        return Some("is not a regular file: name a regular file".to_owned());
    }
    if metadata.nlink() > 1 {
        return Some("has a second name (a hard link): name a file that has one".to_owned());
    }
    let owner = metadata.uid();
    (owner != nix::unistd::geteuid().as_raw()).then(|| {
        format!(
            "belongs to user {owner}, who could read the records: \
             name a file that belongs to lightningd's user"
        )
    })
}

fn make_private(path: &Path, file: &File, mode: u32) -> Result<(), String> {
    file.set_permissions(Permissions::from_mode(MODE))
        .map_err(|error| {
            format!(
                "others can read it, and that cannot be changed ({error}): \
                 name a file on a file system with permissions"
            )
        })?;
    log::warn!(
        "{}: others could read it (mode {:o}): now {MODE:o}",
        path.display(),
        mode & 0o777
    );
    Ok(())
}

/// Two writers would mix their lines. A process that was just replaced may
/// still hold the lock for a moment.
fn lock(mut file: File) -> Result<Flock<File>, &'static str> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(locked),
            Err((_, errno)) if errno != Errno::EWOULDBLOCK => {
                return Err("the file system cannot lock files: name one on another");
            }
            Err((back, _)) if Instant::now() < deadline => {
                file = back;
                thread::sleep(Duration::from_millis(10));
            }
            Err(_) => {
                return Err("another process records there: every node needs its own file");
            }
        }
    }
}

fn ends_within_a_line(mut file: &File, length: u64) -> io::Result<bool> {
    if length == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(length - 1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}
