//! Handlers that fail: the plugin lives, and the node's log shows the failure.
//!
//! The handler of `connect` returns an error, that of `disconnect` panics, that
//! of `invoice_creation` works. cln-plugin runs each as a task of its own, so
//! neither failure ends the plugin; but a panic would show only on stderr, and
//! an error without the place it came from. Two things help:
//!
//! - a panic hook that puts message and place into the node's log;
//! - errors with a context that names the place.
//!
//! Two more things to know: the hook has to be there before anything can panic,
//! and a panic before a handler's first `.await` that is outside its future, in
//! a closure `|plugin, params| { …; async { … } }`, does end the plugin.

use anyhow::{Context, Error, anyhow};
use cln_plugin::Builder;
use serde_json::Value;

type Handled = Result<(), Error>;

/// The place where it stands, for an error's context: `examples/x.rs:12`.
macro_rules! here {
    () => {
        concat!(file!(), ":", line!())
    };
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Handled {
    // Lines of the `log` macros go to the node's log once the plugin is
    // configured. The node's log has one line for each message.
    std::panic::set_hook(Box::new(|panic| {
        log::error!("a handler {}", panic.to_string().replace('\n', " "));
    }));

    let plugin = Builder::new(tokio::io::stdin(), tokio::io::stdout())
        .dynamic()
        .subscribe("connect", |_, params| in_full("connect", connect(params)))
        .subscribe("disconnect", |_, params| {
            in_full("disconnect", disconnect(params))
        })
        .subscribe("invoice_creation", |_, params| {
            in_full("invoice_creation", invoice_creation(params))
        })
        .start(())
        .await?;
    match plugin {
        Some(plugin) => plugin.join().await,
        None => Ok(()), // lightningd only shows its help
    }
}

/// Returns an error that names its place.
async fn connect(params: Value) -> Handled {
    let member = &params["connect"]["no_such_member"];
    let number = member
        .as_u64()
        .context("no_such_member is not a number")
        .context(here!())?;
    log::info!("handled connect: {number}");
    Ok(())
}

/// Panics.
async fn disconnect(params: Value) -> Handled {
    let peers: Vec<&str> = Vec::new();
    let peer = peers[0]; // out of bounds
    log::info!("handled disconnect: {peer}, {params}");
    Ok(())
}

/// Works.
async fn invoice_creation(params: Value) -> Handled {
    // The preimage is in there as well: nothing to be logged.
    let label = &params["invoice_creation"]["label"];
    let label = label.as_str().context("no label").context(here!())?;
    log::info!("handled invoice_creation: label {label}");
    Ok(())
}

/// cln-plugin logs a handler's error, but of its contexts only the outermost:
/// this puts them all into one line, and the topic before them.
async fn in_full(topic: &str, handler: impl Future<Output = Handled>) -> Handled {
    handler.await.map_err(|error| anyhow!("{topic}: {error:#}"))
}
