//! A store for tests: sources are read from a directory and hashed, nothing is written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kiln_derivation::{Derivation, DerivationFile};
use kiln_hash::Sha256;
use kiln_nar::Encoder;
use kiln_recipe::{Filter, RecipeStore, SourceSpec, StoreError};
use kiln_store_path::{StoreDir, StorePath};

/// What a recipe added.
pub(crate) struct DirectoryStore {
    pub(crate) store_dir: StoreDir,
    /// The directory of the recipe.
    pub(crate) directory: PathBuf,
    /// In the order in which they were added.
    pub(crate) files: Vec<DerivationFile>,
    /// With the number of times that each was added.
    pub(crate) sources: BTreeMap<StorePath, usize>,
    /// Paths that are in the store already.
    pub(crate) existing: BTreeSet<StorePath>,
}

impl DirectoryStore {
    pub(crate) fn new(store_dir: StoreDir, directory: &Path) -> Self {
        Self {
            store_dir,
            directory: directory.to_path_buf(),
            files: Vec::new(),
            sources: BTreeMap::new(),
            existing: BTreeSet::new(),
        }
    }
}

impl RecipeStore for DirectoryStore {
    fn add_source(&mut self, source: &SourceSpec) -> Result<StorePath, StoreError> {
        let mut archive = Archive { encoder: Encoder::new(), bytes: Vec::new(), filter: &source.filter };
        archive.node(&self.directory.join(&source.path), b"")?;
        archive.encoder.finish()?;
        let hash = format!("sha256:{}", Sha256::of(&archive.bytes).base16());
        let path = self.store_dir.make_path("source", &hash, &source.name);
        *self.sources.entry(path.clone()).or_default() += 1;
        Ok(path)
    }

    fn ensure_path(&mut self, path: &StorePath) -> Result<(), StoreError> {
        if self.existing.contains(path) {
            return Ok(());
        }
        Err(format!("path '{}' is not valid", self.store_dir.display(path)).into())
    }

    fn add_derivation(&mut self, _: &Derivation, file: &DerivationFile) -> Result<(), StoreError> {
        let known = |path: &StorePath| {
            self.sources.contains_key(path)
                || self.existing.contains(path)
                || self.files.iter().any(|file| file.path == *path)
        };
        assert!(file.references.iter().all(known), "{}: all that it refers to comes before it", file.path);
        self.files.push(file.clone());
        Ok(())
    }
}

struct Archive<'a> {
    encoder: Encoder,
    bytes: Vec<u8>,
    filter: &'a Filter,
}

impl Archive<'_> {
    fn node(&mut self, path: &Path, relative: &[u8]) -> Result<(), StoreError> {
        let metadata = fs::symlink_metadata(path)?;
        if metadata.is_symlink() {
            let target = fs::read_link(path)?;
            self.encoder.symlink(&mut self.bytes, target.as_os_str().as_bytes())?;
        } else if metadata.is_dir() {
            self.encoder.directory(&mut self.bytes)?;
            let mut entries = fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
            entries.sort_by_key(|entry| entry.file_name());
            for entry in entries {
                let name = entry.file_name();
                let mut below = relative.to_vec();
                if !below.is_empty() {
                    below.push(b'/');
                }
                below.extend(name.as_bytes());
                if !self.filter.excludes(&below, entry.file_type()?.is_dir()) {
                    self.encoder.entry(&mut self.bytes, name.as_bytes())?;
                    self.node(&entry.path(), &below)?;
                }
            }
            self.encoder.end_directory(&mut self.bytes)?;
        } else {
            let content = fs::read(path)?;
            let executable = metadata.permissions().mode() & 0o100 != 0;
            self.encoder.regular(&mut self.bytes, executable, content.len() as u64)?;
            self.bytes.extend(&content);
            self.encoder.contents(content.len() as u64)?;
            self.encoder.end_regular(&mut self.bytes)?;
        }
        Ok(())
    }
}
