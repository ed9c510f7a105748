//! contrib/get-lightningd, with releases that the test makes and serves; and the steps of
//! the workflow files, which run it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use lab_tests::author::workspace;
use lab_tests::sandbox::{Said, Sandbox, said};
use lab_tests::{Outcome, Suite, without, write_script};
use regex::Regex;

pub fn tests(suite: Suite) -> Suite {
    let tools = ["curl", "sha256sum", "tar", "xz", "ldd"];
    suite
        .unless(tools.into_iter().find_map(without))
        .test("a_release_is_installed_once", installs)
        .test("what_is_not_the_release_is_not_installed", refuses)
        .unless(without("make"))
        .test("the_steps_of_workflows_are_there", steps)
        .test("the_action_sets_up_a_release", sets_up)
}

const VERSION: &str = "v26.06.6";

/// A host of releases, and a folder to install into.
struct Host {
    sandbox: Sandbox,
    mirror: String,
}

impl Host {
    fn new() -> anyhow::Result<Host> {
        let sandbox = Sandbox::new()?;
        let root = sandbox.path("releases");
        fs::create_dir(&root)?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mirror = format!("http://{}", listener.local_addr()?);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = serve(stream, &root); // a client may leave
            }
        });
        Ok(Host { sandbox, mirror })
    }

    /// One with a good release, as CLN's page has it.
    fn with_release() -> anyhow::Result<Host> {
        let host = Host::new()?;
        let sums = format!("SHA256SUMS-{VERSION}");
        host.make(VERSION, VERSION, &tarball(VERSION), &sums)?;
        Ok(host)
    }

    fn release(&self, version: &str) -> PathBuf {
        self.sandbox.path("releases").join(version)
    }

    /// Makes a release of this version, whose lightningd prints `says`.
    fn make(&self, version: &str, says: &str, tarball: &str, sums: &str) -> Outcome {
        let bin = self.release(version).join("usr/bin");
        fs::create_dir_all(&bin)?;
        for name in ["lightningd", "lightning-cli"] {
            write_script(&bin.join(name), &format!("echo {says}"))?;
        }
        let pack = "cd \"$1\" && tar -cJf \"$2\" usr && sha256sum -b \"$2\" >\"$3\"";
        let mut shell = self.sandbox.command("sh");
        shell.args(["-euc", pack, "sh"]);
        let said = said(shell.arg(self.release(version)).args([tarball, sums]))?;
        ensure!(said.code == Some(0), "{said:?}");
        Ok(())
    }

    fn to(&self) -> PathBuf {
        self.sandbox.path("to").join("cln")
    }

    fn get(&self, version: &str) -> anyhow::Result<Said> {
        let mut script = self
            .sandbox
            .command(workspace()?.join("contrib/get-lightningd"));
        script.arg(version).arg(self.to());
        said(
            script
                .env("LAB_CLN_MIRROR", &self.mirror)
                .env("no_proxy", "127.0.0.1"),
        )
    }

    /// It fails, says this, and leaves nothing.
    fn refused(&self, version: &str, says: &str) -> Outcome {
        let said = self.get(version)?;
        ensure!(
            said.code == Some(1) && said.err.contains(says),
            "{says}: {said:?}"
        );
        let left: Vec<_> = fs::read_dir(self.sandbox.path("to"))?.collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    }
}

/// Answers one request with a file of `root`, or that there is none.
fn serve(mut stream: TcpStream, root: &Path) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let asked = lines.next().transpose()?.unwrap_or_default();
    while lines
        .next()
        .transpose()?
        .is_some_and(|line| !line.is_empty())
    {}
    let path = asked.split(' ').nth(1).unwrap_or_default();
    let (status, body) = match fs::read(root.join(path.trim_start_matches('/'))) {
        Ok(body) => ("200 OK", body),
        Err(_) => ("404 Not Found", Vec::new()),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(&body)
}

/// The name of a release that runs on any machine that the tests run on.
fn tarball(version: &str) -> String {
    let arch = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    format!("clightning-{version}-Ubuntu-20.04-{arch}.tar.xz")
}

async fn installs() -> Outcome {
    let host = Host::with_release()?;
    let got = host.get(VERSION)?;
    ensure!(got.code == Some(0), "{got:?}");
    let said = said(
        host.sandbox
            .command(host.to().join("bin/lightningd"))
            .arg("--version"),
    )?;
    ensure!(said.out.trim() == VERSION, "{said:?}");
    ensure!(
        fs::read_dir(host.sandbox.path("to"))?.count() == 1,
        "a folder is left"
    );

    let again = host.get(VERSION)?;
    ensure!(
        again.code == Some(0) && again.err.contains("nothing to do"),
        "{again:?}"
    );
    let other = host.get("v24.11")?;
    ensure!(
        other.code == Some(1) && other.err.contains("left alone"),
        "{other:?}"
    );

    // As the older releases have it: no version, and no architecture.
    if cfg!(target_arch = "x86_64") {
        fs::remove_dir_all(host.to())?;
        let name = "clightning-v23.02.2-Ubuntu-20.04.tar.xz";
        host.make("v23.02.2", "v23.02.2", name, "SHA256SUMS")?;
        let got = host.get("v23.02.2")?;
        ensure!(got.code == Some(0), "{got:?}");
    }
    Ok(())
}

