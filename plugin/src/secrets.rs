//! What a secret is: its names, and how its value looks in a text.
//!
//! In a text these count, which begin within 64 bytes behind a secret's name, or stand
//! in one list with one that does: runs of 32 and more letters, digits and `_-+/`
//! (hex, base64, runes). Not those that cannot be one: words without a digit, node
//! ids, BOLT 11 and BOLT 12 strings, what stands behind `hash`. Behind `password`,
//! `passphrase` or `mnemonic` and a `=` or `:` everything counts up to a `"` or the
//! line's end. Not found: a value before its name, a value with blanks in it (but
//! for the three), numbers in a list, text within text in hex or base64.

use std::borrow::Cow;
use std::sync::LazyLock;

use bitcoin_hashes::hex::FromHex;
use bitcoin_hashes::{Hash, sha256};
use regex::{Regex, RegexBuilder};

/// A secret's name in a key or a text: `paymentPreimage`, `hsm_secret`, `rune`; not
/// `prune` or `runestone`. `seed` and `token` are names only if a value follows.
static NAME: LazyLock<Regex> = LazyLock::new(|| {
    regex(concat!(
        r"pre[-_. ]?image|secret|priv(ate)?[-_. ]?key|passw(or)?d|passphrase|mnemonic|macaroon",
        r"|\b[xt]prv|(\b|[0-9_a-oq-z])runes?(\b|_|\d|(?-i:[A-Z]))",
        r#"|(seed|token)s?(["\\]*\s*[=:]|$)"#,
    ))
});

/// Keys with a secret's name whose value is none.
static PUBLIC_KEY: LazyLock<Regex> = LazyLock::new(|| regex(r"image[-_. ]?hash$"));

/// A name and what may be a short value.
static PHRASE: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r#"((?:passw(?:or)?d|passphrase|mnemonic)s?\\{0,4}["']?\s{0,4}[=:]\s{0,4}\\{0,4}["']?)(?u-i:[^"\r\n]*[^"\r\n\\])"#,
    )
});

/// What may be a long value.
static RUN: LazyLock<Regex> = LazyLock::new(|| regex(r"[0-9A-Za-z_+/-]{32,}={0,2}"));

/// A run that is no secret: a BOLT 11 or BOLT 12 string, a node's id, words.
static PUBLIC_RUN: LazyLock<Regex> = LazyLock::new(|| {
    regex(r"^(ln(bc|tb|sb|[ori]1)[0-9a-z]+|0[23][0-9a-f]{64}|(?-i:[a-z_/-]+|[A-Z_/-]+))$")
});

/// Behind a name within a run: 32 bytes in hex.
static TAIL: LazyLock<Regex> = LazyLock::new(|| regex(r"^[-_+/]?(0x)?[0-9a-f]{64}$"));

/// What may stand between two values of a list.
static BETWEEN: LazyLock<Regex> = LazyLock::new(|| regex(r#"^[\s,;:"'\\\[\]]{1,8}$"#));

/// A value belongs to a name if it begins this close behind it, in bytes.
const NEAR: usize = 64;

fn regex(pattern: &str) -> Regex {
    let built = RegexBuilder::new(pattern)
        .case_insensitive(true)
        .unicode(false)
        .build();
    built.expect("a pattern of this file, which the tests use")
}

/// May there be a secret's name in this text?
pub(crate) fn named(text: &str) -> bool {
    NAME.is_match(text)
}

/// Is what stands under this key a secret?
pub(crate) fn key(key: &str) -> bool {
    NAME.is_match(key) && !PUBLIC_KEY.is_match(key)
}

/// What stands for a secret: the hash of 32 bytes in hex, else a word.
pub(crate) fn replacement(secret: &str) -> String {
    match <[u8; 32]>::from_hex(secret) {
        Ok(preimage) => format!("sha256:{}", sha256::Hash::hash(&preimage)),
        Err(_) => "redacted".to_owned(),
    }
}

/// A text with its secrets replaced. The time grows with the length alone.
pub fn text(text: &str) -> Cow<'_, str> {
    match PHRASE.replace_all(text, "${1}redacted") {
        Cow::Borrowed(text) => runs(text),
        Cow::Owned(text) => Cow::Owned(runs(&text).into_owned()),
    }
}

/// The same for long values alone.
fn runs(text: &str) -> Cow<'_, str> {
    let mut names = NAME.find_iter(text).peekable();
    let mut out = String::new();
    let mut done = 0;
    // A run that begins up to here belongs to a name.
    let mut reach = 0;
    for run in RUN.find_iter(text) {
        while let Some(name) = names.next_if(|name| name.start() < run.start()) {
            reach = name.end() + NEAR;
        }
        let mut within = None;
        while let Some(name) = names.next_if(|name| name.end() <= run.end()) {
            within = Some(name.end());
        }
        let near = run.start() < reach;
        let start = match within {
            Some(end) if TAIL.is_match(&text[end..run.end()]) => run.end() - 64,
            Some(_) if run.as_str()[1..].starts_with("prv") => run.start(),
            Some(_) if !near => {
                reach = run.end() + NEAR; // a longer name, such as `rune-shop-order-…`
                continue;
            }
            None if !near && (done == 0 || !BETWEEN.is_match(&text[done..run.start()])) => continue,
            _ => run.start(),
        };
        if PUBLIC_RUN.is_match(run.as_str()) || is_hash(&text[..start]) {
            reach += run.len(); // it may stand between a name and its value
            continue;
        }
        out.push_str(&text[done..start]);
        out.push_str(&replacement(&text[start..run.end()]));
        done = run.end();
        reach = 0;
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[done..]);
    Cow::Owned(out)
}

