//! A trace as a Mermaid sequence diagram, which GitHub shows in an issue.

use std::collections::HashMap;
use std::fmt::Write;

use super::{Entry, Kind, Trace};

/// A label, in characters, is cut.
const LABEL: usize = 60;

impl Trace {
    /// A sequence diagram of the last `most` messages, and of what else happened between
    /// them that went wrong.
    pub fn mermaid(&self, most: usize) -> String {
        let drawn = |entry: &&Entry| {
            let line = matches!(
                entry.kind,
                Kind::Log | Kind::Stderr | Kind::Note | Kind::Lab
            );
            !line || entry.bad
        };
        let all: Vec<&Entry> = self.entries.iter().filter(drawn).collect();
        let shown = &all[all.len().saturating_sub(most)..];
        let mut text = "sequenceDiagram\n".to_owned();
        let mut names = HashMap::new();
        for lane in self.lanes() {
            let takes_part =
                |entry: &&Entry| entry.from == lane || entry.to.as_ref() == Some(&lane);
            if shown.iter().any(takes_part) {
                // A name of our own: a lane's may be a word of the language.
                let id = format!("p{}", names.len());
                let _ = writeln!(text, "    participant {id} as {}", plain(&lane, 24));
                names.insert(lane, id);
            }
        }
        if shown.len() < all.len() {
            let (first, last) = ("p0", format!("p{}", names.len().saturating_sub(1)));
            let left_out = all.len() - shown.len();
            let _ = writeln!(
                text,
                "    Note over {first},{last}: {left_out} earlier ones are left out"
            );
        }
        for entry in shown {
            let from = &names[&entry.from];
            let label = plain(&label(entry), LABEL);
            let _ = match entry.to.as_ref().and_then(|to| names.get(to)) {
                Some(to) => writeln!(text, "    {from}{}{to}: {label}", arrow(entry)),
                None => writeln!(text, "    Note over {from}: {label}"),
            };
        }
        text
    }
}

fn arrow(entry: &Entry) -> &'static str {
    match entry.kind {
        Kind::Answer | Kind::Ready if entry.bad => "--x",
        Kind::Answer | Kind::Ready => "-->>",
        Kind::Notification | Kind::Message | Kind::Block => "-)",
        _ => "->>",
    }
}

/// What happened, in a few words.
pub(super) fn label(entry: &Entry) -> String {
    let kind = format!("{:?}", entry.kind).to_lowercase();
    let mut label = match entry.kind {
        Kind::Request | Kind::Notification | Kind::Message => entry.name.clone(),
        Kind::Answer if entry.bad => format!("{}: {}", entry.name, error(entry)),
        Kind::Answer => {
            let text = entry.text.as_deref().filter(|_| entry.cut.is_none());
            format!("{}: {}", entry.name, text.unwrap_or("ok"))
        }
        Kind::Hook | Kind::Block => format!("{kind} {}", entry.name),
        Kind::Ready => kind,
        Kind::Start if !entry.name.is_empty() => format!("{kind}: {}", entry.name),
        Kind::Log => format!(
            "{}: {}",
            entry.name,
            entry.text.as_deref().unwrap_or_default()
        ),
        _ => match &entry.text {
            Some(text) => format!("{kind}: {text}"),
            None => kind,
        },
    };
    if let Some(ms) = entry.ms {
        let _ = write!(label, " ({ms:.1} ms)");
    }
    label
}

/// An answer's error, as far as it has a message.
fn error(entry: &Entry) -> String {
    let error: Option<serde_json::Value> = entry
        .data
        .as_ref()
        .and_then(|data| serde_json::from_str(data.get()).ok());
    let message = error.as_ref().and_then(|error| error["message"].as_str());
    message.unwrap_or("error").to_owned()
}

/// A text that ends no statement, and that a browser shows as it is.
fn plain(text: &str, most: usize) -> String {
    let mut plain = String::new();
    for c in text.chars().take(most) {
        match c {
            // Mermaid's own notation for characters.
            '#' | ';' | '<' | '>' | '"' | '&' | '%' => {
                let _ = write!(plain, "#{};", u32::from(c));
            }
            c if c.is_whitespace() || c.is_control() => plain.push(' '),
            c => plain.push(c),
        }
    }
    if text.chars().count() > most {
        plain.push('…');
    }
    // An empty label, and the word `end`, are errors.
    let word = plain.trim();
    if word.is_empty() || word.eq_ignore_ascii_case("end") {
        format!("#32;{word}")
    } else {
        plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagram_has_the_last_messages() {
        let request = |name: &str| Entry::new(Kind::Request, "lab").to("l1").name(name);
        let trace = Trace {
            entries: vec![
                request("first"),
                request("plugin; evil\nend"),
                Entry::new(Kind::Answer, "l1")
                    .to("lab")
                    .name("x")
                    .json(r#"{"message":"<b>no</b>"}"#)
                    .bad(true),
                Entry::new(Kind::Log, "l1").name("info").text("left out"),
                Entry::new(Kind::End, "l1").text("signal: 9").bad(true),
            ],
            nodes: vec!["l1".to_owned()],
            ..Trace::default()
        };
        assert_eq!(
            trace.mermaid(3),
            "sequenceDiagram\n    participant p0 as lab\n    participant p1 as l1\n    \
             Note over p0,p1: 1 earlier ones are left out\n    \
             p0->>p1: plugin#59; evil end\n    \
             p1--xp0: x: #60;b#62;no#60;/b#62;\n    \
             Note over p1: end: signal: 9\n"
        );
        assert_eq!(plain(" End ", 9), "#32;End");
    }
}
