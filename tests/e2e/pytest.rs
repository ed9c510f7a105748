//! The Python package `pytest-cln-lab`: its own tests, as an author's pytest runs them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use lab_tests::{Kinds, Outcome, Suite, program, python, without};

/// What they need, and the template of `lab new` has already.
const PACKAGES: [&str; 2] = ["pyln-client==26.6.6", "pytest"];

pub fn tests(suite: Suite) -> Suite {
    let no_python = without("python3").or_else(|| {
        let why = format!("{:#}", python::with(&PACKAGES).err()?);
        Some(why.lines().next().unwrap_or_default().to_owned())
    });
    suite
        .unless(no_python)
        .scenario_alone("the_fixture_lab", |kinds| async move {
            pytest(kinds, "test_lab.py")
        })
        .scenario_alone("what_is_written_for_pyln_testing", |kinds| async move {
            pytest(kinds, "test_pyln.py")
        })
        // What pytest itself does is the same on any node.
        .on(&[Kinds::Embedded], "whole_runs", |kinds| async move {
            pytest(kinds, "test_session.py")
        })
        .unless(None)
        .test("its_version_is_the_labs", version)
}

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/pytest-cln-lab")
}

/// Runs a file of its tests, on nodes of this kind.
fn pytest(kinds: Kinds, file: &str) -> Outcome {
    let python = python::with(&PACKAGES)?;
    // Plugins in Python find pyln-client, too.
    let bin = python.parent().context("no folder")?.to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([bin].into_iter().chain(std::env::split_paths(&path)))?;
    let output = Command::new(python)
        .args([
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "cln_lab",
        ])
        .arg(file)
        .current_dir(package().join("tests"))
        .stdin(Stdio::null())
        .env("PATH", path)
        .env("PYTHONPATH", package().join("src").canonicalize()?)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("LAB", program("lab")?)
        .env("LAB_NODE", kinds.name())
        .env_remove("LAB_KEEP")
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{text}\n{errors}");
    ensure!(text.contains(" passed"), "{text}");
    Ok(())
}

async fn version() -> Outcome {
    let text = std::fs::read_to_string(package().join("src/cln_lab/_version.py"))?;
    let line = format!("__version__ = \"{}\"", env!("CARGO_PKG_VERSION"));
    ensure!(text.contains(&line), "{text}");
    Ok(())
}
