//! Finds the executables that a lab runs, and says what to do if one is missing.

mod folders;
mod version;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The variables that name programs.
pub(crate) const PROGRAMS: [&str; 5] = [
    "LIGHTNINGD",
    "CLN_EMBEDDED",
    "BITCOIND",
    "BITCOIN_CLI",
    "NATS_SERVER",
];

pub(crate) use folders::cache_dir;
pub use folders::nodes_dir;
use folders::unsafe_because;
pub(crate) use version::mark;
pub use version::{implementation, lightningd_version, version_line};

/// bitcoind: `BITCOIND`, else on the PATH, else in [`nodes_dir`]`/bin`.
///
/// # Errors
/// [`Error::NotFound`] with what to do; also for a `BITCOIND` that cannot be run,
/// which is never a reason to look elsewhere.
pub fn bitcoind() -> Result<PathBuf> {
    let private = nodes_dir().map(|dir| dir.join("bin/bitcoind"));
    find("BITCOIND", "bitcoind", None, private, GET_BITCOIND)
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

/// nats-server: `NATS_SERVER`, else on the PATH, else in [`nodes_dir`]`/nats/bin`.
///
/// # Errors
/// [`Error::NotFound`] with what to do.
pub fn nats_server() -> Result<PathBuf> {
    let private = nodes_dir().map(|dir| dir.join("nats/bin/nats-server"));
    find("NATS_SERVER", "nats-server", None, private, GET_NATS)
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
    let workspace = workspace();
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

/// The command `lab`: beside the running program or in the target folder it comes from,
/// else in the target folder of the workspace that this library was built from. Not on
/// the PATH, where it might be of another version; and not without the embedded node
/// beside it, since others may have a program of this name.
pub(crate) fn lab() -> Option<PathBuf> {
    let built = || Some(workspace().join("target/debug/lab")).filter(|lab| is_ours(lab));
    let found = beside("lab").or_else(built)?;
    is_executable(&found.with_file_name("cln-embedded")).then_some(found)
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
        .find(|path| is_ours(path))
}

/// True if it can be run, and nobody else could have put it there.
fn is_ours(path: &Path) -> bool {
    is_executable(path) && unsafe_because(path).is_none()
}

/// Where this library was built.
fn workspace() -> &'static Path {
    let library = Path::new(env!("CARGO_MANIFEST_DIR"));
    library.parent().unwrap_or(library)
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

const GET_BITCOIND: &str = "run `make lab`, which downloads it from Debian's packages where there is apt \
    (contrib/get-bitcoind); or install Bitcoin Core from bitcoincore.org or Homebrew \
    (`brew install bitcoin`); or name one in BITCOIND";

const GET_NATS: &str = "run `contrib/get-bitcoind --nats`, which downloads it from Debian's packages where there is \
    apt; or install it (`brew install nats-server`); or name one in NATS_SERVER";

const GET_LIGHTNINGD: &str = "install Core Lightning (github.com/ElementsProject/lightning, its releases or \
    its doc/getting-started/getting-started/installation.md) and put `lightningd` and `lightning-cli` on the PATH; \
    or name one in LIGHTNINGD";

/// `variable` if set, else `before` if it can be run, else `name` on the PATH,
/// else `after` if it can be run and nobody else could have put it there.
fn find(
    variable: &str,
    name: &str,
    before: Option<PathBuf>,
    after: Option<PathBuf>,
    remedy: &str,
) -> Result<PathBuf> {
    if let Some(path) = named_by(variable) {
        return which::which(&path).map_err(|_| Error::NotFound {
            what: name.to_owned(),
            tried: format!(
                "{variable}={}, which is not an executable file",
                path.display()
            ),
            remedy: format!("correct {variable}, or unset it to have {name} looked for"),
        });
    }
    if let Some(path) = before.or_else(|| which::which(name).ok()) {
        return Ok(path);
    }
    let mut tried = format!("{variable} (not set), the PATH");
    if let Some(path) = after {
        let refused = is_executable(&path).then(|| unsafe_because(&path));
        match refused {
            Some(None) => return Ok(path),
            Some(Some(why)) => tried += &format!(", {} (not run: {why})", path.display()),
            None => tried += &format!(", {}", path.display()),
        }
    }
    Err(Error::NotFound {
        what: name.to_owned(),
        tried,
        remedy: remedy.to_owned(),
    })
}

fn named_by(variable: &str) -> Option<PathBuf> {
    let value = std::env::var_os(variable).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}

/// The error of running this program, with the variable that names it.
fn not_run(program: &Path, error: Error) -> Error {
    let names = |variable: &&&str| {
        named_by(variable).is_some_and(|path| which::which(path).is_ok_and(|path| path == program))
    };
    match (error, PROGRAMS.iter().find(names)) {
        (Error::Io { doing, error }, Some(variable)) => Error::Io {
            doing: format!("{doing}, which {variable} names"),
            error,
        },
        (error, _) => error,
    }
}

/// True for a file, or a link to one, with any execute permission.
pub(crate) fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}
