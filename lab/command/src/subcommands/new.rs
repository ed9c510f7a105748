//! `lab new`

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::{out, usage};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab new greeter                     a plugin in Python, in ./greeter
  lab new greeter --lang rust         on cln-plugin, its tests with cln-lab
  cd greeter && make test             `lab` on the PATH, or with LAB=…

The plugin has an option, an RPC method and a subscription; beside it are its tests, which run on
nodes of their own, a README, and a CI workflow for GitHub. reckless installs it, but for sh.")]
pub struct Args {
    /// The plugin's name, and the folder's: lower-case letters, digits and `-`
    #[arg(value_parser = name)]
    name: String,
    /// The language
    #[arg(long, value_enum, default_value = "python")]
    lang: Language,
    /// The folder that the new folder is made in
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    dir: PathBuf,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Language {
    /// On pyln-client, tested with pytest
    Python,
    /// On cln-plugin, tested with cln-lab
    Rust,
    /// In plain shell with jq, tested with a script
    Sh,
}

/// A file of a template: its path, its text, and whether it can be executed.
type File = (&'static str, &'static str, bool);

macro_rules! file {
    ($folder:literal, $source:literal as $path:literal) => {
        (
            $path,
            include_str!(concat!("../../templates/", $folder, $source)),
            false,
        )
    };
    ($folder:literal, $path:literal) => {
        file!($folder, $path as $path)
    };
    ($folder:literal, executable $path:literal) => {
        (
            $path,
            include_str!(concat!("../../templates/", $folder, $path)),
            true,
        )
    };
}

/// What a Python plugin imports would be found in its own file, if that had one of these
/// names: Python's modules and keywords, and what pyln-client and the tests need.
const PYTHON_NAMES: &str = include_str!("python_names.txt");

/// In paths and texts, the plugin's name.
const NAME: &str = "PLUGIN_NAME";
/// In texts, where Cargo finds the library.
const LIBRARY: &str = "CLN_LAB";

const COMMON: &[File] = &[file!("", "ci.yml" as ".github/workflows/ci.yml")];
const PYTHON: &[File] = &[
    file!("python/", executable "PLUGIN_NAME.py"),
    file!("python/", "requirements.txt"),
    file!("python/", "tests/conftest.py"),
    file!("python/", "tests/test_plugin.py"),
    file!("python/", "Makefile"),
    file!("python/", "README.md"),
    file!("python/", "gitignore" as ".gitignore"),
];
const RUST: &[File] = &[
    file!("rust/", "Cargo.toml.in" as "Cargo.toml"),
    file!("rust/", "src/main.rs"),
    file!("rust/", "tests/Cargo.toml.in" as "tests/Cargo.toml"),
    file!("rust/", "tests/plugin.rs"),
    file!("rust/", "Makefile"),
    file!("rust/", "README.md"),
    file!("rust/", "gitignore" as ".gitignore"),
];
const SH: &[File] = &[
    file!("sh/", executable "PLUGIN_NAME.sh"),
    file!("sh/", executable "tests/test.sh"),
    file!("sh/", "Makefile"),
    file!("sh/", "README.md"),
];

pub fn run(args: &Args) -> anyhow::Result<()> {
    let folder = args.dir.join(&args.name);
    if folder.exists() {
        return Err(usage(format!(
            "{} is there already: choose another name, or another --dir",
            folder.display()
        )));
    }
    let is_taken = PYTHON_NAMES
        .split_whitespace()
        .any(|name| name == args.name);
    if is_taken && matches!(args.lang, Language::Python) {
        return Err(usage(format!(
            "`{0}` is a word or a module of Python's: a plugin in a file `{0}.py` could not \
             import that; choose another name, such as `my-{0}`",
            args.name
        )));
    }
    let files = match args.lang {
        Language::Python => PYTHON,
        Language::Rust => RUST,
        Language::Sh => SH,
    };
    // Made under another name first: the folder is there with all of its files or not at all.
    let making = tempfile::Builder::new()
        .prefix(&format!(".{}-", args.name))
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir_in(&args.dir)
        .with_context(|| format!("make a folder in {}", args.dir.display()))?;
    let library = library(&args.dir);
    for (path, text, executable) in COMMON.iter().chain(files) {
        let path = making.path().join(path.replace(NAME, &args.name));
        let text = text.replace(NAME, &args.name);
        let text = if path.ends_with("tests/Cargo.toml") {
            text.replace(LIBRARY, &library)
        } else {
            text
        };
        write(&path, &text, *executable).with_context(|| format!("write {}", path.display()))?;
    }
    std::fs::rename(making.path(), &folder)
        .with_context(|| format!("make {}", folder.display()))?;
    let _moved = making.keep();
    let found = which::which("lab").is_ok();
    let this = match std::env::current_exe() {
        Ok(this) if !found => format!(" LAB={}", this.display()),
        _ => String::new(), // what the Makefile says will do
    };
    out::line(format_args!(
        "a plugin and its tests: `cd {} && make test{this}`; README.md has the rest",
        folder.display()
    ))
}

fn write(path: &Path, text: &str, executable: bool) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text)?;
    if executable {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Where Cargo finds cln-lab from `dir/NAME/tests`: what this command was built from, if
/// that is still there, else crates.io.
fn library(dir: &Path) -> String {
    let built_from = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let Ok(path) = built_from.join("Cargo.toml").canonicalize() else {
        return format!("\"{}\"", env!("CARGO_PKG_VERSION"));
    };
    let beside = dir.join("cln-lab/lab/Cargo.toml").canonicalize();
    let path = if beside.is_ok_and(|beside| beside == path) {
        // As the CI workflow has them, too.
        "../../cln-lab/lab".to_owned()
    } else {
        path.parent().unwrap_or(&path).display().to_string()
    };
    format!("{{ path = {path:?} }}")
}

fn name(text: &str) -> Result<String, String> {
    let valid = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if valid {
        Ok(text.to_owned())
    } else {
        Err("lower-case letters, digits and `-`, such as `my-plugin`".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_python_is_missing() {
        let list = "import keyword, sys; print(*sys.stdlib_module_names, *keyword.kwlist)";
        let listed = std::process::Command::new("python3")
            .args(["-c", list])
            .output();
        // Without Python, or before 3.10, which has no list.
        let listed = listed.map(|output| output.stdout).unwrap_or_default();
        let listed = String::from_utf8(listed).expect("names");
        let known: Vec<&str> = PYTHON_NAMES.split_whitespace().collect();
        for word in listed.split_whitespace().filter(|word| name(word).is_ok()) {
            assert!(known.contains(&word), "{word}");
        }
        for word in ["json", "import", "test", "pyln", "logging"] {
            assert!(known.contains(&word), "{word}");
        }
    }
}
