//! A lab's folder: made for it, and removed with it unless it is kept.

use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};

use super::page;
use super::report::Report;
use crate::error::IoContext;
use crate::process::reaper::Reaper;
use crate::trace::OutputWatch;
use crate::{Error, Result};

/// When the lab's folder stays after its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Always.
    Always,
    /// If the lab was dropped without [`Lab::stop`](crate::Lab::stop), as happens on an
    /// error or a panic, or if `stop` found something wrong.
    Failed,
    /// Never.
    Never,
}

impl Keep {
    /// The value of `LAB_KEEP`: `always`, `failed` or `never`; `default` if it is not
    /// set.
    pub(crate) fn from_env(default: Keep) -> Result<Keep> {
        match std::env::var("LAB_KEEP").as_deref() {
            Err(_) | Ok("") => Ok(default),
            Ok("always") => Ok(Keep::Always),
            Ok("failed") => Ok(Keep::Failed),
            Ok("never") => Ok(Keep::Never),
            Ok(other) => Err(Error::usage(format!(
                "LAB_KEEP={other}: use always, failed or never"
            ))),
        }
    }
}

/// The start of its name.
const PREFIX: &str = "cln-lab-";

/// The file in it that its process has locked for life. A folder that has none is never
/// removed by another process.
const LOCK: &str = ".lock";

/// The lab's folder and the reaper that removes it.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    keep: Keep,
    /// True until a `Lab::stop` that found nothing wrong.
    pub failed: bool,
    /// The page of its trace, if it failed in a test.
    page: Option<PathBuf>,
    /// Ends before the folder is removed.
    pub output: OutputWatch,
    /// `None` if another process holds the lab.
    pub reaper: Option<Arc<Reaper>>,
    /// Only held.
    _lock: Option<Flock<File>>,
}

impl Folder {
    /// Makes one in `parent`, and removes those in it of labs that were killed together
    /// with their reapers.
    ///
    /// # Errors
    /// If it cannot be made, or its reaper cannot be started.
    pub fn create_in(parent: &Path, keep: Keep) -> Result<(Folder, Arc<Reaper>)> {
        sweep(parent);
        let (path, reaper) = create_watched(parent)?;
        let mut folder = Folder {
            _lock: lock(&path),
            path,
            keep,
            failed: true,
            page: None,
            output: OutputWatch::default(),
            reaper: Some(Arc::clone(&reaper)),
        };
        if keep == Keep::Always {
            folder.keep();
        }
        Ok((folder, reaper))
    }

    /// Makes one in the folder for temporary files.
    ///
    /// # Errors
    /// As [`Folder::create_in`]; if lightningd cannot run in it.
    pub fn create(keep: Keep) -> Result<(Folder, Arc<Reaper>)> {
        let parent = std::env::temp_dir();
        let parent = parent
            .canonicalize()
            .doing("find the temporary folder", &parent)?;
        if parent.as_os_str().as_encoded_bytes().contains(&b'"') {
            return Err(Error::usage(format!(
                "lightningd does not start in a folder with a `\"` in its path: set TMPDIR to \
                 another than {}",
                parent.display()
            )));
        }
        Folder::create_in(&parent, keep)
    }

    /// The folder of a lab that another process holds, which also removes it.
    pub fn of_another(dir: &Path) -> Folder {
        Folder {
            path: dir.to_owned(),
            keep: Keep::Always,
            failed: false,
            page: None,
            output: OutputWatch::default(),
            reaper: None,
            _lock: None,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps it from now on, whatever happens.
    pub fn keep(&mut self) {
        self.keep = Keep::Always;
        if let Some(reaper) = &self.reaper {
            let _ = std::fs::remove_file(self.path.join(LOCK));
            reaper.keep_folder();
        }
    }

    /// Prints the report of a failure on standard error, if that can be written (the
    /// terminal may be closed); in a test, makes the page of the trace.
    pub fn report(&mut self, report: &Report) {
        let text = report.to_string();
        let _ = std::io::stderr().write_all(text.as_bytes());
        self.page = page::write(&self.path, &text);
    }

    /// True if it is kept, whatever happens.
    pub fn stays(&self) -> bool {
        self.keep == Keep::Always
    }
}

// Its reaper, which is dropped next, removes it.
impl Drop for Folder {
    fn drop(&mut self) {
        if self.reaper.is_none() {
            return;
        }
        if self.keep == Keep::Always || (self.keep == Keep::Failed && self.failed) {
            self.keep();
            // The terminal may be closed.
            let _ = writeln!(
                std::io::stderr(),
                "lab folder kept: {}",
                self.path.display()
            );
        }
        if let Some(page) = &self.page {
            let _ = writeln!(std::io::stderr(), "trace: {}", page.display());
        }
    }
}

/// Makes a folder in `parent` that goes with its reaper, from the moment it is there.
///
/// # Errors
/// If it cannot be made, or its reaper cannot be started.
fn create_watched(parent: &Path) -> Result<(PathBuf, Arc<Reaper>)> {
    let make = |path: &Path| {
        if path.exists() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let reaper = Reaper::start(path)?;
        let made = DirBuilder::new().mode(0o700).create(path);
        // What is there then is not ours to remove.
        made.inspect_err(|_| reaper.keep_folder())?;
        Ok(reaper)
    };
    let (reaper, path) = tempfile::Builder::new()
        .prefix(PREFIX)
        .make_in(parent, make)
        .and_then(|made| made.keep().map_err(|error| error.error))
        .doing("create a folder in", parent)?;
    Ok((path, Arc::new(reaper)))
}

/// Locks a folder as this process's own. The file has its name only once it is locked,
/// so that no other process takes the folder for an abandoned one. `None` where the
/// file system has no locks.
fn lock(dir: &Path) -> Option<Flock<File>> {
    let new = dir.join(".lock.new");
    let file = File::create(&new).ok()?;
    let locked = Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()?;
    std::fs::rename(new, dir.join(LOCK)).ok()?;
    Some(locked)
}

/// Ends and removes what is left of labs that were killed together with their reapers:
/// whose folder is this user's, has a lock file, and is locked by nobody.
pub(crate) fn sweep(parent: &Path) {
    let ours = nix::unistd::geteuid().as_raw();
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let dir = entry.path();
        if !entry.file_name().to_string_lossy().starts_with(PREFIX)
            || !entry
                .metadata()
                .is_ok_and(|m| m.is_dir() && m.uid() == ours)
        {
            continue;
        }
        let Ok(file) = File::open(dir.join(LOCK)) else {
            continue;
        };
        if let Ok(_locked) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            tracing::info!(dir = %dir.display(), "removing what is left of a lab that was killed");
            drop(Reaper::start(&dir));
        }
    }
}
