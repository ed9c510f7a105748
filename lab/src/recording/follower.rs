//! A file of lines, read to its end and then as it grows.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc::O_NONBLOCK;

use crate::Result;
use crate::error::IoContext;

/// A longer line, in bytes, is handed out in pieces, each as a line.
const LONGEST: usize = 64 << 20;
/// How much is read at once, in bytes.
const CHUNK: u64 = 1 << 20;
/// How many of the last bytes read are remembered, to see whether the file still has
/// them.
const REMEMBERED: usize = 256;

/// A file of lines that another program writes, and may rotate, empty or rewrite.
///
/// It holds the file open. If another file takes the path, the old one is read to
/// its end first, so no line is missed, however long the new file is by then; only a
/// file that was rotated twice between two looks is never seen. A file whose last
/// bytes read are no longer there was rewritten, and is read from its beginning.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    open: Option<File>,
    offset: u64,
    /// What was read just before `offset`.
    before: Vec<u8>,
    /// A line whose end is not written yet.
    partial: Vec<u8>,
    /// Lines to hand out.
    lines: Vec<String>,
    longest: usize,
}

impl Follower {
    /// Follows the file from its beginning. It need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Follower {
        Follower::from_offset(path, 0)
    }

    /// Follows the file from its present end.
    pub fn from_now(path: impl Into<PathBuf>) -> Follower {
        Follower::from_offset(path, u64::MAX)
    }

    /// Follows the file from this byte on, or from its end if it is shorter.
    pub fn from_offset(path: impl Into<PathBuf>, offset: u64) -> Follower {
        let mut follower = Follower {
            path: path.into(),
            open: None,
            offset,
            before: Vec::new(),
            partial: Vec::new(),
            lines: Vec::new(),
            longest: LONGEST,
        };
        // Now, so that it is this file. An error comes again with the first look.
        let _ = follower.open();
        follower
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the next line starts, in bytes: [`Follower::from_offset`] continues there.
    pub fn offset(&self) -> u64 {
        self.offset - self.partial.len() as u64
    }

    /// The complete lines that are new since the last look. Bytes that are not
    /// UTF-8 are replaced.
    ///
    /// # Errors
    /// If there is something else than a file, or it cannot be read; what was read
    /// before the error comes with the next look.
    pub fn lines(&mut self) -> Result<Vec<String>> {
        self.look().doing("read", &self.path)?;
        Ok(std::mem::take(&mut self.lines))
    }

    /// A last line without an end, if there is one; what is appended to it later
    /// counts as a line of its own.
    pub fn rest(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.partial);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }

    fn look(&mut self) -> io::Result<()> {
        if self.open.is_none() {
            self.open()?;
        }
        if self.is_rewritten()? {
            self.restart();
        }
        self.read()?;
        if self.is_replaced() {
            // What was written between the read and the move is in the old file.
            self.read()?;
            self.restart();
            self.open = None;
            self.open()?;
            self.read()?;
        }
        Ok(())
    }

    /// Opens the file at the path, to be read from `offset` on; from its beginning if
    /// it is not there yet.
    fn open(&mut self) -> io::Result<()> {
        // Without O_NONBLOCK, opening a pipe waits for its writer.
        let mut options = OpenOptions::new();
        let file = match options.read(true).custom_flags(O_NONBLOCK).open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.offset = 0;
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a file of lines"));
        }
        self.offset = self.offset.min(metadata.len());
        let known = self.offset.min(REMEMBERED as u64);
        self.before = vec![0; known as usize];
        file.read_exact_at(&mut self.before, self.offset - known)?;
        self.open = Some(file);
        Ok(())
    }

    /// Hands out what there is, and continues with the file's beginning.
    fn restart(&mut self) {
        let rest = self.rest();
        self.lines.extend(rest);
        self.offset = 0;
        self.before.clear();
    }

    /// True if the file lacks what was read last.
    fn is_rewritten(&self) -> io::Result<bool> {
        let Some(file) = &self.open else {
            return Ok(false);
        };
        let mut there = vec![0; self.before.len()];
        match file.read_exact_at(&mut there, self.offset - self.before.len() as u64) {
            Ok(()) => Ok(there != self.before),
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(true),
            Err(e) => Err(e),
        }
    }

    /// True if another file has the path now.
    fn is_replaced(&self) -> bool {
        let which = |file: Metadata| (file.dev(), file.ino());
        let ours = self.open.as_ref().and_then(|file| file.metadata().ok());
        let there = self.path.metadata().ok();
        there.is_some_and(|there| ours.is_some_and(|ours| which(there) != which(ours)))
    }

    /// Reads the open file to its end.
    fn read(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.open else {
            return Ok(());
        };
        file.seek(SeekFrom::Start(self.offset))?;
        loop {
            let known = self.partial.len();
            let outcome = file.take(CHUNK).read_to_end(&mut self.partial);
            // Also before an error.
            let new = &self.partial[known..];
            self.offset += new.len() as u64;
            self.before
                .extend_from_slice(&new[new.len().saturating_sub(REMEMBERED)..]);
            self.before
                .drain(..self.before.len().saturating_sub(REMEMBERED));
            let end = match new.iter().rposition(|byte| *byte == b'\n') {
                Some(end) => known + end + 1,
                None if self.partial.len() > self.longest => self.partial.len(),
                None => 0,
            };
            let rest = self.partial.split_off(end);
            let whole = std::mem::replace(&mut self.partial, rest);
            let whole = String::from_utf8_lossy(&whole);
            self.lines.extend(whole.lines().map(str::to_owned));
            if outcome? == 0 {
                return Ok(());
            }
        }
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
    #[test]
    fn what_was_rewritten_is_read_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("f");
        std::fs::write(&path, "a1\na2\npart").expect("write");
        let mut follower = Follower::new(&path);
        assert_eq!(follower.lines().expect("read"), ["a1", "a2"]);
        // The same file, as long as before, and then longer.
        for (text, expected) in [
            ("b1\nb2\nb3__", &["part", "b1", "b2"][..]),
            (
                "c1\nc2\nc3\nc4\nc5\n",
                &["b3__", "c1", "c2", "c3", "c4", "c5"],
            ),
        ] {
            std::fs::write(&path, text).expect("write");
            assert_eq!(follower.lines().expect("read"), expected);
        }
    }

    #[test]
    fn from_now_stays_with_the_file_that_is_there_now() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("f");
        std::fs::write(&path, "old\n").expect("write");
        let mut follower = Follower::from_now(&path);
        std::fs::rename(&path, dir.path().join("f.1")).expect("rename");
        std::fs::write(&path, "new 1\nnew 2\n").expect("write");
        assert_eq!(follower.lines().expect("read"), ["new 1", "new 2"]);
    }

    #[test]
    fn what_is_no_file_is_an_error_with_its_path() {
        let dir = tempfile::tempdir().expect("a folder");
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        for path in [dir.path(), &pipe] {
            let error = Follower::new(path)
                .lines()
                .expect_err("no file")
                .to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
    }

    #[test]
    fn a_line_without_end_is_handed_out_in_pieces() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("f");
        std::fs::write(&path, vec![b'x'; 3 * CHUNK as usize]).expect("write");
        let mut follower = Follower::new(&path);
        follower.longest = CHUNK as usize;
        let pieces = follower.lines().expect("read");
        assert_eq!(pieces.len(), 1);
        assert_eq!(pieces[0].len() + follower.partial.len(), 3 * CHUNK as usize);
    }
}
