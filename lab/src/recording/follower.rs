//! A file of lines, read to its end and then as it grows.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// A file of lines that somebody else writes, and may rotate or empty.
pub struct Follower {
    path: PathBuf,
    open: Option<(File, u64)>,
    partial: Vec<u8>,
}

impl Follower {
    /// The file need not exist yet.
    pub fn new(path: PathBuf) -> Follower {
        Follower {
            path,
            open: None,
            partial: Vec::new(),
        }
    }

    /// The complete lines that are new since the last look. Bytes that are not
    /// UTF-8 are replaced.
    pub fn lines(&mut self) -> std::io::Result<Vec<String>> {
        let mut lines = self.read()?;
        if self.moved() {
            // What was written between the read and the move is in the old file.
            lines.extend(self.read()?);
            lines.extend(self.rest());
            self.open = None;
            lines.extend(self.read()?);
        }
        Ok(lines)
    }

    /// A last line without an end, if there is one: nobody goes on with it.
    pub fn rest(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.partial);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }

    /// True if another file has the path now, or this one has been cut.
    fn moved(&self) -> bool {
        let Some((file, offset)) = &self.open else {
            return false;
        };
        match (self.path.metadata(), file.metadata()) {
            (Ok(there), Ok(ours)) => there.ino() != ours.ino() || ours.len() < *offset,
            _ => false,
        }
    }

    fn read(&mut self) -> std::io::Result<Vec<String>> {
        if self.open.is_none() {
            match File::open(&self.path) {
                Ok(file) => self.open = Some((file, 0)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(e) => return Err(e),
            }
        }
        let Some((file, offset)) = &mut self.open else {
            return Ok(Vec::new());
        };
        file.seek(SeekFrom::Start(*offset))?;
        *offset += file.read_to_end(&mut self.partial)? as u64;
        let Some(end) = self.partial.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(Vec::new());
        };
        let rest = self.partial.split_off(end + 1);
        let whole = std::mem::replace(&mut self.partial, rest);
        Ok(String::from_utf8_lossy(&whole)
            .lines()
            .map(str::to_owned)
            .collect())
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
        // Cut.
        std::fs::write(&path, "").expect("cut");
        look();
        append("g\n");
        assert_eq!(look(), ["g"]);
    }
}
