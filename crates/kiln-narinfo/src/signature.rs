//! One signature in its text form, and the ordered set of them that a path carries.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use kiln_hash::encoding;

/// An Ed25519 signature and the name of the key that made it: `NAME:BASE64`.
///
/// Signatures are ordered by their text, as Nix writes them into narinfo files and into the database.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature {
    /// The canonical text, so that comparing compares what is written.
    text: Box<str>,
    /// Length of the key's name, which is what stands before the colon.
    name_length: usize,
    bytes: [u8; 64],
}

/// Why a text is no signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseSignatureError {
    /// There is no `:`, or nothing before it, or nothing after it.
    #[error("signature is corrupt: expected 'NAME:BASE64'")]
    Corrupt,
    /// The part after the colon is not base 64.
    #[error("signature is not valid base 64")]
    Encoding,
    /// The part after the colon is base 64 of another length.
    #[error("signature is not valid: expected 64 bytes, found {0}")]
    Length(usize),
}

impl Signature {
    /// A signature by the key of that name. `None` if the name could not be written: it is empty, or holds a `:`,
    /// white space or a control character.
    pub fn new(key_name: &str, bytes: [u8; 64]) -> Option<Self> {
        is_key_name(key_name).then(|| Self::from_checked_name(key_name, bytes))
    }

    /// A signature by a key whose name is known to be writable.
    pub(crate) fn from_checked_name(key_name: &str, bytes: [u8; 64]) -> Self {
        let text = format!("{key_name}:{}", encoding::base64(&bytes)).into();
        Self { text, name_length: key_name.len(), bytes }
    }

    /// Name of the key.
    pub fn key_name(&self) -> &str {
        self.text.get(..self.name_length).unwrap_or_default()
    }

    /// The 64 bytes of the signature.
    pub const fn bytes(&self) -> &[u8; 64] {
        &self.bytes
    }

    /// `NAME:BASE64`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Signature {
    type Err = ParseSignatureError;

    fn from_str(text: &str) -> Result<Self, ParseSignatureError> {
        let (name, data) = text.split_once(':').ok_or(ParseSignatureError::Corrupt)?;
        if data.is_empty() {
            return Err(ParseSignatureError::Corrupt);
        }
        let bytes = encoding::decode_base64(data.as_bytes()).map_err(|_| ParseSignatureError::Encoding)?;
        let bytes =
            <[u8; 64]>::try_from(bytes.as_slice()).map_err(|_| ParseSignatureError::Length(bytes.len()))?;
        Self::new(name, bytes).ok_or(ParseSignatureError::Corrupt)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a key may have this name: Nix only demands that it is not empty and, by the form of the text, that it has no
/// colon. White space and control characters would break the lists and lines that signatures are written into.
pub(crate) fn is_key_name(name: &str) -> bool {
    !name.is_empty()
        && !name
            .chars()
            .any(|character| character == ':' || character.is_whitespace() || character.is_control())
}

/// The signatures of a path or of a realisation; the same one twice counts once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SignatureSet(BTreeSet<Signature>);

impl SignatureSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self(BTreeSet::new())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds one; `false` if it was there already.
    pub fn insert(&mut self, signature: Signature) -> bool {
        self.0.insert(signature)
    }

    /// Whether it is among them.
    pub fn contains(&self, signature: &Signature) -> bool {
        self.0.contains(signature)
    }

    /// In the order of their texts.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Signature> {
        self.0.iter()
    }

    /// Reads signatures that are separated by white space, as in the column `sigs` of the database.
    ///
    /// What is no signature is left out: Nix up to 2.26 stored any text without complaint and never took it for valid.
    pub fn from_separated(text: &str) -> Self {
        text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
    }

    /// Writes the signatures separated by single spaces.
    pub fn to_separated(&self) -> String {
        let mut text = String::new();
        for signature in &self.0 {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(signature.as_str());
        }
        text
    }
}

impl FromIterator<Signature> for SignatureSet {
    fn from_iter<T: IntoIterator<Item = Signature>>(signatures: T) -> Self {
        Self(signatures.into_iter().collect())
    }
}

impl Extend<Signature> for SignatureSet {
    fn extend<T: IntoIterator<Item = Signature>>(&mut self, signatures: T) {
        self.0.extend(signatures);
    }
}

impl IntoIterator for SignatureSet {
    type Item = Signature;
    type IntoIter = std::collections::btree_set::IntoIter<Signature>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a SignatureSet {
    type Item = &'a Signature;
    type IntoIter = std::collections::btree_set::Iter<'a, Signature>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VECTOR: &str = "kiln-test-1:eIAMAc/9TEj96Us7H8McgCxfjCtE2V/m6cOeOA43N+WGNV7Wy8KU46vOWNBUnQ9AVsT6hKsQ7yfF6n5sfXeaCg==";

    #[test]
    fn reads_what_nix_wrote() {
        let signature: Signature = VECTOR.parse().unwrap();
        assert_eq!(signature.key_name(), "kiln-test-1");
        assert_eq!(signature.to_string(), VECTOR);
    }

    #[test]
    fn refuses_what_is_none() {
        let data = VECTOR.split_once(':').unwrap().1;
        for (text, error) in [
            (String::new(), ParseSignatureError::Corrupt),
            ("garbage".into(), ParseSignatureError::Corrupt),
            (format!(":{data}"), ParseSignatureError::Corrupt),
            ("key:".into(), ParseSignatureError::Corrupt),
            (format!("two words:{data}"), ParseSignatureError::Corrupt),
            ("key:!!!!".into(), ParseSignatureError::Encoding),
            ("key:AAAA".into(), ParseSignatureError::Length(3)),
        ] {
            assert_eq!(text.parse::<Signature>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_set_is_written_in_the_order_of_the_texts() {
        let [a, b] = ["z", "a-b"].map(|name| Signature::new(name, [7; 64]).unwrap());
        let set: SignatureSet = [a.clone(), b.clone(), a.clone()].into_iter().collect();
        assert_eq!(set.len(), 2);
        assert_eq!(set.to_separated(), format!("{b} {a}"));
        assert_eq!(SignatureSet::from_separated(&format!(" {a}  garbage {b} :x ")), set);
    }

    proptest! {
        #[test]
        fn every_signature_reads_back(name in "[a-zA-Z0-9._-]{1,20}", bytes in any::<[u8; 32]>()) {
            let mut both = [0; 64];
            both[..32].copy_from_slice(&bytes);
            both[32..].copy_from_slice(&bytes);
            let signature = Signature::new(&name, both).unwrap();
            prop_assert_eq!(signature.to_string().parse(), Ok(signature.clone()));
            prop_assert_eq!(signature.key_name(), name);
        }
    }
}
