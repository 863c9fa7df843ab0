//! The outputs of a derivation: five kinds, by how their path comes about.

use kiln_hash::{Algorithm, Hash, ParseHashError, UnknownAlgorithm};
use kiln_store_path::{
    ContentAddress, ContentAddressMethod, InvalidStorePath, MakePathError, OutputName, References, StoreDir,
    StorePath, StorePathName,
};

/// What the hash field of an impure output holds.
const IMPURE: &[u8] = b"impure";

/// An output of a derivation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DerivationOutput {
    /// The path is computed from the derivation.
    InputAddressed(StorePath),
    /// The content is known in advance.
    Fixed {
        /// What the content must hash to.
        address: ContentAddress,
        /// The path that follows from it.
        path: StorePath,
    },
    /// The path is computed from the content after the build (experimental feature `ca-derivations`).
    Floating {
        /// How the content is hashed.
        method: ContentAddressMethod,
        /// With which algorithm.
        algorithm: Algorithm,
    },
    /// As input-addressed, but the path of some input is not known yet.
    Deferred,
    /// As floating, but built anew each time (experimental feature `impure-derivations`).
    Impure {
        /// How the content is hashed.
        method: ContentAddressMethod,
        /// With which algorithm.
        algorithm: Algorithm,
    },
}

/// The three texts by which `.drv` files and the worker protocol describe an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputFields {
    /// Full path, or empty.
    pub path: String,
    /// `[r:|text:|git:]ALGORITHM`, or empty.
    pub hash_algorithm: String,
    /// The digest in base 16, `impure`, or empty.
    pub hash: String,
}

