//! How far a sink has a node's records, in a file: for those that cannot be asked, or not
//! always. It is noted after they arrived, so that whoever is killed in between sends some of them again.

use std::fmt::{self, Display};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use eventlog::cursor::Cursor;
use nix::errno::Errno;
use nix::fcntl::OFlag;

/// While it cannot be written: how often it is tried, and how often that is logged.
const AGAIN: Duration = Duration::from_secs(1);
pub(crate) const QUIET: Duration = Duration::from_secs(60);

/// A place is shorter than this.
const LONGEST: u64 = 1 << 10;

/// A file with a cursor, and what a sink adds to it.
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

    /// What was noted, `None` if there is no file.
    ///
    /// # Errors
    /// It cannot be read, or holds something else.
    pub fn read<T: FromStr<Err: Display>>(&self) -> Result<Option<T>> {
        let file = match open(&self.path, File::options().read(true), OFlag::empty()) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.with_context(|| self.to_string())?,
        };
        let mut text = String::new();
        let read = file.take(LONGEST).read_to_string(&mut text);
        read.with_context(|| self.to_string())?;
        let noted = text
            .trim()
            .parse()
            .map_err(|error: T::Err| anyhow::anyhow!("{error}"));
        noted.map(Some).with_context(|| {
            format!("{self}: write the last record that arrived in there, or remove it to begin with the oldest")
        })
    }

    /// Notes how far it is: the file holds it or what it held before, also after a power
    /// failure.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, place: impl Display) -> io::Result<()> {
        let new = with(&self.path, ".new");
        let mut options = File::options();
        options.create(true).write(true).mode(0o600);
        let mut file = open(&new, &mut options, OFlag::O_NOFOLLOW)?;
        file.set_len(0)?;
        writeln!(file, "{place}")?;
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

impl Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

/// Opens a regular file, and nothing that would wait or never end, such as a FIFO.
pub(crate) fn open(path: &Path, options: &mut OpenOptions, flags: OFlag) -> io::Result<File> {
    options.custom_flags((OFlag::O_NONBLOCK | flags).bits());
    let file = match options.open(path) {
        // A FIFO that nobody reads.
        Err(error) if error.raw_os_error() == Some(Errno::ENXIO as i32) => {
            return Err(not_regular(path));
        }
        opened => opened?,
    };
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(not_regular(path))
    }
}

fn not_regular(path: &Path) -> io::Error {
    io::Error::other(format!("{} is not a regular file", path.display()))
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
    fn what_never_ends_is_no_place() {
        let dir = tempfile::TempDir::new().unwrap();
        let place = Place::new(None, &dir.path().join("log"), ".cursor");
        let wrong = |error: String| assert!(error.contains("is not a regular file"), "{error}");
        for path in [place.path.clone(), with(&place.path, ".new")] {
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        wrong(format!("{:#}", place.read::<Cursor>().unwrap_err()));
        wrong(place.write("x").unwrap_err().to_string());
        fs::remove_file(&place.path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &place.path).unwrap();
        wrong(format!("{:#}", place.read::<Cursor>().unwrap_err()));
        let mut options = File::options();
        options.create(true).write(true);
        let lock = with(&place.path, ".new");
        wrong(
            open(&lock, &mut options, OFlag::empty())
                .unwrap_err()
                .to_string(),
        );
    }

    #[test]
    fn a_place_is_noted_whole_for_its_owner_alone() {
        let dir = tempfile::TempDir::new().unwrap();
        let place = Place::new(None, &dir.path().join("log"), ".cursor");
        assert_eq!(place.read::<Cursor>().unwrap(), None);
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
        let wrong = format!("{:#}", place.read::<Cursor>().unwrap_err());
        assert!(
            wrong.contains("log.cursor: write the last record"),
            "{wrong}"
        );
    }
}
