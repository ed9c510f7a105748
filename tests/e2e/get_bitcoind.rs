//! contrib/get-bitcoind, with a Debian repository that the test makes, and signs with a
//! key of its own: what is installed is what was signed, or nothing.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use cln_lab::{PATIENCE, Probe, eventually};
use lab_tests::sandbox::{Said, Sandbox, said};
use lab_tests::{Outcome, Suite, path_without, without, write_script};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, mkfifo};

pub fn tests(suite: Suite) -> Suite {
    let tools = [
        "apt-get", "dpkg", "dpkg-deb", "flock", "setsid", "gpg", "ldd",
    ];
    suite
        .unless(tools.into_iter().find_map(without))
        .test("signed_packages_are_installed_beside_other_files", installs)
        .test("what_was_not_signed_is_not_installed", refuses)
        .test("of_two_at_once_one_waits", two_at_once)
        .test("an_interrupted_run_leaves_nothing", interrupted)
}

/// A repository with one package, and what is installed from it.
struct Repository {
    sandbox: Sandbox,
    path: OsString,
}

impl Repository {
    fn new() -> anyhow::Result<Repository> {
        let sandbox = Sandbox::new()?;
        let path = path_without("bitcoind", &sandbox.path("links"))?;
        let repository = Repository { sandbox, path };
        fs::create_dir(repository.parent())?;
        repository.key("key")?;
        repository.package()?;
        repository.sign()?;
        Ok(repository)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.sandbox.path("debian").join(path)
    }

    /// The folder that has the folder to install into.
    fn parent(&self) -> PathBuf {
        self.sandbox.path("here")
    }

    fn nodes(&self) -> PathBuf {
        self.parent().join("nodes")
    }

    /// The keyring of this name, with a new key.
    fn key(&self, name: &str) -> Outcome {
        let home = self.sandbox.path(&format!("{name}.home"));
        fs::create_dir(&home)?;
        fs::set_permissions(&home, Permissions::from_mode(0o700))?;
        let keyring = self.sandbox.path(name);
        self.done(
            r#"gpg --homedir "$1" --batch --quiet --passphrase '' --quick-gen-key test ed25519 sign never
            gpg --homedir "$1" --batch --quiet --output "$2" --export
            gpgconf --homedir "$1" --kill all"#,
            &[&home, &keyring],
        )?;
        Ok(())
    }

    /// A package of two programs, which print a version, with the libraries they load.
    fn package(&self) -> Outcome {
        self.done(
            r#"
            mkdir -p "$1/usr/bin" "$1/DEBIAN" "$1/usr/share/doc/bitcoin-knots" "$2"
            program=$(readlink -f "$(command -v env)")
            for name in bitcoind bitcoin-cli; do cp "$program" "$1/usr/bin/$name"; done
            libraries=$(ldd "$program" | sed -n 's/.* => \(.*\) (0x.*/\1/p; s/^[[:blank:]]*\(\/.*\) (0x.*/\1/p')
            to=$1/usr/lib/test-linux-gnu
            mkdir -p "$to"
            for library in $libraries; do cp -L "$library" "$to/"; done
            : >"$to/libnss_test.so.2"
            echo free >"$1/usr/share/doc/bitcoin-knots/copyright"
            printf '%s\n' 'Package: bitcoin-knots' 'Version: 1' "Architecture: $(dpkg --print-architecture)" \
                'Maintainer: test <test@example.org>' 'Description: test' >"$1/DEBIAN/control"
            dpkg-deb -Znone --root-owner-group --build "$1" "$2/bitcoin-knots_1.deb"
            "#,
            &[&self.sandbox.path("package"), &self.at("pool")],
        )?;
        Ok(())
    }

