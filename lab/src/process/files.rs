//! Files that the lab writes, for its user alone, and the ends of those it reads.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::Result;
use crate::error::IoContext;

/// Writes an executable file that nobody else may read.
///
/// It replaces the one at `path` in one step: lightningd never sees half of it, and
/// a running script is not changed under its interpreter.
///
/// # Errors
/// If its folder does not exist or cannot be written; what was at `path` stays.
pub fn write_executable(path: &Path, text: &str) -> Result<()> {
    replace(path, text, 0o700)
}

/// Writes a file that only its owner may read, in one step.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    replace(path, text, 0o600)
}

fn replace(path: &Path, text: &str, mode: u32) -> Result<()> {
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(path.parent().unwrap_or(path))
        .doing("create", path)?;
    file.write_all(text.as_bytes()).doing("write", path)?;
    // Closed first: a program that is open for writing cannot be run.
    let temporary = file.into_temp_path();
    temporary
        .persist(path)
        .map_err(|e| e.error)
        .doing("write", path)
}

/// True for a name that can be a file's and needs no quotes in a shell: letters,
/// digits, `-` and `_`.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !name.is_empty() && name.chars().all(plain)
}

/// The last `count` lines of a file; none if it cannot be read.
pub(crate) fn last_lines(path: &Path, count: usize) -> Vec<String> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(count);
    lines[from..].iter().map(ToString::to_string).collect()
}
