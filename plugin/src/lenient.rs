//! Messages that lightningd sends and that are not JSON: it hands on a raw tab in
//! a string, `007`, or `127.0.0.1` as another plugin or an RPC caller wrote it.
//! Their outermost members can still be found.

use std::borrow::Cow;

use crate::framing;

/// The outermost members of a message, as text.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Loose<'a> {
    /// The `id`.
    pub id: Option<&'a str>,
    /// The `method`.
    pub method: Option<Cow<'a, str>>,
    /// The `origin`.
    pub origin: Option<Cow<'a, str>>,
    /// The `params`.
    pub params: Option<&'a str>,
}

/// Finds the outermost members of a message that the framing found whole.
pub fn read(message: &str) -> Loose<'_> {
    let mut found = Loose::default();
    let mut rest = message.strip_prefix('{').unwrap_or_default();
    while let Some((key, value, after)) = member(rest) {
        match key {
            r#""id""# => found.id = found.id.or(Some(value)),
            r#""method""# if found.method.is_none() => found.method = text(value),
            r#""origin""# if found.origin.is_none() => found.origin = text(value),
            r#""params""# => found.params = found.params.or(Some(value)),
            _ => {}
        }
        rest = after;
    }
    found
}

/// The next key and its value, and what follows.
fn member(rest: &str) -> Option<(&str, &str, &str)> {
    let blank = |c| matches!(c, ' ' | '\t' | '\r' | '\n' | ',' | ':');
    let (key, rest) = value(rest.trim_start_matches(blank))?;
    let (value, rest) = value(rest.trim_start_matches(blank))?;
    Some((key, value, rest))
}

/// The value that the text begins with, and what follows.
fn value(text: &str) -> Option<(&str, &str)> {
    let length = framing::value_length(text.as_bytes())?;
    text.split_at_checked(length)
}

/// A string's text; one that cannot be decoded stays as it is written.
fn text(value: &str) -> Option<Cow<'_, str>> {
    let quoted = value.strip_prefix('"')?.strip_suffix('"')?;
    Some(serde_json::from_str::<String>(value).map_or(Cow::Borrowed(quoted), Cow::Owned))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_outermost_members_are_found() {
        let message = "{\"jsonrpc\":\"2.0\",\"id\":\"a/b#1\", \"method\" : \"mine\",\"origin\":\"a\\ud800\",\
                       \"params\":{\"id\":[127.0.0.1{,\"a\tb\"],\"method\":007}}";
        assert_eq!(
            read(message),
            Loose {
                id: Some("\"a/b#1\""),
                method: Some("mine".into()),
                origin: Some("a\\ud800".into()),
                params: Some("{\"id\":[127.0.0.1{,\"a\tb\"],\"method\":007}"),
            }
        );
        assert_eq!(read("[1]"), Loose::default());
        assert_eq!(read("{\"method\":7,\"id\":7}").id, Some("7"));
    }

    proptest! {
        #[test]
        fn any_text_has_members_or_has_not(text in "\\{[\"{}\\[\\]:, a\\\\1\u{e9}]{0,40}") {
            let _ = read(&text);
        }
    }
}
