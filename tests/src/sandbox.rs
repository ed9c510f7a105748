//! The command `lab` with folders of its own, so that whatever it leaves behind is
//! seen, and no other test's lab is.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use cln_lab::{Probe, eventually};
use serde_json::Value;
use tempfile::TempDir;

use crate::{is_alive, program};

/// Folders for temporary files, running labs and the home of a user who has
/// nothing. Whatever is still up is ended when it is dropped.
#[derive(Debug)]
pub struct Sandbox {
    root: TempDir,
    lab: PathBuf,
    watchdog: Option<Child>,
}

/// Ends what is up when a test is killed half-way, for example by a time limit: a
/// detached lab is in a session of its own, out of the runner's reach.
const WATCHDOG: &str = r#"
read -r word && exit
"$1" down --all >/dev/null 2>&1
rm -rf -- "$2"
"#;

/// What a command printed, and its exit status.
#[derive(Debug)]
pub struct Said {
    /// Exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// The processes and the folder of a lab.
#[derive(Debug, Clone)]
pub struct Traces {
    /// The process that holds the lab.
    pub holder: u32,
    /// bitcoind's and the nodes'.
    pub daemons: Vec<u32>,
    /// The folder.
    pub dir: PathBuf,
}

impl Sandbox {
    /// Empty surroundings.
    pub fn new() -> anyhow::Result<Sandbox> {
        let root = tempfile::Builder::new().prefix("t").tempdir()?;
        for folder in ["tmp", "run", "home"] {
            std::fs::create_dir(root.path().join(folder))?;
        }
        let mut sandbox = Sandbox {
            root,
            lab: program("lab")?,
            watchdog: None,
        };
        let watchdog = sandbox
            .command("sh")
            .args(["-c", WATCHDOG, "sandbox-watchdog"])
            .args([&sandbox.lab, sandbox.root.path()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        sandbox.watchdog = Some(watchdog);
        Ok(sandbox)
    }

    /// The `lab` that is tested.
    pub fn program(&self) -> &Path {
        &self.lab
    }

    /// The home of the user who has nothing.
    pub fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// A place for a test's own files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A program to be run here. Nothing of the user's environment chooses a lab.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .stdin(Stdio::null())
            .env("TMPDIR", self.root.path().join("tmp"))
            .env("XDG_RUNTIME_DIR", self.root.path().join("run"))
            .env("HOME", self.home());
        for name in [
            "LAB",
            "CLN_EMBEDDED",
            "LAB_NAME",
            "LAB_DIR",
            "LAB_NODE",
            "LAB_KEEP",
        ] {
            command.env_remove(name);
        }
        command
    }

    /// Runs `lab` with these arguments.
    pub fn lab(&self, args: &[&str]) -> anyhow::Result<Said> {
        said(self.command(&self.lab).args(args))
    }

    /// Runs `lab`, which must do what it is asked; its standard output.
    pub fn done(&self, args: &[&str]) -> anyhow::Result<String> {
        let said = self.lab(args)?;
        ensure!(said.code == Some(0), "lab {}: {said:?}", args.join(" "));
        Ok(said.out)
    }

    /// The same, as JSON.
    pub fn json(&self, args: &[&str]) -> anyhow::Result<Value> {
        let out = self.done(args)?;
        serde_json::from_str(&out).with_context(|| format!("lab {}: {out}", args.join(" ")))
    }

    /// Starts `lab` with its output piped.
    pub fn spawn(&self, args: &[&str]) -> anyhow::Result<Child> {
        Ok(self
            .command(&self.lab)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?)
    }

    /// The traces of the lab of this name, as `lab status` has them.
    pub fn traces(&self, name: &str) -> anyhow::Result<Traces> {
        let status = self.json(&["status", "--json", "--name", name])?;
        let lab = &status["labs"][0];
        let pid = |value: &Value| value.as_u64().map(|pid| pid as u32).context("no pid");
        let mut daemons = vec![pid(&lab["bitcoind"]["pid"])?];
        for node in lab["nodes"].as_array().context("no nodes")? {
            daemons.push(pid(&node["pid"])?);
        }
        Ok(Traces {
            holder: pid(&lab["pid"])?,
            daemons,
            dir: lab["dir"].as_str().context("no dir")?.into(),
        })
    }

    /// Everything that labs left in the folders for temporary files and running
    /// labs, and in the home.
    pub fn left(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut left = Vec::new();
        for folder in ["tmp", "run", "home"] {
            for entry in std::fs::read_dir(self.root.path().join(folder))? {
                left.push(entry?.path());
            }
        }
        Ok(left)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // A test that failed may have left a lab behind.
        let _ = self.lab(&["down", "--all"]);
        if let Some(mut watchdog) = self.watchdog.take() {
            if let Some(mut stdin) = watchdog.stdin.take() {
                let _ = stdin.write_all(b"done\n");
            }
            let _ = watchdog.wait();
        }
    }
}

impl Traces {
    /// Every process.
    pub fn pids(&self) -> Vec<u32> {
        let mut pids = self.daemons.clone();
        pids.push(self.holder);
        pids
    }

    /// Those processes that are alive.
    pub fn alive(&self) -> Vec<u32> {
        self.pids()
            .into_iter()
            .filter(|pid| is_alive(*pid))
            .collect()
    }

    /// Waits until nothing of it is left.
    pub async fn gone(&self) -> anyhow::Result<()> {
        let what = "every process and the folder to be gone";
        eventually(what, Duration::from_secs(10), async || {
            let alive = self.alive();
            Ok(match (alive.is_empty(), self.dir.exists()) {
                (true, false) => Probe::Ready(()),
                (_, folder) => Probe::NotYet(format!("alive: {alive:?}, folder there: {folder}")),
            })
        })
        .await?;
        Ok(())
    }
}

/// Runs a command to its end.
pub fn said(command: &mut Command) -> anyhow::Result<Said> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    Ok(output.into())
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said {
            code: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }
}
