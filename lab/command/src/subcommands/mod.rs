//! The command line: one file a subcommand.

mod add;
mod advice;
mod bcli;
mod bitcoin_cli;
mod channel;
mod check;
mod cli;
mod close;
mod completions;
mod connect;
mod disconnect;
mod doctor;
mod down;
mod env;
mod events;
mod exec;
mod fund;
mod held;
mod json_text;
mod learn;
mod logs;
mod man;
mod matrix;
mod mcp;
mod mine;
mod new;
mod out;
mod pay;
mod progress;
mod restart;
mod serve;
mod signals;
mod spec;
mod start;
mod status;
mod stop;
mod target;
mod tee;
mod topics;
mod trace;
mod up;
mod witness;
mod workshop;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use signals::{Interrupted, Signals};

/// Core Lightning nodes on regtest, for people who write plugins.
#[derive(Debug, Parser)]
#[command(
    name = "lab",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  lab workshop                            see the whole workshop played
  lab up                                  two nodes until Ctrl-C; then, in another terminal:
  lab cli l1 plugin start $PWD/plugin.py
  lab connect 1 2
  lab events l1 -f
  lab exec -- pytest                      run one command with a fresh lab

Environment: LAB_NAME and LAB_DIR choose a lab; LAB_NODE=auto|lightningd|embedded chooses the nodes;
LIGHTNINGD and BITCOIND name programs; LAB_KEEP=always|failed|never decides whether a lab's folder
stays; LAB_TRACE=off|on|full how much it writes down for `lab trace`; LAB_TIMEOUT_FACTOR multiplies every
deadline; NO_COLOR turns colours off."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play the workshop: two nodes, a plugin by hand, a plugin with a library, each step checked
    Workshop(workshop::Args),
    /// Learn to write a plugin: step by step, each save checked over the wire
    Learn(learn::Args),
    /// Start a lab, and hold it until Ctrl-C or `lab down`
    Up(up::Args),
    /// End a lab that is up
    Down(down::Args),
    /// Add a node to a lab that is up
    Add(add::Args),
    /// Show what is up: nodes, process ids, ports, heights, versions
    Status(status::Args),
    /// Print shell code that defines l1-cli, l1-log, bt-cli, connect, …
    Env(env::Args),
    /// Run one command with a fresh lab
    Exec(exec::Args),
    /// Call a method of a node, like lightning-cli
    Cli(cli::Args),
    /// Run bitcoin-cli on the lab's bitcoind
    BitcoinCli(bitcoin_cli::Args),
    /// Connect a node to another
    Connect(connect::Args),
    /// End a connection
    Disconnect(disconnect::Args),
    /// Send coins to nodes
    Fund(fund::Args),
    /// Open a channel from one node to another
    Channel(channel::Args),
    /// Have one node pay another
    Pay(pay::Args),
    /// Close a channel
    Close(close::Args),
    /// Mine blocks, and wait until every node has seen them
    Mine(mine::Args),
    /// Print a node's log
    Logs(logs::Args),
    /// Print what the plugin eventlog recorded on a node
    Events(events::Args),
    /// Show what happened in a lab, in the order of time; as a page, or as a diagram
    Trace(trace::Args),
    /// Stop one node
    Stop(stop::Args),
    /// Start a node that was stopped
    Start(start::Args),
    /// Stop a node and start it again
    Restart(restart::Args),
    /// List lightningd's notifications, or trigger them on real nodes and show the messages
    Topics(topics::Args),
    /// Play what every release of lightningd sends to a plugin, and show what breaks
    Check(check::Args),
    /// Run a command on each lightningd that there is, and show where it fails
    Matrix(matrix::Args),
    /// Make an executable that starts a plugin with a tee between it and lightningd
    Tee(tee::Args),
    /// Show what passed between lightningd and a plugin that was started with a tee
    Wire(tee::WireArgs),
    /// Make a plugin of your own, with its tests
    New(new::Args),
    /// Hold labs for a program, which asks in lines of JSON
    Serve(serve::Args),
    /// Serve the subcommands as tools of the Model Context Protocol, on stdin and stdout
    Mcp(mcp::Args),
    /// The plugin that `lab topics --run` records with
    #[command(hide = true)]
    Witness(witness::Args),
    /// The plugin through which the lab's lightningd sees blocks
    #[command(hide = true)]
    Bcli(bcli::Args),
    /// Show which programs are found, their versions, and what to do about missing ones
    Doctor(doctor::Args),
    /// Print a script that completes `lab` in a shell
    Completions(completions::Args),
    /// Write manual pages
    #[command(hide = true)]
    Man(man::Args),
}

