//! JSON as lightning-cli prints it: the node's own spelling of numbers and
//! strings and its order of keys, in one of several layouts.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Each level is a call, and the stack has an end.
const DEEPEST: usize = 512;

/// A JSON text, taken apart but not interpreted.
#[derive(Debug)]
pub enum Json<'a> {
    /// A number, string, `true`, `false` or `null`, as spelled.
    Leaf(&'a str),
    Array(Vec<Json<'a>>),
    /// Keys as spelled, with their quotes.
    Object(Vec<(&'a str, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// Takes apart a text that serde_json has found to be JSON.
    ///
    /// Nested deeper than `DEEPEST`, it stays as it came.
    pub fn of(raw: &'a RawValue) -> Json<'a> {
        Json::within(raw, DEEPEST)
    }

    /// The same, down to this depth.
    fn within(raw: &'a RawValue, depth: usize) -> Json<'a> {
        let text = raw.get();
        let Some(depth) = depth.checked_sub(1) else {
            return Json::Leaf(text);
        };
        let of = |raw| Json::within(raw, depth);
        let items = serde_json::from_str::<Vec<&RawValue>>(text);
        match (items, serde_json::from_str::<Members>(text)) {
            (Ok(items), _) => Json::Array(items.into_iter().map(of).collect()),
            (_, Ok(Members(members))) => {
                let member = |(key, value): (&'a RawValue, _)| (key.get(), of(value));
                Json::Object(members.into_iter().map(member).collect())
            }
            _ => Json::Leaf(text),
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Json<'a>> {
        match self {
            Json::Object(members) => {
                let member = members.iter().find(|(k, _)| unquoted(k) == key);
                member.map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// The contents of a string, as escaped.
    pub fn text(&self) -> Option<&'a str> {
        match self {
            Json::Leaf(text) if text.starts_with('"') => Some(unquoted(text)),
            _ => None,
        }
    }

    /// Indented by three spaces, as lightning-cli does.
    pub fn pretty(&self) -> String {
        let mut out = String::new();
        self.indent(&mut out, "\n");
        out
    }

    /// `line` starts a line at this depth.
    fn indent(&self, out: &mut String, line: &str) {
        let (brackets, items): (_, Vec<(Option<&str>, &Json<'_>)>) = match self {
            Json::Leaf(text) => return out.push_str(text),
            Json::Array(items) => (["[", "]"], items.iter().map(|item| (None, item)).collect()),
            Json::Object(members) => {
                let members = members.iter().map(|(key, value)| (Some(*key), value));
                (["{", "}"], members.collect())
            }
        };
        let deeper = format!("{line}   ");
        out.push_str(brackets[0]);
        for (n, (key, item)) in items.iter().enumerate() {
            out.extend([if n > 0 { "," } else { "" }, deeper.as_str()]);
            out.extend(key.iter().flat_map(|key| [key, ": "]));
            item.indent(out, &deeper);
        }
        out.extend([if items.is_empty() { "" } else { line }, brackets[1]]);
    }

    /// `key=value` a line, nothing quoted; the only member of an object is printed
    /// without its key.
    pub fn human(&self) -> String {
        let mut out = String::new();
        self.write_human(&mut out);
        out
    }

    fn write_human(&self, out: &mut String) {
        match self {
            Json::Leaf(text) => {
                unescape(out, unquoted(text));
                out.push('\n');
            }
            Json::Array(items) => items.iter().for_each(|item| item.write_human(out)),
            Json::Object(members) => match members.as_slice() {
                [(_, only)] => only.write_human(out),
                several => {
                    for (key, value) in several {
                        unescape(out, unquoted(key));
                        out.push('=');
                        value.write_human(out);
                    }
                }
            },
        }
    }

    /// `x.y[0].z=value` a line.
    pub fn flat(&self) -> String {
        let mut out = String::new();
        self.write_flat(&mut out, "");
        out
    }

    fn write_flat(&self, out: &mut String, path: &str) {
        match self {
            Json::Leaf(text) => out.extend([path, "=", unquoted(text), "\n"]),
            Json::Array(items) => {
                for (n, item) in items.iter().enumerate() {
                    item.write_flat(out, &format!("{path}[{n}]"));
                }
            }
            Json::Object(members) => {
                for (key, value) in members {
                    let dot = if path.is_empty() { "" } else { "." };
                    value.write_flat(out, &format!("{path}{dot}{}", unquoted(key)));
                }
            }
        }
    }
}

/// A value of ours, in the layout of the answers from nodes.
pub fn pretty(value: &serde_json::Value) -> serde_json::Result<String> {
    Ok(Json::of(&serde_json::value::to_raw_value(value)?).pretty())
}

/// An object's members as they are written.
struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let pairs = std::iter::from_fn(|| map.next_entry().transpose());
                pairs.collect::<Result<_, _>>().map(Members)
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

fn unquoted(text: &str) -> &str {
    let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    inner.unwrap_or(text)
}

/// `\n` and `\t` become what they mean; of every other escape the backslash goes.
fn unescape(out: &mut String, text: &str) {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                other => out.extend(other),
            },
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_apart(text: &str) -> Json<'_> {
        Json::of(serde_json::from_str(text).expect("JSON"))
    }

    #[test]
    fn spelling_and_order_stay() {
        let text = r#"{"z":1.50,"a":"q\"\\\u00e9\/","e":{},"l":[],"n":[ 1e3 , {"x" : null} ]}"#;
        let pretty = taken_apart(text).pretty();
        assert_eq!(
            pretty,
            "{\n   \"z\": 1.50,\n   \"a\": \"q\\\"\\\\\\u00e9\\/\",\n   \"e\": {},\n   \"l\": [],\n   \
             \"n\": [\n      1e3,\n      {\n         \"x\": null\n      }\n   ]\n}"
        );
        // Laid out again, it stays as it is.
        assert_eq!(taken_apart(&pretty).pretty(), pretty);
    }

    #[test]
    fn what_is_nested_too_deep_stays_as_it_came() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let text = nested(10_000);
        let json = taken_apart(&text);
        let same = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(same(&json.pretty()), text);
        assert!(json.human().len() + json.flat().len() > text.len());
        assert_eq!(json.pretty().lines().count(), 2 * DEEPEST + 1);
        assert_eq!(
            taken_apart(&nested(DEEPEST)).pretty().lines().count(),
            2 * DEEPEST - 1
        );
    }

    #[test]
    fn other_layouts() {
        let json = taken_apart(r#"{"a":[{"only":"x\ny"},2],"b":{"c":true,"d":"\\"}}"#);
        assert_eq!(json.human(), "a=x\ny\n2\nb=c=true\nd=\\\n");
        assert_eq!(json.flat(), "a[0].only=x\\ny\na[1]=2\nb.c=true\nb.d=\\\\\n");
    }

    proptest::proptest! {
        /// Whatever is printed means what was read.
        #[test]
        fn nothing_is_changed(text in "([0-9]{1,3}|\"[a-z\\\\\\\\\"]{0,4}\"|[\\[\\]{}:,]){1,12}") {
            if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) {
                let again: serde_json::Value =
                    serde_json::from_str(&taken_apart(&text).pretty()).expect("JSON");
                proptest::prop_assert_eq!(value, again);
            }
        }
    }
}
