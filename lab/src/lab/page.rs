//! The page of a lab that fails in a test.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::report::test_of_thread;
use crate::trace::{FILE, Level, Page, Trace};

/// Writes `target/lab/TEST/trace.html` of the lab in this folder, with the report of its
/// failure; where it is. `None` if it has no trace, or this is no test that cargo runs.
pub(super) fn write(dir: &Path, report: &str) -> Option<PathBuf> {
    /// Several labs of one test may fail.
    static LABS: AtomicUsize = AtomicUsize::new(1);
    if !dir.join(FILE).exists() {
        return None;
    }
    let test = test_name()?;
    let folder = folder(&std::env::current_exe().ok()?, &test)?;
    let name = match LABS.fetch_add(1, Ordering::Relaxed) {
        1 => "trace.html".to_owned(),
        n => format!("trace-{n}.html"),
    };
    let path = folder.join(name);
    // A failure to write it must not hide that of the test.
    let written = std::fs::create_dir_all(&folder)
        .map_err(|error| error.to_string())
        .and_then(|()| Trace::read(dir, Level::Unusual).map_err(|error| error.to_string()))
        .and_then(|trace| {
            let page = Page::new(&test, &trace).failure(report);
            page.write(&path).map_err(|error| error.to_string())
        });
    match written {
        Ok(()) => Some(path),
        Err(error) => {
            tracing::warn!(error, "no page of the trace");
            None
        }
    }
}

/// The name of the test that runs, if cargo or nextest runs one.
fn test_name() -> Option<String> {
    std::env::var_os("CARGO_MANIFEST_DIR")?;
    // nextest runs one test a process, by its name.
    let of_process = || {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let exact = words.iter().any(|word| word == "--exact");
        words
            .into_iter()
            .find(|word| exact && !word.starts_with('-'))
    };
    test_of_thread().or_else(of_process)
}

/// Its folder, for a test's executable: `target/debug/deps/NAME-HASH`.
fn folder(exe: &Path, test: &str) -> Option<PathBuf> {
    let deps = exe.parent().filter(|folder| folder.ends_with("deps"))?;
    let target = deps.parent()?.parent()?;
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "-_".contains(c) {
            c
        } else {
            '.'
        }
    };
    let name: String = test.replace("::", ".").chars().map(plain).collect();
    // `..` is none either.
    (!name.trim_matches('.').is_empty()).then(|| target.join("lab").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_has_a_folder_of_its_name() {
        let of = |exe: &str, test: &str| folder(Path::new(exe), test);
        assert_eq!(
            of("/w/target/debug/deps/e2e-0a", "gates::broken::embedded"),
            Some("/w/target/lab/gates.broken.embedded".into())
        );
        assert_eq!(
            of("/w/target/debug/deps/e2e-0a", "../a/b c"),
            Some("/w/target/lab/...a.b.c".into())
        );
        assert_eq!(of("/w/target/debug/deps/e2e-0a", ".."), None);
        assert_eq!(of("/w/target/debug/lab", "x"), None);
    }
}
