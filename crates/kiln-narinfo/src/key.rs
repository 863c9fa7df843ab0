//! Ed25519 keys in Nix's text forms, signing and verifying.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use kiln_hash::encoding;

use crate::signature::{Signature, is_key_name};

/// Why a text is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseKeyError {
    /// There is no `:`, or nothing before it, or nothing after it.
    #[error("{kind} key is corrupt: expected 'NAME:BASE64'")]
    Corrupt {
        /// `secret` or `public`.
        kind: &'static str,
    },
    /// The part after the colon is not base 64.
    #[error("{kind} key '{name}' is not valid base 64")]
    Encoding {
        /// `secret` or `public`.
        kind: &'static str,
        /// Name of the key.
        name: String,
    },
    /// The part after the colon is base 64 of another length.
    #[error("{kind} key '{name}' is not valid: expected {expected} bytes, found {found}")]
    Length {
        /// `secret` or `public`.
        kind: &'static str,
        /// Name of the key.
        name: String,
        /// Bytes that such a key has.
        expected: usize,
        /// Bytes that it has.
        found: usize,
    },
    /// The bytes are no Ed25519 key, or the two halves of a secret key do not belong together.
    #[error("{kind} key '{name}' is not a valid Ed25519 key")]
    Curve {
        /// `secret` or `public`.
        kind: &'static str,
        /// Name of the key.
        name: String,
    },
}

/// A key for signing: `NAME:BASE64` of 64 bytes, the seed and then the public key (the layout of libsodium).
#[derive(Clone)]
pub struct SecretKey {
    name: Box<str>,
    key: SigningKey,
}

impl SecretKey {
    /// The key that belongs to 32 bytes of randomness from a cryptographic source. `None` if no key can have that name:
    /// it is empty, or holds a `:`, white space or a control character.
    pub fn generate(name: &str, seed: [u8; 32]) -> Option<Self> {
        is_key_name(name).then(|| Self { name: name.into(), key: SigningKey::from_bytes(&seed) })
    }

    /// Name of the key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        PublicKey { name: self.name.clone(), key: self.key.verifying_key() }
    }

    /// Signs `message`; Ed25519 is deterministic.
    pub fn sign(&self, message: &[u8]) -> Signature {
        let bytes = self.key.sign(message).to_bytes();
        // The name was checked when the key came to be.
        Signature::from_checked_name(&self.name, bytes)
    }

    /// The text of a secret key file, without a line feed. Anyone who reads it can sign.
    pub fn to_secret_text(&self) -> String {
        format!("{}:{}", self.name, encoding::base64(&self.key.to_keypair_bytes()))
    }
}

impl FromStr for SecretKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let kind = "secret";
        let (name, bytes) = split_key::<64>(kind, text)?;
        let key = SigningKey::from_keypair_bytes(&bytes)
            .map_err(|_| ParseKeyError::Curve { kind, name: name.to_owned() })?;
        Ok(Self { name: name.into(), key })
    }
}

impl fmt::Debug for SecretKey {
    /// Leaves the secret out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.name)
    }
}

/// A key for verifying: `NAME:BASE64` of 32 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: Box<str>,
    key: VerifyingKey,
}

impl PublicKey {
    /// Name of the key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether `signature` carries this key's name and is its signature of `message`. Signatures that are malleable are
    /// refused, as by libsodium.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        signature.key_name() == self.name() && {
            let signature = ed25519_dalek::Signature::from_bytes(signature.bytes());
            self.key.verify_strict(message, &signature).is_ok()
        }
    }
}

impl FromStr for PublicKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let kind = "public";
        let (name, bytes) = split_key::<32>(kind, text)?;
        let key = VerifyingKey::from_bytes(&bytes)
            .map_err(|_| ParseKeyError::Curve { kind, name: name.to_owned() })?;
        Ok(Self { name: name.into(), key })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, encoding::base64(self.key.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Splits `NAME:BASE64` and decodes it to exactly `N` bytes. Surrounding white space, such as the line feed at the end
/// of a key file, is not part of the key.
fn split_key<'a, const N: usize>(
    kind: &'static str,
    text: &'a str,
) -> Result<(&'a str, [u8; N]), ParseKeyError> {
    let (name, data) = text.trim().split_once(':').ok_or(ParseKeyError::Corrupt { kind })?;
    if !is_key_name(name) || data.is_empty() {
        return Err(ParseKeyError::Corrupt { kind });
    }
    let bytes = encoding::decode_base64(data.as_bytes())
        .map_err(|_| ParseKeyError::Encoding { kind, name: name.to_owned() })?;
    let found = bytes.len();
    let bytes = bytes.try_into().map_err(|_| ParseKeyError::Length {
        kind,
        name: name.to_owned(),
        expected: N,
        found,
    })?;
    Ok((name, bytes))
}

/// The keys that are trusted, looked up by name. Of two with the same name the first one counts.
#[derive(Clone, Debug, Default)]
pub struct PublicKeys(BTreeMap<Box<str>, PublicKey>);

