//! Folders that are found without being named, and whom else one trusts by using them.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access, getuid};

/// The private folder for what is downloaded or prepared for labs (a bitcoind from
/// `contrib/get-bitcoind`, a prepared chain): `LAB_NODES_DIR`, else `target/nodes` in
/// the workspace that this library was built from if it is there, else `nodes` in the
/// target folder that the running program comes from, else `cln-lab` in the user's
/// cache; `None` for a user who has no home.
pub fn nodes_dir() -> Option<PathBuf> {
    let dir = named()
        .or_else(of_workspace)
        .or_else(of_target)
        .or_else(of_user)?;
    // Daemons have other working directories, and get paths of files in it.
    Some(std::path::absolute(&dir).unwrap_or(dir))
}

/// Where this user can keep what is prepared for labs: [`nodes_dir`], or the user's
/// cache where that one is another user's or read-only; `None` if neither can be
/// written.
pub(crate) fn cache_dir() -> Option<PathBuf> {
    let writable = |dir: &PathBuf| {
        let flags = AccessFlags::W_OK | AccessFlags::X_OK;
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(dir).is_ok() && access(dir, flags).is_ok()
    };
    [nodes_dir(), of_user()]
        .into_iter()
        .flatten()
        .find(writable)
}

fn named() -> Option<PathBuf> {
    let dir = std::env::var_os("LAB_NODES_DIR").filter(|dir| !dir.is_empty());
    dir.map(PathBuf::from)
}

fn of_workspace() -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let dir = workspace.join("target/nodes");
    (dir.is_dir() && unsafe_because(&dir).is_none()).then_some(dir)
}

fn of_target() -> Option<PathBuf> {
    // Cargo marks the folders it builds into.
    let is_target =
        |dir: &&Path| dir.join("CACHEDIR.TAG").is_file() && unsafe_because(dir).is_none();
    let exe = std::env::current_exe().ok()?;
    Some(exe.ancestors().skip(1).find(is_target)?.join("nodes"))
}

fn of_user() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    cache
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .filter(|cache| cache.is_absolute())
        .map(|cache| cache.join("cln-lab"))
}

/// Why somebody else could have put this file or folder there, or could change it;
/// `None` if only this user, root, and the owner of the running program could, or if
/// it is in a folder that the user names.
pub(crate) fn unsafe_because(path: &Path) -> Option<String> {
    if named().is_some_and(|dir| path.starts_with(std::path::absolute(&dir).unwrap_or(dir))) {
        return None;
    }
    let path = match path.canonicalize() {
        Ok(path) => path,
        Err(error) => return Some(error.to_string()),
    };
    let program = std::env::current_exe().and_then(|exe| exe.metadata());
    let mut owners = vec![0, getuid().as_raw()];
    owners.extend(program.map(|program| program.uid()));
    unsafe_but_for(&path, &owners)
}

fn unsafe_but_for(path: &Path, owners: &[u32]) -> Option<String> {
    path.ancestors().find_map(|at| {
        let file = match at.metadata() {
            Ok(file) => file,
            Err(error) => return Some(format!("{}: {error}", at.display())),
        };
        if !owners.contains(&file.uid()) {
            return Some(format!("{} belongs to another user", at.display()));
        }
        // In a sticky folder, such as /tmp, nobody can replace what is another's. A
        // group that may write is the owner's own where umask is 002.
        let sticky = file.mode() & 0o1000 != 0 && at != path;
        let open = file.mode() & 0o002 != 0 && !sticky;
        open.then(|| format!("every user can write to {}", at.display()))
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_others_can_change_is_not_safe() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("bin/program");
        std::fs::create_dir(dir.path().join("bin")).expect("a folder");
        std::fs::write(&file, "").expect("a file");
        let me = getuid().as_raw();
        let why = |owners: &[u32]| unsafe_but_for(&file, owners);
        assert_eq!(why(&[0, me]), None, "also below the sticky /tmp");
        assert!(why(&[me + 1]).is_some_and(|why| why.contains("another user")));
        for changed in [dir.path().to_owned(), dir.path().join("bin"), file.clone()] {
            let before = changed.metadata().expect("there").permissions();
            set_permissions(&changed, Permissions::from_mode(0o777)).expect("its mode");
            let text = why(&[0, me]).expect("writable");
            assert_eq!(
                text,
                format!("every user can write to {}", changed.display())
            );
            set_permissions(&changed, before).expect("its mode");
        }
    }
}
