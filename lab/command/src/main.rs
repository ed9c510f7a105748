//! The command `lab`.

mod subcommands;

use std::process::ExitCode;

fn main() -> ExitCode {
    subcommands::main()
}
