//! What keeps paths from collection.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use kiln_protocol::serve::request::QueryValidPaths;
use kiln_protocol::worker::WorkerRequest;
use kiln_protocol::worker::request::{AddIndirectRoot, AddTempRoot, FindRoots};
use kiln_store_path::StorePath;

use super::RemoteStore;
use crate::error::{Error, Result};

impl RemoteStore {
    /// Keeps paths, valid or not, for as long as this value and its clones live and the connection lasts.
    ///
    /// # Errors
    /// The daemon can't be told.
    pub async fn add_temp_roots(&self, paths: impl IntoIterator<Item = StorePath>) -> Result<()> {
        if self.is_served() {
            // They last as long as the connection, which is kept.
            let paths = paths.into_iter().collect();
            let request = QueryValidPaths { lock: true, substitute: false, paths };
            return self.lease().await?.ask_command(&request).await.map(drop);
        }
        let requests: Vec<AddTempRoot> = paths.into_iter().map(|path| AddTempRoot { path }).collect();
        if self.address().max_connections == 1 {
            // There is no other, and that one is kept.
            return self.lease().await?.call_each(&requests, self.told()).await;
        }
        let mut held = self.roots.lock().await;
        if held.as_mut().is_none_or(|connection| !connection.is_usable()) {
            *held = Some(self.pool.open(self.told()).await?);
        }
        let Some(connection) = held.as_mut() else { return Ok(()) };
        let called = connection.call_each(&requests, self.told()).await;
        called.map_err(|fault| Error::of(fault, self.name(), AddTempRoot::OPERATION.name()))
    }

    /// Registers a link outside of the store, by its absolute path, as a root.
    ///
    /// # Errors
    /// The daemon refuses it.
    pub async fn add_indirect_root(&self, link: &Path) -> Result<()> {
        self.call(&AddIndirectRoot { link: link.as_os_str().as_bytes().to_vec() }).await.map(drop)
    }

    /// All roots: what holds them, and what they hold. Names of other users' are hidden from clients that aren't trusted.
    ///
    /// # Errors
    /// The daemon can't be asked.
    pub async fn roots(&self) -> Result<Vec<(Vec<u8>, StorePath)>> {
        self.call(&FindRoots {}).await
    }
}
