//! TCP ports that no other lab on this machine has.
//!
//! Binding to port 0 and closing again leaves a window in which anyone may take
//! the port. A lease holds the *UDP* port of the same number instead: daemons
//! here speak TCP only, the kernel grants it to one process on the machine, and
//! takes it back however that process ends. So two labs never get the same port, in
//! one process or in many, and no lock file goes stale. Ports are taken from below
//! the kernel's ephemeral range. Where it leaves no room below, the kernel could give
//! the port to another program's connection: on Linux a TCP socket that is bound to
//! it, but does not listen, keeps it for those that bind it by number.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::net::TcpSocket;

use crate::{Error, Result};

/// The lowest port that is leased.
const LOWEST: u16 = 20_000;

/// One TCP port on 127.0.0.1, ours until dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    // Only held; `None` if another process holds it.
    _lease: Option<(UdpSocket, Option<TcpSocket>)>,
}

impl Port {
    /// Leases a free port.
    ///
    /// # Errors
    /// If every port is taken.
    pub fn lease() -> Result<Port> {
        let highest = highest();
        let span = u32::from(highest - LOWEST) + 1;
        // Each process starts elsewhere, so that labs that start together do not try
        // the same ports one after the other.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let start = std::process::id().wrapping_mul(7919);
        for _ in 0..span {
            let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % span;
            if let Some(port) = try_lease(LOWEST + offset as u16) {
                return Ok(port);
            }
        }
        Err(Error::usage(format!(
            "no free TCP port on 127.0.0.1 between {LOWEST} and {highest}: all are in use or leased"
        )))
    }

    /// A port that another process has leased.
    pub(crate) fn leased_elsewhere(number: u16) -> Port {
        Port {
            number,
            _lease: None,
        }
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// Takes `number`; `None` if a lab has it, or anything listens there.
fn try_lease(number: u16) -> Option<Port> {
    let address = (Ipv4Addr::LOCALHOST, number);
    let lease = UdpSocket::bind(address).ok()?;
    TcpListener::bind(address).ok()?;
    // Elsewhere nobody else could listen on it then.
    let kept = if cfg!(target_os = "linux") {
        let socket = TcpSocket::new_v4().ok()?;
        // As all that listen here do.
        socket.set_reuseaddr(true).ok()?;
        socket.bind(address.into()).ok()?;
        Some(socket)
    } else {
        None
    };
    Some(Port {
        number,
        _lease: Some((lease, kept)),
    })
}

/// The highest port below the kernel's ephemeral range.
fn highest() -> u16 {
    const USUAL: u16 = 32_767;
    let linux = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    let lowest_ephemeral: Option<u16> =
        linux.and_then(|text| text.split_whitespace().next()?.parse().ok());
    match lowest_ephemeral {
        Some(port) if port > LOWEST + 1_000 => port - 1,
        _ => USUAL,
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

        let number = ports[0].number();
        assert!(try_lease(number).is_none(), "leased twice");
        drop(ports);
        assert!(try_lease(number).is_some(), "not given back");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_leased_port_can_be_listened_on_and_is_no_connections_own() {
        let port = Port::lease().expect("a port");
        let address = (Ipv4Addr::LOCALHOST, port.number()).into();
        let connection = TcpSocket::new_v4().expect("a socket");
        connection
            .bind(address)
            .expect_err("taken for a connection");
        for _ in 0..2 {
            TcpListener::bind(address).expect("free for a daemon, and again");
        }
    }

    #[test]
    fn a_port_in_use_is_skipped() {
        let port = Port::lease().expect("a port");
        let number = port.number();
        drop(port);
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, number)).expect("free");
        assert!(try_lease(number).is_none());
    }
}
