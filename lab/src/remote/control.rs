//! Requests to the process that holds a lab, from others.
//!
//! One request a connection to the socket `lab.sock` in the lab's folder, which
//! only its owner can reach: a line of JSON there, a line of JSON back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::error::IoContext;
use crate::process::listing::is_alive;
use crate::remote::attach::Description;
use crate::{Error, Lab, Probe, Result, eventually, scaled};

/// How long a client may take to say what it wants.
const REQUEST: Duration = Duration::from_secs(5);
/// How long the lab's end may take, and anything else that is asked.
const ANSWER: Duration = Duration::from_secs(120);
/// How long the holder's process may take to end once the lab has.
const GONE: Duration = Duration::from_secs(20);
/// A request has no more bytes than this.
const LONGEST: u64 = 4096;

/// What can be asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub(crate) enum Request {
    /// End the lab.
    Down,
    /// Start a node that is down.
    Start { node: String },
    /// Stop a node.
    Stop { node: String },
    /// Kill a node.
    Kill9 { node: String },
}

/// The answer: an exit status as wait(2) has it, where there is one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Done(Option<i32>),
    /// It was done, but something was wrong.
    Failed(String),
    /// It was not done.
    Refused(String),
}

/// Asks the holder of the lab in `dir` to end it, and waits until it has.
///
/// # Errors
/// The holder's: a daemon that had died, say. The lab has ended then, too.
pub async fn down(dir: &Path) -> Result<()> {
    let holder = Description::read(dir)?.pid;
    let outcome = ask(dir, &Request::Down).await;
    if let Err(error @ Error::Usage(_)) = outcome {
        return Err(error);
    }
    let what = format!("process {holder}, which held the lab, to end");
    eventually(what, GONE, async || {
        Ok(match is_alive(holder) {
            false => Probe::Ready(()),
            true => Probe::NotYet("still running".to_owned()),
        })
    })
    .await?;
    outcome.map(drop)
}

/// Asks the holder of the lab in `dir`.
pub(crate) async fn ask(dir: &Path, request: &Request) -> Result<Option<i32>> {
    let path = dir.join(SOCKET);
    let asked = async {
        let mut stream = UnixStream::connect(&path).await?;
        let line = format!("{}\n", serde_json::to_string(request)?);
        stream.write_all(line.as_bytes()).await?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).await?;
        Ok::<_, std::io::Error>(serde_json::from_str(&answer)?)
    };
    let answer = match tokio::time::timeout(scaled(ANSWER), asked).await {
        Ok(answer) => answer.doing("ask the process that holds the lab through", &path)?,
        Err(_) => {
            return Err(Error::TimedOut {
                what: format!("an answer to {request:?} on {}", path.display()),
                waited: scaled(ANSWER),
                last_seen: "no answer".to_owned(),
            });
        }
    };
    match answer {
        Answer::Done(status) => Ok(status),
        Answer::Failed(why) => Err(Error::Answer {
            from: "the process that held the lab".to_owned(),
            why,
        }),
        Answer::Refused(why) => Err(Error::usage(why)),
    }
}

/// No node can be named like it: names have no dot.
const SOCKET: &str = "lab.sock";

/// The socket on which a held lab takes requests.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
}

/// Somebody asked for the lab's end, and waits to be told how it went.
#[derive(Debug)]
pub struct Down {
    stream: UnixStream,
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

    /// Serves requests until somebody asks for the lab's end.
    ///
    /// # Errors
    /// If the socket can no longer be used.
    pub async fn serve(&self, lab: &Lab) -> Result<Down> {
        let mut served = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => {
                    let (stream, _) = accepted.doing("accept on", &self.path)?;
                    served.push(serve_one(lab, stream));
                }
                Some(down) = served.next() => {
                    if let Some(down) = down {
                        return Ok(down);
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
    /// Tells whoever asked that the lab goes on, and why.
    pub async fn refuse(self, why: &str) {
        write(self.stream, &Answer::Refused(why.to_owned())).await;
    }

    /// Tells whoever asked how it went.
    pub async fn answer(self, outcome: &Result<()>) {
        let answer = match outcome {
            Ok(()) => Answer::Done(None),
            Err(error) => Answer::Failed(error.to_string()),
        };
        write(self.stream, &answer).await;
    }
}

/// One connection; its stream if the lab's end is asked for.
async fn serve_one(lab: &Lab, mut stream: UnixStream) -> Option<Down> {
    let mut line = String::new();
    let limited = (&mut stream).take(LONGEST);
    let mut reader = BufReader::new(limited);
    let read = tokio::time::timeout(scaled(REQUEST), reader.read_line(&mut line)).await;
    if !matches!(read, Ok(Ok(length)) if length > 0) {
        return None;
    }
    let answer = match serde_json::from_str(&line) {
        Ok(Request::Down) => return Some(Down { stream }),
        Ok(request) => match perform(lab, &request).await {
            Ok(status) => Answer::Done(status),
            Err(error) => Answer::Refused(error.to_string()),
        },
        Err(error) => Answer::Refused(format!("no request: {error}")),
    };
    write(stream, &answer).await;
    None
}

async fn perform(lab: &Lab, request: &Request) -> Result<Option<i32>> {
    use std::os::unix::process::ExitStatusExt;
    let status = match request {
        Request::Down => None,
        Request::Start { node } => {
            lab.node(node)?.start().await?;
            None
        }
        Request::Stop { node } => Some(lab.node(node)?.stop().await?),
        Request::Kill9 { node } => Some(lab.node(node)?.kill9().await?),
    };
    lab.describe().await?;
    Ok(status.map(|status| status.into_raw()))
}

/// Whoever asked may be gone by now; what was asked for is done all the same.
async fn write(mut stream: UnixStream, answer: &Answer) {
    let sent = async {
        let line = format!("{}\n", serde_json::to_string(answer)?);
        stream.write_all(line.as_bytes()).await?;
        stream.shutdown().await
    };
    if let Err(error) = sent.await {
        tracing::debug!(%error, "nobody waits for the answer");
    }
}
