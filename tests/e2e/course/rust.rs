//! Mistakes in Rust.

use std::hash::{Hash, Hasher};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use cln_lab_command::course::Language;
use lab_tests::Outcome;
use lab_tests::author::workspace;

use super::mistakes::{Mistake, m};

/// A folder for a package, empty. It is always the same: cargo keeps what it builds for
/// each folder.
pub fn folder(name: &str) -> anyhow::Result<PathBuf> {
    let folder = workspace()?.join("target/author").join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir(&folder)?;
    Ok(folder)
}

/// Has the package in this folder built as quickly as can be: with the versions that are
/// here already, so that none is downloaded, and where their builds are kept.
pub fn prepare(package: &Path) -> anyhow::Result<()> {
    std::fs::copy(workspace()?.join("Cargo.lock"), package.join("Cargo.lock"))?;
    symlink(workspace()?.join("target/author"), package.join("target"))?;
    std::fs::create_dir(package.join(".cargo"))?;
    let offline = "[net]\noffline = true\n";
    Ok(std::fs::write(package.join(".cargo/config.toml"), offline)?)
}

/// Programs of many texts, built by one cargo, which keeps those it has.
#[derive(Debug)]
pub struct Programs {
    dir: PathBuf,
}

impl Programs {
    /// Builds them; one that cannot be built is left out.
    pub fn build(texts: &[String]) -> anyhow::Result<Programs> {
        let rust = Language::named("rust").expect("a language");
        let dir = workspace()?.join("target/author");
        let package = dir.join("programs");
        if !package.exists() {
            std::fs::create_dir_all(package.join("src/bin"))?;
            for (name, text) in rust.files {
                std::fs::write(package.join(name), text)?;
            }
            prepare(&package)?;
        }
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--quiet", "--target-dir=target", "--keep-going"]);
        for text in texts {
            let name = name_of(text);
            super::write(&package.join(format!("src/bin/{name}.rs")), text)?;
            cargo.args(["--bin", &name]);
        }
        cargo.current_dir(&package).env("CARGO_INCREMENTAL", "0");
        let built = cargo.output()?;
        let said = String::from_utf8_lossy(&built.stderr);
        // What it cannot build is for who needs it to say.
        ensure!(!said.contains("error: failed"), "{said}");
        Ok(Programs {
            dir: dir.join("debug"),
        })
    }

    /// Puts the program of this text there, unless there is none.
    pub fn put(&self, text: &str, there: &Path) -> anyhow::Result<bool> {
        let program = self.dir.join(name_of(text));
        if !program.exists() {
            return Ok(false);
        }
        // In one step: another may run what is there.
        let new = there.with_extension("new");
        // It stays where both were the same file.
        let _ = std::fs::remove_file(&new);
        std::fs::hard_link(program, &new)?;
        std::fs::rename(new, there)?;
        Ok(true)
    }
}

fn name_of(text: &str) -> String {
    let mut hasher = std::hash::DefaultHasher::new();
    text.hash(&mut hasher);
    format!("p{:016x}", hasher.finish())
}

/// `make lint` does, through a module for each.
pub async fn clippy() -> Outcome {
    let rust = Language::named("rust").expect("a language");
    let modules = include_str!("solutions.rs");
    for (step, _) in rust.solutions {
        ensure!(modules.contains(&format!("mod {step};")), "{step}");
    }
    Ok(())
}

