//! What `PROGRAM --version` says: asked within limits, and remembered.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::{cache_dir, lightningd, not_run};
use crate::error::IoContext;
use crate::process::files::write_private;
use crate::{Error, Implementation, Result, Version, scaled};

/// How long a program may take to print its version.
const ANSWER: Duration = Duration::from_secs(10);
/// How much it may print, in bytes.
const LONGEST: u64 = 64 << 10;

/// The first line that `PROGRAM --version` prints.
///
/// # Errors
/// If it cannot be run, fails, prints nothing, or takes longer than 10 s (scaled by
/// [`crate::timeout_factor`]), after which it is killed with all that it started.
pub async fn version_line(program: &Path) -> Result<String> {
    let from = format!("{} --version", program.display());
    let asked = tokio::time::timeout(scaled(ANSWER), ask(program)).await;
    let Ok(answer) = asked else {
        return Err(Error::TimedOut {
            what: format!("an answer of {from}"),
            waited: scaled(ANSWER),
            last_seen: "it did not end, and was killed".to_owned(),
        });
    };
    let answer = answer.doing("run", program);
    let (status, stdout, stderr) = answer.map_err(|error| not_run(program, error))?;
    let text = String::from_utf8_lossy(&stdout);
    let line = text.lines().find(|line| !line.trim().is_empty());
    let why = match line {
        Some(line) if status.success() => return Ok(line.trim().to_owned()),
        None if status.success() => "it prints nothing".to_owned(),
        _ => format!("{status}: {}", String::from_utf8_lossy(&stderr).trim()),
    };
    Err(Error::Answer { from, why })
}

/// Its exit status, standard output and error.
async fn ask(program: &Path) -> std::io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let child = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let mut group = Group(child);
    let (stdout, stderr) = (group.0.stdout.take(), group.0.stderr.take());
    let (stdout, stderr) = tokio::try_join!(start_of(stdout), start_of(stderr))?;
    Ok((group.0.wait().await?, stdout, stderr))
}

/// What a stream has up to its end, or to as much as is read of it; then it is closed.
async fn start_of(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(LONGEST).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// A process with a group of its own, which is killed when dropped before its end.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // `None` once it was reaped, when the number may be another's.
        if let Some(pid) = self.0.id() {
            let _ = killpg(Pid::from_raw(pid as i32), Signal::SIGKILL);
        }
    }
}

/// Which program a node's executable is, according to its `--version`. The answer is
/// cached, since running it takes as long as half a node's start; not that of a
/// script, which may run something else tomorrow.
///
/// # Errors
/// As [`version_line`]; if it is neither lightningd nor the embedded node.
pub async fn implementation(program: &Path) -> Result<Implementation> {
    let cache = cached_in(program);
    let known = cache.as_ref().and_then(|(file, mark)| {
        let text = std::fs::read_to_string(file).ok()?;
        text.strip_prefix(mark)?.parse().ok()
    });
    if let Some(known) = known {
        return Ok(known);
    }
    let line = version_line(program).await?;
    let implementation = line.parse().map_err(|why| Error::Answer {
        from: format!("{} --version", program.display()),
        why,
    })?;
    if let Some((file, mark)) = cache {
        // Without the cache the next lab only takes longer to start.
        let _ = write_private(&file, &format!("{mark}{line}"));
    }
    Ok(implementation)
}

/// The version of the lightningd that [`lightningd`] finds; `None` if there is none,
/// or if `LIGHTNINGD` names the embedded node.
///
/// # Errors
/// If its `--version` fails.
pub async fn lightningd_version() -> Result<Option<Version>> {
    match lightningd() {
        Ok(path) => Ok(implementation(&path).await?.lightningd().cloned()),
        Err(_) => Ok(None),
    }
}

/// The file that has an executable's version, and what it starts with if that is of
/// the executable as it is now; `None` for a script, and where nothing can be cached.
fn cached_in(program: &Path) -> Option<(PathBuf, String)> {
    let path = program.canonicalize().ok().filter(|path| path.is_file())?;
    let mut start = [0; 2];
    std::fs::File::open(&path)
        .ok()?
        .read_exact(&mut start)
        .ok()?;
    let dir = cache_dir().filter(|_| start != *b"#!")?;
    let mark = mark(&path).ok()?;
    Some((dir.join(format!("version-{}", hash(&path))), mark + " "))
}

/// A text for an executable that changes whenever the file at its path does.
pub(crate) fn mark(program: &Path) -> Result<String> {
    let path = program.canonicalize().doing("find", program)?;
    let file = path.metadata().doing("look at", &path)?;
    let changed = (
        file.mtime(),
        file.mtime_nsec(),
        file.ctime(),
        file.ctime_nsec(),
    );
    Ok(hash((&path, file.dev(), file.ino(), file.len(), changed)))
}

fn hash(what: impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_changes_with_the_file_though_size_and_age_do_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("program");
        let age = std::time::SystemTime::UNIX_EPOCH;
        let write = |text: &str| {
            std::fs::write(&path, text).expect("write");
            let file = std::fs::File::options().write(true).open(&path);
            file.and_then(|file| file.set_modified(age))
                .expect("its age");
            mark(&path).expect("a mark")
        };
        let before = write("a");
        // The time of a change is only as fine as the system's clock ticks.
        let changed = (0..1000).any(|_| {
            std::thread::yield_now();
            write("b") != before
        });
        assert!(changed, "written in place");
        let before = write("b");
        std::fs::rename(&path, dir.path().join("other")).expect("rename");
        assert_ne!(write("b"), before, "another file");
    }
}
