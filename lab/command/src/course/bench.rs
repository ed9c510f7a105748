//! Where plugins are checked: without a node, and on a lab that stays up between checks.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use cln_lab::{IoContext, Keep, Lab, NodeKind, Probe, Result, eventually};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::OnceCell;

use super::exam::{Exam, Stop};
use super::{Step, Verdict};
use crate::wire::Tee;

/// One that does not flush must be seen as such, whatever is set where the course is
/// taken: empty is unset.
pub(super) const UNBUFFERED: (&str, &str) = ("PYTHONUNBUFFERED", "");

/// Checks plugins. Its lab, two nodes, starts with the first check that needs one, and
/// ends with it.
#[derive(Debug)]
pub struct Bench {
    kind: NodeKind,
    program: PathBuf,
    path: String,
    lab: OnceCell<Lab>,
    count: Cell<u64>,
}

impl Bench {
    /// A bench whose nodes are of this kind. `program` is the command `lab`; `path` the
    /// PATH with which plugins run.
    pub fn new(kind: NodeKind, program: impl Into<PathBuf>, path: impl Into<String>) -> Rc<Bench> {
        Rc::new(Bench {
            kind,
            program: program.into(),
            path: path.into(),
            lab: OnceCell::new(),
            count: Cell::new(0),
        })
    }

    /// Its lab.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn lab(&self) -> Result<&Lab> {
        let start = || {
            let lab = Lab::builder().nodes(2).kind(self.kind);
            let lab = lab.env("PATH", &self.path).env(UNBUFFERED.0, UNBUFFERED.1);
            lab.keep(Keep::Never).without_gates().start()
        };
        self.lab.get_or_try_init(start).await
    }

    /// Checks whether a program passes a step; `test` is the learner's own test, which
    /// only the last one needs.
    ///
    /// # Errors
    /// If the lab, not the program, is to blame.
    pub async fn check(
        self: &Rc<Bench>,
        step: &Step,
        program: &Path,
        test: &Path,
    ) -> Result<Verdict> {
        let mut exam = Exam::new(Rc::clone(self), program, test);
        match (step.check)(&mut exam).await {
            Ok(()) => {}
            Err(Stop::Missed(miss)) => exam.missed(*miss),
            Err(Stop::Broken(error)) => return Err(error),
        }
        Ok(exam.finish())
    }

    /// Ends its lab.
    ///
    /// # Errors
    /// As [`Lab::stop`].
    pub async fn stop(self: Rc<Bench>) -> Result<()> {
        match Rc::into_inner(self).and_then(|bench| bench.lab.into_inner()) {
            Some(lab) => lab.stop().await,
            None => Ok(()),
        }
    }

    /// The command `lab`.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// A number that no check had before: for labels.
    pub(super) fn number(&self) -> u64 {
        self.count.set(self.count.get() + 1);
        self.count.get()
    }

    /// Ends this plugin if it runs on l1, and l1's connection.
    ///
    /// With a signal: one that does not end at `shutdown` would keep `plugin stop` for
    /// 30 s.
    pub(super) async fn clear(&self, executable: &Path, process: Option<u32>) -> Result<()> {
        let lab = self.lab().await?;
        let (l1, l2) = (lab.l1(), lab.l2());
        // With its tee, without which also those that it started read no more.
        let path = executable.display().to_string();
        let named = l1.processes().await?.into_iter();
        let named = named.filter(|process| process.command.contains(&path));
        for pid in named.map(|process| process.pid).chain(process) {
            if cln_lab::is_alive(pid) {
                match kill(Pid::from_raw(pid as i32), Signal::SIGKILL) {
                    // It has ended meanwhile.
                    Err(Errno::ESRCH) => {}
                    killed => killed.doing("end", executable)?,
                }
            }
        }
        let what = format!("{} to be gone", executable.display());
        eventually(what, cln_lab::PATIENCE, async || {
            let listed = l1.plugin_list().await?;
            let ours = listed
                .iter()
                .find(|plugin| Path::new(&plugin.name) == executable);
            Ok(match ours {
                None => Probe::Ready(()),
                Some(plugin) => Probe::NotYet(format!("{plugin:?}")),
            })
        })
        .await?;
        if l1.is_connected(l2).await? {
            l1.disconnect(l2).await?;
        }
        Ok(())
    }

    /// The plugin's tee, made anew, with an empty record, and nothing running.
    pub(super) async fn tee(&self, plugin: &Path) -> Result<Tee> {
        let tee = Tee::create(plugin, &self.program)?;
        let process = process_of(&tee.record);
        self.clear(&tee.executable, process).await?;
        match std::fs::remove_file(&tee.record) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).doing("remove", &tee.record)?;
            }
            _ => {}
        }
        Ok(tee)
    }
}

/// The process that was started last, by the tee's record.
pub(super) fn process_of(record: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(record).ok()?;
    let (_, last) = text.rsplit_once("started, process ")?;
    let digits = last.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}
