//! `lab down`

use cln_lab::{Lab, control};

use super::out;
use super::progress::Progress;
use super::target::{Target, labs};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab down                 end the lab; nothing is left of it
  lab down --name other    end the lab of that name
  lab down --all           end all your labs")]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Every lab that is up
    #[arg(long, conflicts_with_all = ["name", "dir"])]
    all: bool,
}

/// Exit status 0 if nothing is up any more and nothing went wrong.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let targets: Vec<Target> = if args.all {
        let names = labs().await?.into_iter().map(|lab| lab.name);
        names.map(Target::named).collect()
    } else if args.target.is_open() && labs().await?.is_empty() {
        Vec::new()
    } else {
        vec![args.target]
    };
    if targets.is_empty() {
        out::note("no lab is up");
    }
    let mut failed = None;
    for target in targets {
        let found = target.find().await?;
        let progress = Progress::start(format!("stopping {}", found.label()));
        let ended = Lab::attach(&found.dir).err();
        let outcome = control::down(&found.dir).await;
        drop(progress);
        match outcome {
            Ok(()) => out::line(format_args!("{} is down", found.label()))?,
            Err(error) => {
                // If the lab had ended by itself, that is the reason.
                let error = ended.unwrap_or(error);
                failed.get_or_insert(
                    anyhow::Error::new(error).context(format!("ending {}", found.label())),
                );
            }
        }
    }
    failed.map_or(Ok(()), Err)
}
