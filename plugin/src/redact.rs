//! Secrets left out: preimages, payment secrets, runes, keys.
//!
//! A preimage is replaced by `sha256:` and its hash, which is the payment hash
//! (BOLT 4): the record can still be matched with the invoice. Any other text, list
//! or object under a secret's name becomes `"redacted"`; a number or a boolean there
//! stays. Texts are searched as well: cln-xpay logs `Success: preimage=...`. What
//! counts in keys and texts is in `secrets.rs`. Everything around it stays as
//! lightningd wrote it, byte for byte.
//!
//! Not searched: labels, descriptions, ids, invoices. Not found: a secret whose name
//! is not its key, such as `["preimage", "…"]`.

use std::borrow::Cow;
use std::fmt;

use bitcoin_hashes::hex::FromHex;
use serde::Deserializer as _;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::notification::Key;
use crate::secrets::{self, replacement};

const REDACTED: &str = "\"redacted\"";

/// Objects and arrays within one another beyond this many are not looked into:
/// the payload is left out whole. lightningd's own go to about six.
const DEPTH: u8 = 64;

/// A text under these is not searched: it is a person's, or made to be given away.
const PLAIN: [&str; 6] = ["label", "description", "id", "peer_id", "bolt11", "bolt12"];

/// The commando plugin's messages: requests with a rune, answers to them, both in
/// parts that may be cut anywhere.
const COMMANDO: [&str; 4] = ["4c4d", "4c4f", "594b", "594d"];

/// The payload with its secrets replaced; borrowed if it has none.
pub fn payload<'a>(topic: &str, json: &'a str) -> Cow<'a, str> {
    let messages = topic == "custommsg";
    // Quick and on the safe side: most payloads end here. A key may be written
    // with escapes, so a `\u` counts as well.
    if !messages && !json.contains("\\u") && !secrets::named(json) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    match copy(json, messages, DEPTH, &mut out) {
        Ok(()) => Cow::Owned(out),
        // It was JSON when it came in; should it not be, nothing may leak.
        Err(_) => Cow::Borrowed(REDACTED),
    }
}

/// A payload that is not JSON. It has no keys to go by: it is left out whole if a
/// secret's name may be in it.
pub fn not_json(payload: &str) -> Cow<'_, str> {
    let suspect = secrets::named(payload) || payload.contains("\\u");
    Cow::Borrowed(if suspect { "redacted" } else { payload })
}

/// A JSON string with the secrets in its text replaced.
fn string(literal: &str, out: &mut String) {
    if !literal.contains("\\u") && !secrets::named(literal) {
        return out.push_str(literal);
    }
    match serde_json::from_str::<String>(literal) {
        // As it was, unless there is a secret in it.
        Ok(decoded) => match secrets::text(&decoded) {
            Cow::Owned(changed) => out.push_str(&Value::from(changed).to_string()),
            Cow::Borrowed(_) => out.push_str(literal),
        },
        // Half a surrogate pair, which no text here holds.
        Err(_) if literal.contains("\\u00") || secrets::named(literal) => out.push_str(REDACTED),
        Err(_) => out.push_str(literal),
    }
}

/// The bytes of a message between peers, in hex: all but its type is left out if
/// there may be a secret in them.
fn message(literal: &str, out: &mut String) {
    let hex = literal.trim_matches('"');
    let kind = hex.get(..4).unwrap_or_default();
    let bytes = Vec::<u8>::from_hex(hex).unwrap_or_default();
    let commando = COMMANDO.iter().any(|one| kind.eq_ignore_ascii_case(one));
    if commando || secrets::named(&String::from_utf8_lossy(&bytes)) {
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
            if secrets::key(&key) {
                replace(value, self.out);
            } else if PLAIN.contains(&&*key) && value.starts_with('"') {
                self.out.push_str(value);
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

/// Writes the replacement of a value under a secret's name; of each text in a list.
fn replace(value: &str, out: &mut String) {
    let replaced = match value.as_bytes().first() {
        Some(b'"') => serde_json::from_str(value).map(|text: String| replacement(&text).into()),
        Some(b'[') => serde_json::from_str(value).map(|texts: Vec<Option<String>>| {
            texts
                .iter()
                .map(|text| text.as_deref().map(replacement))
                .collect()
        }),
        Some(b'{') => return out.push_str(REDACTED),
        _ => return out.push_str(value),
    };
    match replaced {
        Ok(replaced) => out.push_str(&Value::to_string(&replaced)),
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
                r#"{"a":[{"payment_secret":"xyz"},{}],"pre\u0069mage":"","preimage":null,"b":[]}"#
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
            "MYRUNE",
            "authrune",
            "Pre.Image",
            "seed",
            "xprv",
            "passwd",
            "token",
            "macaroon",
        ] {
            let one = redacted(&format!(r#"{{"{key}":"x"}}"#)).into_owned();
            assert_eq!(one, format!(r#"{{"{key}":"redacted"}}"#));
            let list = redacted(&format!(r#"{{"{key}":["{ZEROS}","",null]}}"#)).into_owned();
            assert_eq!(list, format!(r#"{{"{key}":["{HASH}","redacted",null]}}"#));
            let bytes = redacted(&format!(r#"{{"{key}":[171,171]}}"#)).into_owned();
            assert_eq!(bytes, format!(r#"{{"{key}":"redacted"}}"#));
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for json in [
            r#"{"pruned":"x","runestone":"y","tokens_of":"z"}"#,
            r#"{"payment_hash":"x","image":"y","preimage_hash":"z"}"#,
            r#"{"has_password":false,"rune_id":5,"secret_count":1e400}"#,
            r#"{"label":"rune-shop-order-550e8400-e29b-41d4-a716-446655440000"}"#,
            r#"{"description":"preimage 0123456789abcdef0123456789abcdef"}"#,
        ] {
            assert_eq!(redacted(json), json);
        }
    }

    #[test]
    fn a_payload_that_is_not_json_is_left_out_if_a_secret_may_be_in_it() {
        for text in [
            r#"{"n":007,"password":"hunter2"}"#,
            r#"{"n":007,"preimage":[171,171]}"#,
            r#"{"n":007,"\u0070reimage":"x"}"#,
        ] {
            assert_eq!(not_json(text), "redacted");
        }
        assert_eq!(not_json(r#"{"n":007}"#), r#"{"n":007}"#);
    }

    #[test]
    fn a_text_within_the_payload_is_searched() {
        let text = format!(r#"{{\"password\": \"hunter2\", \"preimage\": \"{ZEROS}\"}}"#);
        let without = format!(r#"{{\"password\": \"redacted\", \"preimage\": \"{HASH}\"}}"#);
        let log = |text: &str| format!(r#"{{"log":"{text}","x":"\ud800"}}"#);
        assert_eq!(redacted(&log(&text)), log(&without));
        let escaped = log(&format!(r"\u0070reimage {ZEROS}"));
        assert_eq!(redacted(&escaped), log(&format!("preimage {HASH}")));
        // Escapes that make no text.
        let broken = log(&format!(r"\u0070reimage {ZEROS} \udfff"));
        assert_eq!(redacted(&broken), log("redacted"));
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
                    if secrets::key(key) {
                        let mut out = String::new();
                        replace(&value.to_string(), &mut out);
                        *value = serde_json::from_str(&out).unwrap();
                    } else {
                        expected(value);
                    }
                }
            }
            Value::String(string) => *string = secrets::text(string).into_owned(),
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
    }
}