/// Why texts describe no output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    /// The path of an output whose path is fixed by its hash is empty or relative.
    #[error("bad path '{0}' in derivation")]
    BadPath(String),
    /// The path is no store path.
    #[error(transparent)]
    Path(#[from] InvalidStorePath),
    /// A path is stated although the content decides it.
    #[error("content-addressing derivation output should not specify output path '{0}'")]
    FloatingWithPath(String),
    /// A path is stated although each build has another.
    #[error("impure derivation output should not specify output path '{0}'")]
    ImpureWithPath(String),
    /// The algorithm or the method before it is unknown.
    #[error(transparent)]
    Algorithm(#[from] UnknownAlgorithm),
    /// The hash does not fit its algorithm.
    #[error(transparent)]
    Hash(#[from] ParseHashError),
    /// The hash has no path.
    #[error(transparent)]
    MakePath(#[from] MakePathError),
    /// The stated path is not the one that the hash has.
    #[error("fixed output states the path '{stated}', should be '{computed}'")]
    FixedPath {
        /// What the derivation says.
        stated: String,
        /// What its hash gives.
        computed: String,
    },
}

/// Whether a fixed output may state a path other than its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatedPath {
    /// As real Nix before 2026: any absolute path is taken and forgotten.
    Ignored,
    /// It must be the computed one.
    Checked,
}

impl DerivationOutput {
    /// A fixed output, with its path computed.
    ///
    /// # Errors
    /// The name may be too long, and some combinations of method and algorithm have no path.
    pub fn fixed(
        store_dir: &StoreDir,
        derivation_name: &StorePathName,
        output: &OutputName,
        address: ContentAddress,
    ) -> Result<Self, MakePathError> {
        let path = fixed_output_path(store_dir, derivation_name, output, &address)?;
        Ok(Self::Fixed { address, path })
    }

    /// Reads the three fields of a `.drv` file or of the worker protocol.
    ///
    /// # Errors
    /// See [`OutputError`].
    pub fn from_fields(
        store_dir: &StoreDir,
        derivation_name: &StorePathName,
        output: &OutputName,
        [path, hash_algorithm, hash]: [&[u8]; 3],
        stated_path: StatedPath,
    ) -> Result<Self, OutputError> {
        if hash_algorithm.is_empty() {
            return Ok(if path.is_empty() {
                Self::Deferred
            } else if path.starts_with(b"/") {
                Self::InputAddressed(store_dir.parse(path)?)
            } else {
                return Err(OutputError::BadPath(shown(path)));
            });
        }
        let (method, algorithm) = ContentAddressMethod::parse_with_algorithm(&shown(hash_algorithm))?;
        if hash == IMPURE {
            return if path.is_empty() {
                Ok(Self::Impure { method, algorithm })
            } else {
                Err(OutputError::ImpureWithPath(shown(path)))
            };
        }
        if hash.is_empty() {
            return if path.is_empty() {
                Ok(Self::Floating { method, algorithm })
            } else {
                Err(OutputError::FloatingWithPath(shown(path)))
            };
        }
        if !path.starts_with(b"/") {
            return Err(OutputError::BadPath(shown(path)));
        }
        let hash = Hash::parse_unprefixed(&shown(hash), algorithm)?;
        let fixed = Self::fixed(store_dir, derivation_name, output, ContentAddress { method, hash })?;
        match (&fixed, stated_path) {
            (Self::Fixed { path: computed, .. }, StatedPath::Checked)
                if store_dir.print(computed).as_bytes() != path =>
            {
                Err(OutputError::FixedPath { stated: shown(path), computed: store_dir.print(computed) })
            }
            _ => Ok(fixed),
        }
    }

    /// The three fields of a `.drv` file or of the worker protocol.
    pub fn to_fields(&self, store_dir: &StoreDir) -> OutputFields {
        let path = self.path().map(|path| store_dir.print(path)).unwrap_or_default();
        let with_prefix = |method: &ContentAddressMethod, algorithm: &Algorithm| {
            format!("{}{algorithm}", method.derivation_prefix())
        };
        let (hash_algorithm, hash) = match self {
            Self::InputAddressed(_) | Self::Deferred => (String::new(), String::new()),
            Self::Fixed { address, .. } => {
                (with_prefix(&address.method, &address.hash.algorithm()), address.hash.base16())
            }
            Self::Floating { method, algorithm } => (with_prefix(method, algorithm), String::new()),
            Self::Impure { method, algorithm } => {
                (with_prefix(method, algorithm), String::from_utf8_lossy(IMPURE).into_owned())
            }
        };
        OutputFields { path, hash_algorithm, hash }
    }

    /// The path, if it is known before the build.
    pub fn path(&self) -> Option<&StorePath> {
        match self {
            Self::InputAddressed(path) | Self::Fixed { path, .. } => Some(path),
            Self::Floating { .. } | Self::Deferred | Self::Impure { .. } => None,
        }
    }

    /// How the content is hashed and with which algorithm, for the outputs that are addressed by content.
    pub fn content_addressing(&self) -> Option<(ContentAddressMethod, Algorithm)> {
        match self {
            Self::Fixed { address, .. } => Some((address.method, address.hash.algorithm())),
            Self::Floating { method, algorithm } | Self::Impure { method, algorithm } => {
                Some((*method, *algorithm))
            }
            Self::InputAddressed(_) | Self::Deferred => None,
        }
    }
}

/// The path of an output whose content is known.
///
/// # Errors
/// The name may be too long, and some combinations of method and algorithm have no path.
pub fn fixed_output_path(
    store_dir: &StoreDir,
    derivation_name: &StorePathName,
    output: &OutputName,
    address: &ContentAddress,
) -> Result<StorePath, MakePathError> {
    let name = derivation_name.with_output(output)?;
    store_dir.make_content_addressed_path(&name, address, &References::default())
}

/// As much of a text from outside as belongs into a message. No valid algorithm or hash is longer.
pub(crate) fn shown(text: &[u8]) -> String {
    const LENGTH: usize = 320;
    let start = text.get(..4 * LENGTH).unwrap_or(text);
    String::from_utf8_lossy(start).chars().take(LENGTH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOD_HASH: &[u8] = b"5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    const FOD_PATH: &[u8] = b"/nix/store/2vmnikz9gvdskxvni5na3alrgzm86qqy-fod-flat";

    fn read(
        path: &[u8],
        algorithm: &[u8],
        hash: &[u8],
        stated: StatedPath,
    ) -> Result<DerivationOutput, OutputError> {
        let name = StorePathName::new("fod-flat").unwrap();
        let fields = [path, algorithm, hash];
        DerivationOutput::from_fields(&StoreDir::default(), &name, &OutputName::out(), fields, stated)
    }

    #[test]
    fn every_kind_reads_back() {
        for fields in [
            [FOD_PATH, b"", b""],
            [FOD_PATH, b"sha256", FOD_HASH],
            [b"", b"r:sha512", b""],
            [b"", b"text:sha256", b""],
            [b"", b"git:sha1", b""],
            [b"", b"", b""],
            [b"", b"r:sha256", b"impure"],
        ] {
            let output = read(fields[0], fields[1], fields[2], StatedPath::Checked).unwrap();
            let written = output.to_fields(&StoreDir::default());
            assert_eq!([written.path, written.hash_algorithm, written.hash].map(String::into_bytes), fields);
        }
    }

    #[test]
    fn a_fixed_output_states_its_own_path() {
        let other = b"/nix/store/00000000000000000000000000000000-t";
        let expected = read(FOD_PATH, b"sha256", FOD_HASH, StatedPath::Checked);
        assert_eq!(read(other, b"sha256", FOD_HASH, StatedPath::Ignored), expected);
        let error = read(other, b"sha256", FOD_HASH, StatedPath::Checked).unwrap_err();
        assert_eq!(
            error.to_string(),
            "fixed output states the path '/nix/store/00000000000000000000000000000000-t', \
             should be '/nix/store/2vmnikz9gvdskxvni5na3alrgzm86qqy-fod-flat'"
        );
    }

    #[test]
    fn refuses_fields_that_contradict_each_other() {
        let refuse = |path: &[u8], algorithm: &[u8], hash: &[u8]| {
            read(path, algorithm, hash, StatedPath::Ignored).unwrap_err()
        };
        assert!(matches!(refuse(FOD_PATH, b"sha256", b""), OutputError::FloatingWithPath(_)));
        assert!(matches!(refuse(FOD_PATH, b"sha256", b"impure"), OutputError::ImpureWithPath(_)));
        assert!(matches!(refuse(b"", b"sha256", FOD_HASH), OutputError::BadPath(_)));
        assert!(matches!(refuse(b"nix/store/x", b"", b""), OutputError::BadPath(_)));
        assert!(matches!(refuse(b"/etc/passwd", b"", b""), OutputError::Path(_)));
        assert!(matches!(refuse(b"", b"q:sha256", b""), OutputError::Algorithm(_)));
        assert!(matches!(refuse(FOD_PATH, b"sha256", b"5891"), OutputError::Hash(_)));
        assert!(matches!(refuse(FOD_PATH, b"text:sha1", &FOD_HASH[..40]), OutputError::MakePath(_)));
    }
}
