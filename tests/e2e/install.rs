//! `make install`, the packed crates, the manual pages, and what the programs print to a person.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use lab_tests::author::workspace;
use lab_tests::sandbox::{Sandbox, said};
use lab_tests::{Kinds, Outcome, Suite, program, without};
use regex::Regex;

pub fn tests(suite: Suite) -> Suite {
    suite
        .test("programs_say_what_they_are", words)
        .test("the_committed_pages_are_these", pages)
        .unless(old_cargo())
        .test("packed_crates_are_whole", packed)
        .unless(without("make"))
        .on(&[Kinds::Embedded], "what_is_installed_works", |_| {
            installed()
        })
}

const PROGRAMS: [&str; 4] = ["lab", "cln-embedded", "eventlog", "eventlog-publish"];

async fn words() -> Outcome {
    for name in PROGRAMS {
        for (argument, says) in [
            ("--version", env!("CARGO_PKG_VERSION")),
            ("--help", "Usage: "),
        ] {
            let said = said(
                Command::new(program(name)?)
                    .arg(argument)
                    .stdin(Stdio::null()),
            )?;
            let good = said.code == Some(0) && said.out.contains(says) && said.err.is_empty();
            ensure!(good, "{name} {argument}: {said:?}");
        }
    }
    // Plugin managers run a plugin without arguments, to see that it runs at all.
    let (closed, writer) = std::io::pipe()?;
    drop(writer);
    for stdin in [Stdio::null(), closed.into()] {
        let said = said(Command::new(program("eventlog")?).stdin(stdin))?;
        let good = said.code == Some(0) && said.out.contains("eventlog-list [topic]");
        ensure!(good, "eventlog </dev/null: {said:?}");
    }
    // lightningd gives its plugins an argument when it was started with `developer`.
    let (lightningd, mut writer) = std::io::pipe()?;
    writeln!(
        writer,
        r#"{{"jsonrpc":"2.0","id":1,"method":"getmanifest","params":{{}}}}"#
    )?;
    drop(writer);
    let mut eventlog = Command::new(program("eventlog")?);
    let said = said(eventlog.arg("--developer").stdin(lightningd))?;
    ensure!(said.out.contains("\"rpcmethods\""), "{said:?}");
    Ok(())
}

/// The files below a folder, by their paths in it.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at).with_context(|| at.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(folder)?.to_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}

async fn pages() -> Outcome {
    let sandbox = Sandbox::new()?;
    let (made, committed) = (sandbox.path("man"), workspace()?.join("contrib/man"));
    let to = made.display().to_string();
    sandbox.done(&["man", &to, "eventlog.8", "eventlog-publish.1"])?;
    let names = files(&made)?;
    ensure!(names == files(&committed)?, "other pages: run `make man`");
    for name in names {
        let page = fs::read_to_string(made.join(&name))?;
        let stale = page != fs::read_to_string(committed.join(&name))?;
        ensure!(
            !stale,
            "contrib/man/{} is stale: run `make man`",
            name.display()
        );
    }
    Ok(())
}

/// Runs `make`, as a packager does, with the programs that the tests run.
fn make(sandbox: &Sandbox, goal: &str, root: &Path) -> Outcome {
    let built = sandbox.program().parent().context("it is in a folder")?;
    let mut make = sandbox.command("make");
    make.args(["CARGO=true", "PREFIX=/usr", goal])
        .arg(format!("BUILT={}", built.display()))
        .arg(format!("DESTDIR={}", root.display()))
        .current_dir(workspace()?)
        .env_remove("MAKEFLAGS");
    let said = said(&mut make)?;
    ensure!(said.code == Some(0), "make {goal}: {said:?}");
    Ok(())
}

