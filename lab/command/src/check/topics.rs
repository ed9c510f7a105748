//! The topics that the plugin subscribed to, in each form, as sent and varied.

use std::collections::{BTreeMap, BTreeSet};

use cln_lab::Result;
use cln_lab::corpus::{Message, Shape};
use serde_json::{Value, json};

use super::codes::{self, Code};
use super::finding::{Finding, Stage};
use super::run::{Run, title};
use super::session::Trouble;

/// A message, and what is sent: as recorded, or varied.
#[derive(Debug, Clone)]
struct Play<'a> {
    message: &'a Message,
    sent: String,
}

impl Run<'_> {
    /// Plays each topic. All at once, since hardly any plugin fails; one by one to find at
    /// which it does.
    pub(super) async fn topics(&mut self) -> Result<()> {
        let release = self.release;
        let chosen = |message: &&Message| {
            // The end is a stage of its own.
            let wanted = self.plan.topics.is_empty() || self.plan.topics.contains(&message.name);
            message.name != "shutdown" && wanted
        };
        let subscriptions = self.manifest.subscriptions.clone();
        let messages: Vec<&Message> = release
            .notifications(&subscriptions)
            .filter(chosen)
            .collect();
        let recorded = |topic: &String| messages.iter().any(|message| message.name == *topic);
        let unrecorded = subscriptions.iter().filter(|topic| {
            let unplayed = *topic != "*" && *topic != "shutdown" && !recorded(topic);
            self.plan.topics.is_empty() && unplayed && release.sends(topic)
        });
        let unrecorded: Vec<String> = unrecorded.cloned().collect();
        self.report.unrecorded.extend(unrecorded);
        let played = messages.iter().map(|m| (Stage::Topics, m.name.clone()));
        self.report.subjects.extend(played);
        let (today, off): (Vec<&Message>, Vec<&Message>) =
            messages.iter().partition(|message| message.deprecated);
        let play = |message, sent| Play { message, sent };
        let plain: Vec<Play> = today.iter().map(|m| play(m, m.message.clone())).collect();
        let off: Vec<Play> = off.iter().map(|m| play(m, m.message.clone())).collect();
        let added: Vec<Play> = today.iter().map(|m| play(m, with_more(m))).collect();
        let absent = with_less(&today);
        // A topic that fails as it is sent is not varied, too.
        let mut failed = BTreeSet::new();
        let fails = (&codes::DIES, &codes::FAILS);
        self.play(&plain, fails, &mut failed).await?;
        for (plays, code) in [
            (added, &codes::ADDED),
            (absent, &codes::ABSENT),
            (off, &codes::DEPRECATED),
        ] {
            self.play(&plays, (code, code), &mut failed.clone()).await?;
        }
        Ok(())
    }

    async fn play(
        &mut self,
        plays: &[Play<'_>],
        (dies, fails): (&'static Code, &'static Code),
        failed: &mut BTreeSet<String>,
    ) -> Result<()> {
        let plays: Vec<&Play> = plays
            .iter()
            .filter(|play| !failed.contains(&play.message.name))
            .collect();
        if plays.is_empty() || !self.revive().await? {
            return Ok(());
        }
        let together: Vec<&String> = plays.iter().map(|play| &play.sent).collect();
        let before = self.report.findings.len();
        if self.deliver(&together, (dies, fails), None).await {
            return Ok(());
        }
        // Something is wrong with one of them, or with several at once.
        let mut alone = true;
        for play in plays {
            if failed.contains(&play.message.name) {
                continue;
            }
            if !self.revive().await? {
                return Ok(());
            }
            let subject = title(play.message);
            // What it does with the message as it is may only show late: then the member
            // is not to blame.
            let as_sent = &play.message.message;
            let varied = play.sent != *as_sent;
            let codes = (&codes::DIES, &codes::FAILS);
            let well = (!varied || self.deliver(&[as_sent], codes, Some(&subject)).await)
                && self
                    .deliver(&[&play.sent], (dies, fails), Some(&subject))
                    .await;
            if !well {
                failed.insert(play.message.name.clone());
                alone = false;
            }
        }
        if let Some(finding) = self.together.take()
            && alone
            && self.report.findings.len() == before
        {
            self.push(finding);
        }
        Ok(())
    }

    /// Sends messages and waits until they are handled; true if nothing went wrong. With a
    /// subject it is recorded.
    async fn deliver(
        &mut self,
        messages: &[&String],
        (dies, fails): (&'static Code, &'static Code),
        subject: Option<&str>,
    ) -> bool {
        let probe = self.probe();
        let Some(session) = &mut self.session else {
            return false;
        };
        session.rpc.forget();
        self.report.sent += messages.len();
        let sent = session.send(messages).await;
        let settled = session.settle(self.plan.patience).await;
        let mut troubles = session.troubles().await;
        let mut unread = sent.is_err() || !settled;
        // It may have read all, and wait for what never comes.
        if let (Some((method, id, request)), true) = (probe, troubles.is_empty() && !unread) {
            let sent = session.send(&[request]).await;
            let answer = match messages.len() {
                1 => session.plugin.response(&method, &id).await,
                _ => session.answered(&method, &id).await,
            };
            unread = sent.is_err() || answer.is_err();
            session.settle(self.plan.patience).await;
            session.forget_failures();
            if unread {
                troubles = session.troubles().await;
            }
        }
        let ended = troubles.iter().any(Trouble::ends);
        unread &= !ended;
        let well = troubles.is_empty() && !unread;
        let message = messages
            .first()
            .map(|text| text.as_str())
            .unwrap_or_default();
        match subject {
            Some(subject) => {
                for trouble in troubles {
                    self.trouble(trouble, dies, fails, subject, message);
                }
                if unread {
                    let text = format!("it neither reads nor answers after {subject}");
                    self.found(Finding::new(&codes::UNREAD, subject, text).sent(message));
                }
            }
            None if well => {}
            None => {
                let what: Vec<String> = troubles.iter().map(Trouble::to_string).collect();
                let text = "it fails at several notifications at once, but at none alone";
                let finding = Finding::new(&codes::PIECES, "several at once", text);
                let silence = if unread {
                    "it neither reads nor answers"
                } else {
                    ""
                };
                self.together = Some(self.doubted(finding.came(what.join("\n") + silence)));
                self.session = None;
            }
        }
        if ended || unread {
            self.session = None;
        }
        well
    }
}

