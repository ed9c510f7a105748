//! The signals that ask a program to end.

use nix::libc::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ctrl-C, Ctrl-\, SIGTERM and SIGHUP. Once this exists they no longer end the process.
pub struct Signals(Vec<(Signal, u8)>);

/// A signal came, by its number: the exit status is 128 more.
#[derive(Debug, thiserror::Error)]
#[error("ended by signal {0}")]
pub struct Interrupted(pub u8);

impl Signals {
    pub fn new() -> std::io::Result<Signals> {
        let kinds = [SIGINT, SIGQUIT, SIGTERM, SIGHUP];
        kinds
            .into_iter()
            .map(|number| Ok((signal(SignalKind::from_raw(number))?, number as u8)))
            .collect::<std::io::Result<_>>()
            .map(Signals)
    }

    pub async fn next(&mut self) -> Interrupted {
        let waits = self.0.iter_mut().map(|(stream, number)| {
            Box::pin(async move {
                stream.recv().await;
                Interrupted(*number)
            })
        });
        futures_util::future::select_all(waits).await.0
    }
}
