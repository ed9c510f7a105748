//! Making a BOLT 11 invoice, field for field as lightningd does.

use std::time::Duration;

use bitcoin_hashes::{Hash, sha256};
use lightning::bitcoin::secp256k1::Message;
use lightning::types::features::Bolt11InvoiceFeatures;
use lightning_invoice::{
    Bolt11Invoice, Currency, Description, ExpiryTime, Fallback, MinFinalCltvExpiryDelta,
    PaymentSecret, PositiveTimestamp, RawBolt11Invoice, RawDataPart, RawHrp, RawTaggedField,
    Sha256, SiPrefix, TaggedField,
};

use crate::keys::Keys;

/// The longest description that fits in a `d` field, in bytes.
pub const MAX_DESCRIPTION: usize = 639;

/// The largest amount that LDK can put in an invoice, in msat (18.4 million
/// bitcoin): it counts in tenths of a msat.
pub const MAX_MSAT: u64 = u64::MAX / 10;

/// The content of an invoice.
#[derive(Debug)]
pub struct Terms {
    /// `None` for any amount.
    pub amount_msat: Option<u64>,
    pub description: String,
    /// Put the description's SHA-256 in the invoice instead of itself.
    pub hash_only: bool,
    /// Seconds from `timestamp`.
    pub expiry: u64,
    /// `min_final_cltv_expiry_delta`, in blocks.
    pub cltv: u64,
    pub preimage: [u8; 32],
    pub fallbacks: Vec<Fallback>,
    /// BOLT 9 bits, big-endian.
    pub features: Vec<u8>,
    /// Seconds since the epoch.
    pub timestamp: u64,
}

/// A new invoice.
#[derive(Debug)]
pub struct Made {
    pub bolt11: String,
    /// SHA-256 of the preimage.
    pub payment_hash: [u8; 32],
    pub payment_secret: [u8; 32],
}

/// Makes and signs an invoice.
///
/// # Errors
/// One line: what an invoice cannot hold.
pub fn make(terms: &Terms, keys: &Keys) -> Result<Made, String> {
    let payment_hash = sha256::Hash::hash(&terms.preimage);
    let payment_secret = payment_secret(&terms.preimage);
    let mut fields = vec![
        TaggedField::PaymentSecret(PaymentSecret(payment_secret)),
        TaggedField::PaymentHash(Sha256(payment_hash)),
        if terms.hash_only {
            TaggedField::DescriptionHash(Sha256(sha256::Hash::hash(terms.description.as_bytes())))
        } else {
            TaggedField::Description(
                Description::new(terms.description.clone()).map_err(|e| e.to_string())?,
            )
        },
        TaggedField::ExpiryTime(ExpiryTime::from_seconds(terms.expiry)),
        TaggedField::MinFinalCltvExpiryDelta(MinFinalCltvExpiryDelta(terms.cltv)),
    ];
    fields.extend(terms.fallbacks.iter().cloned().map(TaggedField::Fallback));
    fields.push(TaggedField::Features(Bolt11InvoiceFeatures::from_be_bytes(
        terms.features.clone(),
    )));

    let (raw_amount, si_prefix) = match terms.amount_msat {
        Some(msat) => hrp_amount(msat)?,
        None => (None, None),
    };
    let raw = RawBolt11Invoice {
        hrp: RawHrp {
            currency: Currency::Regtest,
            raw_amount,
            si_prefix,
        },
        data: RawDataPart {
            timestamp: PositiveTimestamp::from_duration_since_epoch(Duration::from_secs(
                terms.timestamp,
            ))
            .map_err(|e| e.to_string())?,
            tagged_fields: fields
                .into_iter()
                .map(RawTaggedField::KnownSemantics)
                .collect(),
        },
    };
    let signed = raw
        .sign(|hash: &Message| Ok::<_, std::convert::Infallible>(keys.sign_recoverable(hash)))
        .map_err(|e| e.to_string())?;
    let invoice = Bolt11Invoice::from_signed(signed).map_err(|e| e.to_string())?;
    Ok(Made {
        bolt11: invoice.to_string(),
        payment_hash: payment_hash.to_byte_array(),
        payment_secret,
    })
}

/// Derived from the preimage as in lightningd, so that it need not be stored.
fn payment_secret(preimage: &[u8; 32]) -> [u8; 32] {
    let mut modified = *preimage;
    modified[0] ^= 1;
    sha256::Hash::hash(&modified).to_byte_array()
}

/// The amount in the largest unit that keeps it whole (BOLT 11 demands the shortest
/// form).
fn hrp_amount(msat: u64) -> Result<(Option<u64>, Option<SiPrefix>), String> {
    if msat > MAX_MSAT {
        return Err(format!(
            "{msat}msat is more than the embedded node can put in an invoice, which is {MAX_MSAT}msat"
        ));
    }
    // BOLT 11's smallest unit, a millionth of a millionth of a bitcoin.
    let pico = msat * 10;
    for (divisor, prefix) in [
        (1_000_000_000_000, None),
        (1_000_000_000, Some(SiPrefix::Milli)),
        (1_000_000, Some(SiPrefix::Micro)),
        (1_000, Some(SiPrefix::Nano)),
    ] {
        if pico.is_multiple_of(divisor) {
            return Ok((Some(pico / divisor), prefix));
        }
    }
    Ok((Some(pico), Some(SiPrefix::Pico)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn keys() -> Keys {
        let dir = tempfile::tempdir().unwrap();
        Keys::load(&dir.path().join("hsm_secret")).unwrap()
    }

    fn terms() -> Terms {
        Terms {
            amount_msat: Some(100_000_000),
            description: "A pizza".into(),
            hash_only: false,
            expiry: 604_800,
            cltv: 10,
            preimage: [7; 32],
            fallbacks: vec![],
            features: vec![2, 2, 0x41, 0],
            timestamp: 1_795_175_133,
        }
    }

    #[test]
    fn an_invoice_holds_its_terms() {
        let keys = keys();
        let made = make(&terms(), &keys).unwrap();
        // Amount, time and the tag of the first field, as lightningd writes them.
        assert!(
            made.bolt11.starts_with("lnbcrt1m1p4sqvkasp5"),
            "{}",
            made.bolt11
        );
        let read: Bolt11Invoice = made.bolt11.parse().unwrap();
        assert_eq!(read.amount_milli_satoshis(), Some(100_000_000));
        assert_eq!(read.expiry_time().as_secs(), 604_800);
        assert_eq!(read.min_final_cltv_expiry_delta(), 10);
        assert_eq!(read.get_payee_pub_key(), keys.public);
        assert_eq!(read.features().unwrap().le_flags(), [0, 0x41, 2, 2]);
    }

    #[test]
    fn terms_an_invoice_cannot_hold() {
        let too_much = Terms {
            amount_msat: Some(MAX_MSAT + 1),
            ..terms()
        };
        assert!(
            make(&too_much, &keys())
                .unwrap_err()
                .contains("more than the embedded node can")
        );
        let too_long = Terms {
            description: "x".repeat(640),
            ..terms()
        };
        make(&too_long, &keys()).unwrap_err();
        make(
            &Terms {
                hash_only: true,
                ..too_long
            },
            &keys(),
        )
        .unwrap();
    }

    proptest! {
        #[test]
        fn every_amount_is_read_back(msat in 1..=MAX_MSAT) {
            let made = make(&Terms { amount_msat: Some(msat), ..terms() }, &keys()).unwrap();
            let read: Bolt11Invoice = made.bolt11.parse().unwrap();
            prop_assert_eq!(read.amount_milli_satoshis(), Some(msat));
        }
    }
}
