//! A prepared chain: mined once, copied into each lab.
//!
//! bitcoind takes half a second to make a wallet and 101 blocks; copying them takes a
//! few milliseconds. The chain is cached, one for each bitcoind, since another version
//! may not read its files. Without a cache each lab makes its own.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::binaries;
use crate::bitcoin::Bitcoind;
use crate::error::IoContext;
use crate::lab::folder::{Folder, Keep};
use crate::process::reaper::Reaper;
use crate::trace::Recorder;
use crate::{Error, Probe, Result, eventually};

/// Blocks in a prepared chain: one mature coinbase of 50 BTC to spend.
pub const BLOCKS: u64 = 101;

/// Raise this when the way a chain is made changes.
const FORMAT: u32 = 3;

/// How long another lab may take to make the chain.
const MADE: Duration = Duration::from_secs(120);

/// Copies the prepared chain for `program` into `dir`, and makes it first if there is
/// none yet; makes it in `dir` if the cache cannot be used.
pub(crate) async fn prepare(program: &Path, dir: &Path, reaper: &Arc<Reaper>) -> Result<()> {
    let regtest = dir.join("regtest");
    if let Some(cache) = binaries::cache_dir() {
        let mark = binaries::mark(program)?;
        let prepared = cache.join(format!("chain-{FORMAT}-{BLOCKS}-{mark}"));
        let copied = async {
            if !prepared.is_dir() {
                make(program, &cache, &prepared).await?;
            }
            copy(&prepared.join("regtest"), &regtest)
        };
        match copied.await {
            // Another user's, or a full disk.
            Err(error @ Error::Io { .. }) => tracing::info!(%error, "no prepared chain"),
            done => return done,
        }
        if regtest.exists() {
            std::fs::remove_dir_all(&regtest).doing("remove", &regtest)?;
        }
    }
    mine(program, dir, reaper).await
}

/// Mines the chain in a temporary folder and renames it to `prepared`, in one step.
async fn make(program: &Path, cache: &Path, prepared: &Path) -> Result<()> {
    // Tests that start at the same time wait for the first one.
    let path = cache.join("chain.lock");
    let what = format!(
        "another lab to prepare a chain, as it holds {}",
        path.display()
    );
    let _lock = eventually(what, MADE, async || {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).mode(0o600);
        let file = options.open(&path).doing("create", &path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Probe::Ready(lock)),
            Err((_, Errno::EAGAIN)) => Ok(Probe::NotYet("it is locked".to_owned())),
            Err((_, errno)) => Err(errno).doing("lock", &path),
        }
    })
    .await?;
    if prepared.is_dir() {
        return Ok(());
    }
    let (temporary, reaper) = Folder::create_in(cache, Keep::Never)?;
    mine(program, temporary.path(), &reaper).await?;
    std::fs::rename(temporary.path(), prepared).doing("name the prepared chain", prepared)
}

/// Makes the chain in `dir`.
async fn mine(program: &Path, dir: &Path, reaper: &Arc<Reaper>) -> Result<()> {
    tracing::info!(path = %dir.display(), "mining a chain of {BLOCKS} blocks");
    let bitcoind = Bitcoind::spawn(program, dir, &[], reaper, &Recorder::default()).await?;
    bitcoind.ready().await?;
    bitcoind.mine(BLOCKS).await?;
    bitcoind.stop().await.map(drop)
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
