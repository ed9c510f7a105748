//! `lab new`: what it makes passes its own tests, in a folder outside the workspace.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use lab_tests::author::{Author, workspace};
use lab_tests::sandbox::Sandbox;
use lab_tests::{Kinds, Outcome, Suite, program, python, without};

pub fn tests(suite: Suite) -> Suite {
    let no_python = without("python3").or_else(|| {
        let why = format!("{:#}", pytest().err()?);
        Some(why.lines().next().unwrap_or_default().to_owned())
    });
    let make = without("make");
    suite
        .test("nothing_is_overwritten", nothing_is_overwritten)
        .unless(make.clone().or(without("cargo")))
        .scenario_alone("rust", rust)
        .unless(make.clone().or(no_python))
        .scenario_alone("python", python)
        .unless(make.or(without("jq")))
        .scenario_alone("sh", sh)
        .unless(without("shellcheck"))
        .test("shellcheck_finds_nothing", shellcheck)
}

/// A Python with what the template wants.
fn pytest() -> anyhow::Result<PathBuf> {
    python::with(&["pyln-client==26.6.6", "pytest"])
}

async fn rust(kinds: Kinds) -> Outcome {
    let lock = workspace()?.join("Cargo.lock");
    let tests = passes("rust", kinds, |plugin| {
        // The versions that are here already, so that none has to be downloaded.
        for package in [plugin, &plugin.join("tests")] {
            std::fs::copy(&lock, package.join("Cargo.lock"))?;
            symlink(workspace()?.join("target/author"), package.join("target"))?;
        }
        Ok(())
    })?;
    ensure!(tests.contains("2 passed"), "{tests}");
    Ok(())
}

async fn python(kinds: Kinds) -> Outcome {
    let venv = pytest()?;
    let tests = passes("python", kinds, |plugin| {
        let venv = venv.ancestors().nth(2).context("no environment")?;
        symlink(venv, plugin.join(".venv"))?;
        std::fs::File::create(plugin.join(".venv/installed"))?;
        Ok(())
    })?;
    ensure!(tests.contains("1 passed"), "{tests}");
    Ok(())
}

async fn sh(kinds: Kinds) -> Outcome {
    let tests = passes("sh", kinds, |_| Ok(()))?;
    ensure!(tests.contains("it greets and counts"), "{tests}");
    Ok(())
}

/// Makes a plugin, and what `prepare` makes of what would be downloaded or built; what
/// `make test` prints there; `make check` finds no error.
fn passes(
    lang: &str,
    kinds: Kinds,
    prepare: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<String> {
    let folder = tempfile::Builder::new().prefix("t").tempdir()?;
    let author = Author::new(folder.path(), kinds)?;
    let lab = program("lab")?;
    let lab = lab.display();
    author.run(folder.path(), &format!("{lab} new greeter --lang {lang}"))?;
    prepare(&folder.path().join("greeter"))?;
    let make = |target: &str| {
        let commands =
            format!("unset CARGO_TARGET_DIR; cd greeter && make {target} LAB={lab} 2>&1");
        author.run(folder.path(), &commands)
    };
    let out = make("test")?;
    // It has no node: once is enough.
    if kinds == Kinds::Embedded {
        let checked = make("check RELEASES=v26.04..")?;
        ensure!(checked.contains(": 0 errors"), "{checked}");
    }
    let log = author.log_of_l1()?;
    ensure!(log.contains("welcome 0"), "{log}");
    let embedded = log.contains("This is the embedded node");
    ensure!(embedded == (kinds == Kinds::Embedded), "{log}");
    Ok(out)
}

async fn nothing_is_overwritten() -> Outcome {
    let sandbox = Sandbox::new()?;
    let home = sandbox.path("home");
    let dir = home.display().to_string();
    sandbox.done(&["new", "mine", "--lang", "sh", "--dir", &dir])?;
    let made = std::fs::read_to_string(home.join("mine/mine.sh"))?;
    ensure!(
        made.contains("mine-greeting") && !made.contains("PLUGIN_NAME"),
        "{made}"
    );
    let again = sandbox.lab(&["new", "mine", "--dir", &dir])?;
    ensure!(
        again.code == Some(2) && again.err.contains("is there already"),
        "{again:?}"
    );
    for name in ["", "-x", "x-", "X", "../x", "x y", "ä"] {
        let refused = sandbox.lab(&["new", "--dir", &dir, "--", name])?;
        ensure!(refused.code == Some(2), "{name}: {refused:?}");
    }
    for name in ["json", "import", "test"] {
        let refused = sandbox.lab(&["new", name, "--dir", &dir])?;
        ensure!(
            refused.code == Some(2) && refused.err.contains(&format!("my-{name}")),
            "{refused:?}"
        );
    }
    let elsewhere = sandbox.lab(&["new", "mine", "--dir", "/nowhere"])?;
    ensure!(
        elsewhere.code == Some(1) && elsewhere.err.contains("/nowhere"),
        "{elsewhere:?}"
    );
    let entries: Vec<_> = std::fs::read_dir(&home)?.collect::<Result<_, _>>()?;
    ensure!(entries.len() == 1, "{entries:?}");
    Ok(())
}

async fn shellcheck() -> Outcome {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lab/command/templates/sh");
    let checked = std::process::Command::new("shellcheck")
        .args([folder.join("PLUGIN_NAME.sh"), folder.join("tests/test.sh")])
        .output()?;
    ensure!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stdout)
    );
    Ok(())
}
