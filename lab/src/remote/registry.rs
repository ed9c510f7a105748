//! Labs that stay up, by name.
//!
//! Each has a file `NAME.lab` in a folder that only the user can reach. The process
//! that holds the lab keeps the file locked, and the kernel releases the lock however
//! that process ends: a file without a lock is left from a `kill -9`, and the next
//! process that sees it cleans up.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::getuid;
use serde::{Deserialize, Serialize};

use crate::error::IoContext;
use crate::lab::folder::sweep;
use crate::process::files::is_plain_name;
use crate::process::listing::{is_alive, runs_in};
use crate::process::reaper::Reaper;
use crate::remote::description::Description;
use crate::{Error, Lab, Probe, Result, eventually};

/// The name of a lab that is given none.
pub const DEFAULT: &str = "default";

/// How long another process that only looks at a file may hold its lock.
const LOOK: Duration = Duration::from_millis(500);

/// A lab that is up or starting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Where and since when it is; `None` while it starts.
    pub up: Option<Up>,
}

/// Where a named lab is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Up {
    /// Its folder: see [`Lab::attach`].
    pub dir: PathBuf,
    /// The process that holds it.
    pub pid: u32,
    /// When it was up, in seconds since 1970-01-01 UTC.
    pub since: u64,
}

/// A lab whose process was killed; what it left has been cleaned up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// The lab's name.
    pub name: String,
    /// The process that held it; `None` if the lab was still starting.
    pub pid: Option<u32>,
}

/// All labs of this user that are up or starting, in the order of their names; and
/// those that were found dead and have been cleaned up.
///
/// # Errors
/// If the folder cannot be read, or is not safe to use.
pub async fn labs() -> Result<(Vec<Named>, Vec<Stale>)> {
    sweep(&std::env::temp_dir());
    let (mut found, mut stale) = (Vec::new(), Vec::new());
    let dir = dir();
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((found, stale)),
        Err(e) => return Err(e).doing("read folder", &dir),
    };
    check_private(&dir)?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.doing("read folder", &dir)?.file_name();
        let name = name.to_string_lossy();
        names.extend(name.strip_suffix(".lab").map(str::to_owned));
    }
    names.sort();
    for name in names {
        match look(&dir, &name).await? {
            Look::Held(up) => found.push(Named { name, up }),
            Look::Cleaned(one) => stale.push(one),
            Look::Gone => {}
        }
    }
    // One that was killed just after making it; refused unless it is empty.
    let _ = std::fs::remove_dir(&dir);
    Ok((found, stale))
}

enum Look {
    Held(Option<Up>),
    Cleaned(Stale),
    Gone,
}

/// One look at the file of a name.
async fn look(dir: &Path, name: &str) -> Result<Look> {
    let path = path_of(dir, name);
    let file = match open(&path, false) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Look::Gone),
        Err(e) => return Err(e).doing("open", &path),
    };
    match lock(file, &path)? {
        None if !path.exists() => Ok(Look::Gone),
        None => Ok(Look::Held(read(&path)?)),
        Some(locked) => {
            // No process has it: what is there was left by a dead one, perhaps half
            // written.
            let up = read(&path).unwrap_or_default();
            let mut claim = Claim::new(dir, name, locked);
            let stale = clean(name, up);
            claim.release();
            Ok(Look::Cleaned(stale?))
        }
    }
}

/// A name that this process holds; given back when dropped.
#[derive(Debug)]
pub struct Claim {
    dir: PathBuf,
    name: String,
    /// `None` once released.
    file: Option<Flock<File>>,
}

