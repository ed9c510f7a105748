//! The node's RPC socket, for a plugin that has no node: it answers what the release
//! answered when it was recorded.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cln_lab::MessageReader;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use super::release::Release;

/// The socket of one plugin; it closes when this is dropped.
#[derive(Debug)]
pub struct Socket {
    served: Arc<Served>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Served {
    answers: HashMap<String, Value>,
    /// The methods of the release.
    methods: BTreeSet<String>,
    calls: AtomicUsize,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// What was called since the last [`Socket::forget`].
    asked: BTreeSet<String>,
    /// What the release would have answered, but nothing here can.
    unanswered: BTreeSet<String>,
}

impl Socket {
    /// Listens at `dir/lightning-rpc`. `canned` has more answers, by method: a result, or
    /// `{"error": {…}}`.
    ///
    /// # Errors
    /// If the socket cannot be made.
    pub fn listen(
        dir: &Path,
        release: &Release,
        canned: &HashMap<String, Value>,
    ) -> io::Result<Socket> {
        let listener = UnixListener::bind(dir.join("lightning-rpc"))?;
        let mut answers = release.answers.clone();
        if let Some(getinfo) = answers.get_mut("getinfo") {
            getinfo["result"]["lightning-dir"] = json!(dir);
        }
        for (method, answer) in canned {
            let is_error = answer.get("error").is_some_and(Value::is_object);
            let answer = if is_error {
                answer.clone()
            } else {
                json!({"result": answer})
            };
            answers.insert(method.clone(), answer);
        }
        let served = Arc::new(Served {
            answers,
            methods: release.methods.clone(),
            calls: AtomicUsize::new(0),
            seen: Mutex::default(),
        });
        let shared = Arc::clone(&served);
        let task = tokio::spawn(async move {
            // Dropping the set ends the connections.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Ok(Socket { served, task })
    }

    /// How many calls were answered.
    pub fn calls(&self) -> usize {
        self.served.calls.load(Ordering::Relaxed)
    }

    /// The methods of the release that the plugin called, and that nothing here can answer.
    pub fn unanswered(&self) -> BTreeSet<String> {
        self.served.seen().unanswered.clone()
    }

    /// The methods that the plugin called since the last [`Socket::forget`].
    pub fn asked(&self) -> BTreeSet<String> {
        self.served.seen().asked.clone()
    }

    /// What was asked until now has nothing to do with what comes.
    pub fn forget(&self) {
        self.served.seen().asked.clear();
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: UnixStream, served: Arc<Served>) {
    let (reader, mut writer) = stream.into_split();
    let mut requests = MessageReader::new(reader);
    // lightningd hangs up on what is no JSON, too.
    while let Ok(Some(request)) = requests.next::<Value>().await {
        let text = format!("{}\n\n", served.answer(&request));
        served.calls.fetch_add(1, Ordering::Relaxed);
        if writer.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

impl Served {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: &Value) -> Value {
        let method = request["method"].as_str().unwrap_or_default();
        self.seen().asked.insert(method.to_owned());
        let mut answer = match self.answers.get(method) {
            Some(answer) => answer.clone(),
            None => {
                if self.methods.contains(method) {
                    self.seen().unanswered.insert(method.to_owned());
                }
                let message = format!("Unknown command '{method}'");
                json!({"error": {"code": -32601, "message": message}})
            }
        };
        answer["jsonrpc"] = json!("2.0");
        answer["id"] = request["id"].clone();
        answer
    }
}