impl PublicKeys {
    /// Adds a key; `false` if there is one of that name already, which stays.
    pub fn insert(&mut self, key: PublicKey) -> bool {
        match self.0.entry(key.name.clone()) {
            std::collections::btree_map::Entry::Vacant(slot) => {
                slot.insert(key);
                true
            }
            std::collections::btree_map::Entry::Occupied(_) => false,
        }
    }

    /// The key of that name.
    pub fn get(&self, name: &str) -> Option<&PublicKey> {
        self.0.get(name)
    }

    /// Whether no key is trusted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &PublicKey> {
        self.0.values()
    }

    /// Whether `signature` is one of `message` by a trusted key. An unknown key is no error, only no.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        self.get(signature.key_name()).is_some_and(|key| key.verify(message, signature))
    }
}

impl FromIterator<PublicKey> for PublicKeys {
    fn from_iter<T: IntoIterator<Item = PublicKey>>(keys: T) -> Self {
        let mut set = Self::default();
        for key in keys {
            set.insert(key);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: &str = include_str!("../tests/data/keys/kiln-test-1.sec");
    const PUBLIC: &str = include_str!("../tests/data/keys/kiln-test-1.pub");
    const TEXT: &str = "1;/nix/store/lj3q75s8vxysliflp8z0a7w75mpl98wh-dep2;sha256:1gldqai9q6c6lypa2jk96qgwdgqij7j6ccxk8macikzgy3j59dwv;672;/nix/store/9jkdg1fd3213linvmnsyvl2qc00gifpm-dep,/nix/store/lj3q75s8vxysliflp8z0a7w75mpl98wh-dep2,/nix/store/mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple,/nix/store/pfqja8c3gi5f4j3dhhgb8f01ck85cl15-src.txt";
    const SIGNATURE: &str = "kiln-test-1:eIAMAc/9TEj96Us7H8McgCxfjCtE2V/m6cOeOA43N+WGNV7Wy8KU46vOWNBUnQ9AVsT6hKsQ7yfF6n5sfXeaCg==";

    #[test]
    fn signs_the_very_bytes_that_nix_signs() {
        let secret: SecretKey = SECRET.parse().unwrap();
        assert_eq!(secret.sign(TEXT.as_bytes()).as_str(), SIGNATURE);
        assert_eq!(secret.to_secret_text(), SECRET);
        assert_eq!(secret.public_key().to_string(), PUBLIC);
        assert_eq!(format!("{secret:?}"), "SecretKey(kiln-test-1)", "the secret must not reach a log");
    }

    #[test]
    fn verifies_only_the_right_name_key_and_text() {
        let public: PublicKey = PUBLIC.parse().unwrap();
        let signature: Signature = SIGNATURE.parse().unwrap();
        assert!(public.verify(TEXT.as_bytes(), &signature));
        assert!(!public.verify(&TEXT.as_bytes()[1..], &signature));
        let renamed = Signature::new("other", *signature.bytes()).unwrap();
        assert!(!public.verify(TEXT.as_bytes(), &renamed));

        let other = SecretKey::generate("kiln-test-1", [3; 32]).unwrap().public_key();
        assert!(!other.verify(TEXT.as_bytes(), &signature));
        let keys: PublicKeys = [other, public].into_iter().collect();
        assert!(!keys.verify(TEXT.as_bytes(), &signature), "the first key of a name counts");
    }

    #[test]
    fn refuses_what_is_no_key() {
        let data = SECRET.split_once(':').unwrap().1;
        for text in ["", "x", ":", "name:", &format!(":{data}"), "name:AAAA", "name:?"] {
            assert!(text.parse::<SecretKey>().is_err(), "{text:?}");
            assert!(text.parse::<PublicKey>().is_err(), "{text:?}");
        }
        let mut halves = encoding::decode_base64(data.as_bytes()).unwrap();
        halves[40] ^= 1;
        let error = format!("name:{}", encoding::base64(&halves)).parse::<SecretKey>().unwrap_err();
        assert_eq!(error, ParseKeyError::Curve { kind: "secret", name: "name".into() });
        assert_eq!(
            format!("{SECRET}\n").parse::<SecretKey>().unwrap().to_secret_text(),
            SECRET,
            "a line feed at the end of the file is no part of the key"
        );
    }

    proptest! {
        // Unoptimised, a signature takes milliseconds.
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn any_flipped_bit_spoils_a_signature(seed in any::<[u8; 32]>(), message in proptest::collection::vec(any::<u8>(), 0..64), bit in 0_usize..512) {
            let secret = SecretKey::generate("k", seed).unwrap();
            let signature = secret.sign(&message);
            let public: PublicKey = secret.public_key().to_string().parse().unwrap();
            prop_assert!(public.verify(&message, &signature));
            let mut bytes = *signature.bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!public.verify(&message, &Signature::new("k", bytes).unwrap()));
        }
    }
}