pub const MISTAKES: &[Mistake] = &[
    m("lab", "fn main() {", "fn main( {", "src/main.rs:5:3: error"),
    m(
        "lab",
        "    // A request",
        "    std::process::exit(1);\n    // A request",
        "it ended: exit status: 1",
    ),
    m(
        "getmanifest",
        "request[\"id\"]",
        "1",
        "came:     {\"id\":1,",
    ),
    m(
        "getmanifest",
        "request[\"id\"]",
        "request[\"id\"].to_string()",
        "\"id\":\"\\\"lab:getmanifest#7\\\"\"",
    ),
    m(
        "init",
        "stdin().lines()",
        "stdin().lines().take(1)",
        "it ended",
    ),
    m(
        "init",
        "    print!(\"{response}\\n\\n\");\n    io::stdout().flush()\n",
        "    print!(\"{response}\");\n    Ok(())\n",
        "flush stdout after each message",
    ),
    m(
        "dynamic",
        "\"dynamic\": true",
        "\"dynamic\": false",
        "Not a dynamic plugin",
    ),
    m(
        "dynamic",
        "\"dynamic\": true",
        "\"dynamik\": true",
        "Not a dynamic plugin",
    ),
    m(
        "connect",
        "[\"connect\"]",
        "[\"conect\"]",
        "expected: \"subscriptions\": [\"connect\"]",
    ),
    m(
        "connect",
        "{topic} notification: ",
        "{topic}: ",
        "the line `connect notification",
    ),
    m(
        "disconnect",
        "[\"connect\", \"disconnect\"]",
        "[\"connect\"]",
        "\"subscriptions\": [\"connect\",\"disconnect\"]",
    ),
    m(
        "disconnect",
        "{topic} notification",
        "connect notification",
        "the line `disconnect notification",
    ),
    m(
        "stream",
        "text.ends_with(\"\\n\\n\")",
        "text.ends_with('\\n')",
        "EOF while parsing",
    ),
    m(
        "stream",
        "notification: {message}\\n",
        "notification: {message:#}\\n",
        "came:     the line `connect notification: {`",
    ),
    m(
        "silence",
        "_ if message.get(\"id\").is_some() => refuse(&message)?,\n            _ => {}",
        "_ => refuse(&message)?,",
        "must not be answered",
    ),
    m("silence", "-32601", "-1", "-32601"),
    m(
        "log",
        "log(&format!(\"recorded {topic}\"))?",
        "println!(\"recorded {topic}\")",
        "only JSON-RPC goes to stdout",
    ),
    m(
        "log",
        "log(&format!(\"recorded {topic}\"))?",
        "eprintln!(\"recorded {topic}\")",
        "no such message",
    ),
    m(
        "library",
        "params.get(topic).unwrap_or(params)",
        "&params[topic]",
        "the line `connect notification: null`",
    ),
    m(
        "library",
        "use cln_plugin::",
        "use cln_plugins::",
        "error[E0432]",
    ),
    m(
        "invoice",
        "        .mode(0o600) // preimages are secrets\n",
        "",
        "mode 06",
    ),
    m(
        "invoice",
        "\"invoice_creation\"",
        "\"invoice_created\"",
        "\"invoice_creation\"",
    ),
    m("error", "ensure!(", "assert!(", "in l1's log"),
    m(
        "error",
        "    ensure!(!label.starts_with(\"burnt\"), \"{label} is burnt\");\n",
        "    if label.starts_with(\"burnt\") {\n        std::process::exit(1);\n    }\n",
        "the plugin ended",
    ),
    m(
        "method",
        "    plugin.state().fetch_add(1, Ordering::Relaxed);\n",
        "",
        "expected: {\"count\":2}",
    ),
    m(
        "method",
        ".open(plugin.option(&EVENTS_FILE)?)",
        ".open(\"myplugin.txt\")",
        "no such line",
    ),
    m(
        "restart",
        "plugin.configuration().startup",
        "true",
        "started by hand",
    ),
    m(
        "restart",
        "log::info!",
        "log::debug!",
        "started with the node",
    ),
    m(
        "all",
        "        std::process::exit(0);\n",
        "        return Ok(());\n",
        "it still runs",
    ),
    m(
        "all",
        ".subscribe(\"*\", on_any)",
        ".subscribe(\"*\", on_any)\n        .subscribe(\"connect\", on_any)",
        "expected: \"subscriptions\": [\"*\"]",
    ),
    m(
        "order",
        "before: last_number(&plugin.option(&EVENTS_FILE)?)?",
        "before: 0",
        "`201 connect",
    ),
    m(
        "order",
        "{number} {topic}",
        "{topic}",
        "N TOPIC notification",
    ),
    m(
        "topic",
        "        .notification(NotificationTopic::new(\"counted\"))\n",
        "",
        "\"notifications\": [{\"method\": \"counted\"}]",
    ),
    m(
        "topic",
        "json!({\"count\": count});",
        "json!({\"counter\": count});",
        "\"count\":1",
    ),
    m(
        "hook",
        "\"continue\"",
        "\"go on\"",
        "\"result\":\"continue\"",
    ),
    m("hook", "\"no-\"", "\"yes-\"", "\"result\":\"reject\""),
    m(
        "test",
        "ensure!(Instant::now() < deadline, \"the connection was not counted\")",
        "if Instant::now() > deadline {\n            return Ok(());\n        }",
        "a failure",
    ),
    m(
        "test",
        "count()? == before",
        "count()?.as_u64() <= before.as_u64().map(|n| n + 1000)",
        "exit status 0",
    ),
    m(
        "releases",
        "amount.as_u64().or_else(text)",
        "text()",
        "C0402 `invoice_payment` is answered with an error, on v23.11.2–v26.06.6",
    ),
    m(
        "releases",
        "\"eventcount\"",
        "\"xpay\"",
        "has a method `xpay`, on v24.11.2–v26.06.6",
    ),
];