async fn installed() -> Outcome {
    let sandbox = Sandbox::new()?;
    let root = sandbox.path("root");
    make(&sandbox, "install", &root)?;
    let (bin, share) = (root.join("usr/bin"), root.join("usr/share"));
    ensure!(files(&bin)?.len() == PROGRAMS.len(), "{:?}", files(&bin)?);
    let pages = files(&share.join("man"))?;
    ensure!(pages.contains(&"man1/lab-up.1".into()), "{pages:?}");
    ensure!(pages.contains(&"man8/eventlog.8".into()), "{pages:?}");
    let bash = share.join("bash-completion/completions/lab");
    let complete = "source \"$1\" && complete -p lab";
    let said_complete = said(
        sandbox
            .command("bash")
            .args(["-c", complete, "sh"])
            .arg(bash),
    )?;
    ensure!(said_complete.out.contains("lab"), "{said_complete:?}");
    for script in [
        "zsh/site-functions/_lab",
        "fish/vendor_completions.d/lab.fish",
    ] {
        ensure!(
            fs::read_to_string(share.join(script))?.contains("workshop"),
            "{script}"
        );
    }

    // The installed programs find each other.
    let lab = bin.join("lab");
    let doctor = said(sandbox.command(&lab).arg("doctor"))?;
    for name in ["cln-embedded", "eventlog"] {
        let path = bin.join(name).display().to_string();
        ensure!(doctor.out.contains(&path), "{path}: {doctor:?}");
    }
    let ask = "\"$0\" cli l1 plugin start \"$1\" && \"$0\" cli l1 getinfo";
    let mut exec = sandbox.command(&lab);
    exec.env("LAB_NODE", "embedded")
        .args(["exec", "--", "sh", "-c", ask])
        .args([&lab, &bin.join("eventlog")]);
    let said = said(&mut exec)?;
    let good = said.code == Some(0) && said.out.contains("embedded-");
    ensure!(good, "{said:?}");

    make(&sandbox, "uninstall", &root)?;
    ensure!(files(&root)?.is_empty(), "{:?}", files(&root)?);
    Ok(())
}

/// Why crates that need each other cannot be packed; `None` from cargo 1.90 on.
fn old_cargo() -> Option<String> {
    let version = said(Command::new("cargo").arg("--version")).ok()?.out;
    let minor = version.strip_prefix("cargo 1.")?.split('.').next()?;
    let minor: u32 = minor.parse().ok()?;
    (minor < 90).then(|| format!("cargo 1.{minor} does not pack a workspace"))
}

/// What a packed crate includes is in it, so that it builds without this repository.
async fn packed() -> Outcome {
    let sandbox = Sandbox::new()?;
    let folder = sandbox.path("packed");
    let mut script = Command::new(workspace()?.join("contrib/packed"));
    let made = said(script.arg(&folder).env("CARGO_NET_OFFLINE", "true"))?;
    ensure!(made.code == Some(0), "{made:?}");
    let manifest = folder.join("Cargo.toml");
    let mut metadata = Command::new("cargo");
    let form = ["--offline", "--no-deps", "--format-version=1"];
    metadata.arg("metadata").args(form).arg("--manifest-path");
    let metadata = said(metadata.arg(manifest))?;
    ensure!(metadata.code == Some(0), "{metadata:?}");
    for name in ["cln-lab-command", "cln-embedded", "cln-eventlog-publish"] {
        ensure!(
            metadata.out.contains(&format!("\"name\":\"{name}\"")),
            "{metadata:?}"
        );
    }

    // The path that a macro names, or the folder in which it puts one together.
    let includes = Regex::new(r#"include_(?:str|bytes)!\(\s*(concat!\(\s*)?"([^"]*)""#)?;
    let crates = folder.join("crates").canonicalize()?;
    let mut seen = 0;
    for file in files(&crates)? {
        if file.extension().is_none_or(|ending| ending != "rs") {
            continue;
        }
        let package = crates.join(file.iter().next().context("a package")?);
        let path = crates.join(&file);
        for include in includes.captures_iter(&fs::read_to_string(&path)?) {
            let included = path.with_file_name("").join(&include[2]);
            let inside = included
                .canonicalize()
                .is_ok_and(|path| path.starts_with(&package));
            ensure!(inside, "{}: {}", file.display(), &include[0]);
            seen += 1;
        }
    }
    ensure!(seen > 10, "{seen} includes: the search finds too few");
    Ok(())
}
