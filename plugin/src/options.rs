//! The options: names, descriptions, values.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use bytesize::ByteSize;
use cln_plugin::options::{
    BooleanConfigOption, DefaultBooleanConfigOption, DefaultIntegerConfigOption,
    DefaultStringConfigOption, UntypedConfigOption, Value,
};

use crate::format::Format;
use crate::lock::lock;
use crate::topics::{self, Wanted};

/// Where to record.
pub const FILE: DefaultStringConfigOption<'_> = DefaultStringConfigOption::new_str_with_default(
    "eventlog-file",
    "eventlog.jsonl",
    "File to append notifications to; a relative path is relative to the node's network \
     directory. Made with mode 0600.",
);

/// How to write.
pub const FORMAT: DefaultStringConfigOption<'_> = DefaultStringConfigOption::new_str_with_default(
    "eventlog-format",
    "json",
    "`json`: one object a line; `text`: `<topic> notification: <payload>`. \
     Can be changed while the node runs.",
);

/// What to record. One string, not a list: on lightningd v23.08 to v26.04 a
/// `setconfig` of a list option aborts the node, and from v26.06 on `setconfig`
/// wants a list in JSON, and joins it with the one from the command line.
pub const TOPICS: DefaultStringConfigOption<'_> = DefaultStringConfigOption::new_str_with_default(
    "eventlog-topics",
    topics::DEFAULT,
    "Topics to record, with commas between: lightningd's or another plugin's; `all` for \
     lightningd's but log, `*` for everything but log. Can be changed while the node runs.",
);

/// Leave secrets out?
pub const REDACT: BooleanConfigOption<'_> = BooleanConfigOption::new_bool_no_default(
    "eventlog-redact",
    "Leave secrets out: a preimage is replaced by `sha256:` and its hash, another secret by \
     `redacted`. If not set: true for json, false for text. Can be changed while the node runs.",
);

/// Past a power loss?
pub const FSYNC: DefaultBooleanConfigOption<'_> = DefaultBooleanConfigOption::new_bool_with_default(
    "eventlog-fsync",
    false,
    "Wait for the disk after each write, so that a power loss takes nothing that was recorded. \
     Without it what was written survives a crash of the process, not of the machine. \
     Can be changed while the node runs.",
);

/// When to rotate.
pub const ROTATE_SIZE: DefaultStringConfigOption<'_> =
    DefaultStringConfigOption::new_str_with_default(
        "eventlog-rotate-size",
        "0",
        "Size at which the file is moved to `.1` and a new one made: bytes, or with a unit as in \
         `100MiB`; 0: never. Can be changed while the node runs.",
    );

/// How many older files to keep.
pub const ROTATE_KEEP: DefaultIntegerConfigOption<'_> =
    DefaultIntegerConfigOption::new_i64_with_default(
        "eventlog-rotate-keep",
        10,
        "How many older files rotation keeps, 1 to 1000. Can be changed while the node runs.",
    );

/// How much to hold in memory.
pub const BUFFER: DefaultStringConfigOption<'_> = DefaultStringConfigOption::new_str_with_default(
    "eventlog-buffer",
    "64MiB",
    "Memory for notifications while the file cannot be written, 64KiB to 4GiB. When it is full, \
     further ones are dropped, counted, and marked in the file.",
);

/// All of them, in the order in which help lists them.
pub fn all() -> [UntypedConfigOption; 8] {
    [
        TOPICS.build(),
        FILE.build(),
        FORMAT.build(),
        REDACT.build(),
        ROTATE_SIZE.build(),
        ROTATE_KEEP.build(),
        FSYNC.build(),
        BUFFER.build(),
    ]
}

/// What can be changed while the plugin runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The topics to record.
    pub wanted: Wanted,
    /// How.
    pub format: Format,
    /// Whether secrets are left out; `None`: as the format has it.
    pub redact: Option<bool>,
    /// Wait for the disk?
    pub fsync: bool,
    /// Rotate at this many bytes.
    pub rotate_size: Option<u64>,
    /// Keep this many older files.
    pub rotate_keep: u32,
}

