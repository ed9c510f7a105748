//! The file: opened safely, appended to, closed properly, rotated.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

/// The file may hold preimages: it is its owner's alone.
const MODE: u32 = 0o600;

/// How long an earlier process of ours may take to let go of the file.
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
    /// What lies there is not a file that this process should append to, or
    /// the way to it is barred. It needs a person, or another path.
    #[error("{}: {reason}", path.display())]
    Unusable {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
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

/// What lies at the path now.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// The file that is open.
    Same,
    /// Nothing, or something else: moved away, deleted, replaced.
    Other,
}

impl LogFile {
    /// Opens the file to append, or makes it. A link is not followed, for in a
    /// folder others can write it may point anywhere; a file of someone else
    /// is refused, for they could read it.
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
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(MODE)
            // Without O_NONBLOCK the opening of a named pipe would not return.
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(path)
            .map_err(|source| match source.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EISDIR) => unusable("is a directory: name a file".to_owned()),
                Some(Errno::ELOOP) => unusable(
                    "is a symbolic link, and links are not followed: name the file itself"
                        .to_owned(),
                ),
                Some(Errno::ENOENT) => unusable("its folder does not exist: make it".to_owned()),
                Some(Errno::ENOTDIR) => {
                    unusable("part of the path is a file, not a folder".to_owned())
                }
                Some(Errno::EACCES | Errno::EPERM) => unusable(
                    "permission denied: lightningd's user must be able to write it".to_owned(),
                ),
                Some(Errno::EROFS) => unusable("the file system is read-only".to_owned()),
                Some(Errno::ENXIO) => unusable("is not a regular file".to_owned()),
                Some(Errno::ENAMETOOLONG) => unusable("the name is too long".to_owned()),
                _ => io(source),
            })?;
        let metadata = file.metadata().map_err(io)?;
        let kind = metadata.file_type();
        if !kind.is_file() {
            let kind = match () {
                () if kind.is_fifo() => "a named pipe",
                () if kind.is_char_device() => "a device",
                () => "not a regular file",
            };
            return Err(unusable(format!("is {kind}: name a regular file")));
        }
        if metadata.uid() != nix::unistd::geteuid().as_raw() {
            return Err(unusable(format!(
                "belongs to user {}, who could read what is recorded: \
                 name a file of lightningd's user",
                metadata.uid()
            )));
        }
        let file = lock(file).map_err(|reason| unusable(reason.to_owned()))?;
        if metadata.mode() & 0o077 != 0 {
            file.set_permissions(Permissions::from_mode(MODE))
                .map_err(|error| {
                    unusable(format!(
                        "others can read it, and that cannot be changed ({error}): \
                         name a file on a file system with permissions"
                    ))
                })?;
            log::warn!(
                "{}: others could read it (mode {:o}): now {MODE:o}",
                path.display(),
                metadata.mode() & 0o777
            );
        }
        let length = metadata.len();
        let torn = ends_within_a_line(&file, length).map_err(io)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            identity: (metadata.dev(), metadata.ino()),
            length,
            torn,
        })
    }

    /// Its length, in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Does it end within a line? The next write closes that first.
    pub fn is_torn(&self) -> bool {
        self.torn
    }

    /// What lies at the path now.
    pub fn place(&self) -> Place {
        match fs::symlink_metadata(&self.path) {
            Ok(metadata) if (metadata.dev(), metadata.ino()) == self.identity => Place::Same,
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

    /// Cuts off what was written of an unfinished line, where that is the
    /// file's end: the line is to be written whole elsewhere.
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

    /// Waits until what was written is on the disk, past a power loss.
    ///
    /// # Errors
    /// The disk's.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
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

/// The path of the `n`th older file: `eventlog.jsonl.1` is the newest of them.
pub fn older(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    PathBuf::from(name)
}

/// Moves the file to `.1`, `.1` to `.2` and so on; of the older files, `keep`
/// stay. Nothing lies at the path afterwards.
///
/// # Errors
/// A file could not be moved: then the file itself is where it was.
pub fn rotate(path: &Path, keep: u32) -> io::Result<()> {
    // From the first gap on there is nothing to move.
    let last = (1..)
        .take_while(|&n| exists(&older(path, n)))
        .last()
        .unwrap_or(0);
    for n in (keep.max(1)..=last).rev() {
        fs::remove_file(older(path, n))?;
    }
    for n in (1..keep.max(1)).rev().filter(|&n| n <= last) {
        fs::rename(older(path, n), older(path, n + 1))?;
    }
    fs::rename(path, older(path, 1))
}

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Waits until a folder's names are on the disk: a new file in it, say.
///
/// # Errors
/// The disk's.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if folder != Path::new("") => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}
