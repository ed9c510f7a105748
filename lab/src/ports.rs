//! TCP ports that no other lab on this machine has.
//!
//! Binding to port 0 and closing again leaves a window in which anyone may take
//! the port. A lease is a locked file instead, held for the lab's life, on ports
//! below the range the kernel hands out by itself; so two labs never meet, in
//! one process or in many.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::{Flock, FlockArg};

use crate::error::IoContext;
use crate::{Error, Result};

/// The lowest port that is leased.
const LOWEST: u16 = 20_000;

/// One TCP port on 127.0.0.1, ours until dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    path: PathBuf,
    // Held for its lock only.
    _lock: Flock<File>,
}

impl Port {
    /// Leases a free port.
    ///
    /// # Errors
    /// If the folder of locks in the temporary folder cannot be written, or if
    /// every port is taken.
    pub fn lease() -> Result<Port> {
        let folder = lock_folder();
        let highest = highest();
        let span = u32::from(highest - LOWEST) + 1;
        // Each process starts elsewhere, so that labs which start together do
        // not queue for the same ports.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let start = std::process::id().wrapping_mul(7919);
        for _ in 0..span {
            let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % span;
            let number = LOWEST + offset as u16;
            if let Some(port) = try_lease(&folder, number)? {
                return Ok(port);
            }
        }
        Err(Error::usage(format!(
            "no free TCP port between {LOWEST} and {highest}: all are in use, or locked in {}",
            folder.display()
        )))
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // The name goes while the lock is still held: whoever opened the file
        // meanwhile sees that it is no longer the one in the folder.
        let _ = std::fs::remove_file(&self.path);
        if let Some(folder) = self.path.parent() {
            let _ = std::fs::remove_dir(folder); // refused unless this was the last one
        }
    }
}

/// Takes `number` if nobody has it: `None` if somebody does.
fn try_lease(folder: &Path, number: u16) -> Result<Option<Port>> {
    let path = folder.join(number.to_string());
    let file = loop {
        match std::fs::create_dir(folder) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => {
                return Err(e).doing("create the folder of port locks", folder);
            }
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        match options.open(&path) {
            Ok(file) => break file,
            // Somebody's last port went just now, and the folder with it.
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(e).doing("open the port lock", &path),
        }
    };
    let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
        return Ok(None);
    };
    let same =
        |a: &std::fs::Metadata, b: &std::fs::Metadata| a.dev() == b.dev() && a.ino() == b.ino();
    match (lock.metadata(), std::fs::metadata(&path)) {
        (Ok(ours), Ok(there)) if same(&ours, &there) => {}
        _ => return Ok(None), // given back between our open and our lock
    }
    let port = Port {
        number,
        path,
        _lock: lock,
    };
    // Somebody who knows nothing of our locks may listen there.
    match TcpListener::bind((Ipv4Addr::LOCALHOST, number)) {
        Ok(_) => Ok(Some(port)),
        Err(_) => Ok(None),
    }
}

/// One folder per user: another user's files could not be locked anyway.
fn lock_folder() -> PathBuf {
    std::env::temp_dir().join(format!("cln-lab-ports-{}", nix::unistd::getuid()))
}

/// The highest port below the kernel's ephemeral range.
fn highest() -> u16 {
    let linux = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    let lowest_ephemeral = linux
        .as_deref()
        .and_then(|text| text.split_whitespace().next())
        .and_then(|text| text.parse::<u16>().ok())
        .unwrap_or(32_768);
    if lowest_ephemeral > LOWEST + 1_000 {
        lowest_ephemeral - 1
    } else {
        32_767
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_distinct_and_given_back() {
        let ports: Vec<Port> = (0..50).map(|_| Port::lease().expect("a port")).collect();
        let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 50);
        assert!(numbers.iter().all(|n| (LOWEST..=highest()).contains(n)));

        let (path, number) = (ports[0].path.clone(), ports[0].number);
        let folder = lock_folder();
        assert!(
            try_lease(&folder, number).expect("no error").is_none(),
            "leased twice"
        );
        drop(ports);
        assert!(!path.exists(), "the lock file outlived its lease");
        assert!(
            try_lease(&folder, number).expect("no error").is_some(),
            "not given back"
        );
    }

    #[test]
    fn a_port_somebody_listens_on_is_passed_over() {
        let port = Port::lease().expect("a port");
        let number = port.number();
        drop(port);
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, number)).expect("free");
        assert!(
            try_lease(&lock_folder(), number)
                .expect("no error")
                .is_none()
        );
    }
}
