//! The embedded node: lightningd's process and socket, where lightningd is not
//! installed.
//!
//! `cln-embedded …` takes lightningd's options and runs one Lightning node that is
//! real where it matters to a plugin: BOLT 8 and BOLT 1 with its peers (by LDK),
//! BOLT 11 invoices, lightningd's JSON-RPC on `<lightning-dir>/regtest/lightning-rpc`,
//! its plugin protocol, and the heights of a real bitcoind. It is no wallet: no
//! channels, no payments, no coins; regtest only. Anything else is refused with
//! JSON-RPC error -32601.
//!
//! The lab does not depend on this package, nor this package on the lab: it is
//! reached, as lightningd is, through its process and its socket.
//!
//! # Layout
//! - [`options`], [`config`], [`option_table`]: lightningd's options and `config` files.
//! - [`node`]: what a node is made of; its start and its end.
//! - [`log`]: lightningd's log format, and who receives its lines.
//! - [`keys`], [`store`]: what survives a restart: `hsm_secret`, invoices.
//! - [`features`]: feature bits. [`amount`], [`invoice`]: BOLT 11.
//! - [`chain`] asks bitcoind.
//! - [`p2p`] keeps peers.
//! - [`json`]: JSON messages out of a byte stream.
//! - [`plugins`]: the plugin host.
//! - [`rpc`]: the socket, and one file a family of commands.

mod amount;
mod chain;
mod config;
mod features;
mod invoice;
mod json;
mod keys;
mod log;
mod node;
mod option_table;
mod options;
mod p2p;
mod plugins;
mod rpc;
mod store;

use std::ffi::OsString;
use std::process::ExitCode;

use config::{Asked, Config};

/// The release of LDK that speaks to peers; a test holds it to `Cargo.lock`.
const LDK: &str = "0.2.7";

/// What `getinfo` and `--version` say: `embedded-0.1.0 (LDK 0.2.7)`.
fn version() -> String {
    format!("embedded-{} (LDK {LDK})", env!("CARGO_PKG_VERSION"))
}

fn main() -> ExitCode {
    match run(std::env::args_os().skip(1)) {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            // lightningd's own word: a node's output is read as lightningd's is.
            eprintln!("lightningd: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a node with these arguments, lightningd's, until it is stopped. The process
/// is the node's: it changes directory and handles signals.
fn run(args: impl IntoIterator<Item = OsString>) -> Result<u8, String> {
    let args = args
        .into_iter()
        .map(|arg| {
            arg.into_string()
                .map_err(|arg| format!("{}: not UTF-8", arg.display()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let config = match Config::read(args)? {
        Asked::Version => {
            println!("{}", version());
            return Ok(0);
        }
        Asked::Help => {
            print!("{}", config::help());
            return Ok(0);
        }
        Asked::Run(config) => *config,
    };
    if config.daemon && !node::daemonize().map_err(|e| format!("--daemon: {e}"))? {
        return Ok(0);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    let ended = runtime.block_on(node::run(config));
    // A call to a bitcoind that hangs must not keep the process.
    runtime.shutdown_background();
    ended
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn the_version_names_the_ldk_that_is_built_in() {
        let lock =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock"))
                .unwrap();
        let (_, after) = lock.split_once("name = \"lightning\"\n").unwrap();
        let line = after.lines().next().unwrap();
        assert_eq!(line, format!("version = \"{}\"", super::LDK));
    }
}
