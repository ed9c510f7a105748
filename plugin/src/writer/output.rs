//! Puts the lines of a chunk into the file: finds the file again if it was moved, rotates
//! it, and waits for the disk.

use std::io;
use std::path::PathBuf;

use super::Writer;
use crate::file::{LogFile, Place};
use crate::older;
use crate::options::Settings;

impl Writer {
    pub(super) fn write_lines(&mut self, settings: &Settings) -> Result<(), String> {
        if self.chunk.is_empty() && self.trouble.is_none() {
            return Ok(());
        }
        self.find_file()?;
        while self.written < self.out.len() {
            let part = self.part(settings.rotate_size);
            if part == 0 {
                self.rotate(settings);
                self.find_file()?;
                continue;
            }
            let Some(file) = &mut self.file else {
                return Err("no file".to_owned());
            };
            let bytes = &self.out.as_bytes()[self.written..self.written + part];
            let (written, error) = file.append(bytes);
            self.written += written;
            self.inner.progress().bytes += written as u64;
            if let Some(error) = error {
                return Err(self.describe(&error));
            }
        }
        if settings.fsync {
            self.sync();
        }
        Ok(())
    }

    /// Waits for the disk. A failure is not tried again: the kernel gives up what it
    /// could not write, and says yes the next time.
    fn sync(&mut self) {
        if let Some(file) = &self.file
            && let Err(error) = file.sync()
        {
            let error = self.describe(&error);
            self.unconfirmed = Some(error.clone());
            self.unsynced = Some(error);
        }
    }

    /// Waits for the disk to confirm what is recorded, whatever the settings are.
    pub(super) fn sync_now(&mut self) -> Result<(), String> {
        if self.unconfirmed.is_none() {
            self.sync();
            if let Err(error) = older::sync_folder(&self.inner.path) {
                return Err(self.describe(&error));
            }
        }
        let confirmed = |error| format!("{error}: the disk did not confirm all that is recorded");
        self.unconfirmed
            .clone()
            .map_or(Ok(()), |error| Err(confirmed(error)))
    }

    fn describe(&self, error: &io::Error) -> String {
        format!("{}: {error}", self.inner.path.display())
    }

    /// How many bytes to write before the next rotation; 0: rotate first.
    fn part(&self, limit: Option<u64>) -> usize {
        let rest = &self.out.as_bytes()[self.written..];
        let Some(limit) = limit else {
            return rest.len();
        };
        let limit = limit.max(self.rotate_at);
        let line = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        if self.written > self.line_start() {
            return line; // its start is in this file
        }
        let length = self.file.as_ref().map_or(0, LogFile::length);
        let room = usize::try_from(limit.saturating_sub(length)).unwrap_or(usize::MAX);
        if rest.len() <= room {
            return rest.len();
        }
        match memchr::memrchr(b'\n', &rest[..room]) {
            Some(end) => end + 1,
            // A line longer than a whole file gets one to itself.
            None if length == 0 => line,
            None => 0,
        }
    }

    /// Where in `out` the line begins that is written next.
    fn line_start(&self) -> usize {
        memchr::memrchr(b'\n', &self.out.as_bytes()[..self.written]).map_or(0, |end| end + 1)
    }

    /// Makes sure that the open file is the one at the path.
    pub(super) fn find_file(&mut self) -> Result<(), String> {
        let start = self.line_start();
        if let Some(file) = &mut self.file {
            if file.place() == Place::Same {
                if file.is_torn() {
                    self.written = start; // another process wrote behind the part of a line
                }
                return Ok(());
            }
            // Moved away or deleted. A line started there is written whole here.
            file.cut((self.written - start) as u64);
            self.written = start;
            self.sync(); // nobody will later
            self.file = None;
        }
        let file = LogFile::open(&self.inner.path).map_err(|error| error.to_string())?;
        self.take_file(file);
        Ok(())
    }

    pub(super) fn take_file(&mut self, file: LogFile) {
        self.inner.progress().length = file.length();
        self.file = Some(file);
        self.unconfirmed = None;
        self.state.find();
        // A new file is on the disk when its name is.
        if self.inner.settings.get().fsync {
            self.state.sync();
            if let Err(error) = older::sync_folder(&self.inner.path) {
                self.unsynced = Some(self.describe(&error));
            }
        }
    }

    /// Rotates. A failure is no trouble: better one file too large than
    /// nothing recorded; the next try is made when it has grown as much again.
    pub(super) fn rotate(&mut self, settings: &Settings) -> Option<PathBuf> {
        let path = self.inner.path.clone();
        self.sync(); // nobody will later
        let rotated = older::rotate(&path, settings.rotate_keep);
        if let Err(error) = &rotated {
            log::warn!(
                "{}: cannot rotate: {error}; recording continues in the same file",
                path.display()
            );
            let length = self.file.as_ref().map_or(0, LogFile::length);
            self.rotate_at = length + settings.rotate_size.unwrap_or(0);
            return None;
        }
        self.rotate_at = 0;
        self.file = None;
        self.inner.progress().rotations += 1;
        rotated.ok()
    }
}
