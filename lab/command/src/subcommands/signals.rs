//! The signals that ask a program to end.

use nix::libc::{SIGHUP, SIGINT, SIGTERM};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ctrl-C, SIGTERM and SIGHUP. From its making on they no longer end the process
/// by themselves.
pub struct Signals(Vec<(Signal, u8)>);

impl Signals {
    pub fn new() -> std::io::Result<Signals> {
        let kinds = [SIGINT, SIGTERM, SIGHUP];
        kinds
            .into_iter()
            .map(|number| Ok((signal(SignalKind::from_raw(number))?, number as u8)))
            .collect::<std::io::Result<_>>()
            .map(Signals)
    }

    /// The number of the next one.
    pub async fn next(&mut self) -> u8 {
        let waits = self.0.iter_mut().map(|(stream, number)| {
            Box::pin(async move {
                stream.recv().await;
                *number
            })
        });
        futures_util::future::select_all(waits).await.0
    }
}
