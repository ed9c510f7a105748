//! The course as one takes it, in a terminal.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use cln_lab::control::{Control, Down};
use cln_lab::registry::Claim;
use cln_lab::{Error, IoContext, Lab, Result};
use console::style;

use super::folder::Folder;
use super::progress::Progress;
use super::screen::After;
use super::watch::Watch;
use super::{Bench, STEPS, Step, Verdict, screen};
use crate::keys::Keys;
use crate::workshop::interactive;

/// What takes longer than this is announced.
const SOON: Duration = Duration::from_millis(700);

/// The name under which the lab can be found from other terminals, unless it is taken.
const NAME: &str = "learn";

/// Hands out steps and checks saves, until the learner ends it; then the lab ends, and
/// what was passed is in his folder.
///
/// # Errors
/// If the lab or the terminal fails, or the folder cannot be written.
pub async fn learn(
    folder: Folder,
    progress: Progress,
    bench: Rc<Bench>,
    program: &Path,
) -> Result<()> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::usage(
            "`lab learn` needs a terminal; without one, `lab learn --check STEP`",
        ));
    }
    let keys = Keys::new()?;
    show("starting two nodes …")?;
    if folder
        .language()
        .is_some_and(|language| !language.build.is_empty())
    {
        show("building your plugin, which takes a minute for the first time …")?;
    }
    let claim = Claim::take(NAME).await.ok();
    let taken = async {
        let (lab, prepared) = tokio::join!(bench.lab(), folder.prepare());
        let lab = lab?;
        let node = lab.l1().implementation();
        show(format!(
            "{} l1 and l2 are up, {node}; this ends with `q`",
            style("✓").green().bold()
        ))?;
        if let Err(error) = prepared {
            let note = style("note:").yellow();
            show(format!(
                "{note} {error}; not all steps can be passed without it"
            ))?;
        }
        let control = Control::open(lab)?;
        let mut name = None;
        if let Some((mut claim, _)) = claim {
            claim.publish(lab)?;
            name = Some(claim);
        }
        let files = STEPS.iter().map(|step| folder.file(step));
        let mut learner = Learner {
            watch: Watch::new(files.collect())?,
            step: progress.step(),
            folder,
            progress,
            bench: Rc::clone(&bench),
            lab,
            program,
            named: name.is_some(),
            keys,
            hint: 0,
            verdict: None,
        };
        learner.until_end(&control).await
    }
    .await;
    // Whether or not anybody reads it, the lab ends.
    let said = if taken.is_ok() {
        show("stopping the nodes; `lab learn` continues where you are")
    } else {
        Ok(())
    };
    let stopped = bench.stop().await;
    if let Some(down) = taken? {
        down.answer(&stopped).await;
    }
    said.and(stopped)
}

struct Learner<'a> {
    folder: Folder,
    progress: Progress,
    step: &'static Step,
    bench: Rc<Bench>,
    lab: &'a Lab,
    /// The command `lab`.
    program: &'a Path,
    /// Whether the lab has its name.
    named: bool,
    keys: Keys,
    watch: Watch,
    /// How many hints of this step were shown.
    hint: usize,
    verdict: Option<Verdict>,
}

