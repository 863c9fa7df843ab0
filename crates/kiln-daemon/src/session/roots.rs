//! Roots that clients ask for.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use kiln_protocol::worker::request::AddPermRoot;
use kiln_store_path::StorePath;

use super::Session;
use super::failure::Failure;

impl Session {
    /// Keeps a path for as long as this connection lasts.
    pub(super) async fn add_temp_root(&self, path: StorePath) -> Result<(), Failure> {
        Ok(self.store().add_temp_roots(vec![path]).await?)
    }

    pub(super) async fn add_indirect_root(&self, link: Vec<u8>) -> Result<(), Failure> {
        Ok(self.store().add_indirect_root(&to_path(link)).await?)
    }

    pub(super) async fn add_permanent_root(&self, request: AddPermRoot) -> Result<Vec<u8>, Failure> {
        self.require_trust(
            "you are not privileged to create perm roots\n\nhint: you can just do this client-side without special \
             privileges, and probably want to do that instead.",
        )?;
        self.store().add_temp_roots(vec![request.path.clone()]).await?;
        self.store().add_out_link(&to_path(request.link.clone()), &request.path).await?;
        Ok(request.link)
    }
}

fn to_path(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}
