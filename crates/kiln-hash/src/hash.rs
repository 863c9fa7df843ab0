//! A digest with its algorithm, and the four ways in which Nix reads one from text.

use std::fmt;

use crate::algorithm::{Algorithm, UnknownAlgorithm};
use crate::encoding::{self, DecodeError};

/// The longest digest: SHA-512.
const MAX_DIGEST_LENGTH: usize = 64;

/// A SHA-256 digest: NAR hashes, fingerprints, hashes of derivations.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// The all-zero digest, by which Nix marks a NAR hash that is not known.
    pub const UNKNOWN: Self = Self([0; 32]);

    /// The digest of `bytes`.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        use sha2::Digest;
        Self(sha2::Sha256::digest(bytes.as_ref()).into())
    }

    /// Lower-case base 16 without the algorithm.
    pub fn base16(&self) -> String {
        encoding::base16(&self.0)
    }

    /// Nix's base 32 without the algorithm.
    pub fn nix32(&self) -> String {
        encoding::nix32(&self.0)
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.nix32())
    }
}

impl From<Sha256> for Hash {
    fn from(digest: Sha256) -> Self {
        let mut bytes = [0; MAX_DIGEST_LENGTH];
        for (slot, byte) in bytes.iter_mut().zip(digest.0) {
            *slot = byte;
        }
        Self { algorithm: Algorithm::Sha256, bytes }
    }
}

/// A digest and its algorithm.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash {
    algorithm: Algorithm,
    /// The digest, then zeros.
    bytes: [u8; MAX_DIGEST_LENGTH],
}

