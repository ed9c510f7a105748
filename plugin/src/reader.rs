//! Reading recorded events back: the last sequence number at a start, and what
//! the methods ask for. Lines that are not records are passed over: `text`
//! lines, a line cut short by a crash, anything a person put there.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cursor::{Cursor, Epoch};
use crate::older::{PassedOver, generations, passed_over};

/// How much is read at once.
const BLOCK: usize = 64 * 1024;

/// A line longer than this is not a record: it is passed over, not held in memory.
pub(crate) const LONGEST: usize = cln_wire::LONGEST + (1 << 20);

/// Where the state has the last number, the files are searched this far back, in
/// bytes, for a later one.
const RECENT: u64 = 64 << 20;

/// No start counts on from a number larger than this: one that no run reaches would
/// leave none for the next events.
pub(crate) const LARGEST: u64 = u64::MAX / 4;

/// One recorded event.
#[derive(Debug, Deserialize)]
pub struct Record<'a> {
    /// Its place in the order, from 1 on.
    pub seq: u64,
    /// Which numbers these are: [`Epoch::NONE`] of one written before there were epochs.
    #[serde(default)]
    pub epoch: Epoch,
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

impl Record<'_> {
    /// Its place.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            epoch: self.epoch,
            seq: self.seq,
        }
    }
}

