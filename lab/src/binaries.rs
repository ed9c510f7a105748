//! Finds the executables that a lab runs, and says what to do if one is missing.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::error::IoContext;
use crate::process::files::write_private;
use crate::{Error, Implementation, Result, Version};

/// bitcoind: `BITCOIND`, else on the PATH, else in [`nodes_dir`]`/bin`.
///
/// # Errors
/// [`Error::NotFound`] with what to do; also for a `BITCOIND` that cannot be run,
/// which is never a reason to look elsewhere.
pub fn bitcoind() -> Result<PathBuf> {
    let private = nodes_dir().join("bin/bitcoind");
    find("BITCOIND", "bitcoind", None, Some(private), GET_BITCOIND)
}

/// bitcoin-cli, which lightningd's `bcli` plugin runs: `BITCOIN_CLI`, else beside
/// `bitcoind`, else on the PATH.
///
/// # Errors
/// [`Error::NotFound`] with what to do.
pub fn bitcoin_cli(bitcoind: &Path) -> Result<PathBuf> {
    let beside = bitcoind.with_file_name("bitcoin-cli");
    if std::env::var_os("BITCOIN_CLI").is_none() && is_executable(&beside) {
        return Ok(beside);
    }
    find(
        "BITCOIN_CLI",
        "bitcoin-cli",
        None,
        None,
        "it is part of the package that bitcoind comes from",
    )
}

/// lightningd: `LIGHTNINGD`, else on the PATH.
///
/// # Errors
/// [`Error::NotFound`] with what to do.
pub fn lightningd() -> Result<PathBuf> {
    find("LIGHTNINGD", "lightningd", None, None, GET_LIGHTNINGD)
}

/// lightning-cli, if it is found: beside `lightningd`, else on the PATH. The lab itself
/// does not need it.
pub fn lightning_cli(lightningd: &Path) -> Option<PathBuf> {
    let beside = lightningd.with_file_name("lightning-cli");
    is_executable(&beside)
        .then_some(beside)
        .or_else(|| which::which("lightning-cli").ok())
}

/// The embedded node, `cln-embedded`: `CLN_EMBEDDED`, else beside the running
/// program or in the target folder it comes from, else on the PATH, else in the
/// target folder of the workspace that this library was built from.
///
/// # Errors
/// [`Error::NotFound`] with what to do.
pub fn embedded() -> Result<PathBuf> {
    let library = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = library.parent().unwrap_or(library);
    find(
        "CLN_EMBEDDED",
        "cln-embedded",
        beside("cln-embedded"),
        Some(workspace.join("target/debug/cln-embedded")),
        &format!(
            "run `cargo build --workspace` in {}, after which it is found there; \
             or set CLN_EMBEDDED to the path of a cln-embedded",
            workspace.display()
        ),
    )
}

/// A program that this workspace builds (`lab`, `eventlog`, an example of the
/// plugin): from the environment variable `variable`, else from the target
/// folder that the running program comes from, else on the PATH.
///
/// # Errors
/// [`Error::NotFound`] with what to do.
pub fn built(variable: &str, name: &str) -> Result<PathBuf> {
    find(
        variable,
        name,
        beside(name),
        None,
        "build it with `cargo build --workspace --examples`, or name it in the variable",
    )
}

/// The program of this name in the folder of the running one, or in the target
/// folder it comes from.
fn beside(name: &str) -> Option<PathBuf> {
    let exe = std::env::current_exe().ok()?;
    exe.ancestors()
        .skip(1)
        .take(3)
        .flat_map(|folder| [folder.join(name), folder.join("examples").join(name)])
        .find(|path| is_executable(path))
}

/// The first line that `PROGRAM --version` prints.
///
/// # Errors
/// If it cannot be run, or fails; the error quotes its standard error.
pub async fn version_line(program: &Path) -> Result<String> {
    let output = tokio::process::Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .doing("run", program)?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().find(|line| !line.trim().is_empty()) {
        Some(line) if output.status.success() => Ok(line.trim().to_owned()),
        _ => Err(Error::Answer {
            from: format!("{} --version", program.display()),
            why: format!(
                "{}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            ),
        }),
    }
}

/// The operating system's own name for itself.
pub fn system() -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let pretty = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    match pretty {
        Some(name) => name.trim_matches('"').to_owned(),
        None => format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
    }
}

