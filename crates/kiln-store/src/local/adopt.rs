//! Making paths valid whose files somebody has put into the store directory: an installer, a copy of a whole store, the
//! builder of an image.

use kiln_fs::{Canonicaliser, HardLinks, Ownership};
use kiln_hash::Sha256;
use kiln_narinfo::PathInfo;
use kiln_store_path::StorePath;

use crate::blocking::waiting;
use crate::error::Result;
use crate::local::LocalStore;

/// What is done with files before their paths become valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdoptedFiles {
    /// Nothing: they come from a store and are canonical.
    AsTheyAre,
    /// Owner, permissions and times become those of a store.
    MadeCanonical,
}

impl LocalStore {
    /// Makes a set of paths valid, wholly or not at all. Hashes and sizes that are not known are taken from the files. Of paths
    /// that are valid already, hash and size are replaced, and signatures and content address forgotten.
    ///
    /// The paths are not locked, as there may be more of them than files that a process may have open: whoever has put the
    /// files in place knows that nobody else makes them.
    ///
    /// # Errors
    /// Files that are not there or cannot be made canonical, and as for any [registration](Self::register_valid_paths).
    pub async fn adopt(&self, infos: Vec<PathInfo>, files: AdoptedFiles) -> Result<()> {
        let store = self.clone();
        waiting(move || store.adopt_blocking(infos, files)).await
    }

    fn adopt_blocking(&self, mut infos: Vec<PathInfo>, files: AdoptedFiles) -> Result<()> {
        self.refuse_if_read_only()?;
        let paths: Vec<StorePath> = infos.iter().map(|info| info.path.clone()).collect();
        self.add_temp_roots_blocking(&paths)?;
        for info in &mut infos {
            if files == AdoptedFiles::MadeCanonical {
                self.make_canonical(&info.path)?;
            }
            if info.nar_hash == Sha256::UNKNOWN || info.nar_size == 0 {
                let found = kiln_fs::hash_tree(self.directory(), &Self::component(&info.path)?, &mut ())?;
                (info.nar_hash, info.nar_size) = (found.hash, found.size);
            }
        }
        self.register_blocking(infos)
    }

    fn make_canonical(&self, path: &StorePath) -> Result<()> {
        // Files of a store share their contents.
        let mut canonicaliser = Canonicaliser::new(Ownership::of_this_process())
            .hard_links(HardLinks::Accept)
            .ignore_attributes(&self.config().ignored_attributes);
        canonicaliser.canonicalise(self.directory(), &Self::component(path)?)?;
        Ok(canonicaliser.finish()?)
    }
}
