//! The hash algorithms that Nix knows.

use std::fmt;
use std::str::FromStr;

/// A hash algorithm by the name that Nix gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// MD5, 16 bytes. Broken; accepted because old fixed outputs state it.
    Md5,
    /// SHA-1, 20 bytes. Broken; accepted because old fixed outputs and Git state it.
    Sha1,
    /// SHA-256, 32 bytes: every NAR hash and fingerprint.
    Sha256,
    /// SHA-512, 64 bytes.
    Sha512,
    /// Unkeyed BLAKE3 with 32 bytes of output (Nix's experimental feature `blake3-hashes`).
    Blake3,
}

impl Algorithm {
    /// All algorithms, in the order of their age.
    pub const ALL: [Self; 5] = [Self::Md5, Self::Sha1, Self::Sha256, Self::Sha512, Self::Blake3];

    /// Length of a digest in bytes.
    pub const fn digest_length(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 | Self::Blake3 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The name as Nix writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Blake3 => "blake3",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is none of Nix's hash algorithms.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown hash algorithm '{0}', expected one of md5, sha1, sha256, sha512, blake3")]
pub struct UnknownAlgorithm(pub String);

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    /// Parses the exact lower-case name.
    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
            .ok_or_else(|| UnknownAlgorithm(name.chars().take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.name().parse(), Ok(algorithm));
        }
        for wrong in ["", "SHA256", "sha-256", "sha256 ", "sha3"] {
            assert!(wrong.parse::<Algorithm>().is_err(), "{wrong:?}");
        }
    }
}
