//! How far a sink has a node's records, in a file: for those that cannot be asked. It is
//! noted after they arrived, so that whoever is killed in between sends some of them again.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use eventlog::cursor::Cursor;
use nix::fcntl::OFlag;

/// While it cannot be written: how often it is tried, and how often that is logged.
const AGAIN: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_secs(60);

/// A file with a cursor.
#[derive(Debug, Clone)]
pub struct Place {
    path: PathBuf,
}

impl Place {
    /// The file at this path; by default beside the records, with this ending.
    pub fn new(path: Option<PathBuf>, records: &Path, ending: &str) -> Self {
        let path = path.unwrap_or_else(|| with(records, ending));
        Self { path }
    }

    /// The lock of those who write it.
    pub fn lock(&self) -> PathBuf {
        with(&self.path, ".lock")
    }

    /// The cursor, `None` if there is no file.
    ///
    /// # Errors
    /// It cannot be read, or holds something else.
    pub fn read(&self) -> Result<Option<Cursor>> {
        let path = self.path.display();
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| path.to_string())?,
        };
        let cursor = text.trim().parse().map_err(anyhow::Error::msg);
        cursor.map(Some).with_context(|| {
            format!("{path}: write the last record that arrived in there, or remove it to begin with the oldest")
        })
    }

    /// Notes the cursor: the file holds it or what it held before, also after a power
    /// failure.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, cursor: Cursor) -> io::Result<()> {
        let new = with(&self.path, ".new");
        let mut file = File::options()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&new)?;
        writeln!(file, "{cursor}")?;
        file.sync_data()?;
        fs::rename(&new, &self.path)
    }

    /// Notes the cursor. While that cannot be done it waits: to send more would be to send
    /// all of that again later.
    pub async fn note(&self, cursor: Cursor) {
        let mut logged: Option<Instant> = None;
        while let Err(error) = self.write(cursor) {
            if logged.is_none_or(|at| at.elapsed() > QUIET) {
                tracing::error!(
                    "{}: {error}: nothing is sent until {cursor} can be noted there",
                    self.path.display()
                );
                logged = Some(Instant::now());
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

fn with(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_place_is_noted_whole_for_its_owner_alone() {
        let dir = tempfile::TempDir::new().unwrap();
        let place = Place::new(None, &dir.path().join("log"), ".cursor");
        assert_eq!(place.read().unwrap(), None);
        let cursors: Vec<Cursor> = ["00000000000000aa:7", "00000000000000bb:12"]
            .map(|text| text.parse().unwrap())
            .into();
        // What a killed one left.
        fs::write(
            dir.path().join("log.cursor.new"),
            "longer than a cursor is, by far",
        )
        .unwrap();
        for cursor in cursors {
            place.write(cursor).unwrap();
            assert_eq!(place.read().unwrap(), Some(cursor));
        }
        let mode = fs::metadata(&place.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        fs::write(&place.path, "").unwrap();
        let wrong = format!("{:#}", place.read().unwrap_err());
        assert!(
            wrong.contains("log.cursor: write the last record"),
            "{wrong}"
        );
    }
}
