//! `lab completions`

use clap::CommandFactory;
use clap_complete::Shell;

use super::out;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  source <(lab completions bash)
  lab completions zsh > \"${fpath[1]}/_lab\"
  lab completions fish > ~/.config/fish/completions/lab.fish")]
pub struct Args {
    /// The shell
    shell: Shell,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "lab", &mut script);
    out::bytes(&script)
}