/// Does this end in `payment_hash=` or the like?
fn is_hash(before: &str) -> bool {
    let before = before.trim_end_matches([' ', ':', '=', '"', '\'', '\\']);
    let last = before.len().saturating_sub(4);
    before.as_bytes()[last..].eq_ignore_ascii_case(b"hash")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use nix::time::ClockId;

    use proptest::prelude::*;

    use super::*;

    const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
    /// The SHA-256 of 32 zero bytes.
    const HASH: &str = "sha256:66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925";
    const RUNE: &str = "zm0x_Qq-8rYbWs3zJm0bL2mH6b2mC3uT5Jt2sVJb5Ss9MCZyYXRlPTEw";

    #[test]
    fn long_values_are_found_behind_their_name() {
        let hash = "ab".repeat(32);
        let preimage = [
            "Success: preimage=SECRET",
            "Plugin returned a preimage (sha256(SECRET) = HASH) that doesn't match",
            r#"{"payment_preimage": "SECRET", "hash": "HASH"}"#,
            "hash HASH: PREIMAGES: [SECRET, SECRET], of HASH",
            "preimage SECRET secret SECRET",
            "preimage for payment_hash HASH is SECRET",
            "preimage_SECRET and xpreimage-SECRET",
        ];
        for line in preimage {
            let line = line.replace("HASH", &hash);
            let expected = line.replace("SECRET", HASH);
            assert_eq!(text(&line.replace("SECRET", ZEROS)), expected);
        }
        for line in [
            "new rune: SECRET==",
            "Rune SECRET",
            "myrune=SECRET, authrune=SECRET",
            "token=SECRET",
            r#""seed" : "SECRET""#,
            "preimage in base64: SECRET/SECRET+SECRET=",
        ] {
            let expected = line
                .replace("SECRET/SECRET+SECRET=", "SECRET")
                .replace("==", "");
            assert_eq!(
                text(&line.replace("SECRET", RUNE)),
                expected.replace("SECRET", "redacted")
            );
        }
        let key = format!("derived xprv9s21ZrQH143K3{}", "Q".repeat(90));
        assert_eq!(text(&key), "derived redacted");
    }

    #[test]
    fn short_values_are_found_behind_a_sign() {
        for (line, expected) in [
            ("--rpcpassword=hunter2", "--rpcpassword=redacted"),
            ("passphrase: a b, c\nand on", "passphrase: redacted\nand on"),
            (
                r#"{"mnemonic":"a b","x":1}"#,
                r#"{"mnemonic":"redacted","x":1}"#,
            ),
            (
                r#"{\"passwd\":\"a\",\"x\":1}"#,
                r#"{\"passwd\":\"redacted\",\"x\":1}"#,
            ),
            (r#"{"password":"","x":1}"#, r#"{"password":"","x":1}"#),
            ("wrong password", "wrong password"),
        ] {
            assert_eq!(text(line), expected);
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        let hash = "ab".repeat(32);
        for line in [
            format!("pruned {hash}, no secret in {}{hash}", " ".repeat(NEAR)),
            format!("Resolving incoming HTLC with preimage for payment_hash {hash}"),
            format!("preimage: null, \"payment_hash\": \"{hash}\""),
            format!("Rune restricted to 02{hash}"),
            format!("secret invoice lnbcrt10u1pn{}", "0".repeat(60)),
            "rune-shop-order-550e8400-e29b-41d4-a716-446655440000".to_owned(),
            "secret-santa-2026-550e8400-e29b-41d4-a716-446655440000".to_owned(),
            "no hsm_secret in /home/alice/data/lightning/regtest/hsm_secret".to_owned(),
        ] {
            assert_eq!(text(&line), line);
        }
    }

    #[test]
    fn the_time_grows_with_the_length_alone() {
        // Of this thread, whatever else keeps the machine busy.
        let clock = || Duration::from(ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap());
        let takes = |words: usize, word: &str| {
            let long = word.repeat(words);
            let once = || {
                let started = clock();
                assert!(text(&long).len() <= long.len());
                clock() - started
            };
            (0..3).map(|_| once()).min().unwrap()
        };
        for word in [
            "secret ",
            "password ",
            "seed   ",
            "rune-",
            "password=\\",
            &"x".repeat(40),
        ] {
            // 8 times the length: quadratic time is 64 times as long.
            let (short, long) = (takes(8_000, word), takes(64_000, word));
            let most = 32 * short + Duration::from_millis(50);
            assert!(long < most, "{word}: {short:?}, {long:?}");
        }
    }

    proptest! {
        #[test]
        fn a_text_loses_nothing_but_secrets(
            words in prop::collection::vec("preimage|secret|a|[é,:=\"]|[0-9a-f]{64}", 0..12),
        ) {
            let whole = words.join(" ");
            let redacted = text(&whole).into_owned();
            let masked = |text: &str| {
                RUN.replace_all(&text.replace("sha256:", ""), "").into_owned()
            };
            prop_assert_eq!(masked(&redacted), masked(&whole));
        }
    }
}
