//! Single keys from the terminal.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use cln_lab::{IoContext, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The terminal, set to hand out keys at once and not to show them. Ctrl-C still is a
/// signal, and what is printed looks as ever. Dropping it sets the terminal back.
pub struct Keys {
    stdin: AsyncFd<File>,
    before: Termios,
    unread: Vec<u8>,
}

impl Keys {
    /// Takes the terminal on standard input.
    ///
    /// # Errors
    /// If that is no terminal.
    pub fn new() -> Result<Keys> {
        const STDIN: &str = "the terminal";
        let ours = std::io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .doing("take", STDIN)?;
        // SAFETY: the file is ours alone, and stays open as long as this.
        let stdin =
            unsafe { AsyncFd::register_with_interest(File::from(ours), Interest::READABLE) };
        let stdin = stdin.doing("read from", STDIN)?;
        let keys = Keys {
            before: tcgetattr(&stdin).doing("look at", STDIN)?,
            stdin,
            unread: Vec::new(),
        };
        keys.take()?;
        Ok(keys)
    }

    /// Takes the terminal again, after [`Keys::give_back`].
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn take(&self) -> Result<()> {
        let mut mode = self.before.clone();
        mode.local_flags
            .remove(LocalFlags::ICANON | LocalFlags::ECHO);
        tcsetattr(self.stdin.get_ref(), SetArg::TCSADRAIN, &mode).doing("set", "the terminal")
    }

    /// Sets the terminal as it was, for another program.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn give_back(&self) -> Result<()> {
        tcsetattr(self.stdin.get_ref(), SetArg::TCSADRAIN, &self.before)
            .doing("set", "the terminal")
    }

    /// Waits for `q`; the keys before it are kept for [`Keys::next`]. Safe to cancel.
    ///
    /// # Errors
    /// If the terminal cannot be read.
    pub async fn quit(&mut self) -> Result<()> {
        while !self.unread.contains(&b'q') {
            self.read().await?;
        }
        Ok(())
    }

    /// The next key; `q` once the terminal is gone. Safe to cancel.
    ///
    /// # Errors
    /// If the terminal cannot be read.
    pub async fn next(&mut self) -> Result<char> {
        while self.unread.is_empty() {
            self.read().await?;
        }
        Ok(char::from(self.unread.remove(0)))
    }

    /// Reads what is typed, one time.
    async fn read(&mut self) -> Result<()> {
        loop {
            let mut ready = self
                .stdin
                .readable_mut()
                .await
                .doing("read", "the terminal")?;
            // What was ready may have been read by another program meanwhile, a shell say:
            // then a read would wait, and all else with it.
            let mut fds = [PollFd::new(ready.get_inner().as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::ZERO).doing("look at", "the terminal")? == 0 {
                ready.clear_ready();
                continue;
            }
            let mut bytes = [0; 256];
            let count = ready
                .get_inner_mut()
                .read(&mut bytes)
                .doing("read", "the terminal")?;
            ready.clear_ready();
            if count == 0 {
                self.unread.push(b'q');
            } else if bytes[0] != 0x1b {
                // An arrow or the like is several bytes, and no key of ours.
                self.unread.extend(&bytes[..count]);
            }
            return Ok(());
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = self.give_back();
    }
}