/// What stays as it was at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// The file.
    pub file: PathBuf,
    /// The bytes of memory for what waits.
    pub buffer: usize,
}

impl Settings {
    /// Are secrets left out of the file?
    pub fn redacts(&self) -> bool {
        self.redact.unwrap_or(self.format == Format::Json)
    }

    /// The settings that the values given at the start ask for. `value` looks
    /// one up by the option's name; a relative file lies in `folder`.
    ///
    /// # Errors
    /// One line: the option, its value, what it may be.
    pub fn read(
        value: impl Fn(&str) -> Option<Value>,
        folder: &Path,
    ) -> Result<(Fixed, Self), String> {
        let mut settings = Self {
            wanted: Wanted::default(),
            format: Format::Json,
            redact: None,
            fsync: false,
            rotate_size: None,
            rotate_keep: 10,
        };
        for name in DYNAMIC {
            if let Some(value) = value(name) {
                settings.set(name, &texts(&value))?;
            }
        }
        let text = |name: &str| value(name).map(|value| texts(&value).concat());
        let file = text(FILE.name).unwrap_or_else(|| FILE.default.to_owned());
        if file.is_empty() || file.ends_with('/') {
            return Err(format!("{}={file}: name a file", FILE.name));
        }
        let buffer = text(BUFFER.name).unwrap_or_else(|| BUFFER.default.to_owned());
        let fixed = Fixed {
            file: folder.join(file),
            buffer: size(&buffer)
                .and_then(|bytes| usize::try_from(bytes).ok())
                .filter(|bytes| (64 << 10..=4 << 30).contains(bytes))
                .ok_or_else(|| {
                    format!("{}={buffer}: give a size from 64KiB to 4GiB", BUFFER.name)
                })?,
        };
        Ok((fixed, settings))
    }

    /// Changes one of them, as `setconfig` does.
    ///
    /// # Errors
    /// One line: the option, its value, what it may be.
    pub fn set(&mut self, name: &str, values: &[String]) -> Result<(), String> {
        let one = values.first().map_or("", String::as_str);
        let bad = |what: &str| format!("{name}={}: {what}", values.join(","));
        if name != TOPICS.name && values.len() > 1 {
            return Err(bad("give one value"));
        }
        match name {
            name if name == TOPICS.name => {
                // lightningd writes a list in JSON: so may a person.
                let list = serde_json::from_str::<Vec<String>>(&values.join(","));
                let names = list.as_deref().unwrap_or(values);
                self.wanted =
                    Wanted::parse(names.iter().map(String::as_str)).map_err(|why| bad(&why))?;
            }
            name if name == FORMAT.name => {
                self.format = Format::from_str(one).map_err(|_| bad("give `json` or `text`"))?;
            }
            name if name == REDACT.name => {
                self.redact = Some(boolean(one).ok_or_else(|| bad("give `true` or `false`"))?);
            }
            name if name == FSYNC.name => {
                self.fsync = boolean(one).ok_or_else(|| bad("give `true` or `false`"))?;
            }
            name if name == ROTATE_SIZE.name => {
                let bytes = size(one)
                    .filter(|&bytes| bytes == 0 || bytes >= 1024)
                    .ok_or_else(|| {
                        bad("give a size from 1KiB, such as `100MiB`, or 0 for never")
                    })?;
                self.rotate_size = (bytes > 0).then_some(bytes);
            }
            name if name == ROTATE_KEEP.name => {
                self.rotate_keep = one
                    .parse()
                    .ok()
                    .filter(|keep| (1..=1000).contains(keep))
                    .ok_or_else(|| bad("give a number from 1 to 1000"))?;
            }
            _ => return Err(bad("cannot be changed while the plugin runs: restart it")),
        }
        Ok(())
    }
}

