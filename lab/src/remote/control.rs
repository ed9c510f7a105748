//! The process that holds a lab takes requests from others.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::error::IoContext;
use crate::process::listing::is_alive;
use crate::remote::description::Description;
use crate::remote::request::{Answer, Request, SOCKET, ask};
use crate::{Error, Lab, Probe, Result, eventually, scaled};

/// How long a client may take to send its request.
const REQUEST: Duration = Duration::from_secs(5);
/// How long the holder's process may take to end once the lab has.
const GONE: Duration = Duration::from_secs(20);
/// How long to wait after a connection could not be accepted.
const RETRY: Duration = Duration::from_millis(100);
/// The longest request, in bytes.
const LONGEST: u64 = 64 << 10;

/// Asks the holder of the lab in `dir` to end it, and waits until it has.
///
/// # Errors
/// The holder's, for example if a daemon had died. The lab has ended then, too.
pub async fn down(dir: &Path) -> Result<()> {
    let holder = Description::read(dir)?.pid;
    let outcome = ask(dir, &Request::Down { keep: false }).await;
    if let Err(error @ Error::Usage(_)) = outcome {
        return Err(error);
    }
    let what = format!("process {holder}, which held the lab, to end");
    eventually(what, GONE, async || {
        Ok(if is_alive(holder) {
            Probe::NotYet("still running".to_owned())
        } else {
            Probe::Ready(())
        })
    })
    .await?;
    outcome.map(drop)
}

/// The socket on which the holder of a lab takes requests.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
}

/// A request for the lab's end, whose sender waits for the outcome.
#[derive(Debug)]
pub struct Down {
    stream: UnixStream,
    /// Whether the lab's folder is to stay.
    pub keep: bool,
}

