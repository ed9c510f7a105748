//! Peers: connect and disconnect.

use cln_rpc::model::responses::ConnectResponse;
use serde_json::{Value, json};

use super::Node;
use crate::Result;

impl Node {
    /// Connects to another node of the lab: `connect id 127.0.0.1 port`.
    ///
    /// # Errors
    /// 401 if nothing listens there or the handshake fails (lightning-connect(7)).
    pub async fn connect(&self, peer: &Node) -> Result<ConnectResponse> {
        let params = json!({"id": peer.id(), "host": "127.0.0.1", "port": peer.port()});
        self.call("connect", params).await
    }

    /// Ends the connection to another node, whoever made it: `disconnect id`.
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
