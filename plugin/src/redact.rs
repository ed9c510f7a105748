//! Secrets left out: preimages, payment secrets, runes, keys.
//!
//! A preimage is replaced by `sha256:` and its hash, which is the payment hash
//! (BOLT 4): the record can still be matched with the invoice. Anything else
//! under a secret's name becomes `"redacted"`. Names count in any spelling, and in
//! the text of a string as well: cln-xpay logs `Success: preimage=...`. Everything
//! around it stays as lightningd wrote it, byte for byte. A BOLT 11 string is left
//! as it is: it is made to be given away.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use bitcoin_hashes::hex::FromHex;
use bitcoin_hashes::{Hash, sha256};
use regex::{Regex, RegexBuilder};
use serde::Deserializer as _;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::notification::Key;

const REDACTED: &str = "\"redacted\"";

/// Objects and arrays within one another beyond this many are not looked into:
/// the payload is left out whole. lightningd's own go to about six.
const DEPTH: u8 = 64;

/// A secret's name in a key or a text: `paymentPreimage`, `hsm_secret`, `rune`.
/// Not `prune`.
static NAME: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"pre[-_ ]?image|secret|priv(ate)?[-_ ]?key|password|passphrase|mnemonic|\brune|_rune|(?-i:[a-z]Rune)",
    )
});

/// What may be a secret's value in a text: hex, or a rune in base64.
static VALUE: LazyLock<Regex> = LazyLock::new(|| regex(r"[0-9A-Za-z_-]{32,}={0,2}"));

/// What may stand between two values of a list.
static BETWEEN: LazyLock<Regex> = LazyLock::new(|| regex(r#"^[\s,;:"'\\\[\]]{1,8}$"#));

/// A value belongs to a name if it begins this close behind it, in bytes.
const NEAR: usize = 64;

/// The commando plugin's messages: requests with a rune, answers to them, both in
/// parts that may be cut anywhere.
const COMMANDO: [&str; 4] = ["4c4d", "4c4f", "594b", "594d"];

fn regex(pattern: &str) -> Regex {
    let built = RegexBuilder::new(pattern)
        .case_insensitive(true)
        .unicode(false)
        .build();
    built.expect("a pattern of this file, which the tests use")
}

/// The payload with its secrets replaced; borrowed if it has none.
pub fn payload<'a>(topic: &str, json: &'a str) -> Cow<'a, str> {
    let messages = topic == "custommsg";
    // Quick and on the safe side: most payloads end here. A key may be written
    // with escapes, so a `\u` counts as well.
    let escaped = memchr::memmem::find(json.as_bytes(), b"\\u").is_some();
    if !messages && !escaped && !NAME.is_match(json) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    match copy(json, messages, DEPTH, &mut out) {
        Ok(()) => Cow::Owned(out),
        // It was JSON when it came in; should it not be, nothing may leak.
        Err(_) => Cow::Borrowed(REDACTED),
    }
}

/// A text with the secrets replaced that follow a secret's name.
pub fn text(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut done = 0;
    while let Some(name) = NAME.find_at(text, done) {
        let mut from = name.end();
        let mut end = from;
        while let Some(value) = VALUE.find_at(text, from) {
            let near = value.start() - name.end() <= NEAR;
            let listed = end > name.end() && BETWEEN.is_match(&text[end..value.start()]);
            if !(listed || near && end == name.end()) {
                break;
            }
            out.push_str(&text[done..value.start()]);
            out.push_str(&replacement(value.as_str()));
            (done, from, end) = (value.end(), value.end(), value.end());
        }
        if done < name.end() {
            out.push_str(&text[done..name.end()]);
            done = name.end();
        }
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[done..]);
    Cow::Owned(out)
}

/// What stands for a secret: the hash of 32 bytes in hex, else a word.
fn replacement(secret: &str) -> String {
    match <[u8; 32]>::from_hex(secret) {
        Ok(preimage) => format!("sha256:{}", sha256::Hash::hash(&preimage)),
        Err(_) => "redacted".to_owned(),
    }
}

/// A JSON string with the secrets in its text replaced.
fn string(literal: &str, out: &mut String) {
    if literal.contains("\\u")
        && let Ok(decoded) = serde_json::from_str::<String>(literal)
    {
        // As it was, unless there is a secret in it.
        match text(&decoded) {
            Cow::Owned(changed) if changed != decoded => {
                out.push_str(&Value::from(changed).to_string());
            }
            _ => out.push_str(literal),
        }
        return;
    }
    // No value of a secret has a character that is escaped.
    out.push_str(&text(literal));
}

