//! Standard output and error, without a panic if the reader is gone.

use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Nobody reads standard output any more, as after `| head`: the command ends silently.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads standard output any more")]
pub struct ReaderGone;

/// Prints a line.
///
/// # Errors
/// [`ReaderGone`]; what else keeps it from being written.
pub fn line(text: impl std::fmt::Display) -> anyhow::Result<()> {
    bytes(format!("{text}\n").as_bytes())
}

/// Prints a line on standard error, if it can be written: the terminal may be closed.
pub fn note(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints these bytes; errors as those of [`line()`].
pub fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        written => written.context("write to standard output"),
    }
}

/// True once nobody reads standard output any more, as after `| head -n 1`: there is
/// no need to wait for more to print.
pub fn is_closed() -> bool {
    let stdout = std::io::stdout();
    let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    let polled = poll(&mut fds, PollTimeout::ZERO);
    let gone = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
    polled.is_ok() && fds[0].revents().is_some_and(|seen| seen.intersects(gone))
}
