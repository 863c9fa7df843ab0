//! Reading contents out of the local store.

use std::io;

use futures_util::future::BoxFuture;
use kiln_store_path::StorePath;

use crate::blocking::waiting;
use crate::error::Result;
use crate::local::LocalStore;
use crate::store::ReadStore;
use crate::stream::{ByteStream, from_blocking};

impl LocalStore {
    /// The archive of a valid path, made while it is read.
    ///
    /// # Errors
    /// The path is not valid. If its files cannot be read, the stream says so.
    pub async fn read_nar(&self, path: &StorePath) -> Result<ByteStream> {
        self.valid_path_info(path).await?;
        let name = Self::component(path)?;
        let (mut writer, reader) = from_blocking();
        let store = self.clone();
        // The task ends by itself when the reader goes away.
        tokio::spawn(waiting(move || {
            let dumped = kiln_fs::dump(store.directory(), &name, &mut writer);
            writer.finish(dumped.map(drop).map_err(io::Error::other));
        }));
        Ok(Box::pin(reader))
    }
}

impl ReadStore for LocalStore {
    fn read_nar<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<ByteStream>> {
        Box::pin(LocalStore::read_nar(self, path))
    }
}
