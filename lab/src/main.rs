//! The command.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(command) if command == "lightningd" => cln_lab::embedded::main(args),
        _ => {
            eprintln!("lab: only `lab lightningd …` for now");
            ExitCode::FAILURE
        }
    }
}
