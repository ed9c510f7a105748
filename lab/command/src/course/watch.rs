//! Sees when the learner saves.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cln_lab::{Error, Result};
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Files that are watched, by the folders they are in: an editor may put a new one in
/// their place.
pub struct Watch {
    files: Vec<PathBuf>,
    seen: u64,
    events: UnboundedReceiver<Instant>,
    _watcher: RecommendedWatcher,
}

impl Watch {
    /// Watches these files, from now on; they need not exist yet.
    ///
    /// # Errors
    /// If a folder cannot be watched.
    pub fn new(mut files: Vec<PathBuf>) -> Result<Watch> {
        files.sort_unstable();
        files.dedup();
        let (send, events) = unbounded_channel();
        let failed = |error: notify::Error| Error::usage(format!("watch your files: {error}"));
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                if event.is_ok_and(|event| is_save(event.kind)) {
                    let _ = send.send(Instant::now());
                }
            })
            .map_err(failed)?;
        let mut folders: Vec<&Path> = files.iter().filter_map(|file| file.parent()).collect();
        folders.sort_unstable();
        folders.dedup();
        for folder in folders {
            watcher
                .watch(folder, RecursiveMode::NonRecursive)
                .map_err(failed)?;
        }
        Ok(Watch {
            seen: fingerprint(&files),
            files,
            events,
            _watcher: watcher,
        })
    }

    /// Waits for the next save after which a file differs: when it was. Safe to cancel.
    pub async fn saved(&mut self) -> Instant {
        loop {
            let Some(at) = self.events.recv().await else {
                // The watcher, which sends, lives as long as we do.
                return std::future::pending().await;
            };
            if self.differs() {
                return at;
            }
        }
    }

    /// What is there now is known: only another save counts.
    pub fn skip(&mut self) {
        self.differs();
    }

    fn differs(&mut self) -> bool {
        let now = fingerprint(&self.files);
        std::mem::replace(&mut self.seen, now) != now
    }
}

/// What an editor does last: it closes a file that it wrote, or renames one. Where the
/// system does not report that, whatever it reports.
fn is_save(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Modify(ModifyKind::Name(_) | ModifyKind::Metadata(_)) => true,
        EventKind::Modify(_) | EventKind::Create(_) => cfg!(not(target_os = "linux")),
        _ => false,
    }
}

/// Texts and permissions.
fn fingerprint(files: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        let mode = file
            .metadata()
            .map(|metadata| metadata.permissions().mode());
        // A pipe would wait for a writer.
        let text = file.is_file().then(|| std::fs::read(file).ok());
        (text, mode.ok()).hash(&mut hasher);
    }
    hasher.finish()
}
