//! Requests to bitcoind: the one place that knows the client library.

use std::sync::Arc;
use std::time::Duration;

use bitcoincore_rpc::jsonrpc::{self, minreq_http::MinreqHttpTransport};
use bitcoincore_rpc::{Client as Rpc, RpcApi};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Error, Result, scaled};

/// How long bitcoind may take to answer a request.
const ANSWER: Duration = Duration::from_secs(60);

/// A bitcoind to send requests to, each once and on a connection of its own.
///
/// Not `bitcoincore_rpc`'s usual transport: that gives bitcoind 15 s, and then sends
/// the request again, so that `generatetoaddress` mines twice.
#[derive(Debug, Clone)]
pub(super) struct Client(Arc<Rpc>);

impl Client {
    /// For the bitcoind on this port. Nothing is sent yet.
    pub fn new(port: u16, user: &str, password: &str) -> Result<Client> {
        Client::with_deadline(port, user, password, scaled(ANSWER))
    }

    /// `deadline` counts in whole seconds.
    fn with_deadline(port: u16, user: &str, password: &str, deadline: Duration) -> Result<Client> {
        let transport = MinreqHttpTransport::builder()
            .url(&format!("http://127.0.0.1:{port}"))
            .map_err(|error| failed("connect", jsonrpc::Error::from(error).into()))?
            .timeout(deadline.max(Duration::from_secs(1)))
            .basic_auth(user.to_owned(), Some(password.to_owned()))
            .build();
        let client = jsonrpc::Client::with_transport(transport);
        Ok(Client(Arc::new(Rpc::from_jsonrpc(client))))
    }

    /// Calls a method. The library blocks, so each call runs on a thread of the
    /// runtime's pool.
    pub async fn call<T>(&self, method: &str, params: Vec<Value>) -> Result<T>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let client = self.clone();
        let name = method.to_owned();
        let answer = tokio::task::spawn_blocking(move || client.wait::<T>(&name, &params)).await;
        match answer {
            Ok(answer) => answer,
            Err(join) => Err(Error::Answer {
                from: format!("bitcoind: {method}"),
                why: join.to_string(),
            }),
        }
    }

    /// Calls a method, on this thread.
    pub fn wait<T: DeserializeOwned>(&self, method: &str, params: &[Value]) -> Result<T> {
        let answer = self.0.call::<T>(method, params);
        answer.map_err(|error| failed(method, error))
    }
}

fn failed(method: &str, error: bitcoincore_rpc::Error) -> Error {
    let (code, message) = match error {
        bitcoincore_rpc::Error::JsonRpc(jsonrpc::Error::Rpc(error)) => {
            (Some(error.code), error.message)
        }
        other => (None, other.to_string()),
    };
    Error::Bitcoind {
        method: method.to_owned(),
        code,
        message,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_request_is_sent_once_however_long_it_takes() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        // Takes every request and answers none, until the end of the test.
        let server = std::thread::spawn(move || {
            let mut connections = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut start = [0; 4];
                stream.read_exact(&mut start).expect("a request");
                if start == *b"QUIT" {
                    return connections.len();
                }
                connections.push(stream);
            }
        });
        let client = Client::with_deadline(port, "u", "p", Duration::from_secs(1));
        let answer = client
            .expect("a client")
            .call::<Value>("generatetoaddress", vec![])
            .await;
        let error = answer.expect_err("no answer").to_string();
        assert!(
            error.contains("generatetoaddress") && error.contains("timeout"),
            "{error}"
        );
        use std::io::Write;
        let mut end = std::net::TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        end.write_all(b"QUIT").expect("sent");
        assert_eq!(server.join().expect("no panic"), 1);
    }
}
