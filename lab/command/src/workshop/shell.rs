//! The shell in which the workshop's commands are run, as a person would type them.
//!
//! What is shown as a command's answer is what the shell printed. The shell also ends
//! the lab: it does so whenever it ends itself, for example because this process is gone.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use cln_lab::{Error, IoContext, NodeKind, Result, scaled};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

/// How long a command may take; longer than the lab waits for anything itself.
const PATIENCE: Duration = Duration::from_secs(200);
/// How long the lab may take to end after a signal.
const END: Duration = Duration::from_secs(60);

/// Defines the workshop's words, and sees to the lab's end.
const PRELUDE: &str = r#"
trap '"$LAB" down --name "$WORKSHOP" >/dev/null 2>&1' EXIT
trap 'exit 143' TERM INT HUP PIPE
LAB_NAME=$WORKSHOP
eval "$LAB_SH" >/dev/null
unset LAB_SH
"#;
const LAB_SH: &str = include_str!("../../contrib/lab.sh");

pub(super) struct Shell {
    child: Child,
    stdin: Option<ChildStdin>,
    /// The command `lab`, and the lab's name.
    lab: PathBuf,
    name: String,
    output: Receiver,
    /// What ends a command's output: no command prints it.
    mark: String,
    /// A command runs.
    runs: bool,
}

impl Shell {
    /// Starts bash, with the words of `contrib/lab.sh` for a lab of this name; `tracing` is
    /// what it writes down, if that is not the usual.
    pub fn start(lab: &Path, name: &str, node: NodeKind, tracing: Option<&str>) -> Result<Shell> {
        if which::which("bash").is_err() {
            return Err(Error::NotFound {
                what: "bash".to_owned(),
                tried: "the PATH".to_owned(),
                remedy: "install it: the workshop runs its commands in it".to_owned(),
            });
        }
        let (output, write) = std::io::pipe().doing("make a pipe for", "bash")?;
        let errors = write.try_clone().doing("copy a pipe of", "bash")?;
        let mut command = Command::new("bash");
        command
            .args(["--norc", "--noprofile"])
            .env("LAB", lab)
            .env("LAB_SH", LAB_SH)
            .env("LAB_NODE", format!("{node:?}").to_lowercase())
            .env("WORKSHOP", name)
            .envs(tracing.map(|tracing| ("LAB_TRACE", tracing)))
            .env_remove("LAB_DIR")
            .stdin(Stdio::piped())
            .stdout(write)
            .stderr(errors)
            // A Ctrl-C is for us, who then end it in good order.
            .process_group(0);
        let mut child = command.spawn().doing("run", "bash")?;
        let mut shell = Shell {
            stdin: child.stdin.take(),
            child,
            lab: lab.to_owned(),
            name: name.to_owned(),
            output: Receiver::from_owned_fd(OwnedFd::from(output)).doing("read from", "bash")?,
            mark: format!("lab-workshop-{:016x}", getrandom::u64().unwrap_or_default()),
            runs: false,
        };
        shell.write(PRELUDE)?;
        Ok(shell)
    }

    /// Runs a command; what it printed, and its exit status.
    ///
    /// # Errors
    /// If the shell has ended, or the command does not.
    pub async fn run(&mut self, command: &str) -> Result<(String, i32)> {
        let mark = self.mark.clone();
        self.runs = true;
        self.write(&format!(
            "{{ {command}\n}} </dev/null\nprintf '%s %d\\n' {mark} $?\n"
        ))?;
        let mut printed = Vec::new();
        let end = async {
            loop {
                let read = self.output.read_buf(&mut printed).await;
                if read.doing("read from", "bash")? == 0 {
                    return Err(Error::usage(format!("bash ended while it ran `{command}`")));
                }
                let text = String::from_utf8_lossy(&printed);
                if let Some((answer, status)) = text.split_once(&mark)
                    && let Some(status) = status.strip_suffix('\n')
                {
                    let status = status.trim().parse().unwrap_or(-1);
                    return Ok((answer.trim_end().to_owned(), status));
                }
            }
        };
        match tokio::time::timeout(scaled(PATIENCE), end).await {
            Ok(done) => {
                self.runs = false;
                done
            }
            Err(_) => Err(Error::TimedOut {
                what: format!("`{command}` to end"),
                waited: scaled(PATIENCE),
                last_seen: String::from_utf8_lossy(&printed).into_owned(),
            }),
        }
    }

    /// Hands the terminal to a shell with the same words, until it ends.
    pub async fn lend(&mut self) -> Result<()> {
        let (place, _) = self.run("pwd").await?;
        let lab = ("LAB_NAME", self.name.as_str());
        let path = std::env::var("PATH").unwrap_or_default();
        interactive(&self.lab, lab, Path::new(&place), "workshop", &path).await
    }

    /// Leaves the lab up when the shell ends.
    pub fn keep_lab(&mut self) -> Result<()> {
        self.write("trap - EXIT\n")
    }

    /// Waits for its end, and so for that of the lab.
    pub fn close(mut self) -> Result<()> {
        self.stdin = None;
        self.child.wait().doing("wait for", "bash").map(drop)
    }

    fn write(&mut self, text: &str) -> Result<()> {
        match &mut self.stdin {
            Some(stdin) => stdin.write_all(text.as_bytes()).doing("write to", "bash"),
            None => Err(Error::usage("the shell has ended")),
        }
    }
}

/// Hands the terminal to a shell in this folder, with the words of `contrib/lab.sh` for
/// the lab that this variable names, until it ends. `prompt` is what it goes back to,
/// `path` its PATH.
pub(crate) async fn interactive(
    program: &Path,
    (variable, lab): (&str, &str),
    folder: &Path,
    prompt: &str,
    path: &str,
) -> Result<()> {
    let mut rc = tempfile::NamedTempFile::new().doing("create", "a file for bash")?;
    let text = format!(
        "eval \"$LAB_SH\" >/dev/null\nenv=$(\"$LAB\" env 2>/dev/null) && eval \"$env\" || echo 'no lab is up yet'\n\
         unset env\nPS1='{prompt}$ '\nunset HISTFILE\n\
         echo 'exit (or Ctrl-D) goes on with `lab {prompt}`'\n"
    );
    rc.write_all(text.as_bytes()).doing("write", rc.path())?;
    let mut shell = tokio::process::Command::new("bash");
    shell.arg("--rcfile").arg(rc.path()).arg("-i");
    shell
        .current_dir(folder)
        .env("LAB", program)
        .env("LAB_SH", LAB_SH)
        .env("PATH", path);
    shell
        .env_remove("LAB_DIR")
        .env_remove("LAB_NAME")
        .env(variable, lab);
    shell.status().await.doing("run", "bash").map(drop)
}

impl Drop for Shell {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.child.id() as i32);
        let mut signal = Signal::SIGTERM;
        let mut since = Instant::now();
        // Also the command that it runs. If it runs none, the end of its input is enough,
        // and a signal would end the `lab down` that follows.
        if let (true, Ok(None)) = (self.runs, self.child.try_wait()) {
            let _ = killpg(group, signal);
        }
        self.stdin = None;
        while let Ok(None) = self.child.try_wait() {
            if since.elapsed() > scaled(END) && signal == Signal::SIGTERM {
                (signal, since) = (Signal::SIGKILL, Instant::now());
                let _ = killpg(group, signal);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
