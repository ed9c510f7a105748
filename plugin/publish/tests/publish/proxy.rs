//! A network that can be cut.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

/// Something between the two that cuts.
pub struct Proxy {
    pub port: u16,
    pub cut: Arc<AtomicBool>,
    /// Bytes that came from clients.
    #[allow(dead_code)] // not all who use this file count
    pub sent: Arc<AtomicUsize>,
}

impl Proxy {
    pub fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicUsize::new(0));
        let (is_cut, count_sent) = (cut.clone(), sent.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else {
                    continue;
                };
                let back = Arc::default();
                for (from, into, count_in) in
                    [(&client, &server, &count_sent), (&server, &client, &back)]
                {
                    let (mut from, mut into) =
                        (from.try_clone().unwrap(), into.try_clone().unwrap());
                    let (is_cut, count_in) = (is_cut.clone(), count_in.clone());
                    std::thread::spawn(move || {
                        let mut bytes = [0; 1 << 14];
                        while let Ok(count @ 1..) = from.read(&mut bytes) {
                            count_in.fetch_add(count, SeqCst);
                            // What is on its way is lost.
                            if is_cut.load(SeqCst) || into.write_all(&bytes[..count]).is_err() {
                                break;
                            }
                        }
                        let _ = (from.shutdown(Shutdown::Both), into.shutdown(Shutdown::Both));
                    });
                }
            }
        });
        Self { port, cut, sent }
    }
}
