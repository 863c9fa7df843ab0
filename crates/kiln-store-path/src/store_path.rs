//! Store paths.

use std::fmt;
use std::sync::Arc;

use kiln_hash::encoding;

use crate::name::{self, InvalidName, StorePathName};

/// Digits of the digest at the start of a base name; they stand for 20 bytes.
pub const DIGEST_LENGTH: usize = 32;

/// The base name of an object in a store: `DIGEST-NAME`. Orders like the text, as all lists of Nix do.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath(Arc<str>);

/// Why a text is no store path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStorePath {
    /// There is no room for a digest, a dash and a name.
    #[error("'{0}' is too short to be a valid store path")]
    TooShort(String),
    /// A digit of the digest that Nix's base 32 does not have.
    #[error("'{path}' is not a valid store path: illegal base-32 character '{}'", byte.escape_ascii())]
    Digest {
        /// The text.
        path: String,
        /// The offending byte.
        byte: u8,
    },
    /// The digest is not followed by a dash.
    #[error("'{0}' is not a valid store path: no dash after its digest")]
    NoDash(String),
    /// The name is not one.
    #[error("'{path}' is not a valid store path: {error}")]
    Name {
        /// The text.
        path: String,
        /// What is wrong with its name.
        error: InvalidName,
    },
    /// The path does not start with `/`.
    #[error("path '{0}' is not absolute")]
    NotAbsolute(String),
    /// The path is elsewhere, or below a store path.
    #[error("path '{path}' is not in the Nix store '{store_dir}'")]
    NotInStore {
        /// The text.
        path: String,
        /// The store directory that it should be directly in.
        store_dir: String,
    },
}

impl StorePath {
    /// Reads a base name, such as `mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple`.
    ///
    /// # Errors
    /// See [`InvalidStorePath`].
    pub fn from_base_name(base_name: impl AsRef<[u8]>) -> Result<Self, InvalidStorePath> {
        let bytes = base_name.as_ref();
        let shown = || shown(bytes);
        let Some((digest, rest)) = bytes.split_at_checked(DIGEST_LENGTH) else {
            return Err(InvalidStorePath::TooShort(shown()));
        };
        if let Some(&byte) = digest.iter().find(|byte| !encoding::is_nix32_digit(**byte)) {
            return Err(InvalidStorePath::Digest { path: shown(), byte });
        }
        let name = match rest {
            [] | [b'-'] => return Err(InvalidStorePath::TooShort(shown())),
            [b'-', name @ ..] => name,
            _ => return Err(InvalidStorePath::NoDash(shown())),
        };
        name::check(name).map_err(|error| InvalidStorePath::Name { path: shown(), error })?;
        // All of it is ASCII by now.
        let base_name = std::str::from_utf8(bytes).map_err(|_| InvalidStorePath::TooShort(shown()))?;
        Ok(Self(base_name.into()))
    }

    /// A path from the 20 bytes of its digest and its name.
    pub fn from_parts(digest: &[u8; 20], name: &StorePathName) -> Self {
        Self(format!("{}-{name}", encoding::nix32(digest)).into())
    }

    /// A path with the digits of this one's digest replaced: hash rewriting and scratch outputs.
    ///
    /// # Errors
    /// The digits may not be 32 of Nix's base 32.
    pub fn with_digest(&self, digits: &str) -> Result<Self, InvalidStorePath> {
        Self::from_base_name(format!("{digits}-{}", self.name()))
    }

    /// The whole base name.
    pub fn base_name(&self) -> &str {
        &self.0
    }

    /// The 32 digits of the digest, by which references are found.
    pub fn digest(&self) -> &str {
        self.0.get(..DIGEST_LENGTH).unwrap_or_default()
    }

    /// What follows the digest and its dash.
    pub fn name(&self) -> &str {
        self.0.get(DIGEST_LENGTH + 1..).unwrap_or_default()
    }

    /// The name as a checked value.
    pub fn to_name(&self) -> StorePathName {
        // The name was checked when the path was made, so that this cannot fail.
        StorePathName::new(self.name()).unwrap_or_else(|_| unreachable!("the name of a store path is valid"))
    }

    /// Whether the path is that of a derivation file.
    pub fn is_derivation(&self) -> bool {
        self.name().ends_with(".drv")
    }
}

/// As much of a path from outside as belongs into a message.
pub(crate) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(320).collect()
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for StorePath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for StorePath {
    type Err = InvalidStorePath;

    /// Reads a base name.
    fn from_str(base_name: &str) -> Result<Self, InvalidStorePath> {
        Self::from_base_name(base_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIMPLE: &str = "mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple";

    #[test]
    fn has_a_digest_and_a_name() {
        let path = StorePath::from_base_name(SIMPLE).unwrap();
        assert_eq!(path.digest(), "mz985b11rp8ccbhb4gcc1bpxwpxvbw6d");
        assert_eq!(path.name(), "simple");
        assert_eq!(path.to_string(), SIMPLE);
        assert!(!path.is_derivation());
        assert!(StorePath::from_base_name(format!("{SIMPLE}.drv")).unwrap().is_derivation());
    }

    #[test]
    fn refuses_what_is_no_base_name() {
        let refuse = |text: &str| StorePath::from_base_name(text).unwrap_err();
        for short in ["", "mz98", "mz985b11rp8ccbhb4gcc1bpxwpxvbw6d", "mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-"] {
            assert!(matches!(refuse(short), InvalidStorePath::TooShort(_)), "{short}");
        }
        assert!(matches!(
            refuse("ez985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple"),
            InvalidStorePath::Digest { byte: b'e', .. }
        ));
        assert!(matches!(refuse("mz985b11rp8ccbhb4gcc1bpxwpxvbw6d+simple"), InvalidStorePath::NoDash(_)));
        assert!(matches!(refuse("mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-."), InvalidStorePath::Name { .. }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(path) = StorePath::from_base_name(&bytes) {
                prop_assert_eq!(path.base_name().as_bytes(), &bytes[..]);
            }
        }

        #[test]
        fn parts_make_the_base_name(digest in any::<[u8; 20]>(), name in "[0-9a-zA-Z+_?=][-0-9a-zA-Z+._?=]{0,40}") {
            let name = StorePathName::new(name).unwrap();
            let path = StorePath::from_parts(&digest, &name);
            prop_assert_eq!(path.to_name(), name);
            prop_assert_eq!(StorePath::from_base_name(path.base_name()).unwrap(), path);
        }
    }
}
