//! Whether a plugin's file is still the one that was started.
//!
//! lightningd reads the whole file at each start for a checksum. A debug build of
//! a Rust plugin has tens of megabytes, so a small file is kept in memory and a
//! large one as an open handle: a running executable can only be replaced by
//! another file, and the handle still reads the old one.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The longest file that is kept in memory, in bytes.
const SMALL: u64 = 256 * 1024;

/// A file as it was when its plugin started.
#[derive(Debug)]
pub struct Fingerprint {
    meta: Option<Summary>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// An unreadable file may still be executable.
    Unreadable,
    Small(Vec<u8>),
    Large(File),
}

/// Device, inode, length, time of the last change in s and ns.
type Summary = (u64, u64, u64, i64, i64);

fn summary(meta: &Metadata) -> Summary {
    (
        meta.dev(),
        meta.ino(),
        meta.len(),
        meta.mtime(),
        meta.mtime_nsec(),
    )
}

impl Fingerprint {
    pub fn of(path: &Path) -> Self {
        let read = || -> io::Result<Self> {
            let mut file = File::open(path)?;
            let meta = file.metadata()?;
            let content = if meta.len() <= SMALL {
                let mut content = Vec::new();
                file.read_to_end(&mut content)?;
                Content::Small(content)
            } else {
                Content::Large(file)
            };
            Ok(Self {
                meta: Some(summary(&meta)),
                content,
            })
        };
        read().unwrap_or(Self {
            meta: None,
            content: Content::Unreadable,
        })
    }

    /// Whether the file there now has other content. One that cannot be read counts
    /// as unchanged.
    pub fn differs(&self, path: &Path) -> bool {
        let Ok(now) = File::open(path) else {
            return false;
        };
        let Ok(meta) = now.metadata() else {
            return false;
        };
        if self.meta == Some(summary(&meta)) {
            return false;
        }
        match &self.content {
            Content::Unreadable => false,
            Content::Small(content) => {
                content.len() as u64 != meta.len()
                    || !same(content.as_slice(), now).unwrap_or(false)
            }
            Content::Large(old) => {
                let written_in_place = old
                    .metadata()
                    .is_ok_and(|o| (o.dev(), o.ino()) == (meta.dev(), meta.ino()));
                let old = old.try_clone().and_then(|mut old| {
                    io::Seek::rewind(&mut old)?;
                    Ok(old)
                });
                match old {
                    Ok(old) if !written_in_place => !same(old, now).unwrap_or(false),
                    // The old content is lost: assume a change.
                    _ => true,
                }
            }
        }
    }
}

fn same(a: impl Read, b: impl Read) -> io::Result<bool> {
    let (mut a, mut b) = (BufReader::new(a), BufReader::new(b));
    let (mut x, mut y) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let n = fill(&mut a, &mut x)?;
        let m = fill(&mut b, &mut y)?;
        if x[..n] != y[..m] {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the input ends.
fn fill(from: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buf.len() {
        match from.read(&mut buf[len..])? {
            0 => break,
            n => len += n,
        }
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::time::{Duration, SystemTime};

    fn check(size: usize) {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("p"), dir.path().join("q"));
        fs::write(&path, vec![b'x'; size]).unwrap();
        let print = Fingerprint::of(&path);
        assert!(!print.differs(&path), "untouched");

        // The same content in another file, as `cp` and `cargo` write it.
        fs::write(&other, vec![b'x'; size]).unwrap();
        File::options()
            .write(true)
            .open(&other)
            .unwrap()
            .set_modified(SystemTime::now() + Duration::from_secs(5))
            .unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(!print.differs(&path), "replaced by the same content");

        let mut changed = vec![b'x'; size];
        changed[size - 1] = b'y';
        fs::write(&other, changed).unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(print.differs(&path), "changed");
        fs::remove_file(&path).unwrap();
        assert!(!print.differs(&path), "unreadable");
    }

    #[test]
    fn small_and_large_files() {
        check(100);
        check(SMALL as usize + 100_000);
    }

    #[test]
    fn a_touched_file_is_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        fs::write(&path, "x").unwrap();
        let print = Fingerprint::of(&path);
        fs::write(&path, "x").unwrap();
        assert!(!print.differs(&path));
        fs::write(&path, "y").unwrap();
        assert!(print.differs(&path));
    }
}
