//! Content addresses: what in a path's content was hashed, how, and to what.

use std::fmt;
use std::str::FromStr;

use kiln_hash::{Algorithm, Hash, ParseHashError, UnknownAlgorithm};

/// How content is hashed for its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContentAddressMethod {
    /// The bytes of a regular, non-executable file.
    Flat,
    /// The NAR serialisation.
    Nar,
    /// The bytes of a file that may have references: derivations and other texts.
    Text,
    /// The Git object id of the tree (experimental feature `git-hashing`).
    Git,
}

impl ContentAddressMethod {
    /// The name that JSON and structured attributes use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Nar => "nar",
            Self::Text => "text",
            Self::Git => "git",
        }
    }

    /// Reads the name that JSON uses; `recursive` is an older one for `nar`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "flat" => Some(Self::Flat),
            "nar" | "recursive" => Some(Self::Nar),
            "text" => Some(Self::Text),
            "git" => Some(Self::Git),
            _ => None,
        }
    }

    /// What derivations put before the algorithm: nothing for flat, else `r:`, `text:` or `git:`.
    pub const fn derivation_prefix(self) -> &'static str {
        match self {
            Self::Flat => "",
            Self::Nar => "r:",
            Self::Text => "text:",
            Self::Git => "git:",
        }
    }

    /// Splits a derivation's `[r:|text:|git:]ALGORITHM`.
    ///
    /// # Errors
    /// What is left may not be an algorithm.
    pub fn parse_with_algorithm(text: &str) -> Result<(Self, Algorithm), UnknownAlgorithm> {
        for method in [Self::Nar, Self::Text, Self::Git] {
            if let Some(algorithm) = text.strip_prefix(method.derivation_prefix()) {
                return Ok((method, algorithm.parse()?));
            }
        }
        Ok((Self::Flat, text.parse()?))
    }
}

impl fmt::Display for ContentAddressMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A method and the hash that it gives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentAddress {
    /// What was hashed.
    pub method: ContentAddressMethod,
    /// The result.
    pub hash: Hash,
}

/// Why a text is no content address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseContentAddressError {
    /// It starts with neither `text:` nor `fixed:`.
    #[error("content address '{0}' must start with 'text:' or 'fixed:'")]
    Prefix(String),
    /// There is no algorithm before the hash.
    #[error("content address '{0}' must have an algorithm and a hash after its method")]
    NoAlgorithm(String),
    /// The algorithm is unknown.
    #[error("content address '{text}': {error}")]
    Algorithm {
        /// The text.
        text: String,
        /// What is wrong with its algorithm.
        error: UnknownAlgorithm,
    },
    /// The hash does not read.
    #[error("content address '{text}': {error}")]
    Hash {
        /// The text.
        text: String,
        /// What is wrong with its hash.
        error: ParseHashError,
    },
}

impl FromStr for ContentAddress {
    type Err = ParseContentAddressError;

    /// Reads `text:ALGORITHM:HASH` or `fixed:[r:|git:]ALGORITHM:HASH`; the hash may be in any encoding.
    fn from_str(text: &str) -> Result<Self, ParseContentAddressError> {
        let shown = || text.chars().take(200).collect::<String>();
        let (prefix, rest) = text.split_once(':').ok_or_else(|| ParseContentAddressError::Prefix(shown()))?;
        let (method, rest) = match (prefix, rest.split_once(':')) {
            ("text", _) => (ContentAddressMethod::Text, rest),
            ("fixed", Some(("r", rest))) => (ContentAddressMethod::Nar, rest),
            ("fixed", Some(("git", rest))) => (ContentAddressMethod::Git, rest),
            ("fixed", _) => (ContentAddressMethod::Flat, rest),
            _ => return Err(ParseContentAddressError::Prefix(shown())),
        };
        let (algorithm, digits) =
            rest.split_once(':').ok_or_else(|| ParseContentAddressError::NoAlgorithm(shown()))?;
        let algorithm = algorithm
            .parse()
            .map_err(|error| ParseContentAddressError::Algorithm { text: shown(), error })?;
        let hash = Hash::parse_unprefixed(digits, algorithm)
            .map_err(|error| ParseContentAddressError::Hash { text: shown(), error })?;
        Ok(Self { method, hash })
    }
}

impl fmt::Display for ContentAddress {
    /// Writes the form of the database and of narinfo files, with the hash in Nix's base 32.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match self.method {
            ContentAddressMethod::Flat => "fixed:",
            ContentAddressMethod::Nar => "fixed:r:",
            ContentAddressMethod::Git => "fixed:git:",
            ContentAddressMethod::Text => "text:",
        };
        write!(f, "{prefix}{}", self.hash.prefixed_nix32())
    }
}

impl fmt::Debug for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prints_what_it_reads() {
        let digits = Hash::of(Algorithm::Sha256, "x").nix32();
        for text in ["text:sha256", "fixed:sha256", "fixed:r:sha256", "fixed:git:sha256"] {
            let text = format!("{text}:{digits}");
            assert_eq!(text.parse::<ContentAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_what_is_none() {
        for wrong in [
            "",
            "sha256:x",
            "fixed:",
            "fixed:r:",
            "fixed:sha256",
            "text:r:sha256:x",
            "fixed:md6:x",
            "fixed:sha256:x",
        ] {
            assert!(wrong.parse::<ContentAddress>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(fixed:|text:)?(r:|git:)?(sha256|md5)?:?[0-9a-z]{0,60}") {
            let _ = text.parse::<ContentAddress>();
        }
    }
}
