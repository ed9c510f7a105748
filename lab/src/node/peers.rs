//! Peers: connect and disconnect.

use cln_rpc::model::responses::ConnectResponse;
use serde_json::{Value, json};

use super::Node;
use crate::{PATIENCE, Probe, Result, eventually};

impl Node {
    /// Connects to another node of the lab, `connect id 127.0.0.1 port`, and waits
    /// until the other side lists it as a peer, too: lightningd sends no `connect` to its
    /// plugins if the connection ends before that.
    ///
    /// # Errors
    /// 401 if nothing listens there or the handshake fails (lightning-connect(7)).
    pub async fn connect(&self, peer: &Node) -> Result<ConnectResponse> {
        let params = json!({"id": peer.id(), "host": "127.0.0.1", "port": peer.port()});
        let answer = self.call("connect", params).await?;
        peer.has_connected(self).await?;
        Ok(answer)
    }

    /// Waits until this node lists the other one as a connected peer.
    ///
    /// # Errors
    /// [`Error::TimedOut`](crate::Error::TimedOut).
    pub async fn has_connected(&self, peer: &Node) -> Result<()> {
        let what = format!(
            "{} to list {} as a connected peer",
            self.name(),
            peer.name()
        );
        eventually(what, PATIENCE, async || {
            Ok(if self.is_connected(peer).await? {
                Probe::Ready(())
            } else {
                Probe::NotYet("it does not".to_owned())
            })
        })
        .await
    }

    /// Ends the connection to another node, whichever side made it: `disconnect id`.
    ///
    /// # Errors
    /// -32602 if there is no such peer.
    pub async fn disconnect(&self, peer: &Node) -> Result<()> {
        self.call::<Value>("disconnect", json!({"id": peer.id()}))
            .await
            .map(drop)
    }

    /// True if the other node is a connected peer of this one.
    pub async fn is_connected(&self, peer: &Node) -> Result<bool> {
        let answer: Value = self.call("listpeers", json!({"id": peer.id()})).await?;
        Ok(answer["peers"][0]["connected"] == json!(true))
    }
}
