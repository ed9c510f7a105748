//! An object's members, as lightningd finds them.

use std::borrow::Cow;

use crate::scan::value_length;

/// The members of an object in order, duplicates included: keys without their quotes
/// and values, both as they are written. lightningd compares keys as written, too.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Members<'a>(pub Vec<(&'a str, &'a str)>);

impl<'a> Members<'a> {
    /// Reads what [`Splitter`](crate::Splitter) found whole, JSON or not; `None` if it
    /// is not an object.
    pub fn read(message: &'a str) -> Option<Members<'a>> {
        let mut rest = message.trim_ascii().strip_prefix('{')?;
        let mut found = Vec::new();
        while let Some((key, value, after)) = member(rest) {
            found.push((unquoted(key), value));
            rest = after;
        }
        Some(Members(found))
    }

    /// The first member of this name.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let member = self.0.iter().find(|(key, _)| *key == name);
        member.map(|(_, value)| *value)
    }

    /// The first member of this name, if it is a string: its text. One that cannot be
    /// decoded is as it is written.
    pub fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        let value = self.get(name)?;
        let inner = value.strip_prefix('"')?.strip_suffix('"')?;
        Some(serde_json::from_str::<String>(value).map_or(Cow::Borrowed(inner), Cow::Owned))
    }
}

/// The next key and its value, and what follows.
fn member(rest: &str) -> Option<(&str, &str, &str)> {
    let blank = |c| matches!(c, ' ' | '\t' | '\r' | '\n' | ',' | ':');
    let (key, rest) = value(rest.trim_start_matches(blank))?;
    let (value, rest) = value(rest.trim_start_matches(blank))?;
    Some((key, value, rest))
}

/// The value that the text starts with, and what follows.
fn value(text: &str) -> Option<(&str, &str)> {
    text.split_at_checked(value_length(text.as_bytes())?)
}

fn unquoted(key: &str) -> &str {
    let inner = key.strip_prefix('"').and_then(|k| k.strip_suffix('"'));
    inner.unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn members_are_found_as_they_are_written() {
        let message = "{\"jsonrpc\":\"2.0\",\"id\":\"a/b#1\", \"method\" : \"mine\",\"origin\":\"a\\ud800\",\
                       \"params\":{\"id\":[127.0.0.1{,\"a\tb\"],\"method\":007}, \"id\":1.0}";
        let members = Members::read(message).expect("an object");
        let expected = [
            ("jsonrpc", "\"2.0\""),
            ("id", "\"a/b#1\""),
            ("method", "\"mine\""),
            ("origin", "\"a\\ud800\""),
            ("params", "{\"id\":[127.0.0.1{,\"a\tb\"],\"method\":007}"),
            ("id", "1.0"),
        ];
        assert_eq!(members.0, expected);
        assert_eq!(members.get("id"), Some("\"a/b#1\""));
        assert_eq!(members.text("method").as_deref(), Some("mine"));
        assert_eq!(members.text("origin").as_deref(), Some("a\\ud800"));
        assert_eq!(members.text("params"), None);
        assert_eq!(Members::read("[1]"), None);
    }

    proptest! {
        #[test]
        fn any_text_has_members_or_has_not(text in "\\{[\"{}\\[\\]:, a\\\\1\u{e9}]{0,40}") {
            let _ = Members::read(&text);
        }
    }
}