    /// Writes the package list, and signs it.
    fn sign(&self) -> Outcome {
        let home = self.sandbox.path("key.home");
        self.done(
            r#"
            cd "$1"
            list=main/binary-$(dpkg --print-architecture)
            mkdir -p "dists/sid/$list"
            deb=pool/bitcoin-knots_1.deb
            {
                dpkg-deb -f "$deb"
                echo "Filename: $deb"
                echo "Size: $(wc -c <"$deb")"
                echo "SHA256: $(sha256sum "$deb" | cut -d ' ' -f 1)"
            } >"dists/sid/$list/Packages"
            cd dists/sid
            {
                printf '%s\n' 'Origin: Debian' 'Suite: sid' 'Codename: sid' 'Components: main' \
                    "Architectures: $(dpkg --print-architecture)" "Date: $(date -Ru)" 'SHA256:'
                echo " $(sha256sum "$list/Packages" | cut -d ' ' -f 1) $(wc -c <"$list/Packages") $list/Packages"
            } >Release
            gpg --homedir "$2" --batch --quiet --yes --clearsign --output InRelease Release
            gpgconf --homedir "$2" --kill all
            "#,
            &[&self.at(""), &home],
        )?;
        Ok(())
    }

    fn done(&self, script: &str, arguments: &[&Path]) -> anyhow::Result<Said> {
        let mut command = self.sandbox.command("sh");
        command.args(["-euc", script, "sh"]).args(arguments);
        let said = said(command.env("LC_ALL", "C"))?;
        ensure!(said.code == Some(0), "{said:?}");
        Ok(said)
    }

    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = self.sandbox.command(program.as_ref());
        command
            .env("PATH", &self.path)
            .env_remove("BITCOIND")
            .env("LAB_NODES_DIR", self.nodes())
            .env("LAB_DEBIAN_KEYRING", self.sandbox.path("key"))
            .env(
                "LAB_DEBIAN_MIRROR",
                format!("file:{}", self.at("").display()),
            );
        command
    }

    /// The script, to be run.
    fn script(&self) -> Command {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        self.command(here.join("../contrib/get-bitcoind"))
    }

    /// What is in the folder that has the folder to install into.
    fn left(&self) -> anyhow::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(self.parent())?;
        let entries = entries.map(|entry| entry.map(|entry| entry.path()));
        Ok(entries.collect::<Result<_, _>>()?)
    }

    fn is_installed(&self) -> Outcome {
        for name in ["bitcoind", "bitcoin-cli"] {
            let program = self.nodes().join("bin").join(name);
            let said = said(self.command(program).arg("--version"))?;
            ensure!(said.code == Some(0) && !said.out.is_empty(), "{said:?}");
        }
        ensure!(self.left()? == [self.nodes()], "{:?}", self.left()?);
        Ok(())
    }

    /// A run that stops before it unpacks, until a line is written to the pipe.
    async fn stalled(&self) -> anyhow::Result<(Child, PathBuf)> {
        let bin = self.sandbox.path("stalling");
        fs::create_dir_all(&bin)?;
        let (pipe, reached) = (bin.join("pipe"), bin.join("reached"));
        if !pipe.exists() {
            mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU)?;
        }
        let body = format!(
            r#": >"{}" && read -r line <"{}" && PATH=${{PATH#*:}} exec dpkg-deb "$@""#,
            reached.display(),
            pipe.display()
        );
        write_script(&bin.join("dpkg-deb"), &body)?;
        let mut path = OsString::from(bin);
        path.push(":");
        path.push(&self.path);
        let child = self
            .script()
            .env("PATH", path)
            .stderr(Stdio::piped())
            .spawn()?;
        eventually("the packages to be downloaded", 3 * PATIENCE, async || {
            Ok(if reached.exists() {
                Probe::Ready(())
            } else {
                Probe::NotYet("not yet".to_owned())
            })
        })
        .await?;
        fs::remove_file(reached)?;
        Ok((child, pipe))
    }
}

async fn installs() -> Outcome {
    let repository = Repository::new()?;
    // What `lab doctor` keeps there, and what somebody else does.
    let doctor = said(
        repository
            .command(repository.sandbox.program())
            .arg("doctor"),
    )?;
    ensure!(doctor.out.contains("✗ bitcoind"), "{doctor:?}");
    fs::create_dir_all(repository.nodes().join("mine"))?;
    let before = fs::read_dir(repository.nodes())?.count();

    let run = said(&mut repository.script())?;
    ensure!(run.code == Some(0), "{run:?}");
    repository.is_installed()?;
    let after = fs::read_dir(repository.nodes())?.count();
    ensure!(after == before + 5, "{before} before, {after} after");
    let again = said(&mut repository.script())?;
    ensure!(again.err.contains("nothing to do"), "{again:?}");

    // One that is not complete is replaced.
    fs::remove_file(repository.nodes().join("bin/bitcoin-cli"))?;
    let run = said(&mut repository.script())?;
    ensure!(run.code == Some(0), "{run:?}");
    repository.is_installed()?;

    // Where its own names are taken, nothing is touched.
    fs::write(repository.nodes().join("packages"), "mine")?;
    fs::remove_file(repository.nodes().join("bin/bitcoin-cli"))?;
    let refused = said(&mut repository.script())?;
    ensure!(
        refused.code == Some(1) && refused.err.contains("it is left alone"),
        "{refused:?}"
    );
    ensure!(fs::read(repository.nodes().join("packages"))? == b"mine");
    Ok(())
}

