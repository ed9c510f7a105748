//! README.md is true: "Test your own plugin" works as written, in a folder outside
//! the workspace, and the transcript is what `lab workshop` prints.

use anyhow::{Context, bail, ensure};
use lab_tests::author::{Author, workspace};
use lab_tests::sandbox::{Sandbox, said};
use lab_tests::{Kinds, Outcome, Suite, older_than, without};

const README: &str = include_str!("../../README.md");

pub fn tests(suite: Suite) -> Suite {
    suite
        .unless(without("cargo"))
        .scenario_alone("test_your_own_plugin", test_your_own_plugin)
        .unless(None)
        .scenario_alone("do_it_yourself", do_it_yourself)
        .case("transcript", Kinds::Lightningd, older_than((26, 4)), || {
            transcript()
        })
}

/// The commands of the section and the Rust between them, in an empty project. Without
/// lightningd on the PATH it runs on the embedded node, without any setting.
async fn test_your_own_plugin(kinds: Kinds) -> Outcome {
    let section = section("Test your own plugin")?;
    let [create, source, run] = &blocks(section)[..] else {
        bail!("the section has three blocks of code: {section}");
    };
    ensure!(
        section.contains("`tests/plugin.rs`:\n\n```rust"),
        "{section}"
    );
    let folder = tempfile::Builder::new().prefix("t").tempdir()?;
    let author = Author::new(folder.path(), kinds)?;
    author.run(folder.path(), create)?;
    let project = folder.path().join("mine");
    std::fs::write(project.join("tests/plugin.rs"), source)?;
    // The versions that are here already, so that none has to be downloaded.
    std::fs::copy(workspace()?.join("Cargo.lock"), project.join("Cargo.lock"))?;
    let out = author.run(&project, run)?;
    ensure!(out.contains("test it_records_a_connection ... ok"), "{out}");

    let log = author.log_of_l1()?;
    let embedded = log.contains("This is the embedded node");
    ensure!(embedded == (kinds == Kinds::Embedded), "{log}");
    Ok(())
}

/// The commands of the section, in bash, beside a `contrib` and a `target`.
async fn do_it_yourself(kinds: Kinds) -> Outcome {
    let sandbox = Sandbox::new()?;
    let folder = sandbox.path("checkout");
    std::fs::create_dir_all(folder.join("target"))?;
    std::os::unix::fs::symlink(workspace()?.join("contrib"), folder.join("contrib"))?;
    let [commands] = &blocks(section("The workshop")?)[..] else {
        bail!("the section has one block of code");
    };
    let mut bash = sandbox.command("bash");
    // A notification comes a moment later than the answer: a person types no faster.
    let heard = |text: &str| {
        let grep =
            format!("grep -qs '{text}' $L1_DIR/regtest/myplugin.txt target/teed/myplugin.wire");
        format!("for n in $(seq 200); do {grep} && break; sleep 0.05; done\n")
    };
    let commands = commands
        .replace("cat $L1_DIR", &format!("{}cat $L1_DIR", heard("^connect ")))
        .replace("lab wire", &format!("{}lab wire", heard("^disconnect ")));
    bash.args(["--norc", "--noprofile", "-e", "-c", &commands])
        .current_dir(&folder)
        .env("LAB", sandbox.program())
        .env("LAB_NODE", kinds.name());
    let said = said(&mut bash)?;
    ensure!(said.code == Some(0) && said.err.is_empty(), "{said:?}");
    for expected in [
        "\nconnect notification: {",
        "\"name\": \"",
        "\nlightningd: {",
        "\"method\":\"disconnect\"",
        "lab `default` is down\n",
    ] {
        ensure!(said.out.contains(expected), "{expected}: {said:?}");
    }
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);

    // With --keep the lab is still there, for the words that it prints.
    let kept = sandbox.done(&["workshop", "--keep", "--node", kinds.name()])?;
    let again = sandbox.lab(&["workshop", "--keep", "--node", kinds.name()])?;
    ensure!(
        again.code == Some(1) && again.err.contains("is up already"),
        "{again:?}"
    );
    let (_, words) = kept.split_once("in your shell:\n").context("no words")?;
    let words = words.replace(
        "stop_ln",
        "l1-cli plugin start $(lab tee myplugin)\nconnect 1 2\nlab wire myplugin\nstop_ln",
    );
    let mut bash = sandbox.command("bash");
    bash.args(["--norc", "--noprofile", "-e", "-c", &words])
        .env("LAB", sandbox.program());
    let said = lab_tests::sandbox::said(&mut bash)?;
    ensure!(
        said.code == Some(0) && said.out.contains("\"method\":\"getmanifest\""),
        "{words}: {said:?}"
    );
    ensure!(sandbox.left()?.is_empty(), "{:?}", sandbox.left()?);
    Ok(())
}

/// Each part between lines of `…` is printed as it stands, in this order; but for
/// numbers, keys and times, which are new each time.
async fn transcript() -> Outcome {
    let shown = blocks(section("What it looks like")?).concat();
    let sandbox = Sandbox::new()?;
    let printed = sandbox.done(&["workshop", "--node", "lightningd"])?;
    let printed = plain(&printed)?;
    let mut rest = printed.as_str();
    for part in plain(&shown)?.split("\n  …\n") {
        let at = rest.find(part.trim_matches('\n'));
        let at =
            at.with_context(|| format!("`lab workshop` does not print\n{part}\nin\n{rest}"))?;
        rest = &rest[at + part.trim_matches('\n').len()..];
    }
    Ok(())
}

/// A `0` for each word that has a digit in it.
fn plain(text: &str) -> anyhow::Result<String> {
    let word = regex::Regex::new("[[:alnum:]_.:+-]*[0-9][[:alnum:]_.:+-]*")?;
    Ok(word.replace_all(text, "0").into_owned())
}

/// The text below a heading of the README, up to the next.
fn section(heading: &str) -> anyhow::Result<&'static str> {
    let (_, below) = README
        .split_once(&format!("\n## {heading}\n"))
        .with_context(|| format!("README.md has no section `{heading}`"))?;
    Ok(below.split_once("\n## ").map_or(below, |(text, _)| text))
}

/// The blocks of code in a text.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block: Option<String> = None;
    for line in text.lines() {
        match &mut block {
            None if line.starts_with("```") => block = Some(String::new()),
            None => {}
            Some(_) if line == "```" => blocks.extend(block.take()),
            Some(lines) => lines.extend([line, "\n"]),
        }
    }
    blocks
}