/// Exit status 0 if the command did what was asked, 1 if not, 2 if the arguments make
/// no sense, 128 + N on signal N.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let outcome = runtime.block_on(async {
        if let Command::Up(_) | Command::Exec(_) = cli.command {
            // These handle signals themselves, and end their lab in good order.
            return run(cli.command).await;
        }
        let mut signals = Signals::new()?;
        tokio::select! {
            done = run(cli.command) => done,
            // Leaving drops the future: a lab ends its daemons then.
            interrupted = signals.next() => Err(interrupted.into()),
        }
    });
    // A thread may still be reading from a process that stays.
    runtime.shutdown_background();
    outcome.unwrap_or_else(|error| fail(&error))
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Workshop(args) => return workshop::run(args).await,
        Command::Learn(args) => return learn::run(args).await,
        Command::Up(args) => return up::run(args).await,
        Command::Down(args) => down::run(args).await?,
        Command::Add(args) => add::run(args).await?,
        Command::Status(args) => return status::run(args).await,
        Command::Env(args) => env::run(args).await?,
        Command::Exec(args) => return exec::run(args).await,
        Command::Cli(args) => return cli::run(args).await,
        Command::BitcoinCli(args) => return bitcoin_cli::run(args).await,
        Command::Connect(args) => connect::run(args).await?,
        Command::Disconnect(args) => disconnect::run(args).await?,
        Command::Fund(args) => fund::run(args).await?,
        Command::Channel(args) => channel::run(args).await?,
        Command::Pay(args) => pay::run(args).await?,
        Command::Close(args) => close::run(args).await?,
        Command::Mine(args) => mine::run(args).await?,
        Command::Logs(args) => logs::run(args).await?,
        Command::Events(args) => events::run(args).await?,
        Command::Trace(args) => trace::run(args).await?,
        Command::Stop(args) => stop::run(args).await?,
        Command::Start(args) => start::run(args).await?,
        Command::Restart(args) => restart::run(args).await?,
        Command::Topics(args) => return topics::run(args).await,
        Command::Check(args) => return check::run(args).await,
        Command::Mcp(args) => mcp::run(args).await?,
        Command::Matrix(args) => return matrix::run(args).await,
        Command::Tee(args) => tee::run(args).await?,
        Command::Wire(args) => tee::show(args).await?,
        Command::New(args) => new::run(&args)?,
        Command::Serve(args) => serve::run(args).await?,
        Command::Witness(args) => witness::run(args).await?,
        Command::Bcli(args) => bcli::run(args).await?,
        Command::Doctor(args) => return doctor::run(args).await,
        Command::Completions(args) => completions::run(&args)?,
        Command::Man(args) => man::run(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The arguments make no sense, which only a closer look shows.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

fn usage(text: impl Into<String>) -> anyhow::Error {
    Usage(text.into()).into()
}

/// Prints what went wrong; returns the exit status for it.
fn fail(error: &anyhow::Error) -> ExitCode {
    if error.is::<out::ReaderGone>() {
        return ExitCode::SUCCESS;
    }
    if let Some(Interrupted(number)) = error.downcast_ref() {
        return ExitCode::from(128 + number);
    }
    let mark = console::style("error:").red().bold().for_stderr();
    out::note(format_args!("{mark} {error:#}"));
    if error.is::<Usage>() {
        ExitCode::from(2)
    } else {
        ExitCode::FAILURE
    }
}
