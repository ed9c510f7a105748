//! What must not go wrong in a lab, whatever a test asserts.

use crate::error::IoContext;
use crate::node::Node;
use crate::{Error, Result};

/// Checks what stopped nodes left behind.
///
/// # Errors
/// [`Error::Gate`] with everything that was found and not allowed.
pub(crate) fn check<'a>(nodes: impl Iterator<Item = &'a Node>) -> Result<()> {
    let mut found = Vec::new();
    for node in nodes {
        for trouble in node.troubles()? {
            found.push(format!("{}: {trouble}", node.name()));
        }
        if !node.excused().allowed().failure {
            for file in crash_logs(node)? {
                found.push(format!("{}: a crash log: {file}", node.name()));
            }
        }
    }
    if found.is_empty() {
        Ok(())
    } else {
        Err(Error::Gate(found))
    }
}

/// The files that lightningd writes when it crashes: `crash.log.DATE`, in its
/// network directory.
fn crash_logs(node: &Node) -> Result<Vec<String>> {
    let dir = node.network_dir();
    let mut logs = Vec::new();
    if !dir.exists() {
        // It was never up.
        return Ok(logs);
    }
    for entry in std::fs::read_dir(&dir).doing("read folder", &dir)? {
        let path = entry.doing("read folder", &dir)?.path();
        let name = path.file_name().unwrap_or_default();
        if name.to_string_lossy().starts_with("crash.log") {
            logs.push(path.display().to_string());
        }
    }
    Ok(logs)
}
