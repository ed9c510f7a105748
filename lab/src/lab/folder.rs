//! A lab's folder: made for it, and removed with it unless it is kept.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use crate::error::IoContext;
use crate::process::reaper::Reaper;
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

/// The lab's folder and the reaper that removes it if the lab cannot.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: Option<TempDir>,
    path: PathBuf,
    keep: Keep,
    /// True until a `Lab::stop` that found nothing wrong.
    pub failed: bool,
    /// `None` if another process holds the lab.
    pub reaper: Option<Arc<Reaper>>,
}

impl Folder {
    pub fn create(keep: Keep) -> Result<(Folder, Arc<Reaper>)> {
        let parent = std::env::temp_dir();
        let parent = parent
            .canonicalize()
            .doing("find the temporary folder", &parent)?;
        let dir = tempfile::Builder::new()
            .prefix("cln-lab-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(&parent)
            .doing("create a folder in", &parent)?;
        let path = dir.path().to_owned();
        let reaper = Arc::new(Reaper::start(&path)?);
        if keep == Keep::Always {
            reaper.keep_folder();
        }
        let folder = Folder {
            dir: Some(dir),
            path,
            keep,
            failed: true,
            reaper: Some(Arc::clone(&reaper)),
        };
        Ok((folder, reaper))
    }

    /// The folder of a lab that another process holds, which also removes it.
    pub fn of_another(dir: &Path) -> Folder {
        Folder {
            dir: None,
            path: dir.to_owned(),
            keep: Keep::Always,
            failed: false,
            reaper: None,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps it from now on, whatever happens.
    pub fn keep(&mut self) {
        self.keep = Keep::Always;
        if let Some(reaper) = &self.reaper {
            reaper.keep_folder();
        }
    }

    /// True if it is kept, whatever happens.
    pub fn stays(&self) -> bool {
        self.keep == Keep::Always
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let Some(dir) = self.dir.take() else {
            return;
        };
        if self.keep == Keep::Always || (self.keep == Keep::Failed && self.failed) {
            let path = dir.keep();
            eprintln!("lab folder kept: {}", path.display());
        } else if let Err(error) = dir.close() {
            tracing::warn!(%error, "the lab's folder could not be removed");
        }
    }
}
