//! Feature bits (BOLT 9), as big-endian bytes: the form of lightningd's JSON.

use bitcoin_hashes::hex::{DisplayHex, FromHex};
use serde_json::{Value, json};

/// What the node says in `init`: the bits that lightningd makes mandatory for
/// its peers, as optional (option_data_loss_protect 1, var_onion_optin 9,
/// option_static_remotekey 13, payment_secret 15, option_channel_type 45), and
/// no more. LDK closes a link on any mandatory bit the node does not have.
const INIT: [usize; 5] = [1, 9, 13, 15, 45];

/// What an invoice says, as lightningd's: var_onion 8, payment_secret 14,
/// basic_mpp 17, option_route_blinding 25. lightningd reads the invoices of the
/// embedded node as its own.
const INVOICE: [usize; 4] = [8, 14, 17, 25];

/// The node's feature bits in each place where it shows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureSet {
    /// `init` messages.
    pub init: Vec<u8>,
    /// `node_announcement` (the embedded node sends none).
    pub node: Vec<u8>,
    /// `channel_announcement` (the embedded node sends none).
    pub channel: Vec<u8>,
    /// BOLT 11 invoices.
    pub invoice: Vec<u8>,
}

impl Default for FeatureSet {
    fn default() -> Self {
        Self {
            init: bits(&INIT),
            node: bits(&INIT),
            channel: Vec::new(),
            invoice: bits(&INVOICE),
        }
    }
}

impl FeatureSet {
    /// Adds the `featurebits` of a plugin's manifest.
    pub fn add(&mut self, other: &FeatureSet) {
        for (ours, theirs) in [
            (&mut self.init, &other.init),
            (&mut self.node, &other.node),
            (&mut self.channel, &other.channel),
            (&mut self.invoice, &other.invoice),
        ] {
            *ours = or(ours, theirs);
        }
    }

    /// No bit in any place.
    pub fn empty() -> Self {
        Self {
            init: vec![],
            node: vec![],
            channel: vec![],
            invoice: vec![],
        }
    }

    /// As in a plugin's `init`, which names more places than the node shows any
    /// bits in.
    pub fn to_init_json(&self) -> Value {
        let mut places = self.to_json();
        for place in [
            "bolt12_offer",
            "bolt12_invreq",
            "bolt12_invoice",
            "channel_type",
        ] {
            places[place] = json!("");
        }
        places
    }

    /// As in `getinfo`.
    pub fn to_json(&self) -> Value {
        json!({
            "init": hex(&self.init),
            "node": hex(&self.node),
            "channel": hex(&self.channel),
            "invoice": hex(&self.invoice),
        })
    }
}

fn bits(set: &[usize]) -> Vec<u8> {
    let len = set.iter().max().map_or(0, |bit| bit / 8 + 1);
    let mut bytes = vec![0; len];
    for bit in set {
        bytes[len - 1 - bit / 8] |= 1 << (bit % 8);
    }
    bytes
}

fn or(a: &[u8], b: &[u8]) -> Vec<u8> {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let mut out = long.to_vec();
    let offset = long.len() - short.len();
    for (byte, more) in out[offset..].iter_mut().zip(short) {
        *byte |= more;
    }
    out
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.to_lower_hex_string()
}

/// Reads hex of either case; `None` if it is not.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    Vec::from_hex(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_and_bytes() {
        let own = FeatureSet::default();
        assert_eq!(hex(&own.invoice), "02024100");
        assert_eq!(hex(&own.init), "20000000a202");
        let mut set = own.clone();
        set.add(&FeatureSet {
            init: bits(&[101]),
            ..FeatureSet::empty()
        });
        assert_eq!(hex(&set.init), "2000000000000020000000a202");
        assert_eq!(set.node, own.node);
    }

    #[test]
    fn hex_both_ways() {
        assert_eq!(unhex("00fF"), Some(vec![0, 255]));
        for wrong in ["0", "zz", "+1", "é"] {
            assert_eq!(unhex(wrong), None, "{wrong}");
        }
    }
}
