//! What every store can do, in small parts: a binary cache, a daemon and the local store are interchangeable as far as
//! they have the parts that are needed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use kiln_narinfo::PathInfo;
use kiln_store_path::{StoreDir, StorePath};

use crate::error::Result;
use crate::stream::ByteStream;

/// Tells what is valid in a store, and what is known about it.
pub trait QueryStore: Send + Sync {
    /// What paths of the store begin with.
    fn store_dir(&self) -> &StoreDir;

    /// What is known about a path; `None` if it is not valid.
    fn path_info<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Option<Arc<PathInfo>>>>;

    /// What is known about those of `paths` that are valid.
    fn path_infos<'a>(
        &'a self,
        paths: &'a [StorePath],
    ) -> BoxFuture<'a, Result<HashMap<StorePath, Arc<PathInfo>>>> {
        Box::pin(async move {
            let mut infos = HashMap::with_capacity(paths.len());
            for path in paths {
                if let Some(info) = self.path_info(path).await? {
                    infos.insert(path.clone(), info);
                }
            }
            Ok(infos)
        })
    }

    /// Those of `paths` that are valid.
    fn valid_among<'a>(&'a self, paths: &'a [StorePath]) -> BoxFuture<'a, Result<BTreeSet<StorePath>>> {
        Box::pin(async move { Ok(self.path_infos(paths).await?.into_keys().collect()) })
    }
}

/// Gives out the contents of paths.
pub trait ReadStore: QueryStore {
    /// The archive of a valid path. A stream that breaks off ends with an error.
    ///
    /// # Errors
    /// The path is not valid.
    fn read_nar<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<ByteStream>>;
}

/// What adding a path came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It was added.
    New,
    /// It was valid already; the contents were not looked at, nor read to their end.
    AlreadyValid,
}

/// How a path from elsewhere is checked before it becomes valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckSignatures {
    /// As the store is configured.
    Yes,
    /// Not at all: whoever brings the path is trusted.
    No,
}

/// Takes paths.
pub trait AddStore: QueryStore {
    /// Adds a path from its archive. All its references must be valid. The archive must have the hash and size, and the
    /// content address if there is one, that `info` says.
    ///
    /// # Errors
    /// Nothing vouches for the path, or what arrives is not what was announced; then nothing is left of it.
    fn add_nar<'a>(
        &'a self,
        info: PathInfo,
        nar: ByteStream,
        check: CheckSignatures,
    ) -> BoxFuture<'a, Result<Added>>;
}
