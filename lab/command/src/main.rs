//! The command `lab`.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // lightningd's options are not ours: everything after this word is the
    // embedded node's.
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|command| command == "lightningd") {
        return cln_lab::embedded::main(args);
    }
    cli::main()
}