/// Why a text is no hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseHashError {
    /// The algorithm has a name that Nix does not know.
    #[error(transparent)]
    UnknownAlgorithm(#[from] UnknownAlgorithm),
    /// Neither the text nor the context says which algorithm it is.
    #[error("hash '{0}' does not include a type, such as 'sha256:' or 'sha256-'")]
    NoAlgorithm(String),
    /// The text states another algorithm than the context.
    #[error("hash '{text}' should have type '{expected}'")]
    OtherAlgorithm {
        /// The text.
        text: String,
        /// What the context asks for.
        expected: Algorithm,
    },
    /// The number of digits fits no encoding of the algorithm.
    #[error("hash '{text}' has wrong length for hash algorithm '{algorithm}'")]
    WrongLength {
        /// The text.
        text: String,
        /// The algorithm that it should be of.
        algorithm: Algorithm,
    },
    /// A digit that the encoding does not have.
    #[error("hash '{text}' is invalid: {error}")]
    Digits {
        /// The text.
        text: String,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// An SRI hash was asked for, and there is no `-`.
    #[error("hash '{0}' is not SRI (ALGORITHM-BASE64)")]
    NotSri(String),
}

impl Hash {
    /// A hash from the bytes of its digest; `None` if their number is not the algorithm's.
    pub fn new(algorithm: Algorithm, digest: &[u8]) -> Option<Self> {
        if digest.len() != algorithm.digest_length() {
            return None;
        }
        let mut bytes = [0; MAX_DIGEST_LENGTH];
        for (slot, byte) in bytes.iter_mut().zip(digest) {
            *slot = *byte;
        }
        Some(Self { algorithm, bytes })
    }

    /// The all-zero hash, which stands for one that is not known yet.
    pub const fn zero(algorithm: Algorithm) -> Self {
        Self { algorithm, bytes: [0; MAX_DIGEST_LENGTH] }
    }

    /// The hash of `bytes`.
    pub fn of(algorithm: Algorithm, bytes: impl AsRef<[u8]>) -> Self {
        let mut hasher = crate::Hasher::new(algorithm);
        hasher.update(bytes.as_ref());
        hasher.finish()
    }

    /// The algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The bytes of the digest.
    pub fn digest(&self) -> &[u8] {
        self.bytes.get(..self.algorithm.digest_length()).unwrap_or_default()
    }

    /// The digest, if the algorithm is SHA-256.
    pub fn as_sha256(&self) -> Option<Sha256> {
        (self.algorithm == Algorithm::Sha256).then(|| self.digest().try_into().ok().map(Sha256)).flatten()
    }

    /// Digits in base 16, without the algorithm.
    pub fn base16(&self) -> String {
        encoding::base16(self.digest())
    }

    /// Digits in Nix's base 32, without the algorithm.
    pub fn nix32(&self) -> String {
        encoding::nix32(self.digest())
    }

    /// Digits in padded base 64, without the algorithm.
    pub fn base64(&self) -> String {
        encoding::base64(self.digest())
    }

    /// `sha256:BASE16`, as in fingerprints of store paths and in the database.
    pub fn prefixed_base16(&self) -> String {
        format!("{}:{}", self.algorithm, self.base16())
    }

    /// `sha256:NIX32`, as in narinfo files, signatures and content addresses.
    pub fn prefixed_nix32(&self) -> String {
        format!("{}:{}", self.algorithm, self.nix32())
    }

    /// `sha256-BASE64`, as in messages and JSON.
    pub fn sri(&self) -> String {
        format!("{}-{}", self.algorithm, self.base64())
    }

    /// Reads a hash with or without its algorithm: `ALGORITHM:DIGITS` in any encoding, SRI, or bare digits of the
    /// algorithm that the context gives.
    ///
    /// # Errors
    /// See [`ParseHashError`].
    pub fn parse_any(text: &str, algorithm: Option<Algorithm>) -> Result<Self, ParseHashError> {
        let (stated, digits, is_sri) = if let Some((name, digits)) = text.split_once(':') {
            (Some(name.parse()?), digits, false)
        } else if let Some((name, digits)) = text.split_once('-') {
            (Some(name.parse()?), digits, true)
        } else {
            (None, text, false)
        };
        let algorithm = match (stated, algorithm) {
            (None, None) => return Err(ParseHashError::NoAlgorithm(excerpt(text))),
            (Some(stated), Some(expected)) if stated != expected => {
                return Err(ParseHashError::OtherAlgorithm { text: excerpt(text), expected });
            }
            (Some(algorithm), _) | (None, Some(algorithm)) => algorithm,
        };
        if is_sri { decode_sri(text, digits, algorithm) } else { Self::parse_unprefixed(digits, algorithm) }
    }

    /// Reads a hash that states its algorithm: `ALGORITHM:DIGITS` or SRI.
    ///
    /// # Errors
    /// See [`ParseHashError`].
    pub fn parse_prefixed(text: &str) -> Result<Self, ParseHashError> {
        Self::parse_any(text, None)
    }

    /// Reads bare digits; their number alone tells base 16, base 32 and padded base 64 apart.
    ///
    /// # Errors
    /// See [`ParseHashError`].
    pub fn parse_unprefixed(digits: &str, algorithm: Algorithm) -> Result<Self, ParseHashError> {
        let length = algorithm.digest_length();
        let bytes = match digits.len() {
            n if n == length * 2 => encoding::decode_base16(digits.as_bytes()),
            n if n == encoding::nix32_length(length) => encoding::decode_nix32(digits.as_bytes()),
            n if n == encoding::base64_length(length) => encoding::decode_base64(digits.as_bytes()),
            _ => return Err(ParseHashError::WrongLength { text: excerpt(digits), algorithm }),
        };
        from_decoded(digits, algorithm, bytes)
    }

    /// Reads an SRI hash, `ALGORITHM-BASE64`.
    ///
    /// # Errors
    /// See [`ParseHashError`].
    pub fn parse_sri(text: &str) -> Result<Self, ParseHashError> {
        let (name, digits) = text.split_once('-').ok_or_else(|| ParseHashError::NotSri(excerpt(text)))?;
        decode_sri(text, digits, name.parse()?)
    }
}

fn decode_sri(text: &str, digits: &str, algorithm: Algorithm) -> Result<Hash, ParseHashError> {
    from_decoded(text, algorithm, encoding::decode_base64(digits.as_bytes()))
}

fn from_decoded(
    text: &str,
    algorithm: Algorithm,
    bytes: Result<Vec<u8>, DecodeError>,
) -> Result<Hash, ParseHashError> {
    let bytes = bytes.map_err(|error| ParseHashError::Digits { text: excerpt(text), error })?;
    Hash::new(algorithm, &bytes).ok_or_else(|| ParseHashError::WrongLength { text: excerpt(text), algorithm })
}

/// As much of a text from outside as belongs into a message.
fn excerpt(text: &str) -> String {
    text.chars().take(160).collect()
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sri())
    }
}

