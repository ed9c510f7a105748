//! Holds a lab: starts it, lets others find it, serves their requests, ends it.

use std::collections::HashSet;
use std::future::Future;
use std::time::Duration;

use cln_lab::control::{Control, Down};
use cln_lab::registry::Claim;
use cln_lab::{Error, Lab, Result};

use super::signals::Signals;
use super::spec::Spec;

/// How often to look whether a daemon has died.
const LOOK: Duration = Duration::from_millis(500);

/// Why a lab is to end.
pub enum End {
    /// A signal, by its number.
    Signal(u8),
    /// Somebody's `lab down`.
    Down(Down),
}

/// Starts a lab. `None` if a signal came first: nothing of it is left then.
///
/// # Errors
/// The lab's own.
pub async fn start(spec: &Spec, signals: &mut Signals) -> Result<std::result::Result<Lab, u8>> {
    let started = async {
        let lab = spec.builder().start().await?;
        if spec.channels {
            lab.while_alive(lab.line_graph()).await?;
        }
        Ok(lab)
    };
    tokio::select! {
        lab = started => lab.map(Ok),
        number = signals.next() => Ok(Err(number)),
    }
}

/// Lets others find the lab under this name, says so through `ready`, and serves
/// them until a signal or a `lab down`.
///
/// # Errors
/// If the lab cannot be made known, or `ready` fails.
pub async fn serve(
    lab: &Lab,
    claim: &mut Claim,
    signals: &mut Signals,
    ready: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<End> {
    let control = Control::open(lab)?;
    claim.publish(lab)?;
    ready().await?;
    let end = tokio::select! {
        number = signals.next() => End::Signal(number),
        down = control.serve(lab) => End::Down(down?),
        () = watch(lab) => unreachable!("watches for ever"),
    };
    Ok(end)
}

/// Ends the lab in good order; at once, and without order, if another signal comes.
///
/// # Errors
/// What [`Lab::stop`] found wrong.
pub async fn end(lab: Lab, signals: &mut Signals) -> Result<()> {
    let stop = async {
        lab.end_by_hand().await?;
        lab.stop().await
    };
    unless_signalled(stop, signals).await
}

async fn unless_signalled(
    stop: impl Future<Output = Result<()>>,
    signals: &mut Signals,
) -> Result<()> {
    tokio::select! {
        outcome = stop => outcome,
        number = signals.next() => Err(Error::Usage(format!(
            "killed what was still running: signal {number} came while the lab was being ended"
        ))),
    }
}

/// Says on standard error which daemons died; the lab goes on with the others.
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
    }
}

fn note_death(error: &Error) {
    match error {
        // As after `stop` by hand: nothing is wrong.
        Error::Died { name, status, .. } if status.success() => {
            eprintln!("note: {name} has ended by itself, {status}");
        }
        other => eprintln!("warning: {other}"),
    }
}
