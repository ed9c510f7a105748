//! The node's identity: `hsm_secret` and the key derived from it.
//!
//! File (32 random bytes) and derivation are those of lightningd, so a directory
//! keeps its node id whichever of the two runs in it.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use bitcoin_hashes::hmac::{Hmac, HmacEngine};
use bitcoin_hashes::{Hash, HashEngine, sha256};
use lightning::bitcoin::secp256k1::ecdh::SharedSecret;
use lightning::bitcoin::secp256k1::ecdsa::{RecoverableSignature, Signature};
use lightning::bitcoin::secp256k1::{
    All, Message, PublicKey, Scalar, Secp256k1, SecretKey, schnorr,
};
use lightning::ln::inbound_payment::ExpandedKey;
use lightning::ln::msgs::UnsignedGossipMessage;
use lightning::offers::invoice::UnsignedBolt12Invoice;
use lightning::sign::{NodeSigner, PeerStorageKey, ReceiveAuthKey, Recipient};
use lightning_invoice::RawBolt11Invoice;
use tempfile::NamedTempFile;

/// The node's key pair, for invoices and BOLT 8.
pub struct Keys {
    secret: SecretKey,
    /// The node id.
    pub public: PublicKey,
    secp: Secp256k1<All>,
}

impl Keys {
    /// Reads `hsm_secret`, or creates it (0600).
    ///
    /// # Errors
    /// The file cannot be read or created, or is not 32 bytes long.
    pub fn load(path: &Path) -> io::Result<Self> {
        let fail = |what: String| io::Error::other(format!("{}: {what}", path.display()));
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let bytes = random()?;
                write_new(path, &bytes).map_err(|e| fail(e.to_string()))?;
                bytes.to_vec()
            }
            Err(e) => return Err(fail(e.to_string())),
        };
        let seed: [u8; 32] = bytes.as_slice().try_into().map_err(|_| {
            fail(format!(
                "{} bytes, but an unencrypted hsm_secret has 32; \
                 the embedded node supports neither passphrases nor mnemonics",
                bytes.len()
            ))
        })?;
        Ok(Self::from_seed(&seed))
    }

    fn from_seed(seed: &[u8; 32]) -> Self {
        let secp = Secp256k1::new();
        let mut salt = 0u32;
        // As in lightningd; the first candidate is valid in practice.
        let secret = loop {
            let candidate = hkdf_sha256(&salt.to_le_bytes(), seed, b"nodeid");
            if let Ok(secret) = SecretKey::from_slice(&candidate) {
                break secret;
            }
            salt += 1;
        };
        Self {
            public: secret.public_key(&secp),
            secret,
            secp,
        }
    }

    /// Hex.
    pub fn id(&self) -> String {
        self.public.to_string()
    }

    pub fn sign_recoverable(&self, hash: &Message) -> RecoverableSignature {
        self.secp.sign_ecdsa_recoverable(hash, &self.secret)
    }
}

/// Writes a new file with mode 0600, whole or not at all: a node that is killed
/// meanwhile leaves none that later starts would refuse.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let mut file = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    Ok(())
}

/// 32 random bytes from the operating system.
pub fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| io::Error::other(format!("no random bytes: {e}")))?;
    Ok(bytes)
}

/// HKDF-SHA256 (RFC 5869), one block.
fn hkdf_sha256(salt: &[u8], key: &[u8], info: &[u8]) -> [u8; 32] {
    let hmac = |key: &[u8], parts: &[&[u8]]| -> [u8; 32] {
        let mut engine = HmacEngine::<sha256::Hash>::new(key);
        for part in parts {
            engine.input(part);
        }
        Hmac::from_engine(engine).to_byte_array()
    };
    let extracted = hmac(salt, &[key]);
    hmac(&extracted, &[info, &[1]])
}

/// LDK's use of the node's key. Everything about channels and payments is refused:
/// there are none.
impl NodeSigner for Keys {
    fn get_expanded_key(&self) -> ExpandedKey {
        ExpandedKey::new(hkdf_sha256(
            b"expanded",
            &self.secret.secret_bytes(),
            b"unused",
        ))
    }

    fn get_peer_storage_key(&self) -> PeerStorageKey {
        PeerStorageKey {
            inner: hkdf_sha256(b"peer storage", &self.secret.secret_bytes(), b"unused"),
        }
    }

    fn get_receive_auth_key(&self) -> ReceiveAuthKey {
        ReceiveAuthKey(hkdf_sha256(
            b"receive auth",
            &self.secret.secret_bytes(),
            b"unused",
        ))
    }

    fn get_node_id(&self, recipient: Recipient) -> Result<PublicKey, ()> {
        match recipient {
            Recipient::Node => Ok(self.public),
            Recipient::PhantomNode => Err(()),
        }
    }

    fn ecdh(
        &self,
        recipient: Recipient,
        other_key: &PublicKey,
        tweak: Option<&Scalar>,
    ) -> Result<SharedSecret, ()> {
        self.get_node_id(recipient)?;
        let mut secret = self.secret;
        if let Some(tweak) = tweak {
            secret = secret.mul_tweak(tweak).map_err(|_| ())?;
        }
        Ok(SharedSecret::new(other_key, &secret))
    }

    fn sign_invoice(&self, _: &RawBolt11Invoice, _: Recipient) -> Result<RecoverableSignature, ()> {
        Err(())
    }

    fn sign_bolt12_invoice(&self, _: &UnsignedBolt12Invoice) -> Result<schnorr::Signature, ()> {
        Err(())
    }

    fn sign_gossip_message(&self, _: UnsignedGossipMessage) -> Result<Signature, ()> {
        Err(())
    }

    fn sign_message(&self, _: &[u8]) -> Result<String, ()> {
        Err(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_key_is_kept_on_file_with_mode_0600() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hsm_secret");
        let first = Keys::load(&path).unwrap();
        let meta = fs::metadata(&path).unwrap();
        assert_eq!((meta.len(), meta.permissions().mode() & 0o777), (32, 0o600));
        assert_eq!(Keys::load(&path).unwrap().public, first.public);
    }

    #[test]
    fn an_encrypted_secret_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hsm_secret");
        fs::write(&path, [0; 73]).unwrap();
        let error = Keys::load(&path).err().unwrap().to_string();
        assert!(error.contains("73 bytes"), "{error}");
    }
}
