//! Derivations as JSON: `nix derivation show` and `nix derivation add`, in all four versions of the format.

mod first_version;
mod reader;
mod writer;

pub use reader::{JsonError, JsonTextError};
pub use writer::{JsonWriteError, show_json};

/// A version of the JSON format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JsonVersion {
    /// Nix up to 2.22: full paths, the method as a prefix of the algorithm, no name (until 2.15).
    V1,
    /// Nix 2.23 to 2.31: full paths, the method on its own, inputs as trees.
    V2,
    /// Nix 2.32: base names, structured attributes as an object, a version number.
    V3,
    /// Nix 2.33 and later: inputs together, hashes in SRI form.
    V4,
}

impl JsonVersion {
    /// The number of the version, if the format states it.
    const fn stated(self) -> Option<u64> {
        match self {
            Self::V1 | Self::V2 => None,
            Self::V3 => Some(3),
            Self::V4 => Some(4),
        }
    }

    /// Whether store paths are written with the store directory.
    const fn has_full_paths(self) -> bool {
        matches!(self, Self::V1 | Self::V2)
    }

    /// Whether structured attributes are an object of their own, and not text in the environment.
    const fn has_structured_attrs(self) -> bool {
        matches!(self, Self::V3 | Self::V4)
    }
}

/// How JSON is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonLayout {
    /// On one line without spaces.
    Compact,
    /// On many lines, indented by two spaces for each level.
    Indented,
}
