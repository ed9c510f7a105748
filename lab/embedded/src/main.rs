//! The embedded node: lightningd's process and socket, where lightningd is not
//! installed.
//!
//! `cln-embedded …` takes lightningd's options and runs one Lightning node that is
//! real where it matters to a plugin: BOLT 8 and BOLT 1 with its peers (by LDK),
//! BOLT 11 invoices, lightningd's JSON-RPC on `<lightning-dir>/regtest/lightning-rpc`,
//! its plugin protocol, and the heights of a real bitcoind. It has no wallet, no
//! channels and no payments, and runs on regtest only. Anything else is refused with
//! JSON-RPC error -32601.
//!
//! The lab and this package do not depend on each other: the lab uses the node as it
//! uses lightningd, through its process and its socket.
//!
//! # Layout
//! From top to bottom; each imports only those below it:
//! - [`life`]: the node's start and end. [`daemon`]: it continues in the background.
//! - [`rpc`]: the socket, and one file a family of commands.
//! - [`p2p`]: peers. [`plugins`]: the plugin host.
//! - [`node`]: what a node consists of, which the three above share.
//! - [`amount`], [`invoice`]: BOLT 11. [`features`]: feature bits.
//! - [`chain`]: bitcoind. [`keys`], [`store`]: `hsm_secret`, invoices.
//! - [`config`], [`option_table`], [`options`]: lightningd's options and `config` files.
//! - [`log`]: lightningd's log format, and the listener to its lines.
//! - [`json`]: JSON as text. [`lock`], [`version`]: one function each.

mod amount;
mod chain;
mod config;
mod daemon;
mod features;
mod invoice;
mod json;
mod keys;
mod life;
mod lock;
mod log;
mod node;
mod option_table;
mod options;
mod p2p;
mod plugins;
mod rpc;
mod store;
mod version;

use std::ffi::OsString;
use std::process::ExitCode;

use config::{Asked, Config};
use daemon::{Background, Side};

fn main() -> ExitCode {
    match run(std::env::args_os().skip(1)) {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            // As lightningd writes it: the lab reads both alike.
            eprintln!("lightningd: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a node with lightningd's arguments until it is stopped. It changes the
/// process's directory and handles its signals.
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
            println!("{}", version::version());
            return Ok(0);
        }
        Asked::Help => {
            print!("{}", option_table::help());
            return Ok(0);
        }
        Asked::Run(config) => *config,
    };
    let mut background = None;
    if config.daemon {
        match daemon::fork_off().map_err(|e| format!("--daemon: {e}"))? {
            Side::Caller(code) => return Ok(code),
            Side::Node(node) => background = Some(node),
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    let up = || background.map_or(Ok(()), Background::up);
    let ended = runtime.block_on(life::run(config, up));
    // A call to a bitcoind that hangs must not delay the exit.
    runtime.shutdown_background();
    ended
}
