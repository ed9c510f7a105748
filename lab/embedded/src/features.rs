//! Feature bits (BOLT 9), as big-endian bytes: the form of lightningd's JSON.

use bitcoin_hashes::hex::DisplayHex;
use serde_json::{Value, json};

/// The bits in `init`: those that lightningd requires of its peers, as optional
/// (option_data_loss_protect 1, var_onion_optin 9, option_static_remotekey 13,
/// payment_secret 15, option_channel_type 45), and no more. LDK closes a link on a
/// mandatory bit that the node does not have.
const INIT: [usize; 5] = [1, 9, 13, 15, 45];

/// The bits in an invoice, as in lightningd's: var_onion 8, payment_secret 14,
/// basic_mpp 17, option_route_blinding 25.
const INVOICE: [usize; 4] = [8, 14, 17, 25];

/// The node's feature bits, by where they appear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureSet {
    pub init: Vec<u8>,
    /// `node_announcement` (the embedded node sends none).
    pub node: Vec<u8>,
    /// `channel_announcement` (the embedded node sends none).
    pub channel: Vec<u8>,
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

    pub fn empty() -> Self {
        Self {
            init: vec![],
            node: vec![],
            channel: vec![],
            invoice: vec![],
        }
    }

    /// As in a plugin's `init`, which has more members than `getinfo`.
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
            "init": self.init.to_lower_hex_string(),
            "node": self.node.to_lower_hex_string(),
            "channel": self.channel.to_lower_hex_string(),
            "invoice": self.invoice.to_lower_hex_string(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_and_bytes() {
        let own = FeatureSet::default();
        assert_eq!(own.to_json()["invoice"], "02024100");
        assert_eq!(own.to_json()["init"], "20000000a202");
        let mut set = own.clone();
        set.add(&FeatureSet {
            init: bits(&[101]),
            ..FeatureSet::empty()
        });
        assert_eq!(set.to_json()["init"], "2000000000000020000000a202");
        assert_eq!(set.node, own.node);
    }
}