async fn refuses() -> Outcome {
    let repository = Repository::new()?;
    let refused = |expected: &str, command: &mut Command| {
        let said = said(command)?;
        let as_expected = said.code == Some(1) && said.err.contains(expected);
        ensure!(as_expected, "{expected}: {said:?}");
        ensure!(repository.left()?.is_empty(), "{:?}", repository.left()?);
        anyhow::Ok(())
    };
    repository.key("other")?;
    let other = repository.sandbox.path("other");
    let mut script = repository.script();
    refused("no package list", script.env("LAB_DEBIAN_KEYRING", other))?;

    let deb = repository.at("pool/bitcoin-knots_1.deb");
    let good = fs::read(&deb)?;
    let mut tampered = good.clone();
    tampered[good.len() / 2] ^= 1;
    for bad in [&tampered[..], &good[..good.len() / 2], &[]] {
        fs::write(&deb, bad)?;
        refused(
            "could not be downloaded and verified",
            &mut repository.script(),
        )?;
    }
    fs::write(&deb, &good)?;

    let dists = repository.at("dists/sid");
    for file in [dists.join("InRelease"), find(&dists, "Packages")?] {
        let good = fs::read_to_string(&file)?;
        fs::write(
            &file,
            good.replacen("sid", "six", 1)
                .replace("Version: 1", "Version: 2"),
        )?;
        refused("no package list", &mut repository.script())?;
        fs::write(&file, &good)?;
    }
    let run = said(&mut repository.script())?;
    ensure!(run.code == Some(0), "{run:?}");
    repository.is_installed()
}

/// The file of this name somewhere below `dir`.
fn find(dir: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let found = said(Command::new("find").arg(dir).args(["-name", name]))?;
    Ok(found.out.lines().next().context("not found")?.into())
}

async fn two_at_once() -> Outcome {
    let repository = Repository::new()?;
    let (first, pipe) = repository.stalled().await?;
    let mut second = repository.script().stderr(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(second.stderr.take().context("piped")?).lines();
    let waits = lines.next().context("a line")??;
    ensure!(waits.contains("waiting for another run"), "{waits}");
    fs::write(pipe, "\n")?;
    let first: Said = first.wait_with_output()?.into();
    ensure!(first.code == Some(0), "{first:?}");
    let rest = lines.collect::<Result<Vec<_>, _>>()?;
    ensure!(second.wait()?.success(), "{rest:?}");
    ensure!(rest[0].contains("another run has downloaded"), "{rest:?}");
    repository.is_installed()
}

async fn interrupted() -> Outcome {
    let repository = Repository::new()?;
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let (child, pipe) = repository.stalled().await?;
        kill(Pid::from_raw(child.id() as i32), signal)?;
        let said: Said = child.wait_with_output()?.into();
        ensure!(said.code == Some(code), "{said:?}");
        ensure!(repository.left()?.is_empty(), "{:?}", repository.left()?);
        // Whoever waited for the pipe is gone.
        eventually("its child to be gone", Duration::from_secs(5), async || {
            let flags = nix::fcntl::OFlag::O_WRONLY | nix::fcntl::OFlag::O_NONBLOCK;
            let reader = nix::fcntl::open(&pipe, flags, nix::sys::stat::Mode::empty());
            Ok(match reader {
                Err(nix::errno::Errno::ENXIO) => Probe::Ready(()),
                other => Probe::NotYet(format!("{other:?}")),
            })
        })
        .await?;
    }
    let run = said(&mut repository.script())?;
    ensure!(run.code == Some(0), "{run:?}");
    repository.is_installed()
}
