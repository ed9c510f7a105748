//! Answers compared with patterns: JSON in which some texts stand for others.
//!
//! - `"<hex>"`: a text of hexadecimal digits; `"<int>"`: a whole number;
//!   `"<any>"`: anything.
//! - `…` in a text: any text.
//! - a member named `…`: the object may have more members than these.

use regex::Regex;
use serde_json::Value;

/// Where and how `seen` differs from the pattern; `None` if it matches.
pub fn mismatch(pattern: &Value, seen: &Value) -> Option<String> {
    at("answer", pattern, seen)
}

fn at(path: &str, pattern: &Value, seen: &Value) -> Option<String> {
    let differs = || Some(format!("{path}: expected {pattern}, seen {seen}"));
    match (pattern, seen) {
        (Value::String(text), _) if text == "<any>" => None,
        (Value::String(text), _) if text == "<int>" => (!seen.is_u64()).then(differs).flatten(),
        (Value::String(text), Value::String(seen)) if text == "<hex>" => {
            let hex = !seen.is_empty() && seen.bytes().all(|b| b.is_ascii_hexdigit());
            (!hex).then(differs).flatten()
        }
        (Value::String(text), Value::String(seen)) => {
            (!matches(text, seen)).then(differs).flatten()
        }
        (Value::Object(wanted), Value::Object(members)) => {
            for (name, pattern) in wanted.iter().filter(|(name, _)| *name != "…") {
                let Some(value) = members.get(name) else {
                    return Some(format!("{path}: no `{name}` in {seen}"));
                };
                if let Some(difference) = at(&format!("{path}.{name}"), pattern, value) {
                    return Some(difference);
                }
            }
            let more = members.keys().find(|name| !wanted.contains_key(*name));
            match more {
                Some(name) if !wanted.contains_key("…") => {
                    Some(format!("{path}: unexpected `{name}` in {seen}"))
                }
                _ => None,
            }
        }
        (Value::Array(wanted), Value::Array(elements)) => {
            if wanted.len() != elements.len() {
                return differs();
            }
            let mut pairs = wanted.iter().zip(elements).enumerate();
            pairs.find_map(|(n, (pattern, value))| at(&format!("{path}[{n}]"), pattern, value))
        }
        _ => (pattern != seen).then(differs).flatten(),
    }
}

/// Whether `text` is the pattern, with any text for each `…`.
fn matches(pattern: &str, text: &str) -> bool {
    let pattern = regex::escape(pattern).replace('…', ".*");
    Regex::new(&format!("(?s)^{pattern}$")).is_ok_and(|pattern| pattern.is_match(text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn texts() {
        for (pattern, text, want) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a…", "abc", true),
            ("…c", "abc", true),
            ("a…c", "abc", true),
            ("a…c", "abcd", false),
            ("a…b…c", "a1b2c", true),
            ("a…b…c", "a1c", false),
            ("a…a", "a", false),
            ("…", "", true),
        ] {
            assert_eq!(matches(pattern, text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn values() {
        let pattern = json!({"a": "<int>", "b": ["<hex>", "<any>"], "c": {"x": 1, "…": ""}});
        let good = json!({"a": 1, "b": ["00ff", null], "c": {"x": 1, "y": 2}});
        assert_eq!(mismatch(&pattern, &good), None);
        for (path, wrong, says) in [
            ("/a", json!("1"), "answer.a: expected"),
            ("/b/0", json!("xy"), "answer.b[0]: expected"),
            ("/b", json!(["00"]), "answer.b: expected"),
            ("/c", json!({"y": 2}), "answer.c: no `x`"),
        ] {
            let mut value = good.clone();
            *value.pointer_mut(path).unwrap() = wrong;
            let difference = mismatch(&pattern, &value).unwrap();
            assert!(difference.starts_with(says), "{difference}");
        }
        let mut value = good;
        value["d"] = json!(1);
        assert!(
            mismatch(&pattern, &value)
                .unwrap()
                .contains("unexpected `d`")
        );
    }
}
