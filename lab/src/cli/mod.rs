//! The command line: one file a subcommand.

mod doctor;
mod workshop;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

/// Core Lightning nodes on regtest, for people who write plugins.
#[derive(Debug, Parser)]
#[command(name = "lab", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play the workshop: two nodes, a plugin by hand, a plugin with a library, each step checked
    Workshop(workshop::Args),
    /// Say which programs were found, their versions, and what to do about what is missing
    Doctor(doctor::Args),
}

/// Runs the command that the arguments name. Exit status 0 if it did what was
/// asked, 1 if not, 2 if the arguments make no sense, 128 + N on signal N.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    runtime.block_on(async {
        tokio::select! {
            done = run(cli.command) => done.unwrap_or_else(|error| fail(&error)),
            // Leaving drops what runs: a lab ends its daemons then.
            number = interrupted() => ExitCode::from(128 + number),
        }
    })
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Workshop(args) => workshop::run(args).await,
        Command::Doctor(args) => doctor::run(args).await,
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!(
        "{} {error:#}",
        console::style("error:").red().bold().for_stderr()
    );
    ExitCode::FAILURE
}

/// Completes with the signal's number when the user or the system wants us gone.
async fn interrupted() -> u8 {
    let mut waits = Vec::new();
    for (kind, number) in [
        (SignalKind::interrupt(), nix::libc::SIGINT),
        (SignalKind::terminate(), nix::libc::SIGTERM),
        (SignalKind::hangup(), nix::libc::SIGHUP),
    ] {
        if let Ok(mut stream) = signal(kind) {
            waits.push(Box::pin(async move {
                stream.recv().await;
                number as u8
            }));
        }
    }
    futures_util::future::select_all(waits).await.0
}