/// Which program a node's executable is, according to its `--version`. The answer is
/// cached in [`nodes_dir`], since running it takes as long as half a node's start.
///
/// # Errors
/// If it cannot be run, or is neither lightningd nor the embedded node.
pub async fn implementation(program: &Path) -> Result<Implementation> {
    let kept = nodes_dir().join(format!("version-{}", mark(program)?));
    if let Some(known) = std::fs::read_to_string(&kept)
        .ok()
        .and_then(|text| text.parse().ok())
    {
        return Ok(known);
    }
    let line = version_line(program).await?;
    let implementation = line.parse().map_err(|why| Error::Answer {
        from: format!("{} --version", program.display()),
        why,
    })?;
    // Without the cache the next lab only takes longer to start.
    let _ = std::fs::create_dir_all(nodes_dir());
    let _ = write_private(&kept, &line);
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

/// A name for an executable that changes with its path, size and age.
pub(crate) fn mark(program: &Path) -> Result<String> {
    let path = program.canonicalize().doing("find", program)?;
    let file = path.metadata().doing("look at", &path)?;
    let mut mark = DefaultHasher::new();
    (&path, file.len(), file.mtime(), file.mtime_nsec()).hash(&mut mark);
    Ok(format!("{:016x}", mark.finish()))
}

/// The private folder for what is downloaded or prepared for labs (a bitcoind from
/// `contrib/get-bitcoind`, a prepared chain): `LAB_NODES_DIR`, else
/// `nodes` in the target folder that the running program comes from, else
/// `target/nodes` here if there is one, else `cln-lab` in the user's cache.
pub fn nodes_dir() -> PathBuf {
    let dir = find_nodes_dir();
    // Daemons have other working directories, and get paths of files in it.
    std::path::absolute(&dir).unwrap_or(dir)
}

fn find_nodes_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("LAB_NODES_DIR").filter(|dir| !dir.is_empty()) {
        return dir.into();
    }
    // Cargo marks the folders it builds into.
    let is_target = |dir: &&Path| dir.join("CACHEDIR.TAG").is_file();
    let exe = std::env::current_exe().unwrap_or_default();
    if let Some(target) = exe.ancestors().skip(1).find(is_target) {
        return target.join("nodes");
    }
    let here = Path::new("target/nodes");
    if here.is_dir() {
        return here.to_owned();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    cache
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("cln-lab")
}

const GET_BITCOIND: &str = "run `make lab`, which downloads it from Debian's packages where there is apt \
    (contrib/get-bitcoind); or install Bitcoin Core from bitcoincore.org or Homebrew \
    (`brew install bitcoin`); or name one in BITCOIND";

const GET_LIGHTNINGD: &str = "install Core Lightning (github.com/ElementsProject/lightning, its releases or \
    its doc/getting-started/getting-started/installation.md) and put `lightningd` and `lightning-cli` on the PATH; \
    or name one in LIGHTNINGD";

/// `variable` if set, else `before` if it can be run, else `name` on the PATH,
/// else `after` if it can be run.
fn find(
    variable: &str,
    name: &str,
    before: Option<PathBuf>,
    after: Option<PathBuf>,
    remedy: &str,
) -> Result<PathBuf> {
    let not_found = |tried: String| Error::NotFound {
        what: name.to_owned(),
        tried,
        remedy: remedy.to_owned(),
    };
    if let Some(path) = std::env::var_os(variable).filter(|value| !value.is_empty()) {
        return which::which(&path).map_err(|_| {
            not_found(format!(
                "{variable}={}, which is not an executable file",
                path.display()
            ))
        });
    }
    let tried = match &after {
        Some(path) => format!("{variable} (not set), the PATH, {}", path.display()),
        None => format!("{variable} (not set), the PATH"),
    };
    let runs = |path: &PathBuf| is_executable(path);
    before
        .filter(runs)
        .or_else(|| which::which(name).ok())
        .or_else(|| after.filter(runs))
        .ok_or_else(|| not_found(tried))
}

/// True for a file, or a link to one, with any execute permission.
pub(crate) fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}