const DYNAMIC: [&str; 6] = [
    TOPICS.name,
    FORMAT.name,
    REDACT.name,
    FSYNC.name,
    ROTATE_SIZE.name,
    ROTATE_KEEP.name,
];

/// An option's value as the text a person would type.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Integer(number) => vec![number.to_string()],
        Value::Boolean(yes) => vec![yes.to_string()],
        Value::StringArray(texts) => texts.clone(),
        Value::IntegerArray(numbers) => numbers.iter().map(i64::to_string).collect(),
    }
}

fn size(text: &str) -> Option<u64> {
    ByteSize::from_str(text).ok().map(|size| size.as_u64())
}

/// What lightningd itself takes for a bool.
fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Some(true),
        "false" | "0" | "no" => Some(false),
        _ => None,
    }
}

/// The settings, shared between the threads.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Mutex<Arc<Settings>>>);

impl Shared {
    /// Shares them.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(settings))))
    }

    /// As they are now.
    pub fn get(&self) -> Arc<Settings> {
        lock(&self.0).clone()
    }

    /// Puts others in their place.
    pub fn replace(&self, settings: Settings) {
        *lock(&self.0) = Arc::new(settings);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(values: &[(&str, Value)]) -> Result<(Fixed, Settings), String> {
        let values = values.to_vec();
        let value = move |name: &str| {
            let set = values.iter().find(|(key, _)| *key == name);
            set.map(|(_, value)| value.clone())
                .or_else(|| (name == TOPICS.name).then(|| Value::String(topics::DEFAULT.into())))
        };
        Settings::read(value, Path::new("/node"))
    }

    #[test]
    fn defaults() {
        let (fixed, settings) = read(&[]).unwrap();
        assert_eq!(fixed.file, Path::new("/node/eventlog.jsonl"));
        assert_eq!(fixed.buffer, 64 << 20);
        assert!(settings.redacts() && settings.wanted.contains("invoice_creation"));
        assert_eq!(settings.rotate_size, None);
    }

    #[test]
    fn topics_may_be_a_list_in_json() {
        let topics = |text: &str| {
            let set = read(&[("eventlog-topics", Value::String(text.into()))]);
            set.map(|(_, settings)| settings.wanted)
        };
        assert_eq!(topics(r#"["connect", "mine"]"#), topics("connect,mine"));
        for bad in [
            "[]",
            "[1]",
            r#"["a b"]"#,
            "[connect]",
            "{connect}",
            "\"connect\"",
        ] {
            assert!(topics(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn redaction_follows_the_format_unless_it_is_set() {
        let text = ("eventlog-format", Value::String("text".into()));
        assert!(!read(std::slice::from_ref(&text)).unwrap().1.redacts());
        let set = ("eventlog-redact", Value::Boolean(true));
        assert!(read(&[text, set]).unwrap().1.redacts());
    }

    #[test]
    fn bad_values_are_refused_in_one_line() {
        for (name, value, reason) in [
            (
                "eventlog-format",
                "xml",
                "eventlog-format=xml: give `json` or `text`",
            ),
            (
                "eventlog-topics",
                "a,,b",
                "eventlog-topics=a,,b: `a,,b` has an empty name in it",
            ),
            ("eventlog-file", "logs/", "eventlog-file=logs/: name a file"),
            (
                "eventlog-buffer",
                "1",
                "eventlog-buffer=1: give a size from 64KiB to 4GiB",
            ),
            (
                "eventlog-rotate-size",
                "12 parsecs",
                "eventlog-rotate-size=12 parsecs: give a size from 1KiB, such as `100MiB`, or 0 for never",
            ),
            (
                "eventlog-rotate-keep",
                "0",
                "eventlog-rotate-keep=0: give a number from 1 to 1000",
            ),
        ] {
            assert_eq!(
                read(&[(name, Value::String(value.into()))]).unwrap_err(),
                reason
            );
        }
    }
}
