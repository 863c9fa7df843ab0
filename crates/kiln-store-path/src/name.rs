//! Names of store objects and of a derivation's outputs.

use std::fmt;
use std::sync::Arc;

/// The longest name in bytes, so that a base name has at most 244.
pub const MAX_NAME_LENGTH: usize = 211;

/// Why a text is no name of a store object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// No characters at all.
    #[error("name is empty")]
    Empty,
    /// More than [`MAX_NAME_LENGTH`] bytes.
    #[error("name '{0}…' is longer than {MAX_NAME_LENGTH} characters")]
    TooLong(String),
    /// A byte outside the alphabet.
    #[error("name '{name}' contains illegal character '{}'; allowed are letters, digits and + - . _ ? =", byte.escape_ascii())]
    Character {
        /// The text, as far as it can be shown.
        name: String,
        /// The offending byte.
        byte: u8,
    },
    /// `.` or `..`, alone or before the first dash: such a name could be mistaken for a directory.
    #[error("name '{0}' is not valid: its first dash-separated component must not be '.' or '..'")]
    Dots(String),
}

/// Checks a name by the rule of Nix 2.21 and later.
///
/// Older versions of Nix differ in leading dots only; all that they write and this refuses is `.`, `..` and names that
/// start with them and a dash.
pub(crate) fn check(name: &[u8]) -> Result<&str, InvalidName> {
    let shown = || String::from_utf8_lossy(name).chars().take(80).collect();
    if name.is_empty() {
        return Err(InvalidName::Empty);
    }
    if name.len() > MAX_NAME_LENGTH {
        return Err(InvalidName::TooLong(shown()));
    }
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-._?=".contains(byte);
    match name.iter().find(|byte| !allowed(byte)) {
        Some(&byte) => return Err(InvalidName::Character { name: shown(), byte }),
        None if matches!(name.split(|byte| *byte == b'-').next(), Some(b"." | b"..")) => {
            return Err(InvalidName::Dots(shown()));
        }
        None => {}
    }
    // All its bytes are ASCII.
    std::str::from_utf8(name).map_err(|_| InvalidName::Empty)
}

macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and takes a name.
            ///
            /// # Errors
            /// See [`InvalidName`].
            pub fn new(name: impl AsRef<[u8]>) -> Result<Self, InvalidName> {
                check(name.as_ref()).map(|name| Self(name.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidName;

            fn from_str(name: &str) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }
    };
}

checked_name! {
    /// The readable part of a store path: 1 to 211 bytes of letters, digits and `+-._?=`.
    StorePathName
}

checked_name! {
    /// The name of an output of a derivation; by the same rule as the names of store objects, since it becomes part of one.
    OutputName
}

impl StorePathName {
    /// The name of the path of `output` of a derivation with this name: the output `out` adds nothing.
    ///
    /// # Errors
    /// The joined name may be too long.
    pub fn with_output(&self, output: &OutputName) -> Result<Self, InvalidName> {
        if output.is_out() { Ok(self.clone()) } else { Self::new(format!("{self}-{output}")) }
    }

    /// This name with something appended, such as `.drv`.
    ///
    /// # Errors
    /// The joined name may be too long, or the suffix not fit for a name.
    pub fn with_suffix(&self, suffix: &str) -> Result<Self, InvalidName> {
        Self::new(format!("{self}{suffix}"))
    }
}

impl OutputName {
    /// The output that most derivations have: `out`.
    pub fn out() -> Self {
        Self("out".into())
    }

    /// Whether this is the output `out`, which leaves no trace in the name of its path.
    pub fn is_out(&self) -> bool {
        &*self.0 == "out"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What real Nix 2.34.8 accepts (column three of its `names` table).
    #[test]
    fn names_as_nix_takes_them() {
        for name in [
            ".a",
            "..a",
            "...",
            ".a-",
            "-",
            "-a",
            "a.",
            "a?b=c+d_e",
            "A",
            "0",
            ".lock",
            "foo.drv",
            "foo.lock",
        ] {
            assert!(StorePathName::new(name).is_ok(), "{name}");
        }
        for name in
            ["", ".", "..", ".-", ".-a", "..-", "..-a", "a b", "a/b", "a~b", "a@b", "a!b", "a^b", "é", "a\n"]
        {
            assert!(StorePathName::new(name).is_err(), "{name:?}");
        }
        assert!(StorePathName::new("a".repeat(211)).is_ok());
        assert!(StorePathName::new("a".repeat(212)).is_err());
    }

    #[test]
    fn outputs_other_than_out_show_in_the_name() {
        let name = StorePathName::new("multi").unwrap();
        assert_eq!(name.with_output(&OutputName::out()).unwrap().as_str(), "multi");
        assert_eq!(name.with_output(&OutputName::new("dev").unwrap()).unwrap().as_str(), "multi-dev");
        assert!(
            StorePathName::new("a".repeat(211))
                .unwrap()
                .with_output(&OutputName::new("dev").unwrap())
                .is_err()
        );
    }
}
