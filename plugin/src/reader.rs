//! Reading recorded events back: the last sequence number at a start, and what
//! the methods ask for. Lines that are not records are passed over: `text`
//! lines, a line cut short by a crash, anything a person put there.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::file::older;

/// How much is read at once.
const BLOCK: usize = 64 * 1024;

/// A line longer than this is no record: it is passed over, not held in memory.
const LONGEST: usize = 64 << 20;

/// One recorded event.
#[derive(Debug, Deserialize)]
pub struct Record<'a> {
    /// Its place in the order, from 1 on, without gaps.
    pub seq: u64,
    /// RFC 3339, UTC, microseconds.
    #[serde(borrow)]
    pub received_at: Cow<'a, str>,
    /// The topic.
    #[serde(borrow)]
    pub topic: Cow<'a, str>,
    /// JSON text.
    #[serde(borrow)]
    pub payload: &'a RawValue,
}

/// The record that a line holds, if it does.
pub fn record(line: &[u8]) -> Option<Record<'_>> {
    // Every record starts like this; other lines need no parsing.
    line.starts_with(br#"{"seq":"#).then_some(())?;
    let record: Record = serde_json::from_slice(line).ok()?;
    // A number that no run reaches leaves none for the next event.
    (record.seq < u64::MAX / 2).then_some(record)
}

/// Which way to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The newest first.
    NewestFirst,
    /// The oldest first.
    OldestFirst,
}

/// Goes through the lines of the file and of the older ones rotation left, in
/// that order, until `each` returns `false`.
///
/// # Errors
/// A file that is there cannot be read.
pub fn lines(path: &Path, order: Order, mut each: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    // All are opened at once, the newest first, so that a rotation meanwhile
    // makes us see none of them less than once; and none twice.
    let mut files: Vec<(File, (u64, u64))> = Vec::new();
    for n in 0.. {
        let path = if n == 0 {
            path.to_owned()
        } else {
            older(path, n)
        };
        let opened = File::options()
            .read(true)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A rotation is between two of its steps, or that was the last.
                if n == 0 { continue } else { break }
            }
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        let identity = (metadata.dev(), metadata.ino());
        if metadata.is_file() && files.iter().all(|(_, seen)| *seen != identity) {
            files.push((file, identity));
        }
    }
    if order == Order::OldestFirst {
        files.reverse();
    }
    for (file, _) in files {
        let going = match order {
            Order::NewestFirst => backward(file, BLOCK, &mut each)?,
            Order::OldestFirst => forward(file, &mut each)?,
        };
        if !going {
            break;
        }
    }
    Ok(())
}

/// The sequence number of the last event recorded, 0 if there is none.
///
/// # Errors
/// A file that is there cannot be read.
pub fn last_seq(path: &Path) -> io::Result<u64> {
    let mut last = 0;
    lines(path, Order::NewestFirst, |line| match record(line) {
        Some(record) => {
            last = record.seq;
            false
        }
        None => true,
    })?;
    Ok(last)
}

fn forward(file: impl Read, each: &mut impl FnMut(&[u8]) -> bool) -> io::Result<bool> {
    let mut reader = BufReader::with_capacity(BLOCK, file);
    let mut line = Vec::new();
    let mut skipping = false;
    loop {
        line.clear();
        let limit = LONGEST as u64;
        let read = reader.by_ref().take(limit).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(true);
        }
        let whole = line.last() == Some(&b'\n');
        if whole && !skipping && !each(&line[..line.len() - 1]) {
            return Ok(false);
        }
        skipping = !whole;
    }
}

/// From the end to the start, block by block.
fn backward(
    mut file: impl Read + Seek,
    block: usize,
    each: &mut impl FnMut(&[u8]) -> bool,
) -> io::Result<bool> {
    let mut start = file.seek(SeekFrom::End(0))?;
    // What was read and not yet given: begins at `start`, ends at a line's end.
    let mut held: Vec<u8> = Vec::new();
    let mut buffer = Vec::new();
    let mut skipping = false;
    // Nothing after the last line's end: an unfinished line is no record.
    let mut at_end = true;
    while start > 0 {
        let size = start.min(block as u64);
        start -= size;
        file.seek(SeekFrom::Start(start))?;
        buffer.resize(usize::try_from(size).unwrap_or(block), 0);
        file.read_exact(&mut buffer)?;
        let mut tail = buffer.len();
        while let Some(end) = memchr::memrchr(b'\n', &buffer[..tail]) {
            let line = &buffer[end + 1..tail];
            let going = if at_end || skipping {
                true
            } else if held.is_empty() {
                each(line)
            } else {
                held.splice(0..0, line.iter().copied());
                each(&held)
            };
            if !going {
                return Ok(false);
            }
            held.clear();
            (at_end, skipping) = (false, false);
            tail = end;
        }
        if !at_end && !skipping {
            held.splice(0..0, buffer[..tail].iter().copied());
            if held.len() > LONGEST {
                held = Vec::new();
                skipping = true;
            }
        }
    }
    Ok(at_end || skipping || each(&held))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn both(bytes: &[u8], block: usize) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let (mut ahead, mut back) = (Vec::new(), Vec::new());
        forward(Cursor::new(bytes), &mut |line| {
            ahead.push(line.to_vec());
            true
        })
        .unwrap();
        backward(Cursor::new(bytes), block, &mut |line| {
            back.push(line.to_vec());
            true
        })
        .unwrap();
        back.reverse();
        (ahead, back)
    }

    #[test]
    fn an_unfinished_line_is_no_line() {
        let (ahead, back) = both(b"one\ntwo\nthr", BLOCK);
        assert_eq!(ahead, [b"one", b"two"]);
        assert_eq!(ahead, back);
        assert_eq!(both(b"", BLOCK).0.len() + both(b"x", BLOCK).1.len(), 0);
    }

    #[test]
    fn lines_longer_than_a_block_come_whole() {
        let long = "x".repeat(3 * BLOCK + 17);
        let bytes = format!("a\n{long}\nb\n");
        let (ahead, back) = both(bytes.as_bytes(), BLOCK);
        assert_eq!(ahead, back);
        assert_eq!(ahead[1], long.as_bytes());
    }

    proptest! {
        #[test]
        fn backward_is_forward_reversed(
            bytes in prop::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(b'\n')], 0..100),
            block in 1_usize..40,
        ) {
            let (ahead, back) = both(&bytes, block);
            prop_assert_eq!(ahead, back);
        }

        #[test]
        fn any_line_is_a_record_or_is_not(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = record(&line);
            let mut like = br#"{"seq":"#.to_vec();
            like.extend(line);
            let _ = record(&like);
        }
    }
}
