//! A prepared chain: mined once, copied into each lab.
//!
//! bitcoind takes half a second to make a wallet and 101 blocks; copying them takes a
//! few milliseconds. The chain is kept in [`nodes_dir`](crate::binaries::nodes_dir),
//! one for each bitcoind, since another version may not read its files.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};

use crate::Result;
use crate::binaries;
use crate::bitcoin::Bitcoind;
use crate::error::IoContext;
use crate::process::reaper::Reaper;

/// Blocks in a prepared chain: one mature coinbase of 50 BTC to spend.
pub const BLOCKS: u64 = 101;

/// Raise this when the way a chain is made changes.
const FORMAT: u32 = 2;

/// Copies the prepared chain for `program` into `dir`, and makes it first if there is
/// none yet.
pub(crate) async fn prepare(program: &Path, dir: &Path) -> Result<()> {
    let prepared = path_for(program)?;
    if !prepared.is_dir() {
        make(program, &prepared).await?;
    }
    copy(&prepared.join("regtest"), &dir.join("regtest"))
}

/// Where the chain of this executable is kept.
fn path_for(program: &Path) -> Result<PathBuf> {
    let mark = binaries::mark(program)?;
    Ok(binaries::nodes_dir().join(format!("chain-{FORMAT}-{BLOCKS}-{mark}")))
}

/// Mines the chain in a temporary folder and renames it to `prepared`, in one step.
async fn make(program: &Path, prepared: &Path) -> Result<()> {
    let folder = prepared.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).doing("create folder", folder)?;
    // Tests that start at the same time wait for the first one.
    let lock_path = folder.join("chain.lock");
    let lock = File::create(&lock_path).doing("create", &lock_path)?;
    let _lock = tokio::task::spawn_blocking(move || Flock::lock(lock, FlockArg::LockExclusive))
        .await
        .map_err(std::io::Error::other)
        .doing("lock", &lock_path)?
        .map_err(|(_, errno)| errno)
        .doing("lock", &lock_path)?;
    if prepared.is_dir() {
        return Ok(());
    }
    tracing::info!(path = %prepared.display(), "mining a chain of {BLOCKS} blocks, this once");
    let temporary = tempfile::Builder::new()
        .prefix("chain-")
        .tempdir_in(folder)
        .doing("create a folder in", folder)?;
    let reaper = Arc::new(Reaper::start(temporary.path())?);
    let bitcoind = Bitcoind::start(program, temporary.path(), &reaper).await?;
    bitcoind.ready().await?;
    bitcoind.mine(BLOCKS).await?;
    bitcoind.stop().await?;
    let path = temporary.keep();
    std::fs::rename(&path, prepared).doing("name the prepared chain", prepared)
}

/// Copies a folder, without what belongs to one run of bitcoind: its log, locks and
/// cookie.
fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).doing("create folder", to)?;
    for entry in std::fs::read_dir(from).doing("read folder", from)? {
        let entry = entry.doing("read folder", from)?;
        let name = entry.file_name();
        if matches!(
            name.to_str(),
            Some("debug.log" | ".lock" | ".cookie" | "bitcoind.pid")
        ) {
            continue;
        }
        let (source, target) = (entry.path(), to.join(&name));
        if entry.file_type().doing("look at", &source)?.is_dir() {
            copy(&source, &target)?;
        } else {
            std::fs::copy(&source, &target).doing("copy", &source)?;
        }
    }
    Ok(())
}