/// The bytes of a message between peers, in hex: all but its type is left out if
/// there may be a secret in them.
fn message(literal: &str, out: &mut String) {
    let hex = literal.trim_matches('"');
    let kind = hex.get(..4).unwrap_or_default();
    let bytes = Vec::<u8>::from_hex(hex).unwrap_or_default();
    let commando = COMMANDO.iter().any(|one| kind.eq_ignore_ascii_case(one));
    if commando || NAME.is_match(&String::from_utf8_lossy(&bytes)) {
        out.push_str(&format!("\"{kind} redacted\""));
    } else {
        string(literal, out);
    }
}

fn copy(json: &str, messages: bool, depth: u8, out: &mut String) -> Result<(), serde_json::Error> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(serde::de::Error::custom("nested too deep"));
    };
    let mut deserializer = serde_json::Deserializer::from_str(json);
    match json.as_bytes().first() {
        Some(b'{') => deserializer.deserialize_map(Copier {
            messages,
            depth,
            out,
        }),
        Some(b'[') => deserializer.deserialize_seq(Copier {
            messages,
            depth,
            out,
        }),
        Some(b'"') => {
            string(json, out);
            Ok(())
        }
        _ => {
            out.push_str(json);
            Ok(())
        }
    }
}

/// Copies an object or an array member by member.
struct Copier<'o> {
    /// The member `payload` is a message between peers.
    messages: bool,
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
            if NAME.is_match(&key) {
                replace(value, self.out);
            } else if self.messages && key == "payload" && value.starts_with('"') {
                message(value, self.out);
            } else {
                copy(value, self.messages, self.depth, self.out)
                    .map_err(serde::de::Error::custom)?;
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
            copy(value.get(), self.messages, self.depth, self.out)
                .map_err(serde::de::Error::custom)?;
        }
        self.out.push_str(if before == '[' { "[]" } else { "]" });
        Ok(())
    }
}

