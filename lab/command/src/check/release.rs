//! What one release sends, answers and refuses.

use std::collections::{BTreeSet, HashMap};

use cln_lab::corpus::{Corpus, Kind, Message};
use cln_topics::{Hook, Topic};
use serde_json::{Value, json};

/// What a node that has none of them answers, on every release that has the method: its
/// list.
const EMPTY: [(&str, &str); 6] = [
    ("askrene-listlayers", "layers"),
    ("listdatastore", "datastore"),
    ("listforwards", "forwards"),
    ("listhtlcs", "htlcs"),
    ("listpays", "pays"),
    ("listsendpays", "payments"),
];

/// A release, its messages read once.
#[derive(Debug)]
pub struct Release {
    /// Where they are from.
    pub corpus: &'static Corpus,
    /// Its year and month.
    pub number: cln_topics::Release,
    notifications: Vec<Message>,
    hooks: Vec<Message>,
    /// What it answers on its RPC socket, by method.
    pub answers: HashMap<String, Value>,
    /// The methods it has, with those of the plugins shipped with it.
    pub methods: BTreeSet<String>,
    /// The options it has.
    pub options: BTreeSet<String>,
}

impl Release {
    /// Reads the corpus of a release.
    pub fn read(corpus: &'static Corpus) -> Release {
        let number = corpus.version().parse();
        let mut release = Release {
            corpus,
            number: number.unwrap_or(cln_topics::Release::NEWEST),
            notifications: Vec::new(),
            hooks: Vec::new(),
            answers: HashMap::new(),
            methods: BTreeSet::new(),
            options: BTreeSet::new(),
        };
        for message in corpus.messages() {
            match message.kind {
                Kind::Notification => release.notifications.push(message),
                Kind::Hook => release.hooks.push(message),
                Kind::Answer => {
                    let answer = message.json();
                    release.answers.insert(message.name, answer);
                }
                Kind::Help => release.options = options(&message.message),
                _ => {}
            }
        }
        let help = release.answers.get("help").cloned().unwrap_or_default();
        let commands = help["result"]["help"].as_array().into_iter().flatten();
        release.methods = commands
            .filter_map(|command| command["command"].as_str()?.split_whitespace().next())
            // Those of the plugins that the recorded node had besides.
            .filter(|method| *method != "witness" && !method.starts_with("eventlog-"))
            .map(str::to_owned)
            .collect();
        for (method, list) in EMPTY {
            if release.methods.contains(method) {
                let answer = || json!({"result": {list: []}});
                release
                    .answers
                    .entry(method.to_owned())
                    .or_insert_with(answer);
            }
        }
        release
    }

    /// `v24.11.2`.
    pub fn version(&self) -> &'static str {
        self.corpus.version()
    }

    /// True for this release, by year and month, and later ones.
    pub fn since(&self, year: u16, month: u16) -> bool {
        self.number >= cln_topics::Release(year, month)
    }

    /// What a plugin with these subscriptions is sent, one message of each form: the
    /// wildcard is for all but `log`, from v23.08 on.
    pub fn notifications<'a>(
        &'a self,
        subscriptions: &'a [String],
    ) -> impl Iterator<Item = &'a Message> + use<'a> {
        let wildcard = self.since(23, 8) && subscriptions.iter().any(|topic| topic == "*");
        self.notifications.iter().filter(move |message| {
            subscriptions.contains(&message.name) || (wildcard && message.name != "log")
        })
    }

    /// The calls of a hook, one of each form.
    pub fn hooks<'a>(&'a self, hook: &'a str) -> impl Iterator<Item = &'a Message> + use<'a> {
        self.hooks
            .iter()
            .filter(move |message| message.name == hook)
    }

    /// True if it has this hook.
    pub fn has_hook(&self, name: &str) -> bool {
        Hook::find(name).is_some_and(|hook| hook.since <= self.number)
    }

    /// True if it sends this topic.
    pub fn sends(&self, topic: &str) -> bool {
        let known = Topic::find(topic).is_some_and(|topic| topic.is_sent_by(self.number));
        known
            || self
                .notifications
                .iter()
                .any(|message| message.name == topic)
    }
}

/// The options in what `lightningd --help` prints: `--name=<arg>` at the start of a line,
/// aliases separated by `|`.
fn options(help: &str) -> BTreeSet<String> {
    let first_words = help
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    first_words
        .filter(|word| word.starts_with("--"))
        .flat_map(|word| word.split('|'))
        .filter_map(|word| word.trim_start_matches('-').split(['=', '<', '[']).next())
        .filter(|name| name.len() > 1)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cln_lab::corpus;

    #[test]
    fn a_release_has_its_methods_and_options() {
        let newest = Release::read(corpus::ALL.last().expect("one"));
        assert!(newest.methods.contains("getinfo") && newest.methods.contains("pay"));
        assert!(newest.options.contains("alias") && newest.options.contains("network"));
        assert!(newest.sends("connect") && newest.has_hook("recover"));
        let topics = ["*".to_owned()];
        assert!(newest.notifications(&topics).all(|m| m.name != "log"));
    }

    #[test]
    fn options_stand_at_the_start_of_a_line() {
        let help = "--conf=<file>   Specify --that\n--log-level|-l <x>  y\n  --rgb <RRGGBB>";
        let names: Vec<String> = options(help).into_iter().collect();
        assert_eq!(names, ["conf", "log-level", "rgb"]);
    }
}
