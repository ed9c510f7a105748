//! lightningd's options as text: the command line and the `config` files.
//!
//! A plugin's options are known only once it has sent its manifest, so reading has
//! two parts: [`command_line`] and [`config_file`] give [`ConfigVar`]s as written, and
//! `settle_*` follows when it is known whether an option takes a value.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where an option was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    CommandLine,
    /// The file, and the line, counted from 1.
    File(PathBuf, usize),
    /// `plugin start PATH name=value`: gone when the plugin stops.
    PluginStart,
    /// `setconfig … transient=true`.
    Transient,
}

impl fmt::Display for Source {
    /// As in `listconfigs`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::CommandLine => f.write_str("cmdline"),
            Source::File(path, line) => {
                write!(f, "{}:{line}", path.display())
            }
            Source::PluginStart => f.write_str("pluginstart"),
            Source::Transient => f.write_str("setconfig transient"),
        }
    }
}

/// One option as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigVar {
    /// Without the leading `--`.
    pub name: String,
    /// The text after the `=`, if there is one.
    pub value: Option<String>,
    /// On the command line, the next word if there is no `=`: the value if the option
    /// takes one.
    pub next_word: Option<String>,
    pub source: Source,
}

impl ConfigVar {
    /// An error about this option, in lightningd's words.
    pub fn complain(&self, what: impl fmt::Display) -> String {
        let value = self
            .value
            .as_ref()
            .map(|v| format!("={v}"))
            .unwrap_or_default();
        match &self.source {
            Source::File(path, line) => format!(
                "Config file {} line {line}: {}{value}: {what}",
                path.display(),
                self.name
            ),
            _ => format!("--{}{value}: {what}", self.name),
        }
    }

    /// The value of an option that takes one.
    ///
    /// # Errors
    /// There is none.
    pub fn settle_argument(&mut self) -> Result<&str, String> {
        if self.value.is_none() {
            self.value = self.next_word.take();
        }
        match &self.value {
            Some(value) => Ok(value),
            None => Err(self.complain("requires an argument")),
        }
    }

    /// # Errors
    /// There is a value, for an option that takes none.
    pub fn settle_flag(&self) -> Result<(), String> {
        if self.value.is_some() {
            return Err(self.complain("doesn't allow an argument"));
        }
        if self.next_word.is_some() {
            return Err("no arguments accepted".into());
        }
        Ok(())
    }
}

/// Reads a command line, without the program's name.
///
/// # Errors
/// A word that does not belong to an option.
pub fn command_line(args: impl IntoIterator<Item = String>) -> Result<Vec<ConfigVar>, String> {
    let mut vars: Vec<ConfigVar> = Vec::new();
    for arg in args {
        let name = match arg.as_str() {
            "-h" => "help",
            "-V" => "version",
            _ => match arg.strip_prefix("--") {
                Some(name) if !name.is_empty() => name,
                _ => match vars.last_mut() {
                    Some(last) if last.value.is_none() && last.next_word.is_none() => {
                        last.next_word = Some(arg);
                        continue;
                    }
                    _ => return Err("no arguments accepted".into()),
                },
            },
        };
        let (name, value) = split(name);
        vars.push(ConfigVar {
            name,
            value,
            next_word: None,
            source: Source::CommandLine,
        });
    }
    Ok(vars)
}

/// Reads a `config` file: `name` or `name=value` a line, `#` comments,
/// `include FILE` (relative to the including file).
pub fn config_file(path: &Path) -> Result<Vec<ConfigVar>, String> {
    read_file(path, 0)
}

fn read_file(path: &Path, depth: usize) -> Result<Vec<ConfigVar>, String> {
    if depth > 100 {
        return Err(format!("Include loop with file {}", path.display()));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|e| format!("Opening and reading {}: {}", path.display(), os_error(&e)))?;
    let mut vars = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(file) = line.strip_prefix("include ") {
            let dir = path.parent().unwrap_or(Path::new("."));
            vars.extend(read_file(&dir.join(file.trim()), depth + 1)?);
            continue;
        }
        let (name, value) = split(line);
        vars.push(ConfigVar {
            name,
            value,
            next_word: None,
            source: Source::File(path.to_owned(), index + 1),
        });
    }
    Ok(vars)
}

fn split(text: &str) -> (String, Option<String>) {
    match text.split_once('=') {
        Some((name, value)) => (name.into(), Some(value.into())),
        None => (text.into(), None),
    }
}

/// The operating system's message, without Rust's `(os error 2)`.
pub fn os_error(e: &std::io::Error) -> String {
    match e.raw_os_error() {
        Some(errno) => nix::errno::Errno::from_raw(errno).desc().into(),
        None => e.to_string(),
    }
}

/// lightningd's ways to spell a boolean.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn words(line: &str) -> Result<Vec<ConfigVar>, String> {
        command_line(line.split_whitespace().map(String::from))
    }

    #[test]
    fn a_value_follows_the_equals_sign_or_is_the_next_word() {
        let mut vars = words("--alias=a=b --rgb 010203 --daemon --x=").unwrap();
        assert_eq!(vars[0].settle_argument().unwrap(), "a=b");
        assert_eq!(vars[1].settle_argument().unwrap(), "010203");
        vars[2].settle_flag().unwrap();
        assert_eq!(
            vars[2].settle_argument().unwrap_err(),
            "--daemon: requires an argument"
        );
        assert_eq!(vars[3].settle_argument().unwrap(), "");
        assert_eq!(
            vars[3].settle_flag().unwrap_err(),
            "--x=: doesn't allow an argument"
        );
    }

    #[test]
    fn stray_words_are_refused() {
        assert_eq!(words("foo").unwrap_err(), "no arguments accepted");
        assert_eq!(words("--a b c").unwrap_err(), "no arguments accepted");
        assert_eq!(
            words("--daemon x").unwrap()[0].settle_flag().unwrap_err(),
            "no arguments accepted"
        );
    }

    #[test]
    fn a_config_file_and_what_it_includes() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("config");
        std::fs::write(
            &main,
            "# a comment\n\nalias=l1\ninclude more\n  offline  \n",
        )
        .unwrap();
        std::fs::write(dir.path().join("more"), "plugin=/p\n").unwrap();
        let vars = config_file(&main).unwrap();
        let seen: Vec<_> = vars
            .iter()
            .map(|v| (v.name.as_str(), v.value.as_deref()))
            .collect();
        assert_eq!(
            seen,
            [
                ("alias", Some("l1")),
                ("plugin", Some("/p")),
                ("offline", None)
            ]
        );
        assert_eq!(vars[2].source, Source::File(main.clone(), 5));
        assert_eq!(
            vars[2].complain("unknown option"),
            format!(
                "Config file {} line 5: offline: unknown option",
                main.display()
            )
        );
    }

    #[test]
    fn a_file_that_includes_itself_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        std::fs::write(&path, "include config\n").unwrap();
        assert!(config_file(&path).unwrap_err().starts_with("Include loop"));
    }
}
