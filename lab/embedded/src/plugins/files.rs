//! Which plugins to run: those the configuration names, and those in a folder.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::config::PluginSetting;
use crate::node::Node;
use crate::options::os_error;

/// The files to run, each with whether it is important: in the order of the
/// configuration, then those in the default folder.
pub fn configured(node: &Node) -> Result<Vec<(PathBuf, bool)>, String> {
    let mut files: Vec<(PathBuf, bool)> = Vec::new();
    let add = |files: &mut Vec<(PathBuf, bool)>, path: PathBuf, important| {
        if node.plugins.is_disabled(&path) {
            node.log.info(
                "plugin-manager",
                format!("{}: disabled via disable-plugin", path.display()),
            );
        } else if let Some(there) = files.iter_mut().find(|(p, _)| *p == path) {
            there.1 |= important;
        } else {
            files.push((path, important));
        }
    };
    for setting in &node.config.plugins {
        match setting {
            PluginSetting::Plugin(path, important) => add(&mut files, path.clone(), *important),
            PluginSetting::Dir(dir) => {
                for path in executables(dir).map_err(|e| {
                    format!(
                        "--plugin-dir={0}: Failed to open plugin-dir {0}: {1}",
                        dir.display(),
                        os_error(&e)
                    )
                })? {
                    add(&mut files, path, false);
                }
            }
            PluginSetting::Clear => {
                node.log
                    .info("plugin-manager", "clear-plugins removing all plugins");
                files.clear();
            }
            PluginSetting::Disable(name) => {
                node.plugins.disable(name.clone());
                files.retain(|(path, _)| {
                    let disabled = node.plugins.is_disabled(path);
                    if disabled {
                        node.log.info(
                            "plugin-manager",
                            format!("{}: disabled via disable-plugin", path.display()),
                        );
                    }
                    !disabled
                });
            }
        }
    }
    for path in default_dir(node) {
        add(&mut files, path, false);
    }
    Ok(files)
}

/// The plugins in `<lightning-dir>/plugins` and its subfolders.
pub fn default_dir(node: &Node) -> Vec<PathBuf> {
    let dir = &node.plugins.default_dir;
    let mut files = executables(dir).unwrap_or_default();
    let mut subdirs: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    subdirs.sort();
    for sub in subdirs {
        files.extend(executables(&sub).unwrap_or_default());
    }
    files
}

/// The files in a folder that can be plugins: executable, with a sane name;
/// canonical, sorted.
pub fn executables(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let sane = path
            .file_name()
            .and_then(|n| n.to_str())
            .is_some_and(|name| {
                name != "README.md"
                    && name
                        .chars()
                        .all(|c| !c.is_ascii_punctuation() || "-_.".contains(c))
            });
        let runs =
            fs::metadata(&path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
        if sane
            && runs
            && let Ok(path) = path.canonicalize()
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
