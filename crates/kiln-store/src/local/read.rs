//! Reading contents out of the local store.

use std::io;

use futures_util::future::BoxFuture;
use kiln_store_path::StorePath;

use crate::error::Result;
use crate::local::LocalStore;
use crate::store::ReadStore;
use crate::stream::{ByteStream, written_by};

impl LocalStore {
    /// The archive of a valid path, made while it is read.
    ///
    /// # Errors
    /// The path is not valid. If its files cannot be read, the stream says so.
    pub async fn read_nar(&self, path: &StorePath) -> Result<ByteStream> {
        self.valid_path_info(path).await?;
        let name = Self::component(path)?;
        let store = self.clone();
        Ok(written_by(move |out| {
            kiln_fs::dump(store.directory(), &name, out).map(drop).map_err(io::Error::other)
        }))
    }
}

impl ReadStore for LocalStore {
    fn read_nar<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<ByteStream>> {
        Box::pin(LocalStore::read_nar(self, path))
    }
}
