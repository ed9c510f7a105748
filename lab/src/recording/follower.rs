//! A file of lines, read to its end and then as it grows.

use std::fs::File;
use std::io::{Read, Result, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file of lines that another program writes, and may rotate or empty.
///
/// It holds the file open. If another file takes the path, the old one is read to
/// its end first, so no line is missed, however long the new file is by then; only a
/// file that was rotated twice between two looks is never seen.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    open: Option<File>,
    offset: u64,
    /// A line whose end is not written yet.
    partial: Vec<u8>,
    /// Lines to hand out.
    lines: Vec<String>,
}

impl Follower {
    /// Follows the file from its beginning. It need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Follower {
        Follower::from_offset(path, 0)
    }

    /// Follows the file from its present end.
    pub fn from_now(path: impl Into<PathBuf>) -> Follower {
        let path = path.into();
        let length = path.metadata().map_or(0, |metadata| metadata.len());
        Follower::from_offset(path, length)
    }

    /// Follows the file from this byte on.
    pub fn from_offset(path: impl Into<PathBuf>, offset: u64) -> Follower {
        Follower {
            path: path.into(),
            open: None,
            offset,
            partial: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The complete lines that are new since the last look. Bytes that are not
    /// UTF-8 are replaced.
    ///
    /// # Errors
    /// If the file cannot be read; what was read before the error comes with the
    /// next look.
    pub fn lines(&mut self) -> Result<Vec<String>> {
        self.read()?;
        if self.moved() {
            // What was written between the read and the move is in the old file.
            self.read()?;
            let rest = self.rest();
            self.lines.extend(rest);
            (self.open, self.offset) = (None, 0);
            self.read()?;
        }
        Ok(std::mem::take(&mut self.lines))
    }

    /// A last line without an end, if there is one; what is appended to it later
    /// counts as a line of its own.
    pub fn rest(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.partial);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }

    /// True if another file has the path now, or this one has been cut.
    fn moved(&self) -> bool {
        let ours = self.open.as_ref().map(File::metadata);
        match (self.path.metadata(), ours) {
            (Ok(there), Some(Ok(ours))) => there.ino() != ours.ino() || ours.len() < self.offset,
            _ => false,
        }
    }

    fn read(&mut self) -> Result<()> {
        if self.open.is_none() {
            match File::open(&self.path) {
                Ok(file) => self.open = Some(file),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        let Some(file) = &mut self.open else {
            return Ok(());
        };
        file.seek(SeekFrom::Start(self.offset))?;
        self.offset += file.read_to_end(&mut self.partial)? as u64;
        if let Some(end) = self.partial.iter().rposition(|byte| *byte == b'\n') {
            let rest = self.partial.split_off(end + 1);
            let whole = std::mem::replace(&mut self.partial, rest);
            let whole = String::from_utf8_lossy(&whole);
            self.lines.extend(whole.lines().map(str::to_owned));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_once_and_whole() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("f");
        let mut follower = Follower::new(path.clone());
        let append = |text: &str| {
            use std::io::Write;
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.append(true).create(true).open(&path).expect("open");
            file.write_all(text.as_bytes()).expect("write");
        };
        let mut look = || follower.lines().expect("read");
        assert!(look().is_empty(), "no file yet");
        append("a\nb");
        assert_eq!(look(), ["a"]);
        append("c\nd\n");
        assert_eq!(look(), ["bc", "d"]);
        assert!(look().is_empty());
        // Rotated, with a line that was written just before.
        append("e\n");
        std::fs::rename(&path, dir.path().join("f.1")).expect("rename");
        append("f\n");
        assert_eq!(look(), ["e", "f"]);
        // Rotated, and the new file is longer than what was read of the old one.
        append("f2\n");
        std::fs::rename(&path, dir.path().join("f.2")).expect("rename");
        append("g1\ng2\ng3\ng4\n");
        assert_eq!(look(), ["f2", "g1", "g2", "g3", "g4"]);
        // Cut.
        std::fs::write(&path, "").expect("cut");
        look();
        append("h\n");
        assert_eq!(look(), ["h"]);
    }
}