/// The record that a line holds, and the line as text.
pub fn record(line: &[u8]) -> Option<(Record<'_>, &str)> {
    // Every record starts like this; other lines need no parsing.
    line.starts_with(br#"{"seq":"#).then_some(())?;
    let line = std::str::from_utf8(line).ok()?;
    let record: Record = serde_json::from_str(line).ok()?;
    (record.seq < u64::MAX / 2).then_some((record, line))
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
/// that order, until `each` returns `false`. Oldest first, those before the
/// sequence number `since` may be left out. One file is open at a time. Returns
/// the files that could not be read.
pub fn lines(
    path: &Path,
    order: Order,
    since: u64,
    mut each: impl FnMut(&[u8]) -> bool,
) -> Vec<PassedOver> {
    let (mut files, mut failed) = generations(path);
    if order == Order::OldestFirst {
        // From the newest back to the one that has `since`.
        let begins_after = |first: Option<u64>| first.is_none_or(|first| first > since);
        let needed = files.iter().position(|file| {
            let first = file
                .open()
                .ok()
                .flatten()
                .map(|mut file| first_seq(&mut file));
            !begins_after(first.and_then(|first| first.ok().flatten()))
        });
        files.truncate(needed.map_or(files.len(), |n| n + 1));
        files.reverse();
    }
    for generation in files {
        let file = match generation.open() {
            Ok(Some(file)) => file,
            Ok(None) => continue,
            Err(error) => {
                failed.push(error);
                continue;
            }
        };
        let going = match order {
            Order::NewestFirst => backward(file, BLOCK, false, &mut { u64::MAX }, &mut each),
            Order::OldestFirst => skip_to(file, since).and_then(|file| forward(file, &mut each)),
        };
        match going {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => failed.push(passed_over(generation.path(), &error)),
        }
    }
    failed
}

/// The sequence number of the last event in the files, 0 if there is none, and
/// the files that could not be read. An unfinished line counts if it is a whole
/// record. `recent`: look only near the end, for a later number than a known one.
pub fn last_seq(path: &Path, recent: bool) -> (u64, Vec<PassedOver>) {
    let (files, mut failed) = generations(path);
    let mut most = if recent { RECENT } else { u64::MAX };
    for generation in files {
        let mut last = 0;
        let read = match generation.open() {
            Ok(Some(file)) => backward(file, BLOCK, true, &mut most, &mut |line: &[u8]| {
                let seq = record(line).map(|(record, _)| record.seq);
                last = seq.filter(|seq| *seq <= LARGEST).unwrap_or(0);
                last == 0
            })
            .map_err(|error| passed_over(generation.path(), &error)),
            Ok(None) => Ok(true),
            Err(error) => Err(error),
        };
        failed.extend(read.err());
        if last > 0 || most == 0 {
            return (last, failed);
        }
    }
    (0, failed)
}

/// The sequence number of the first record near the start of the file, or of
/// the place that it is at.
pub(crate) fn first_seq(file: &mut (impl Read + ?Sized)) -> io::Result<Option<u64>> {
    let mut first = None;
    forward(file.take(4 * BLOCK as u64), &mut |line| {
        first = record(line).map(|(record, _)| record.seq);
        first.is_none()
    })?;
    Ok(first)
}

/// Seeks to the start of a line that is not after the first record from `since`
/// on: the numbers only grow, so halving the file finds it.
pub(crate) fn skip_to(mut file: File, since: u64) -> io::Result<File> {
    let mut low = 0;
    let mut high = if since > 1 {
        file.seek(SeekFrom::End(0))?
    } else {
        0
    };
    while high - low > 4 * BLOCK as u64 {
        let middle = low + (high - low) / 2;
        file.seek(SeekFrom::Start(middle))?;
        let mut reader = BufReader::with_capacity(BLOCK, &mut file).take(4 * BLOCK as u64);
        // The rest of a line.
        let rest = reader.skip_until(b'\n')? as u64;
        match first_seq(&mut reader)? {
            Some(seq) if seq < since => low = middle + rest,
            _ => high = middle,
        }
    }
    file.seek(SeekFrom::Start(low))?;
    Ok(file)
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

/// From the end to the start, block by block. An unfinished line at the end is
/// left out, unless `unfinished` says to give it. `most`: how many bytes to read; the
/// rest of it is what is left in there.
fn backward(
    mut file: impl Read + Seek,
    block: usize,
    unfinished: bool,
    most: &mut u64,
    each: &mut impl FnMut(&[u8]) -> bool,
) -> io::Result<bool> {
    let mut start = file.seek(SeekFrom::End(0))?;
    // The end of a line whose start was not read yet, the last piece first.
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let mut held = 0;
    let mut buffer = Vec::new();
    let mut skipping = !unfinished;
    while start > 0 && *most > 0 {
        let size = start.min(block as u64).min(*most);
        *most -= size;
        start -= size;
        file.seek(SeekFrom::Start(start))?;
        buffer.resize(usize::try_from(size).unwrap_or(block), 0);
        file.read_exact(&mut buffer)?;
        let mut tail = buffer.len();
        while let Some(end) = memchr::memrchr(b'\n', &buffer[..tail]) {
            let piece = &buffer[end + 1..tail];
            let going = skipping || give(piece, &mut pieces, each);
            if !going {
                return Ok(false);
            }
            (skipping, held, tail) = (false, 0, end);
        }
        held += tail;
        if held > LONGEST {
            pieces = Vec::new();
            skipping = true;
        } else if !skipping {
            pieces.push(buffer[..tail].to_vec());
        }
    }
    Ok(start > 0 || skipping || give(&[], &mut pieces, each))
}

/// Gives the line that begins with this piece.
fn give(piece: &[u8], pieces: &mut Vec<Vec<u8>>, each: &mut impl FnMut(&[u8]) -> bool) -> bool {
    if pieces.is_empty() {
        return each(piece);
    }
    pieces.push(piece.to_vec());
    pieces.reverse();
    each(&std::mem::take(pieces).concat())
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
        backward(
            Cursor::new(bytes),
            block,
            false,
            &mut { u64::MAX },
            &mut |line| {
                back.push(line.to_vec());
                true
            },
        )
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

    #[test]
    fn no_more_is_read_than_asked_for_however_long_the_line() {
        let mut seen = Vec::new();
        let mut look = |bytes: &[u8]| {
            let mut most = 100;
            backward(Cursor::new(bytes), 30, true, &mut most, &mut |line| {
                seen.push(line.len());
                true
            })
            .unwrap();
            most
        };
        let left = [
            look(&[0; 1000]),
            look(&[0; 60]),
            look(&[[0; 95], [b'\n'; 95]].concat()),
        ];
        assert_eq!(left, [0, 40, 0]);
        assert_eq!(seen[0], 60);
        assert_eq!(seen[1..], [0; 95]);
    }

    /// A file of records with these numbers, and text lines between them.
    fn numbered(seqs: impl Iterator<Item = u64>) -> String {
        let line = |seq| {
            let pad = "x".repeat(usize::try_from(seq % 97).unwrap() * 20);
            format!(
                "text\n{{\"seq\":{seq},\"received_at\":\"\",\"topic\":\"t\",\"payload\":\"{pad}\"}}\n"
            )
        };
        seqs.map(line).collect()
    }

    #[test]
    fn a_number_is_found_in_whichever_file_without_reading_them_all() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("log");
        for (n, seqs) in [(2, 1..2000), (1, 2000..2001), (0, 2001..4001)] {
            std::fs::write(crate::older::older(&path, n), numbered(seqs)).unwrap();
        }
        for since in [0, 1, 2, 1234, 1999, 2000, 2001, 2002, 3333, 4000, 4001] {
            let mut seen = Vec::new();
            let mut read = 0;
            let failed = lines(&path, Order::OldestFirst, since, |line| {
                read += 1;
                let seq = record(line).map(|(record, _)| record.seq);
                seen.extend(seq.filter(|seq| *seq >= since));
                seen.len() < 3
            });
            assert!(failed.is_empty(), "{failed:?}");
            let expected: Vec<u64> = (since.max(1)..4001).take(3).collect();
            assert_eq!(seen, expected, "since {since}");
            assert!(read < 1000, "since {since}: {read} lines");
        }
    }

    #[test]
    fn the_last_number_counts_a_record_without_a_line_end_and_passes_over_a_bad_file() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("log");
        let whole = numbered(1..3);
        std::fs::write(&path, whole.trim_end()).unwrap();
        assert_eq!(last_seq(&path, true).0, 2);
        std::fs::write(&path, &whole[..whole.len() - 10]).unwrap();
        assert_eq!(last_seq(&path, false).0, 1);
        // Nothing in the file itself, and a link in the place of the first older one.
        std::fs::write(&path, "").unwrap();
        std::os::unix::fs::symlink("/dev/null", dir.path().join("log.1")).unwrap();
        std::fs::write(dir.path().join("log.2"), numbered(7..9)).unwrap();
        let (last, failed) = last_seq(&path, false);
        assert_eq!(last, 8);
        assert!(failed[0].path.ends_with("log.1"), "{failed:?}");
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
