//! Executable files that the lab writes.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::Result;
use crate::error::IoContext;

/// Writes an executable file that nobody else may read, in one step: lightningd
/// never sees half of it, and a running script is not changed under its
/// interpreter.
pub fn write_executable(path: &Path, text: &str) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = Path::new(&name);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o700);
    let mut file = options.open(new).doing("create", new)?;
    file.write_all(text.as_bytes()).doing("write", new)?;
    drop(file);
    std::fs::rename(new, path).doing("write", path)
}