impl Claim {
    /// Takes a name for a new lab.
    ///
    /// # Errors
    /// [`Error::Usage`] if the name is invalid or a lab of this name is up.
    pub async fn take(name: &str) -> Result<(Claim, Option<Stale>)> {
        check_name(name)?;
        let dir = dir();
        create_private(&dir)?;
        let path = path_of(&dir, name);
        // A process that only looks has the lock for a moment, too.
        let locked = eventually(format!("a lock on {}", path.display()), LOOK, async || {
            let file = match open(&path, true) {
                Ok(file) => file,
                // The end of the last lab removes the folder.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    create_private(&dir)?;
                    return Ok(Probe::NotYet(e.to_string()));
                }
                Err(e) => return Err(e).doing("open", &path),
            };
            if let Some(locked) = lock(file, &path)? {
                return Ok(Probe::Ready(locked));
            }
            match read(&path)? {
                Some(up) if is_alive(up.pid) => Err(Error::usage(format!(
                    "a lab named `{name}` is up already, in {}, held by process {}: use it, end it \
                     with `lab down --name {name}`, or choose another --name",
                    up.dir.display(),
                    up.pid
                ))),
                _ => Ok(Probe::NotYet("another process has it".to_owned())),
            }
        });
        let locked = locked.await.map_err(|error| match error {
            Error::TimedOut { .. } => Error::usage(format!(
                "a lab named `{name}` is being started by another process: wait for it, or choose \
                 another --name"
            )),
            other => other,
        })?;
        let left = read(&path).unwrap_or_default();
        let mut claim = Claim::new(&dir, name, locked);
        let stale = match left {
            Some(up) => Some(clean(name, Some(up))?),
            None => None,
        };
        claim.write(b"")?;
        Ok((claim, stale))
    }

    fn new(dir: &Path, name: &str, file: Flock<File>) -> Claim {
        Claim {
            dir: dir.to_owned(),
            name: name.to_owned(),
            file: Some(file),
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A file for the holder's output; it is removed with the name.
    pub fn log_path(&self) -> PathBuf {
        log_path_of(&self.dir, &self.name)
    }

    /// The lab is up: others find it from now on.
    pub fn publish(&mut self, lab: &Lab) -> Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let up = Up {
            dir: lab.dir().to_owned(),
            pid: std::process::id(),
            since: now.map_or(0, |since| since.as_secs()),
        };
        let text = serde_json::to_vec(&up).map_err(std::io::Error::other);
        let path = path_of(&self.dir, &self.name);
        self.write(&text.doing("write", &path)?)
    }

    /// One write, so that a reader sees all of it or nothing.
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let path = path_of(&self.dir, &self.name);
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        file.set_len(0)
            .and_then(|()| file.write_all(bytes))
            .doing("write", &path)
    }

    /// Gives the name back. The file is removed while it is still locked, so that it
    /// cannot be another process's new one.
    fn release(&mut self) {
        if self.file.is_none() {
            return;
        }
        let _ = std::fs::remove_file(self.log_path());
        let _ = std::fs::remove_file(path_of(&self.dir, &self.name));
        self.file = None;
        // Refused unless this was the last one.
        let _ = std::fs::remove_dir(&self.dir);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.release();
    }
}

/// Ends what a killed lab left. Its reaper does that at once, but may have been killed,
/// too, or not be done yet.
fn clean(name: &str, up: Option<Up>) -> Result<Stale> {
    if let Some(up) = &up
        && let Ok(left) = Description::read(&up.dir)
        && left.pid == up.pid
    {
        let reaper = Reaper::start(&up.dir).doing("clean up", &up.dir)?;
        if left.keep {
            reaper.keep_folder();
        }
        let nodes = left.nodes.iter().filter_map(|node| node.pid);
        for pid in nodes.chain([left.bitcoind.pid]) {
            if runs_in(pid, &up.dir) {
                reaper.adopt(pid);
            }
        }
        // Returns when it has done its work.
        drop(reaper);
        if !left.keep && up.dir.exists() {
            return Err(Error::Answer {
                from: format!("cleaning up after lab `{name}`"),
                why: format!("{} is still there: remove it by hand", up.dir.display()),
            });
        }
    }
    Ok(Stale {
        name: name.to_owned(),
        pid: up.map(|up| up.pid),
    })
}

/// The folder of names: `cln-lab` in `XDG_RUNTIME_DIR`, else `cln-labs-UID` in the
/// temporary folder.
fn dir() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(runtime) if runtime.is_dir() => runtime.join("cln-lab"),
        _ => std::env::temp_dir().join(format!("cln-labs-{}", getuid())),
    }
}

fn path_of(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.lab"))
}

fn log_path_of(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.log"))
}

fn create_private(dir: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => check_private(dir),
        Err(e) => Err(e).doing("create folder", dir),
    }
}

/// All users can write to the temporary folder: a folder in it that others can write to
/// is not trustworthy.
fn check_private(dir: &Path) -> Result<()> {
    let metadata = dir.symlink_metadata().doing("look at", dir)?;
    if metadata.is_dir() && metadata.uid() == getuid().as_raw() && metadata.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(Error::usage(format!(
        "{} is not a folder of yours alone (mode 0700): remove it, or set XDG_RUNTIME_DIR",
        dir.display()
    )))
}

/// Checks the name of a lab.
///
/// # Errors
/// [`Error::Usage`] unless it is 1 to 64 letters, digits, `-` and `_`.
pub fn check_name(name: &str) -> Result<()> {
    if name.len() <= 64 && is_plain_name(name) {
        return Ok(());
    }
    Err(Error::usage(format!(
        "lab name `{name}`: use up to 64 letters, digits, - and _"
    )))
}

fn open(path: &Path, create: bool) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(create)
        .mode(0o600)
        .open(path)
}

/// Locks an open file if no other process has, and if `path` still means this file.
fn lock(file: File, path: &Path) -> Result<Option<Flock<File>>> {
    let locked = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(locked) => locked,
        Err((_, nix::errno::Errno::EAGAIN)) => return Ok(None),
        Err((_, errno)) => return Err(errno).doing("lock", path),
    };
    let ours = locked.metadata().doing("look at", path)?;
    let same = path.metadata().is_ok_and(|m| m.ino() == ours.ino());
    Ok(same.then_some(locked))
}

/// What the holder wrote; `None` if there is nothing yet.
fn read(path: &Path) -> Result<Option<Up>> {
    match std::fs::read(path) {
        Ok(bytes) if bytes.is_empty() => Ok(None),
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| Error::Answer {
                from: path.display().to_string(),
                why: format!("{e}; remove the file if no lab of this name is up"),
            }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).doing("read", path),
    }
}
