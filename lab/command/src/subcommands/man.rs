//! `lab man`: the manual pages of `contrib/man`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use clap::CommandFactory;
use cln_lab::binaries;
use roff::{Roff, bold, roman};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder to write into; it is made
    folder: PathBuf,
    /// Programs built beside `lab`, whose pages are made from their --help
    #[arg(value_name = "PROGRAM.SECTION")]
    others: Vec<String>,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let folder = &args.folder;
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    // clap would show what the variables are set to here.
    let lab = super::Cli::command().mut_subcommands(hide_values);
    clap_mangen::generate_to(lab, folder)
        .with_context(|| format!("write into {}", folder.display()))?;
    for other in &args.others {
        let (name, section) = other
            .rsplit_once('.')
            .ok_or_else(|| super::usage(format!("{other}: give PROGRAM.SECTION")))?;
        let path = folder.join(other);
        std::fs::write(&path, page(name, section, &help(name)?))
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn hide_values(command: clap::Command) -> clap::Command {
    command.mut_args(|arg| arg.hide_env_values(true))
}

/// What the program prints for `--help`, whatever is set here.
fn help(name: &str) -> anyhow::Result<String> {
    let program = binaries::built(&name.replace('-', "_").to_uppercase(), name)?;
    let output = Command::new(&program)
        .arg("--help")
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("run {}", program.display()))?;
    ensure!(
        output.status.success(),
        "{} --help: {}",
        program.display(),
        output.status
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// A page from a help text as clap writes it: the first line names the program's purpose,
/// `Heading:` at the margin begins a section, what is indented a little is a term, what is
/// indented more is its text.
fn page(name: &str, section: &str, help: &str) -> String {
    let mut roff = Roff::new();
    let mut lines = help.lines();
    roff.control("TH", [name, section])
        .control("SH", ["NAME"])
        .text([roman(format!(
            "{name} - {}",
            lines.next().unwrap_or_default()
        ))])
        .control("SH", ["DESCRIPTION"]);
    // Lines that stay as they are, and an empty one between two of text.
    let (mut as_it_is, mut gap) = (false, false);
    for line in lines {
        let text = line.trim();
        let indent = line.len() - line.trim_start().len();
        if text.is_empty() && as_it_is {
            roff.control("fi", []);
        }
        if text.is_empty() {
            (as_it_is, gap) = (false, true);
            continue;
        }
        let usage = line.strip_prefix("Usage: ");
        let heading = text.strip_suffix(':').filter(|name| !name.contains(' '));
        if let Some(heading) = usage
            .map(|_| "Synopsis")
            .or(heading.filter(|_| indent == 0))
        {
            roff.control("SH", [heading.to_uppercase().as_str()]);
            as_it_is = ["Synopsis", "Examples"].contains(&heading);
            if as_it_is {
                roff.control("nf", []);
            }
            if let Some(usage) = usage {
                roff.text([roman(usage)]);
            }
        } else if (1..8).contains(&indent) && !as_it_is {
            roff.control("TP", []).text([bold(text)]);
        } else {
            if gap {
                roff.control("sp", []);
            }
            roff.text([roman(text)]);
        }
        gap = false;
    }
    roff.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_help_text_becomes_a_page() {
        let help = "Do it\n\nIt is\ndone.\n\nUsage: it [OPTIONS]\n       it more\n\nOptions:\n  \
                    -f, --far <N>\n          How far\n\n          [default: 1]\n\n      --near\n          \
                    Not far\n\nExamples:\n  it -f 2\n\nThe end.\n";
        let page = page("it", "1", help);
        let expected = r".TH it 1
.SH NAME
it \- Do it
.SH DESCRIPTION
.sp
It is
done.
.SH SYNOPSIS
.nf
it [OPTIONS]
it more
.fi
.SH OPTIONS
.TP
\fB\-f, \-\-far <N>\fR
How far
.sp
[default: 1]
.TP
\fB\-\-near\fR
Not far
.SH EXAMPLES
.nf
it \-f 2
.fi
.sp
The end.
";
        assert!(page.ends_with(expected), "{page}");
    }
}
