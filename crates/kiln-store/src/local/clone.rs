//! Taking in paths of another local store without copying their contents.

use std::cell::Cell;

use kiln_narinfo::PathInfo;

use crate::blocking::waiting;
use crate::error::{Error, Result};
use crate::local::LocalStore;
use crate::store::{Added, CheckSignatures};

impl LocalStore {
    /// Adds a path of another store, whose references must be valid here, by having its files share their contents with those
    /// there. The copy is read and compared with what `info` says. `None` if the file systems can't do that; nothing has
    /// happened then.
    ///
    /// # Errors
    /// Nothing vouches for the path, or the copy is not what was announced; then nothing is left of it.
    pub async fn clone_from_store(
        &self,
        source: &Self,
        info: PathInfo,
        check: CheckSignatures,
    ) -> Result<Option<Added>> {
        let (store, source) = (self.clone(), source.clone());
        waiting(move || {
            let is_possible = Cell::new(true);
            let added = store.add_checked(info, check, |path, name| {
                is_possible.set(kiln_fs::clone_tree((source.directory(), name), (store.directory(), name))?);
                if !is_possible.get() {
                    return Err(Error::NotValid(store.print(path)));
                }
                Ok(kiln_fs::hash_tree(store.directory(), name, &mut ())?)
            });
            if is_possible.get() { added.map(Some) } else { Ok(None) }
        })
        .await
    }
}
