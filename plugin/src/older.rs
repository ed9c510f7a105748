//! The older files that rotation leaves: `eventlog.jsonl.1` is the newest of them.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

/// The path of the `n`th older file; 0 is the file itself.
pub fn older(path: &Path, n: u32) -> PathBuf {
    if n == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    PathBuf::from(name)
}

/// A file that could not be read.
#[derive(Debug)]
pub struct PassedOver {
    /// Its path.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

/// One of the files, wherever a rotation has moved it meanwhile.
#[derive(Debug)]
pub struct Generation {
    path: PathBuf,
    n: u32,
    identity: (u64, u64),
    length: u64,
}

/// The file and the older ones, the newest first, and what is there that is not
/// a regular file. None is open yet.
pub fn generations(path: &Path) -> (Vec<Generation>, Vec<PassedOver>) {
    let mut found: Vec<Generation> = Vec::new();
    let mut others = Vec::new();
    let mut missing = 0;
    // A rotation may be between two of its steps: then one file is missing. It
    // moves files on in the direction of this walk, so that none is missed.
    for n in 0.. {
        let name = older(path, n);
        match fs::symlink_metadata(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                missing += 1;
                if missing > 1 {
                    break;
                }
                continue;
            }
            Err(error) => {
                others.push(passed_over(name, &error));
                if n == 0 {
                    break; // the folder cannot be searched
                }
            }
            Ok(metadata) if !metadata.is_file() => others.push(PassedOver {
                path: name,
                reason: "is not a regular file".to_owned(),
            }),
            Ok(metadata) => {
                let identity = identity(&metadata);
                if found.iter().all(|seen| seen.identity != identity) {
                    found.push(Generation {
                        path: path.to_owned(),
                        n,
                        identity,
                        length: metadata.len(),
                    });
                }
            }
        }
        missing = 0;
    }
    (found, others)
}

impl Generation {
    /// Opens the file to read; `None` if it is gone.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(&self) -> Result<Option<File>, PassedOver> {
        let mut missing = 0;
        // Rotations since then moved it on.
        for n in self.n.. {
            let path = older(&self.path, n);
            match fs::symlink_metadata(&path) {
                Ok(metadata) if identity(&metadata) == self.identity => {}
                Ok(_) => {
                    missing = 0;
                    continue;
                }
                Err(_) if missing > 0 => break,
                Err(_) => {
                    missing += 1;
                    continue;
                }
            }
            let opened = File::options()
                .read(true)
                .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
                .open(&path);
            match opened.and_then(|file| Ok((file.metadata()?, file))) {
                Ok((metadata, file)) if identity(&metadata) == self.identity => {
                    return Ok(Some(file));
                }
                Ok(_) => {} // moved on in between
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(passed_over(path, &error)),
            }
        }
        Ok(None)
    }

    /// Device and inode.
    pub(crate) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Bytes, when it was found.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Its path, as far as known.
    pub fn path(&self) -> PathBuf {
        older(&self.path, self.n)
    }
}

/// A file that could not be read for this error.
pub fn passed_over(path: PathBuf, error: &io::Error) -> PassedOver {
    PassedOver {
        path,
        reason: error.to_string(),
    }
}

pub(crate) fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Moves the file to `.1`, `.1` to `.2` and so on; of the older files, `keep`
/// stay. Nothing lies at the path afterwards: gives where the file went. A directory or a link in the place
/// of an older file is stepped over.
///
/// # Errors
/// A file could not be moved: then the file itself is where it was, and at most
/// the oldest is lost.
pub fn rotate(path: &Path, keep: u32) -> io::Result<PathBuf> {
    // The places to move to: from the first free one on there is nothing to move.
    let mut places = Vec::new();
    for n in 1.. {
        match fs::symlink_metadata(older(path, n)) {
            Ok(metadata) if metadata.is_file() => places.push((n, true)),
            Ok(_) => {} // not one of ours
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                places.push((n, false));
                break;
            }
            Err(error) => return Err(error),
        }
    }
    let keep = usize::try_from(keep.max(1)).unwrap_or(usize::MAX);
    for pair in places[..places.len().min(keep)].windows(2).rev() {
        // Takes the place of the oldest in one step.
        fs::rename(older(path, pair[0].0), older(path, pair[1].0))?;
    }
    let newest = older(path, places[0].0);
    fs::rename(path, &newest)?;
    // More than that were kept before.
    for (n, there) in places.into_iter().skip(keep) {
        if there {
            fs::remove_file(older(path, n))?;
        }
    }
    Ok(newest)
}

/// Waits until the names in a folder are on the disk, for example of a new file.
///
/// # Errors
/// The disk's.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

/// The folder that it lies in.
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> (TempDir, PathBuf) {
        let dir = TempDir::new().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let path = dir.path().join("log");
        (dir, path)
    }

    fn texts(path: &Path) -> Vec<String> {
        let (found, _) = generations(path);
        let text = |one: &Generation| io::read_to_string(one.open().unwrap().unwrap()).unwrap();
        found.iter().map(text).collect()
    }

    #[test]
    fn a_directory_or_a_link_in_the_way_is_stepped_over() {
        let (dir, path) = folder(&[("log", "a"), ("log.1", "b"), ("elsewhere", "x")]);
        fs::create_dir(dir.path().join("log.2")).unwrap();
        symlink(dir.path().join("elsewhere"), dir.path().join("log.3")).unwrap();
        for (text, kept) in [("c", "cab"), ("d", "dca"), ("e", "edc")] {
            rotate(&path, 2).unwrap();
            fs::write(&path, text).unwrap();
            assert_eq!(texts(&path).concat(), kept);
        }
        let (_, others) = generations(&path);
        let reasons: Vec<String> = others.iter().map(ToString::to_string).collect();
        assert_eq!(reasons.len(), 2, "{reasons:?}");
        assert!(reasons[0].ends_with("log.2: is not a regular file"));
        assert!(path.with_file_name("log.2").is_dir());
    }

    #[test]
    fn files_are_found_between_two_steps_of_a_rotation_and_after_it() {
        let (_dir, path) = folder(&[("log", "a"), ("log.2", "b"), ("log.3", "c")]);
        assert_eq!(texts(&path), ["a", "b", "c"]);
        let (found, _) = generations(&path);
        rotate(&path, 9).unwrap();
        fs::write(&path, "new").unwrap();
        let text = |one: &Generation| io::read_to_string(one.open().unwrap().unwrap()).unwrap();
        assert_eq!(found.iter().map(text).collect::<String>(), "abc");
    }

    #[test]
    fn fewer_stay_when_fewer_are_kept() {
        let (_dir, path) = folder(&[("log", "a"), ("log.1", "b"), ("log.2", "c"), ("log.3", "d")]);
        rotate(&path, 2).unwrap();
        assert_eq!(texts(&path), ["a", "b"]);
        assert!(!older(&path, 3).exists() && !older(&path, 4).exists());
    }
}