async fn refuses() -> Outcome {
    let host = Host::new()?;
    fs::create_dir(host.sandbox.path("to"))?;
    host.refused(VERSION, "is there a release")?;

    let (name, sums) = (tarball(VERSION), format!("SHA256SUMS-{VERSION}"));
    host.make(VERSION, VERSION, &name, &sums)?;
    let packed = host.release(VERSION).join(&name);
    let good = fs::read(&packed)?;
    let mut changed = good.clone();
    changed[good.len() / 2] ^= 1;
    for bad in [&changed[..], &good[..good.len() / 2]] {
        fs::write(&packed, bad)?;
        host.refused(VERSION, &format!("is not what {sums} says"))?;
    }
    fs::remove_file(&packed)?;
    host.refused(VERSION, "could not be downloaded")?;

    let foreign = "clightning-v26.04-Ubuntu-20.04-riscv64.tar.xz";
    host.make("v26.04", "v26.04", foreign, "SHA256SUMS-v26.04")?;
    host.refused("v26.04", foreign)?;
    host.make("v25.12", "v25.09", &tarball("v25.12"), "SHA256SUMS-v25.12")?;
    host.refused("v25.12", "has lightningd v25.09")?;
    let wrong = said(
        host.sandbox
            .command(workspace()?.join("contrib/get-lightningd"))
            .arg("latest"),
    )?;
    ensure!(
        wrong.code == Some(1) && wrong.err.contains("usage"),
        "{wrong:?}"
    );
    Ok(())
}

/// The steps that can be run here are run by tests of what they run; of each the syntax is
/// right, and the goals of make and the scripts are there.
async fn steps() -> Outcome {
    let root = workspace()?;
    let mut seen = 0;
    // GitHub replaces them before a shell sees the step.
    let expression = Regex::new(r"\$\{\{[^}]*\}\}")?;
    for file in [".github/workflows/ci.yml", "contrib/action/action.yml"] {
        for line in fs::read_to_string(root.join(file))?.lines() {
            let Some((_, step)) = line.split_once("- run: ") else {
                continue;
            };
            let step = expression.replace_all(step.trim_matches('\''), "1");
            let mut words = step.split_whitespace();
            let mut check = match words.next() {
                Some("make") => {
                    let mut make = Command::new("make");
                    make.arg("-n").args(words).env_remove("MAKEFLAGS");
                    make
                }
                Some(script) if script.starts_with("contrib/") => {
                    let mut shell = Command::new("sh");
                    shell.args(["-c", "[ -x \"$0\" ]", script]);
                    shell
                }
                _ => {
                    let mut shell = Command::new("sh");
                    shell.args(["-nc", &step]);
                    shell
                }
            };
            let said = said(check.current_dir(root))?;
            ensure!(said.code == Some(0), "{file}: {step}: {said:?}");
            seen += 1;
        }
    }
    ensure!(seen > 10, "{seen} steps: the search finds too few");
    Ok(())
}

async fn sets_up() -> Outcome {
    let host = Host::with_release()?;
    let (path, env) = (host.sandbox.path("path"), host.sandbox.path("env"));
    let set_up = |version: &str| {
        for file in [&path, &env] {
            fs::write(file, "")?;
        }
        let script = workspace()?.join("contrib/action/setup.sh");
        let mut setup = host.sandbox.command(script);
        setup
            .env("CLN_VERSION", version)
            .env("LAB_CLN_MIRROR", &host.mirror)
            .env("no_proxy", "127.0.0.1")
            .env("RUNNER_TEMP", host.sandbox.path(""))
            .env("GITHUB_PATH", &path)
            .env("GITHUB_ENV", &env)
            // What is built and downloaded already is not again.
            .env("CARGO", "true")
            .env("BITCOIND", "/bin/true")
            .env_remove("CI")
            .env_remove("MAKEFLAGS");
        let said = said(&mut setup)?;
        ensure!(said.code == Some(0), "{said:?}");
        anyhow::Ok((fs::read_to_string(&path)?, fs::read_to_string(&env)?))
    };
    let (paths, variables) = set_up(VERSION)?;
    ensure!(variables.contains("LAB_NODE=lightningd\n"), "{variables}");
    let bin = paths.lines().last().unwrap_or_default();
    let lightningd = said(
        host.sandbox
            .command(Path::new(bin).join("lightningd"))
            .arg("--version"),
    )?;
    ensure!(lightningd.out.trim() == VERSION, "{paths}: {lightningd:?}");
    let (paths, variables) = set_up("")?;
    ensure!(
        paths.lines().count() == 1 && paths.contains("target/debug"),
        "{paths}"
    );
    ensure!(variables.contains("LAB_NODE=embedded\n"), "{variables}");
    Ok(())
}
