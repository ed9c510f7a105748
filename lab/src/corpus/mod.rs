//! What each release of lightningd sends to a plugin, as sent.
//!
//! [`ALL`] has a [`Corpus`] for each release from v23.02 on: its messages were recorded
//! from running nodes, none is written by hand (`lab/corpus/README.md`). An author's own
//! test replays them to a [`PluginHarness`](crate::PluginHarness), without any node:
//!
//! ```no_run
//! use cln_lab::{PluginHarness, corpus};
//! use serde_json::json;
//!
//! # async fn test() -> cln_lab::Result<()> {
//! for release in corpus::ALL {
//!     let mut plugin = PluginHarness::builder("target/debug/eventlog")
//!         .release(release)
//!         .spawn()
//!         .await?;
//!     plugin.init(json!({})).await?;
//!     for message in release.notifications("connect") {
//!         plugin.replay(&message).await?;
//!     }
//!     assert!(plugin.close().await?.success(), "{}", release.version());
//! }
//! # Ok(()) }
//! ```

mod shape;

pub use shape::{Shape, Type};

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What one release sends.
#[derive(Debug, Clone, Copy)]
pub struct Corpus {
    version: &'static str,
    text: &'static str,
}

/// A message of a release: a line of its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// The topic, the hook or the method.
    pub name: String,
    /// Which of the messages of this name: `in` and `out` of `connect`. Empty if there
    /// is only one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub form: String,
    /// The node's `allow-deprecated-apis`, true by default. With false only what has
    /// another shape then is here.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub deprecated: bool,
    /// The scenario that it was recorded in: `lab topics --run SCENARIO`.
    pub scenario: String,
    /// The message byte for byte, without the empty line after it.
    pub message: String,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_yes(value: &bool) -> bool {
    *value
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// No message: the variables that lightningd adds to a plugin's environment, as a JSON
    /// object.
    Environment,
    /// The request `getmanifest`.
    Manifest,
    /// The request `init`.
    Init,
    /// A notification: it has no id, and must not be answered.
    Notification,
    /// A hook: a request, whose answer lightningd follows.
    Hook,
    /// A call of a method of the plugin, or `setconfig` for an option of it.
    Request,
    /// What the node answers to a call of this method on its RPC socket.
    Answer,
    /// No message: what `lightningd --help` prints, with every option.
    Help,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Environment => "environment",
            Kind::Manifest => "manifest",
            Kind::Init => "init",
            Kind::Notification => "notification",
            Kind::Hook => "hook",
            Kind::Request => "request",
            Kind::Answer => "answer",
            Kind::Help => "help",
        })
    }
}

impl Message {
    /// The message as JSON; null where it is none ([`Kind::Help`]).
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.message).unwrap_or_default()
    }
}

macro_rules! recorded {
    ($($version:literal)*) => {
        /// Every release that was recorded, oldest first.
        pub static ALL: &[Corpus] = &[$(Corpus {
            version: $version,
            text: include_str!(concat!("../../corpus/", $version, ".jsonl")),
        }),*];
    };
}

recorded! {
    "v23.02.2"
    "v23.05.2"
    "v23.08.1"
    "v23.11.2"
    "v24.02.2"
    "v24.05"
    "v24.08.2"
    "v24.11.2"
    "v25.02.2"
    "v25.05"
    "v25.09.3"
    "v25.12.1"
    "v26.04.2"
    "v26.06.6"
}

/// The corpus of this version, such as `v24.11.2`; else the one of its release, by year
/// and month.
pub fn of(version: &str) -> Option<&'static Corpus> {
    let release = |version: &str| version.parse().ok().map(|v: crate::Version| v.release());
    let wanted = release(version)?;
    ALL.iter()
        .find(|corpus| corpus.version == version)
        .or_else(|| {
            ALL.iter()
                .find(|corpus| release(corpus.version) == Some(wanted))
        })
}

impl Corpus {
    /// The version that it was recorded from: `v26.06.6`.
    pub fn version(&self) -> &'static str {
        self.version
    }

    /// Every message, by kind, name and form. Each is read when it is taken.
    pub fn messages(&self) -> impl Iterator<Item = Message> + use<> {
        // A test reads every line of every file.
        self.text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
    }

    /// Those of a kind and name.
    pub fn find(&self, kind: Kind, name: &str) -> impl Iterator<Item = Message> + use<'_> {
        let name = name.to_owned();
        self.messages()
            .filter(move |message| message.kind == kind && message.name == name)
    }

    /// A topic's notifications, one of each form.
    pub fn notifications(&self, topic: &str) -> impl Iterator<Item = Message> + use<'_> {
        self.find(Kind::Notification, topic)
    }

    /// A hook's requests, one of each form.
    pub fn hooks(&self, hook: &str) -> impl Iterator<Item = Message> + use<'_> {
        self.find(Kind::Hook, hook)
    }

    /// What the node answers to this method, without the id; null if it was not asked.
    pub fn answer(&self, method: &str) -> Value {
        let answer = self.find(Kind::Answer, method).next();
        answer.map(|answer| answer.json()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_listed_and_every_line_is_a_message() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .expect("the folder")
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("UTF-8")
            })
            .filter_map(|name| Some(name.strip_suffix(".jsonl")?.to_owned()))
            .collect();
        files.sort();
        let listed: Vec<&str> = ALL.iter().map(Corpus::version).collect();
        assert_eq!(listed, files);
        for corpus in ALL {
            for line in corpus.text.lines() {
                let message: Message = serde_json::from_str(line).expect(line);
                let is_json = !message.json().is_null();
                assert_eq!(is_json, message.kind != Kind::Help, "{line}");
                assert_eq!(serde_json::to_string(&message).expect("JSON"), line);
            }
            assert!(corpus.notifications("connect").count() >= 2);
        }
    }

    #[test]
    fn a_corpus_is_found_by_version_and_by_release() {
        let newest = ALL.last().expect("one").version();
        assert_eq!(of(newest).map(Corpus::version), Some(newest));
        let other = format!("{newest}-1-gabcdef");
        assert_eq!(of(&other).map(Corpus::version), Some(newest));
        assert!(of("v22.11").is_none() && of("a text").is_none());
    }
}
