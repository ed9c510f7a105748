//! The author of a plugin: commands in a folder outside this workspace, whose library they
//! build once more.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use cln_lab::binaries;
use nix::fcntl::{Flock, FlockArg};

use crate::sandbox::said;
use crate::{Kinds, path_without};

/// A person with a project of their own, beside this workspace.
#[derive(Debug)]
pub struct Author {
    path: OsString,
    tmp: PathBuf,
    target: PathBuf,
    /// One at a time: the tests of both kinds have the same file name in `target`.
    _lock: Flock<File>,
}

impl Author {
    /// Works in `folder`; lightningd is on the PATH or not.
    ///
    /// # Errors
    /// If its folders cannot be made.
    pub fn new(folder: &Path, kinds: Kinds) -> anyhow::Result<Author> {
        let tmp = folder.join("tmp");
        std::fs::create_dir(&tmp)?;
        // Kept, so that only the first run builds the library.
        let target = workspace()?.join("target/author");
        std::fs::create_dir_all(&target)?;
        let lock = File::create(target.join("one-at-a-time"))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
        let path = if kinds == Kinds::Embedded {
            path_without("lightningd", &folder.join("bin"))?
        } else {
            std::env::var_os("PATH").unwrap_or_default()
        };
        Ok(Author {
            path,
            tmp,
            target,
            _lock: lock,
        })
    }

    /// Runs a block of commands, as though this workspace were `../cln-lab`; what they
    /// print.
    ///
    /// # Errors
    /// If one of them fails, with what they printed.
    pub fn run(&self, folder: &Path, commands: &str) -> anyhow::Result<String> {
        let commands = commands.replace("../cln-lab", &workspace()?.display().to_string());
        let mut shell = Command::new("sh");
        shell
            .args(["-e", "-c", &commands])
            .current_dir(folder)
            .stdin(Stdio::null())
            .env("PATH", &self.path)
            .env("TMPDIR", &self.tmp)
            .env("LAB_KEEP", "always")
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_NET_OFFLINE", "true")
            // A quick and small build; nobody debugs it.
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("CARGO_INCREMENTAL", "0");
        for name in [
            "LIGHTNINGD",
            "CLN_EMBEDDED",
            "LAB_NODE",
            // make's and cargo's, whose pipes are not there any more.
            "MAKEFLAGS",
            "CARGO_MAKEFLAGS",
        ] {
            shell.env_remove(name);
        }
        // Not set, where it is the folder that is found without it.
        if binaries::nodes_dir() == Some(workspace()?.join("target/nodes")) {
            shell.env_remove("LAB_NODES_DIR");
        }
        let said = said(&mut shell)?;
        ensure!(said.code == Some(0), "{commands}\n{}{}", said.out, said.err);
        Ok(said.out)
    }

    /// What l1 of the only lab has logged.
    ///
    /// # Errors
    /// If not just one lab ran.
    pub fn log_of_l1(&self) -> anyhow::Result<String> {
        let labs: Vec<_> = std::fs::read_dir(&self.tmp)?
            .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("l1/log")).ok())
            .collect();
        let [log] = &labs[..] else {
            bail!("{} labs ran", labs.len());
        };
        Ok(log.clone())
    }
}

/// The folder that has `Cargo.toml`, `plugin`, `lab` …
///
/// # Errors
/// None, where this was built.
pub fn workspace() -> anyhow::Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("tests/ is in the workspace")
}
