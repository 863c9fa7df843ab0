//! What lies at the paths of outputs without being valid: left by a builder that failed, or by a crash.

use std::collections::BTreeSet;

use kiln_fs::{Component, delete_tree};
use kiln_store::{LocalStore, blocking};
use kiln_store_path::StorePath;

/// Deletes what is at paths that are not valid; whoever calls this holds their locks.
pub(crate) async fn delete_leftovers(
    store: &LocalStore,
    paths: BTreeSet<StorePath>,
) -> Result<(), kiln_fs::Error> {
    let store = store.clone();
    blocking(move || delete_leftovers_blocking(&store, &paths)).await
}

/// Like [`delete_leftovers`], for code that may block.
pub(crate) fn delete_leftovers_blocking<'a>(
    store: &LocalStore,
    paths: impl IntoIterator<Item = &'a StorePath>,
) -> Result<(), kiln_fs::Error> {
    paths
        .into_iter()
        .try_for_each(|path| delete_tree(store.directory(), &Component::new(path.base_name())?).map(drop))
}
