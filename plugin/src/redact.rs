//! Secrets left out: preimages and payment secrets.
//!
//! A preimage is replaced by `sha256:` and its hash, which is the payment hash
//! (BOLT 4): the record can still be matched with the invoice. Anything else
//! under a secret's name becomes `"redacted"`. Everything around it stays as
//! lightningd wrote it, byte for byte. A BOLT 11 string is left as it is: it is
//! made to be given away.

use std::borrow::Cow;
use std::fmt;

use bitcoin_hashes::hex::FromHex;
use bitcoin_hashes::{Hash, sha256};
use serde::Deserializer as _;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::notification::Key;

const REDACTED: &str = "\"redacted\"";

/// Objects and arrays within one another beyond this many are not looked into:
/// the payload is left out whole. lightningd's own go to about six.
const DEPTH: u8 = 64;

/// The payload with its secrets replaced; borrowed if it has none.
pub fn payload(json: &str) -> Cow<'_, str> {
    if !may_have_secrets(json.as_bytes()) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    match copy(json, DEPTH, &mut out) {
        Ok(()) => Cow::Owned(out),
        // It was JSON when it came in; should it not be, nothing may leak.
        Err(_) => Cow::Borrowed(REDACTED),
    }
}

/// Quick and on the safe side: most payloads end here. A key may be written
/// with escapes, so a `\u` counts as well.
fn may_have_secrets(json: &[u8]) -> bool {
    memchr::memmem::find(json, b"preimage\"").is_some()
        || memchr::memmem::find(json, b"secret\"").is_some()
        || memchr::memmem::find(json, b"\\u").is_some()
}

fn is_secret(key: &str) -> bool {
    key.ends_with("preimage") || key.ends_with("secret")
}

fn copy(json: &str, depth: u8, out: &mut String) -> Result<(), serde_json::Error> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(serde::de::Error::custom("nested too deep"));
    };
    let mut deserializer = serde_json::Deserializer::from_str(json);
    match json.as_bytes().first() {
        Some(b'{') => deserializer.deserialize_map(Copier { depth, out }),
        Some(b'[') => deserializer.deserialize_seq(Copier { depth, out }),
        _ => {
            out.push_str(json);
            Ok(())
        }
    }
}

/// Copies an object or an array member by member.
struct Copier<'o> {
    depth: u8,
    out: &'o mut String,
}

impl<'de> Visitor<'de> for Copier<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut before = '{';
        while let Some(Key(key)) = map.next_key()? {
            self.out.push(before);
            before = ',';
            let quoted = serde_json::to_string(&key).map_err(serde::de::Error::custom)?;
            self.out.push_str(&quoted);
            self.out.push(':');
            let value = map.next_value::<&RawValue>()?.get();
            if is_secret(&key) {
                replace(value, self.out);
            } else {
                copy(value, self.depth, self.out).map_err(serde::de::Error::custom)?;
            }
        }
        self.out.push_str(if before == '{' { "{}" } else { "}" });
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut before = '[';
        while let Some(value) = seq.next_element::<&RawValue>()? {
            self.out.push(before);
            before = ',';
            copy(value.get(), self.depth, self.out).map_err(serde::de::Error::custom)?;
        }
        self.out.push_str(if before == '[' { "[]" } else { "]" });
        Ok(())
    }
}

/// Writes the replacement of a secret: the hash of 32 bytes in hex, else a word.
fn replace(value: &str, out: &mut String) {
    if value == "null" {
        return out.push_str(value);
    }
    let preimage = serde_json::from_str::<Cow<str>>(value)
        .ok()
        .and_then(|hex| <[u8; 32]>::from_hex(&hex).ok());
    match preimage {
        Some(preimage) => {
            out.push_str("\"sha256:");
            out.push_str(&sha256::Hash::hash(&preimage).to_string());
            out.push('"');
        }
        None => out.push_str(REDACTED),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::notification::tests::json;

    #[test]
    fn a_preimage_becomes_its_payment_hash() {
        let zeros = "00".repeat(32);
        let json = format!(r#"{{"msat":100000000,"preimage":"{zeros}","label":"inv"}}"#);
        // The SHA-256 of 32 zero bytes.
        let hash = "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925";
        assert_eq!(
            payload(&json),
            format!(r#"{{"msat":100000000,"preimage":"sha256:{hash}","label":"inv"}}"#)
        );
    }

    #[test]
    fn secrets_are_found_at_any_depth_and_in_any_spelling() {
        assert_eq!(
            payload(
                r#"{"a":[{"payment_secret":"xyz"},{}],"pre\u0069mage":5,"preimage":null,"b":[]}"#
            ),
            r#"{"a":[{"payment_secret":"redacted"},{}],"preimage":"redacted","preimage":null,"b":[]}"#
        );
        assert_eq!(
            payload(r#"{"shared_secret":{"x":1}}"#),
            r#"{"shared_secret":"redacted"}"#
        );
    }

    #[test]
    fn a_payload_too_deep_to_search_is_left_out() {
        let deep = format!(
            "{}{{\"preimage\":1}}{}",
            "[".repeat(200_000),
            "]".repeat(200_000)
        );
        assert_eq!(payload(&deep), REDACTED);
    }

    #[test]
    fn the_rest_is_left_byte_for_byte() {
        let odd = r#"{"n":1e400,"n":0.10,"s":"\u00e9\n","o":{ "x" : 1 }}"#;
        assert_eq!(
            payload(odd),
            r#"{"n":1e400,"n":0.10,"s":"\u00e9\n","o":{"x":1}}"#
        );
        assert!(matches!(payload(r#"{ "id" : "02" }"#), Cow::Borrowed(_)));
    }

    /// The value without its secrets.
    fn expected(value: &mut Value) {
        match value {
            Value::Array(values) => values.iter_mut().for_each(expected),
            Value::Object(map) => {
                for (key, value) in map.iter_mut() {
                    if !is_secret(key) {
                        expected(value);
                    } else if !value.is_null() {
                        let mut out = String::new();
                        replace(&value.to_string(), &mut out);
                        *value = serde_json::from_str(&out).unwrap();
                    }
                }
            }
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn secrets_go_and_the_rest_stays(value in json()) {
            let mut without = value.clone();
            expected(&mut without);
            let redacted = payload(&value.to_string()).into_owned();
            prop_assert_eq!(serde_json::from_str::<Value>(&redacted).unwrap(), without);
        }
    }
}
