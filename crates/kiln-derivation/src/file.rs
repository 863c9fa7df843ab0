//! The file of a derivation in a store: its text, its path and what it refers to.

use std::collections::BTreeSet;

use kiln_store_path::{MakePathError, StoreDir, StorePath, StorePathName};

use crate::aterm::WriteError;
use crate::derivation::{DERIVATION_SUFFIX, Derivation};

/// A derivation's file, ready to be added to a store as a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DerivationFile {
    /// Its path, which ends in `.drv`.
    pub path: StorePath,
    /// Its content.
    pub text: Vec<u8>,
    /// What it refers to: the sources and the input derivations, but not the outputs.
    pub references: BTreeSet<StorePath>,
}

/// Why a derivation has no file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Its name with `.drv` is too long.
    #[error("derivation '{derivation}' has no path: {error}")]
    Path {
        /// The name of the derivation.
        derivation: StorePathName,
        /// What is wrong.
        error: MakePathError,
    },
}

impl Derivation {
    /// The file of this derivation.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn to_file(&self, store_dir: &StoreDir) -> Result<DerivationFile, FileError> {
        let text = self.to_aterm(store_dir)?;
        let references = self.references();
        let path = derivation_path(store_dir, &self.name, &text, references.clone())
            .map_err(|error| FileError::Path { derivation: self.name.clone(), error })?;
        Ok(DerivationFile { path, text, references })
    }
}

/// The store path of the derivation file with this text, which need not be in canonical form.
///
/// # Errors
/// The name with `.drv` may be too long.
pub fn derivation_path(
    store_dir: &StoreDir,
    name: &StorePathName,
    text: &[u8],
    references: BTreeSet<StorePath>,
) -> Result<StorePath, MakePathError> {
    store_dir.make_text_path(&name.with_suffix(DERIVATION_SUFFIX)?, text, references)
}
