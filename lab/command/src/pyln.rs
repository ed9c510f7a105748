//! A Python with pyln-client, in a virtual environment that is kept.

use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cln_lab::{Error, IoContext, Result, binaries};
use nix::fcntl::{Flock, FlockArg};

/// Makes the environment `.venv` of the present folder, if it is not there yet.
pub(crate) const INSTALL: &str = "[ -x .venv/bin/python3 ] || python3 -m venv $(readlink .venv)
.venv/bin/python3 -c 'import pyln.client' 2>/dev/null || \\
.venv/bin/python3 -m pip install --quiet --disable-pip-version-check pyln-client
.venv/bin/python3 -c 'import pyln.client as c; print(\"pyln-client\", c.__version__)'";

/// Whether there is a python3 that can make one.
pub(crate) fn is_possible() -> bool {
    let mut python = Command::new("python3");
    let output = python.args(["-c", "import venv, ensurepip"]).output();
    output.is_ok_and(|output| output.status.success())
}

/// Makes `.venv` in this folder a link to the one that is kept, so that only its first
/// use installs it; the lock lets one at a time do that. Another user's cannot be
/// written: then it is made anew, in this folder.
pub(crate) fn link(folder: &Path) -> Result<Flock<File>> {
    let kept = binaries::nodes_dir().and_then(|dir| environment(&dir).ok());
    let (kept, lock) = kept.map_or_else(|| environment(folder), Ok)?;
    let link = folder.join(".venv");
    if !link.exists() {
        symlink(&kept, &link).doing("make a link to", &kept)?;
    }
    let lock = Flock::lock(lock, FlockArg::LockExclusive);
    lock.map_err(|(_, errno)| errno).doing("lock", &kept)
}

/// Makes sure that `.venv` in this folder has pyln-client; it is brought from PyPI.
///
/// # Errors
/// If there is no Python for it, or PyPI cannot be reached.
pub fn install(folder: &Path) -> Result<()> {
    if !is_possible() {
        return Err(Error::usage(
            "there is no python3 with `venv` here: install it",
        ));
    }
    let _lock = link(folder)?;
    let mut shell = Command::new("sh");
    shell
        .args(["-c", INSTALL])
        .current_dir(folder)
        .stdin(Stdio::null());
    let output = shell.output().doing("run", "sh")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(Error::usage(format!(
            "pyln-client could not be installed: {}",
            text.trim_end()
        )));
    }
    Ok(())
}

/// The environment's folder in `dir`, and the file that locks it.
fn environment(dir: &Path) -> Result<(PathBuf, File)> {
    let kept = dir.join("venv-workshop");
    std::fs::create_dir_all(&kept).doing("create folder", &kept)?;
    let path = kept.with_extension("lock");
    let lock = File::create(&path).doing("create", &path)?;
    Ok((kept, lock))
}
