//! Requests to the process that holds a lab, as they are sent.
//!
//! One request a connection to the socket `lab.sock` in the lab's folder, which
//! only its owner can reach: a line of JSON there, a line of JSON back. `lab.json` beside
//! it describes what runs, and is current when the answer comes.
//!
//! ```json
//! {"do":"add","spec":{"name":"l3","options":[["fee-base","10"],["offline",null]]}}
//! {"done":null}
//! {"do":"stop","node":"l3"}
//! {"refused":"l3 is not running"}
//! ```

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::error::IoContext;
use crate::{Error, NodeSpec, Result, scaled};

/// No node can be named like it: names have no dot.
pub(crate) const SOCKET: &str = "lab.sock";

/// How long the holder may take to answer, also to end the lab.
const ANSWER: Duration = Duration::from_secs(120);

/// A request to the holder.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub(crate) enum Request {
    /// End the lab; with `keep`, its folder stays.
    Down {
        #[serde(default)]
        keep: bool,
    },
    /// Add a node that is down.
    Add { spec: NodeSpec },
    /// Replace what was set for a node.
    Configure { node: String, spec: NodeSpec },
    /// Start a node that is down.
    Start { node: String },
    /// Stop a node.
    Stop { node: String },
    /// Kill a node.
    Kill9 { node: String },
    /// Wait until a node ends by itself, for so long.
    Wait { node: String, seconds: f64 },
    /// Stop bitcoind.
    StopBitcoind,
    /// Start bitcoind that is stopped, with these lines in its configuration.
    StartBitcoind {
        #[serde(default)]
        options: Vec<(String, String)>,
    },
    /// Send the failure report, as text.
    Report,
}

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Request::Down { .. } => write!(f, "down"),
            Request::Add { .. } => write!(f, "add"),
            Request::Configure { node, .. } => write!(f, "configure {node}"),
            Request::Start { node } => write!(f, "start {node}"),
            Request::Stop { node } => write!(f, "stop {node}"),
            Request::Kill9 { node } => write!(f, "kill -9 {node}"),
            Request::Wait { node, .. } => write!(f, "wait {node}"),
            Request::StopBitcoind => write!(f, "stopbitcoind"),
            Request::StartBitcoind { .. } => write!(f, "startbitcoind"),
            Request::Report => write!(f, "report"),
        }
    }
}

/// The answer, with an exit status as wait(2) has it, or a text, where there is one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answer {
    Done(Value),
    /// It was done, but something went wrong.
    Failed(String),
    /// It was not done.
    Refused(String),
}

/// Asks the holder of the lab in `dir`.
pub(crate) async fn ask(dir: &Path, request: &Request) -> Result<Value> {
    let path = dir.join(SOCKET);
    let patience = match request {
        Request::Wait { seconds, .. } => {
            ANSWER + Duration::try_from_secs_f64(*seconds).unwrap_or_default()
        }
        _ => ANSWER,
    };
    let asked = async {
        let mut stream = UnixStream::connect(&path).await?;
        let line = format!("{}\n", serde_json::to_string(request)?);
        stream.write_all(line.as_bytes()).await?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).await?;
        Ok::<_, std::io::Error>(serde_json::from_str(&answer)?)
    };
    let answer = match tokio::time::timeout(scaled(patience), asked).await {
        Ok(answer) => answer.doing("ask the process that holds the lab through", &path)?,
        Err(_) => {
            return Err(Error::TimedOut {
                what: format!("an answer to `{request}` on {}", path.display()),
                waited: scaled(patience),
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