/// The message with a member more in `params` and in its payload.
fn with_more(message: &Message) -> String {
    let mut json = message.json();
    let more = json!({"from": "lab check"});
    let name = "lab_check_unknown_member";
    if let Some(params) = json["params"].as_object_mut() {
        for (_, payload) in params.iter_mut() {
            if let Some(payload) = payload.as_object_mut() {
                payload.insert(name.to_owned(), more.clone());
            }
        }
        params.insert(name.to_owned(), more);
    }
    json.to_string()
}

/// The messages without what is not in every message of their topic and first word of
/// the form: one without all of it each.
fn with_less<'a>(messages: &[&'a Message]) -> Vec<Play<'a>> {
    // A status or a type has members of its own: only what varies within one is optional.
    let kind = |message: &Message| {
        let form = message.form.split(' ').next().unwrap_or_default();
        let form = if form.starts_with('+') { "" } else { form };
        (message.name.clone(), form.to_owned())
    };
    let mut always: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for message in messages {
        let shape = Shape::of(&message.json());
        let members: BTreeSet<String> = shape.members().map(|(path, _)| path.to_owned()).collect();
        always
            .entry(kind(message))
            .and_modify(|common| common.retain(|member| members.contains(member)))
            .or_insert(members);
    }
    let mut plays: Vec<Play> = Vec::new();
    for &message in messages {
        let mut json = message.json();
        if prune(&mut json, "", &always[&kind(message)]) {
            let sent = json.to_string();
            // Without what is optional, several forms are one.
            if !plays.iter().any(|play| play.sent == sent) {
                plays.push(Play { message, sent });
            }
        }
    }
    plays
}

/// Removes the members that are not in `common`, by their paths; true if there was one.
fn prune(value: &mut Value, path: &str, common: &BTreeSet<String>) -> bool {
    let Some(members) = value.as_object_mut() else {
        return false;
    };
    let path_of = |name: &str| {
        let dot = if path.is_empty() { "" } else { "." };
        format!("{path}{dot}{name}")
    };
    let before = members.len();
    members.retain(|name, _| common.contains(&path_of(name)));
    let mut removed = members.len() < before;
    for (name, member) in members {
        removed |= prune(member, &path_of(name), common);
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;
    use cln_lab::corpus;

    #[test]
    fn what_is_not_in_every_message_is_left_out() {
        let newest = corpus::ALL.last().expect("one");
        let messages: Vec<Message> = newest.notifications("sendpay_failure").collect();
        let messages: Vec<&Message> = messages.iter().filter(|m| m.deprecated).collect();
        let less = with_less(&messages);
        let without = |play: &Play| !play.sent.contains("erring_node");
        assert!(
            less.iter()
                .any(|play| play.message.form.contains("+erring_node") && without(play))
        );
        assert!(less.iter().all(|play| play.sent.contains("payment_hash")));
    }

    #[test]
    fn a_member_more_is_in_the_payload_and_beside_it() {
        let newest = corpus::ALL.last().expect("one");
        let message = newest.notifications("connect").next().expect("one");
        assert_eq!(
            with_more(&message)
                .matches("lab_check_unknown_member")
                .count(),
            2
        );
    }
}