/// Folds a digest to `length` bytes by exclusive or, as store paths and dynamic placeholders do: byte `i` goes to
/// `i mod length`. A `length` of 0 gives nothing.
pub fn fold(digest: &[u8], length: usize) -> Vec<u8> {
    let mut folded = vec![0; length];
    if length > 0 {
        for chunk in digest.chunks(length) {
            for (slot, byte) in folded.iter_mut().zip(chunk) {
                *slot ^= byte;
            }
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_encodings_of_hello() {
        let hash = |algorithm| Hash::of(algorithm, "hello\n");
        assert_eq!(hash(Algorithm::Md5).prefixed_base16(), "md5:b1946ac92492d2347c6235b4d2611184");
        assert_eq!(hash(Algorithm::Md5).nix32(), "4425hx5d1mc9y39llj4k4nm55i");
        assert_eq!(hash(Algorithm::Md5).sri(), "md5-sZRqySSS0jR8YjW00mERhA==");
        assert_eq!(hash(Algorithm::Sha1).nix32(), "iwjz551fyw0cxcjgf4l6c879zabd6wpm");
        assert_eq!(
            hash(Algorithm::Sha256).prefixed_nix32(),
            "sha256:00xyyr3fi8l6hb839bv3f7yb86yjv7xi1cgh1xnhipym4asvb4aq"
        );
        assert_eq!(hash(Algorithm::Sha256), Sha256::of("hello\n").into());
        assert_eq!(
            hash(Algorithm::Sha512).nix32(),
            "0lrc0dwnvipqviibf7qfm1y492qvjwb1zhkcyi05cndmva1mr5gjcgrnz1x36djmk0sfg8djd2n0qv68vib2jg590mwznar9jcjphp7"
        );
        assert_eq!(hash(Algorithm::Blake3).nix32(), "16cscbyxpwpmx9wdgzd20jlqyi71bsnzx1aim7km1zfvk4dpqk4f");
    }

    /// What real Nix 2.34.8 accepts, and the digest that it reads: rows of `OK   [TEXT] => BASE16` or `ERR  [TEXT] => …`,
    /// where a text may hold a line feed.
    #[test]
    fn parses_what_nix_parses() {
        let table = include_str!("../tests/data/hash-parse.txt");
        let mut rows = 0;
        for row in table.replace("\nOK ", "\0OK ").replace("\nERR ", "\0ERR ").split('\0') {
            let (text, result) = row.trim_end().split_once("] => ").unwrap();
            let (verdict, text) = text.split_once('[').unwrap();
            let parsed = Hash::parse_any(text, None);
            match verdict.trim() {
                "OK" => assert_eq!(parsed.map(|hash| hash.base16()).as_deref(), Ok(result), "{text:?}"),
                _ => assert!(parsed.is_err(), "{text:?} should be refused, is {parsed:?}"),
            }
            rows += 1;
        }
        assert_eq!(rows, 25, "every row of the table is checked");
    }

    #[test]
    fn folds_by_exclusive_or() {
        assert_eq!(fold(&[1, 2, 3, 4, 5], 2), [1 ^ 3 ^ 5, 2 ^ 4]);
        assert_eq!(fold(&[1], 0), [0_u8; 0]);
    }

    proptest! {
        #[test]
        fn every_form_reads_back(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            for algorithm in Algorithm::ALL {
                let hash = Hash::of(algorithm, &bytes);
                prop_assert_eq!(Hash::parse_prefixed(&hash.prefixed_base16()), Ok(hash));
                prop_assert_eq!(Hash::parse_prefixed(&hash.prefixed_nix32()), Ok(hash));
                prop_assert_eq!(Hash::parse_prefixed(&hash.sri()), Ok(hash));
                prop_assert_eq!(Hash::parse_sri(&hash.sri()), Ok(hash));
                prop_assert_eq!(Hash::parse_unprefixed(&hash.base64(), algorithm), Ok(hash));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,140}") {
            let _ = Hash::parse_any(&text, Some(Algorithm::Sha256));
            let _ = Hash::parse_sri(&text);
        }
    }
}
