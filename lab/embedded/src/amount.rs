//! Amounts as lightningd reads them: `100000000`, `"100000000msat"`,
//! `"100000sat"`, `"0.001btc"`.

/// Reads one amount in msat. Units are lower case; only `btc` may have a decimal
/// point, and fractions of a msat are not allowed.
///
/// `None` for anything that lightningd (`parse_amount_msat`) does not accept.
pub fn parse_msat(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = text.split_at(digits);
    match rest {
        "" | "msat" => scaled(whole, 0),
        "sat" => scaled(whole, 3),
        _ => {
            let decimals = rest.strip_suffix("btc")?;
            match decimals.strip_prefix('.') {
                // lightningd accepts "1.btc", too.
                Some("") => scaled(whole, 11),
                Some(decimals) => {
                    let places = u32::try_from(decimals.len()).ok()?;
                    let part = scaled(decimals, 11u32.checked_sub(places)?)?;
                    scaled(whole, 11)?.checked_add(part)
                }
                None if decimals.is_empty() => scaled(whole, 11),
                None => None,
            }
        }
    }
}

/// `digits` times ten to the power of `tens`; `None` if that is not a `u64`.
fn scaled(digits: &str, tens: u32) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits
        .parse::<u64>()
        .ok()?
        .checked_mul(10u64.checked_pow(tens)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spellings() {
        for (text, want) in [
            ("0.001btc", Some(100_000_000)),
            ("100000sat", Some(100_000_000)),
            ("100000000", Some(100_000_000)),
            ("100000000msat", Some(100_000_000)),
            ("1btc", Some(100_000_000_000)),
            ("1.btc", Some(100_000_000_000)),
            ("0.00000000001btc", Some(1)),
            ("0.000000000011btc", None),
            ("22000000btc", Some(2_200_000_000_000_000_000)),
            ("18446744073709551615msat", Some(u64::MAX)),
            ("18446744073709551616msat", None),
            ("99999999999999999999msat", None),
            ("0", Some(0)),
            ("0sat", Some(0)),
            ("", None),
            (".", None),
            ("btc", None),
            (".5btc", None),
            ("1xyz", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("1.5sat", None),
            ("1.001sat", None),
            ("1BTC", None),
            ("1 sat", None),
            (" 1sat", None),
            ("1e3", None),
            ("0x10", None),
            ("١sat", None),
        ] {
            assert_eq!(parse_msat(text), want, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_msat_is_read_back(msat: u64) {
            prop_assert_eq!(parse_msat(&msat.to_string()), Some(msat));
            prop_assert_eq!(parse_msat(&format!("{msat}msat")), Some(msat));
            let btc = format!("{}.{:011}btc", msat / 100_000_000_000, msat % 100_000_000_000);
            prop_assert_eq!(parse_msat(&btc), Some(msat));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = parse_msat(&text);
        }
    }
}