/// Writes the replacement of a value under a secret's name; of each in a list.
fn replace(value: &str, out: &mut String) {
    if value == "null" {
        return out.push_str(value);
    }
    if value.starts_with('[')
        && let Ok(values) = serde_json::from_str::<Vec<&RawValue>>(value)
    {
        out.push('[');
        for (n, value) in values.into_iter().enumerate() {
            out.push_str(if n > 0 { "," } else { "" });
            // A list within a list is left out whole.
            if value.get().starts_with('[') {
                out.push_str(REDACTED);
            } else {
                replace(value.get(), out);
            }
        }
        return out.push(']');
    }
    match serde_json::from_str::<Cow<str>>(value) {
        Ok(secret) => out.push_str(&Value::from(replacement(&secret)).to_string()),
        Err(_) => out.push_str(REDACTED),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::notification::tests::json;

    const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
    /// The SHA-256 of 32 zero bytes.
    const HASH: &str = "sha256:66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925";
    const RUNE: &str = "zm0x_Qq-8rYbWs3zJm0bL2mH6b2mC3uT5Jt2sVJb5Ss9MCZyYXRlPTEw";

    fn redacted(json: &str) -> Cow<'_, str> {
        payload("mine", json)
    }

    #[test]
    fn a_preimage_becomes_its_payment_hash() {
        let json = format!(r#"{{"msat":100000000,"preimage":"{ZEROS}","label":"inv"}}"#);
        assert_eq!(
            redacted(&json),
            format!(r#"{{"msat":100000000,"preimage":"{HASH}","label":"inv"}}"#)
        );
    }

    #[test]
    fn secrets_are_found_at_any_depth_and_in_any_spelling() {
        assert_eq!(
            redacted(
                r#"{"a":[{"payment_secret":"xyz"},{}],"pre\u0069mage":5,"preimage":null,"b":[]}"#
            ),
            r#"{"a":[{"payment_secret":"redacted"},{}],"preimage":"redacted","preimage":null,"b":[]}"#
        );
        assert_eq!(
            redacted(r#"{"shared_secret":{"x":1}}"#),
            r#"{"shared_secret":"redacted"}"#
        );
        for key in [
            "preimages",
            "paymentPreimage",
            "preimage_hex",
            "PREIMAGE",
            "pre_image",
            "secret_key",
            "SecretKey",
            "rune",
            "runes",
            "master_rune",
            "commandoRune",
            "privkey",
            "private_key",
            "hsm_passphrase",
        ] {
            let one = redacted(&format!(r#"{{"{key}":"x"}}"#)).into_owned();
            assert_eq!(one, format!(r#"{{"{key}":"redacted"}}"#));
            let list = redacted(&format!(r#"{{"{key}":["{ZEROS}",["x"],null]}}"#)).into_owned();
            assert_eq!(list, format!(r#"{{"{key}":["{HASH}","redacted",null]}}"#));
        }
        for json in [r#"{"pruned":"x"}"#, r#"{"payment_hash":"x","image":"y"}"#] {
            assert_eq!(redacted(json), json);
        }
    }

    #[test]
    fn secrets_in_a_text_are_found_behind_their_name() {
        let hash = "ab".repeat(32);
        for (text, expected) in [
            (
                format!("Success: preimage={ZEROS}"),
                format!("Success: preimage={HASH}"),
            ),
            (
                format!("Plugin returned a preimage (sha256({ZEROS}) = {hash}) that doesn't match"),
                format!("Plugin returned a preimage (sha256({HASH}) = {hash}) that doesn't match"),
            ),
            (
                format!(r#"{{\"payment_preimage\": \"{ZEROS}\", \"hash\": \"{hash}\"}}"#),
                format!(r#"{{\"payment_preimage\": \"{HASH}\", \"hash\": \"{hash}\"}}"#),
            ),
            (
                format!("hash {hash}: PREIMAGES: [{ZEROS}, {ZEROS}], of {hash}"),
                format!("hash {hash}: PREIMAGES: [{HASH}, {HASH}], of {hash}"),
            ),
            (
                format!("new rune: {RUNE}=="),
                "new rune: redacted".to_owned(),
            ),
            (
                format!("preimage {ZEROS} secret {ZEROS}"),
                format!("preimage {HASH} secret {HASH}"),
            ),
        ] {
            for topic in ["log", "warning"] {
                let json = format!(r#"{{"level":"info","log":"{text}"}}"#);
                let expected = format!(r#"{{"level":"info","log":"{expected}"}}"#);
                assert_eq!(payload(topic, &json), expected);
            }
        }
        let harmless = format!(
            r#"{{"log":"pruned {hash}, no secret in {}{hash}"}}"#,
            " ".repeat(NEAR)
        );
        assert_eq!(redacted(&harmless), harmless);
        let escaped = format!(r#"{{"log":"\u0070reimage {ZEROS}","x":"\ud800"}}"#);
        assert_eq!(
            redacted(&escaped),
            format!(r#"{{"log":"preimage {HASH}","x":"\ud800"}}"#)
        );
    }

    #[test]
    fn messages_between_peers_are_left_out_if_a_secret_may_be_in_them() {
        let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
        let request = format!("4c4f{}{}", "00".repeat(8), hex(br#"{"method":"pay"}"#));
        let answer = format!("594d{}{}", "00".repeat(8), hex(b"cut anywhere"));
        let other = format!("8001{}", hex(br#"{"Preimage":"x"}"#));
        for (sent, kept) in [(request, "4c4f"), (answer, "594d"), (other, "8001")] {
            let json = format!(r#"{{"peer_id":"02","payload":"{sent}"}}"#);
            let expected = format!(r#"{{"peer_id":"02","payload":"{kept} redacted"}}"#);
            assert_eq!(payload("custommsg", &json), expected);
        }
        let harmless = r#"{"peer_id":"02","payload":"8001deadbeef"}"#;
        assert_eq!(payload("custommsg", harmless), harmless);
    }

    #[test]
    fn a_payload_too_deep_to_search_is_left_out() {
        let deep = format!(
            "{}{{\"preimage\":1}}{}",
            "[".repeat(200_000),
            "]".repeat(200_000)
        );
        assert_eq!(redacted(&deep), REDACTED);
    }

    #[test]
    fn the_rest_is_left_byte_for_byte() {
        let odd = r#"{"n":1e400,"n":0.10,"s":"\u00e9\n","o":{ "x" : 1 }}"#;
        assert_eq!(
            redacted(odd),
            r#"{"n":1e400,"n":0.10,"s":"\u00e9\n","o":{"x":1}}"#
        );
        assert!(matches!(redacted(r#"{ "id" : "02" }"#), Cow::Borrowed(_)));
    }

    /// The value without its secrets.
    fn expected(value: &mut Value) {
        match value {
            Value::Array(values) => values.iter_mut().for_each(expected),
            Value::Object(map) => {
                for (key, value) in map.iter_mut() {
                    if NAME.is_match(key) {
                        let mut out = String::new();
                        replace(&value.to_string(), &mut out);
                        *value = serde_json::from_str(&out).unwrap();
                    } else {
                        expected(value);
                    }
                }
            }
            Value::String(string) => *string = text(string).into_owned(),
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn secrets_go_and_the_rest_stays(value in json()) {
            let mut without = value.clone();
            expected(&mut without);
            let redacted = redacted(&value.to_string()).into_owned();
            prop_assert_eq!(serde_json::from_str::<Value>(&redacted).unwrap(), without);
        }

        #[test]
        fn a_text_loses_nothing_but_secrets(
            words in prop::collection::vec("preimage|secret|a|[é,:=\"]|[0-9a-f]{64}", 0..12),
        ) {
            let whole = words.join(" ");
            let redacted = text(&whole).into_owned();
            let masked = |text: &str| {
                VALUE.replace_all(&text.replace("sha256:", ""), "").into_owned()
            };
            prop_assert_eq!(masked(&redacted), masked(&whole));
        }
    }
}
