//! Before part one: the programs on this machine, a lab, and the plugins' files.

use cln_lab::{Error, Implementation, Lab, Result};

use super::walkthrough::Walkthrough;
use super::{files, folder, word};

/// The programs on this machine.
pub(super) async fn versions(walkthrough: &mut Walkthrough<'_>) -> Result<()> {
    let why = "Which programs are here. Everything below runs on regtest, a chain of one's own.";
    walkthrough
        .step("versions", why, "lab doctor", async |step| {
            step.check_answer("nothing is missing", "a lab can run here");
            Ok(())
        })
        .await
}

/// bitcoind and two nodes.
pub(super) async fn start(walkthrough: &mut Walkthrough<'_>, slot: &mut Option<Lab>) -> Result<()> {
    let why = "After `source contrib/lab.sh` this is a word of your shell, too. It starts bitcoind and two nodes, \
               l1 and l2, and defines a word for each: l1-cli is lightning-cli for l1.";
    walkthrough
        .step("start_ln", why, "start_ln", async |step| {
            step.check_answer("two nodes are up", "is up: 2 × ");
            let dir = step
                .answer()
                .lines()
                .find_map(|line| line.trim().strip_prefix("folder "));
            let dir = dir.ok_or_else(|| Error::usage("start_ln names no folder"))?;
            let lab = slot.insert(Lab::attach(dir)?);
            files::write(&folder(lab))?;
            let distinct = lab.l1().id() != lab.l2().id();
            step.check("each has an id of its own", distinct, || {
                lab.l1().id().to_owned()
            });
            Ok(())
        })
        .await?;
    let lab = slot.as_ref().ok_or_else(|| Error::usage("no lab is up"))?;
    walkthrough.set_node(lab.l1().implementation().to_string());
    let mut why =
        "The workshop's plugins, which are in contrib/plugins of the repository.".to_owned();
    if let Implementation::Embedded(_) = lab.l1().implementation() {
        why.push_str(" The nodes are the lab's own, built on LDK; with lightningd on the PATH they would be lightningd.");
    }
    walkthrough
        .step(
            "the files",
            &why,
            format!("cd {}; ls", word(&folder(lab))),
            async |step| {
                step.check_answer("the first plugin is there", "1-answers.sh");
                Ok(())
            },
        )
        .await
}
