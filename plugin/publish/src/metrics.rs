//! What was published so far, and what was not, as Prometheus reads it: on the loopback
//! interface, to whoever asks there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use eventlog::prometheus::{Kind, Page};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::node::Node;
use crate::outbox::Outbox;
use crate::progress::Progress;

/// A request has at most this many bytes, takes this long, and has so many beside it.
const REQUEST: usize = 8 << 10;
const PATIENCE: Duration = Duration::from_secs(5);
const BESIDE: usize = 16;

/// An address that other machines cannot reach.
///
/// # Errors
/// It is another one.
pub fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "not ADDRESS:PORT".to_owned())?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err("not a loopback address, such as 127.0.0.1".to_owned()),
    }
}

/// What the numbers are about.
#[derive(Debug)]
pub struct Metrics {
    /// What is done.
    pub progress: Arc<Progress>,
    /// What is left to do.
    pub outbox: Outbox,
    /// Whose records.
    pub node: Node,
    /// Its [`KIND`](crate::sink::Sink::KIND).
    pub sink: &'static str,
}

/// Answers requests for `/metrics`, in a task of its own.
///
/// # Errors
/// The address is in use.
pub async fn serve(address: SocketAddr, metrics: Metrics) -> Result<()> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("--metrics {address}"))?;
    tracing::info!("metrics at http://{}/metrics", listener.local_addr()?);
    let (metrics, beside) = (Arc::new(metrics), Arc::new(Semaphore::new(BESIDE)));
    tokio::spawn(async move {
        loop {
            let Ok(place) = beside.clone().acquire_owned().await else {
                return; // it is never closed
            };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(PATIENCE).await; // no descriptor is left
                continue;
            };
            let metrics = metrics.clone();
            tokio::spawn(async move {
                // Who went away meanwhile needs no answer.
                let _ = tokio::time::timeout(PATIENCE, answer(stream, metrics)).await;
                drop(place);
            });
        }
    });
    Ok(())
}

async fn answer(mut stream: TcpStream, metrics: Arc<Metrics>) -> Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read_buf(&mut request).await?;
        if read == 0 || request.len() > REQUEST {
            return Ok(());
        }
    }
    let (status, body) = if request.starts_with(b"GET /metrics ") {
        let page = tokio::task::spawn_blocking(move || metrics.page());
        ("200 OK", page.await?)
    } else {
        ("404 Not Found", "GET /metrics\n".to_owned())
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await?;
    Ok(stream.shutdown().await?)
}

impl Metrics {
    /// The page, now.
    fn page(&self) -> String {
        let counts = self.progress.counts();
        let labels = [
            ("sink", self.sink),
            ("network", self.node.network.as_str()),
            ("node_id", self.node.id.as_str()),
        ];
        let mut page = Page::default();
        let mut metric = |name: &str, kind, help, value: f64| {
            let name = format!("eventlog_publish_{name}");
            page.metric(&name, kind, help).value(&labels, value);
        };
        let (counter, gauge) = (Kind::Counter, Kind::Gauge);
        let connected = f64::from(u8::from(counts.connected));
        #[rustfmt::skip]
        let numbers = [
            ("published_total", counter, "Records that arrived.", counts.published),
            ("reconnects_total", counter, "Sessions after the first.", counts.reconnects),
            ("refused_total", counter, "Sessions that ended with a record refused.", counts.refused),
            ("gaps_total", counter, "Places where records are missing in the files.", counts.gaps),
        ];
        for (name, kind, help, value) in numbers {
            metric(name, kind, help, value as f64);
        }
        metric(
            "connected",
            gauge,
            "1 if the other side is there, else 0.",
            connected,
        );
        let since = counts
            .last
            .and_then(|last| last.duration_since(SystemTime::UNIX_EPOCH).ok());
        if let Some(since) = since {
            let help = "When the last record arrived.";
            metric(
                "last_publish_timestamp_seconds",
                gauge,
                help,
                since.as_secs_f64(),
            );
        }
        match self.outbox.behind(counts.passed) {
            Ok(behind) => {
                let help = "Sequence numbers in the files that are still to be published.";
                metric("behind_records", gauge, help, behind.records as f64);
                let help = "Bytes in the files that are still to be published.";
                metric("behind_bytes", gauge, help, behind.bytes as f64);
            }
            Err(error) => tracing::warn!("metrics: {error:#}"),
        }
        page.into_text()
    }
}