impl Control {
    /// Opens the socket of a lab that this process holds.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(lab: &Lab) -> Result<Control> {
        let path = lab.dir().join(SOCKET);
        let listener = UnixListener::bind(&path).doing("listen on", &path)?;
        Ok(Control { listener, path })
    }

    /// Serves requests until one asks for the lab's end. A connection that cannot be
    /// accepted is tried again.
    pub async fn serve(&self, lab: &Lab) -> Down {
        let perform = async |request| perform(lab, &request).await;
        self.serve_with(perform, None).await
    }

    /// Serves requests as long as it is awaited; one for the lab's end is refused, and
    /// answered with why.
    pub async fn serve_and_stay(&self, lab: &Lab, why: &str) {
        let perform = async |request| perform(lab, &request).await;
        self.serve_with(perform, Some(why)).await;
    }

    async fn serve_with(&self, perform: impl Perform, stays: Option<&str>) -> Down {
        let mut served = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => {
                    match accepted {
                        Ok((stream, _)) => served.push(serve_one(&perform, stream)),
                        // Out of descriptors, say, which those served give back. The
                        // connection still waits: without a pause this would spin.
                        Err(error) => {
                            tracing::warn!(%error, "cannot accept on {}", self.path.display());
                            tokio::time::sleep(RETRY).await;
                        }
                    }
                }
                Some(down) = served.next() => {
                    match (down, stays) {
                        (None, _) => {}
                        // What is being done for others is not cancelled.
                        (Some(down), Some(why)) => down.refuse(why).await,
                        (Some(down), None) => return down,
                    }
                }
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Down {
    /// Answers that the lab stays up, and why.
    async fn refuse(self, why: &str) {
        write(self.stream, &Answer::Refused(why.to_owned())).await;
    }

    /// Answers with the outcome.
    pub async fn answer(self, outcome: &Result<()>) {
        let answer = match outcome {
            Ok(()) => Answer::Done(Value::Null),
            Err(error) => Answer::Failed(error.to_string()),
        };
        write(self.stream, &answer).await;
    }
}

/// Acts on a request for anything but the lab's end; what the answer has.
trait Perform: AsyncFn(Request) -> Result<Value> {}
impl<F: AsyncFn(Request) -> Result<Value>> Perform for F {}

/// Serves one connection; the request, if it is for the lab's end.
async fn serve_one(perform: &impl Perform, mut stream: UnixStream) -> Option<Down> {
    let mut line = String::new();
    let limited = (&mut stream).take(LONGEST);
    let mut reader = BufReader::new(limited);
    let read = tokio::time::timeout(scaled(REQUEST), reader.read_line(&mut line)).await;
    if !matches!(read, Ok(Ok(length)) if length > 0) {
        return None;
    }
    let answer = match serde_json::from_str(&line) {
        Ok(Request::Down { keep }) => return Some(Down { stream, keep }),
        Ok(request) => match perform(request).await {
            Ok(answer) => Answer::Done(answer),
            Err(error) => Answer::Refused(error.to_string()),
        },
        Err(error) => Answer::Refused(format!("not a valid request: {error}")),
    };
    write(stream, &answer).await;
    None
}

async fn perform(lab: &Lab, request: &Request) -> Result<Value> {
    let trace = lab.bitcoind().trace();
    let params = || serde_json::to_string(request).unwrap_or_default();
    let asked = trace.request("lab", &request.to_string(), params);
    let answer = act_on(lab, request).await;
    asked.answer(&answer);
    lab.describe().await?;
    answer
}

async fn act_on(lab: &Lab, request: &Request) -> Result<Value> {
    let status = |status: ExitStatus| json!(status.into_raw());
    match request {
        Request::Down { .. } => Ok(Value::Null),
        Request::Add { spec } => lab.add_node_down(spec.clone()).await.map(|_| Value::Null),
        Request::Configure { node, spec } => {
            let node = lab.node(node)?;
            node.reconfigure(spec.clone()).await.map(|()| Value::Null)
        }
        Request::Start { node } => lab.node(node)?.start().await.map(|()| Value::Null),
        Request::Stop { node } => lab.node(node)?.stop().await.map(status),
        Request::Kill9 { node } => lab.node(node)?.kill9().await.map(status),
        Request::Wait { node, seconds } => {
            let within = Duration::try_from_secs_f64(*seconds)
                .map_err(|error| Error::usage(format!("{seconds} seconds: {error}")))?;
            lab.node(node)?.ended(within).await.map(status)
        }
        Request::StopBitcoind => lab.bitcoind().stop().await.map(status),
        Request::StartBitcoind { options } => {
            lab.bitcoind().start(options).await.map(|()| Value::Null)
        }
        Request::Report => Ok(json!(lab.report())),
    }
}

/// The client may be gone by now; what it asked for is done all the same.
async fn write(mut stream: UnixStream, answer: &Answer) {
    let sent = async {
        let line = format!("{}\n", serde_json::to_string(answer)?);
        stream.write_all(line.as_bytes()).await?;
        stream.shutdown().await
    };
    if let Err(error) = sent.await {
        tracing::debug!(%error, "the answer could not be sent");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};

    use super::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            3 => prop::sample::select(vec![
                "{\"do\":\"stop\",\"node\":\"l1\"}", "{\"do\":\"down\"}", "{\"do\":", "\"kill9\"", ",",
                "\"node\":", "\"l1\"", "}", "{", "[", "null", "\n", " ", "\\u0000", "\0",
            ])
            .prop_map(|text| text.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..20),
            // Longer than a request may be.
            1 => prop::sample::select(vec![b' ', b'x', b'[', b'\n']).prop_map(|byte| vec![byte; LONGEST as usize + 1]),
        ];
        prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    /// Sends these bytes, and perhaps says that these were all; what comes back.
    async fn hostile(path: &Path, bytes: &[u8], ends: bool) -> (UnixStream, Vec<u8>) {
        let mut stream = UnixStream::connect(path).await.unwrap();
        // It may be closed already.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        if ends {
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut answer).await;
        }
        (stream, answer)
    }

    /// Whatever a client sends, it is answered or its connection closed, and the next
    /// client is served, also while the first one stays.
    #[test]
    fn any_bytes_are_refused_and_the_next_client_is_served() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SOCKET);
        let listener = runtime.block_on(async { UnixListener::bind(&path).unwrap() });
        let control = Control {
            listener,
            path: path.clone(),
        };
        let refuse = async |request| Err(Error::usage(format!("no {request}")));
        let config = Config {
            failure_persistence: None,
            ..Config::default()
        };
        let outcome = TestRunner::new(config).run(&(bytes(), any::<bool>()), |(bytes, ends)| {
            let clients = async {
                let (_stays, answer) = hostile(&path, &bytes, ends).await;
                let request = b"{\"do\":\"stop\",\"node\":\"l9\"}\n";
                (answer, hostile(&path, request, true).await.1)
            };
            let (first, next) = runtime.block_on(async {
                tokio::select! {
                    _ = control.serve_with(refuse, Some("it stays")) => unreachable!("it stays"),
                    answers = clients => answers,
                }
            });
            let refused = |answer| matches!(serde_json::from_slice(answer), Ok(Answer::Refused(_)));
            prop_assert!(first.is_empty() || refused(&first), "{:?}", first);
            prop_assert_eq!(
                String::from_utf8(next).unwrap(),
                "{\"refused\":\"no stop l9\"}\n"
            );
            Ok(())
        });
        outcome.unwrap();
    }
}
