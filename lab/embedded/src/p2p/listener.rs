//! Incoming connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::node::Node;

/// Listens on each of the node's addresses; gives the bound ones.
///
/// # Errors
/// Names the address that cannot be bound.
pub fn listen(node: &Arc<Node>) -> Result<Vec<SocketAddr>, String> {
    let mut bound = Vec::new();
    if node.config.offline {
        return Ok(bound);
    }
    for addr in &node.config.bind {
        let fail = |e: std::io::Error| format!("Failed to bind on {addr}: {e}");
        let socket = if addr.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }
        .map_err(fail)?;
        // A port that was in use a moment ago can be bound again at once.
        socket.set_reuseaddr(true).map_err(fail)?;
        socket.bind(*addr).map_err(fail)?;
        let listener = socket.listen(1024).map_err(fail)?;
        bound.push(listener.local_addr().map_err(fail)?);
        node.listen(accept(node.clone(), listener));
    }
    Ok(bound)
}

async fn accept(node: Arc<Node>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, addr)) => {
                node.log
                    .debug("connectd", format!("Connected in from {addr}"));
                match into_std(stream) {
                    Ok(stream) => {
                        // The link runs on its own.
                        drop(lightning_net_tokio::setup_inbound(
                            node.peers.manager.clone(),
                            stream,
                        ));
                    }
                    Err(e) => node.log.debug("connectd", format!("{addr}: {e}")),
                }
            }
            Err(e) => {
                // Probably the file descriptors ran out: wait until some are closed.
                node.log
                    .unusual("connectd", format!("Failed to accept a connection: {e}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// As LDK takes it.
pub fn into_std(stream: TcpStream) -> std::io::Result<std::net::TcpStream> {
    stream.set_nodelay(true)?;
    stream.into_std()
}
