//! Requests to the process that holds a lab, as they are sent.
//!
//! One request a connection to the socket `lab.sock` in the lab's folder, which
//! only its owner can reach: a line of JSON there, a line of JSON back.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::error::IoContext;
use crate::{Error, Result, scaled};

/// No node can be named like it: names have no dot.
pub(crate) const SOCKET: &str = "lab.sock";

/// How long the holder may take to answer, also to end the lab.
const ANSWER: Duration = Duration::from_secs(120);

/// A request to the holder.
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

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Request::Down => write!(f, "down"),
            Request::Start { node } => write!(f, "start {node}"),
            Request::Stop { node } => write!(f, "stop {node}"),
            Request::Kill9 { node } => write!(f, "kill -9 {node}"),
        }
    }
}

/// The answer, with an exit status as wait(2) has it where there is one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answer {
    Done(Option<i32>),
    /// It was done, but something went wrong.
    Failed(String),
    /// It was not done.
    Refused(String),
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
                what: format!("an answer to `{request}` on {}", path.display()),
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
