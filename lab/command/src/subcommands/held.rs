//! A lab held for others: started, served until its end is asked for, ended.

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

use cln_lab::control::{Control, Down};
use cln_lab::registry::Claim;
use cln_lab::{Error, Lab};

use super::out;
use super::progress::Progress;
use super::signals::{Interrupted, Signals};
use super::spec::Spec;

/// How often to look whether a daemon has died.
const LOOK: Duration = Duration::from_millis(500);

pub struct Held {
    pub lab: Lab,
    /// Its name, if others may find it by one.
    claim: Option<Claim>,
    pub signals: Signals,
}

/// Why a lab ends.
enum End {
    Interrupted(Interrupted),
    Down(Down),
}

impl Held {
    /// Starts a lab. If a signal comes first, that is the error, and nothing is left.
    pub async fn start(
        spec: &Spec,
        claim: Option<Claim>,
        mut signals: Signals,
    ) -> anyhow::Result<Held> {
        let _progress = Progress::start(spec.starting());
        let lab = spec.builder()?;
        let started = async {
            let lab = lab.start().await?;
            if spec.channels {
                lab.while_alive(lab.line_graph()).await?;
            }
            Ok::<_, Error>(lab)
        };
        let lab = tokio::select! {
            lab = started => lab?,
            interrupted = signals.next() => return Err(interrupted.into()),
        };
        Ok(Held {
            lab,
            claim,
            signals,
        })
    }

    /// Lets others find the lab, calls `ready`, and serves them until a signal or a
    /// `lab down`; then ends the lab. Exit status 0 after `lab down`.
    pub async fn serve(
        mut self,
        ready: impl AsyncFnOnce(&Lab) -> anyhow::Result<()>,
    ) -> anyhow::Result<ExitCode> {
        let end = self.until_end(ready).await;
        if let Ok(End::Down(Down { keep: true, .. })) = &end {
            self.lab.keep_folder();
        }
        let stopped = self.stop().await;
        match end? {
            End::Interrupted(interrupted) => {
                stopped?;
                Err(interrupted.into())
            }
            End::Down(down) => {
                down.answer(&stopped).await;
                Ok(stopped.map(|()| ExitCode::SUCCESS)?)
            }
        }
    }

    async fn until_end(
        &mut self,
        ready: impl AsyncFnOnce(&Lab) -> anyhow::Result<()>,
    ) -> anyhow::Result<End> {
        let control = Control::open(&self.lab)?;
        if let Some(claim) = &mut self.claim {
            claim.publish(&self.lab)?;
        }
        ready(&self.lab).await?;
        Ok(tokio::select! {
            interrupted = self.signals.next() => End::Interrupted(interrupted),
            down = control.serve(&self.lab) => End::Down(down),
            () = watch(&self.lab) => unreachable!("watches for ever"),
        })
    }

    /// Ends the lab in good order, or at once if another signal comes; then its name
    /// is free.
    pub async fn stop(mut self) -> cln_lab::Result<()> {
        let _progress = Progress::start("stopping");
        let stop = async {
            self.lab.end_by_hand().await?;
            self.lab.stop().await
        };
        tokio::select! {
            outcome = stop => outcome,
            Interrupted(number) = self.signals.next() => Err(Error::Usage(format!(
                "killed what was still running: signal {number} came while the lab was stopping"
            ))),
        }
    }
}

/// Reports on standard error which daemons died; the lab continues with the others.
async fn watch(lab: &Lab) {
    let mut dead = HashSet::new();
    loop {
        tokio::time::sleep(LOOK).await;
        for node in lab.nodes() {
            let name = node.name();
            if node.pid().await.is_some() || node.is_stopped().await {
                dead.remove(name);
            } else if let Err(error) = node.check_alive().await
                && dead.insert(name)
            {
                note_death(&error);
            }
        }
        if let Err(error) = lab.bitcoind().check_alive()
            && dead.insert("bitcoind")
        {
            note_death(&error);
        }
        if let Err(error) = lab.check_reaper()
            && dead.insert("reaper")
        {
            note_death(&error);
        }
    }
}

fn note_death(error: &Error) {
    match error {
        // As after `l1-cli stop`: nothing is wrong.
        Error::Died { name, status, .. } if status.success() => {
            out::note(format_args!("note: {name} has stopped, {status}"));
        }
        other => out::note(format_args!("warning: {other}")),
    }
}