impl Learner<'_> {
    /// Until `q`, or until another process asks for the lab's end.
    async fn until_end(&mut self, control: &Control) -> Result<Option<Down>> {
        let mut down = pin!(control.serve(self.lab));
        show(screen::step(self.step, &self.folder))?;
        loop {
            let turn = async {
                tokio::select! {
                    saved = self.watch.saved() => self.check(saved, After::Save).await,
                    key = self.keys.next() => self.press(key?).await,
                }
            };
            tokio::select! {
                more = turn => if !more? { return Ok(None) },
                asked = &mut down => return Ok(Some(asked)),
            }
        }
    }

    /// Does what a key asks for; false for the end.
    async fn press(&mut self, key: char) -> Result<bool> {
        match key {
            'q' => return Ok(false),
            'h' => {
                self.hint += 1;
                show(screen::hint(self.step, &self.folder, self.hint))?;
            }
            'w' => self.wire()?,
            'l' => show(screen::list(&self.progress, self.step))?,
            'n' => self.go(1)?,
            'p' => self.go(-1)?,
            'r' => self.reset()?,
            's' => {
                self.shell().await?;
                show(screen::step(self.step, &self.folder))?;
            }
            '\n' | '\r' => return self.check(Instant::now(), After::Enter).await,
            _ => show(style(screen::KEYS).dim())?,
        }
        Ok(true)
    }

    fn go(&mut self, by: isize) -> Result<()> {
        let place = (self.step.number() - 1).saturating_add_signed(by);
        self.step = &STEPS[place.min(STEPS.len() - 1)];
        (self.hint, self.verdict) = (0, None);
        self.step.slug.clone_into(&mut self.progress.step);
        self.progress.write(self.folder.dir())?;
        show(screen::step(self.step, &self.folder))?;
        Ok(())
    }

    fn reset(&mut self) -> Result<()> {
        match self.folder.reset(self.step) {
            Ok(kept) => show(screen::reset(self.step, &self.folder, kept.as_deref()))?,
            Err(error) => show(format!("{} {error}", style("not reset:").red()))?,
        }
        self.watch.skip();
        Ok(())
    }

    /// Shows what passed in the last check, and keeps all of it in the learner's folder.
    fn wire(&self) -> Result<()> {
        let whole = match self.verdict.as_ref().map(Verdict::wire_text) {
            Some(text) if !text.is_empty() => Some(self.folder.keep_wire(&text)?),
            _ => None,
        };
        show(screen::wire(self.verdict.as_ref(), whole.as_deref()))?;
        Ok(())
    }

    async fn shell(&mut self) -> Result<()> {
        let dir = self.lab.dir().display().to_string();
        let lab = if self.named {
            ("LAB_NAME", NAME)
        } else {
            ("LAB_DIR", &*dir)
        };
        self.keys.give_back()?;
        let ended = interactive(
            self.program,
            lab,
            self.folder.dir(),
            "learn",
            self.bench.path(),
        )
        .await;
        self.keys.take()?;
        ended
    }

    /// Checks what is saved, again if something was saved meanwhile; false for the end,
    /// which `q` is meanwhile, too.
    async fn check(&mut self, mut since: Instant, mut after: After) -> Result<bool> {
        loop {
            let (program, test) = (self.folder.program(), self.folder.test());
            let check = async {
                match self.folder.build().await? {
                    Ok(()) => self.bench.check(self.step, &program, &test).await,
                    Err(why) => Ok(Verdict::not_built(&why)),
                }
            };
            let mut check = pin!(check);
            let verdict = loop {
                tokio::select! {
                    verdict = &mut check => break verdict?,
                    quit = self.keys.quit() => return quit.map(|()| false),
                    // Once: most checks are done by then.
                    () = tokio::time::sleep(SOON), if since.elapsed() < SOON => show("checking …")?,
                }
            };
            show(screen::verdict(&verdict, self.step, since.elapsed(), after))?;
            if verdict.passed() {
                self.progress.pass(self.step);
                self.progress.write(self.folder.dir())?;
            } else if self.folder.is_empty(self.step) {
                let file = self.folder.file(self.step);
                let note = style("note:").yellow();
                show(format!(
                    "{note} {} is empty: `r` puts there what this step starts with",
                    file.display()
                ))?;
            }
            self.verdict = Some(verdict);
            match futures_util::FutureExt::now_or_never(self.watch.saved()) {
                Some(saved) => (since, after) = (saved, After::Save),
                None => return Ok(true),
            }
        }
    }
}

/// Prints a line. A terminal that is gone is an error, and no panic: the lab still ends.
fn show(text: impl std::fmt::Display) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").doing("write to", "the terminal")
}
