//! Comparing what is on the disk with what the database says.

use kiln_hash::Sha256;
use kiln_store_path::StorePath;

use crate::error::Result;
use crate::local::LocalStore;

/// What became of a path's contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are what they were.
    Good,
    /// They are, as nothing was on record; what they are is now.
    Recorded,
    /// There is nothing on the disk.
    Missing,
    /// They are something else.
    Modified {
        /// The hash on record.
        expected: Sha256,
        /// The hash of what is there.
        found: Sha256,
    },
    /// The path is not valid.
    NotValid,
}

impl LocalStore {
    /// Reads the files of a path and compares them with the hash and size on record.
    ///
    /// # Errors
    /// The files cannot be read.
    pub async fn verify_contents(&self, path: &StorePath) -> Result<Verdict> {
        let path = path.clone();
        self.work(move |store| store.verify_contents_blocking(&path)).await
    }

    fn verify_contents_blocking(&self, path: &StorePath) -> Result<Verdict> {
        let Some(info) = self.0.database.reader()?.path_info(path)? else { return Ok(Verdict::NotValid) };
        let name = Self::component(path)?;
        if self.directory().status(&name)?.is_none() {
            return Ok(Verdict::Missing);
        }
        let nar = kiln_fs::hash_tree(self.directory(), &name, &mut ())?;
        if info.nar_hash == Sha256::UNKNOWN || info.nar_size == 0 && info.nar_hash == nar.hash {
            if !self.config().read_only {
                let concerned = path.clone();
                self.0
                    .database
                    .write(move |transaction| transaction.set_nar(&concerned, &nar.hash, nar.size))?;
                self.0.infos.forget([path]);
            }
            return Ok(Verdict::Recorded);
        }
        if info.nar_hash == nar.hash && info.nar_size == nar.size {
            return Ok(Verdict::Good);
        }
        Ok(Verdict::Modified { expected: info.nar_hash, found: nar.hash })
    }
}
