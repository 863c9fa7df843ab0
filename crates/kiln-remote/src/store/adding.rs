//! Bringing paths, and what is known of paths.

use std::collections::BTreeSet;

use kiln_narinfo::{PathInfo, Realisation, Signature};
use kiln_protocol::serve;
use kiln_protocol::value::AddressingMethod;
use kiln_protocol::worker::request::{
    AddSignatures, AddTextToStore, AddToStore, AddToStoreNar, RegisterDrvOutput,
};
use kiln_protocol::worker::response::AddedPath;
use kiln_store_path::{StorePath, StorePathName};
use tokio::io::AsyncRead;

use super::RemoteStore;
use crate::error::Result;

/// The first versions with what some additions need.
const ARCHIVES: u8 = 18;
const NEW_FORM: u8 = 25;
const REALISATIONS: u8 = 27;

/// An object to be added under the path that its content gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewObject {
    /// The name that the path shall have.
    pub name: StorePathName,
    /// How the content is hashed.
    pub method: AddressingMethod,
    /// The paths that it refers to.
    pub references: BTreeSet<StorePath>,
}

impl RemoteStore {
    /// Adds a path whose archive `nar` is. The daemon finds out whether it is what `info` says; all references must be valid
    /// there. Without `check_signatures` the daemon takes it unsigned, if it trusts this client.
    ///
    /// # Errors
    /// The daemon refuses it, or the archive can't be read.
    pub async fn add_nar(
        &self,
        info: PathInfo,
        nar: &mut (dyn AsyncRead + Send + Unpin),
        check_signatures: bool,
    ) -> Result<()> {
        let mut lease = self.lease().await?;
        if lease.has_commands()? {
            // A user who may add paths by this protocol is believed.
            let size = info.nar_size;
            return lease.command_with(&serve::request::AddToStoreNar { info }, nar, size).await.map(drop);
        }
        self.expect_since(&mut lease, ARCHIVES, "adding archives")?;
        let request = AddToStoreNar { info, repair: false, dont_check_signatures: !check_signatures };
        lease.call_with(&request, nar, self.told()).await
    }

    /// Adds what streams, an archive or for flat files and texts the file itself, under the path that it gives.
    ///
    /// # Errors
    /// The daemon refuses it or is too old, or the contents can't be read.
    pub async fn add_object(
        &self,
        object: NewObject,
        contents: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<StorePath> {
        let mut lease = self.lease_since(NEW_FORM, "adding files").await?;
        let NewObject { name, method, references } = object;
        let request = AddToStore { name, method, references, repair: false };
        let added = lease.call_with(&request, contents, self.told()).await?;
        match added {
            AddedPath::Info(info) => Ok(info.path),
            AddedPath::Path(path) => Ok(path),
        }
    }

    /// Adds a text, in whatever version.
    ///
    /// # Errors
    /// The daemon refuses it.
    pub async fn add_text(
        &self,
        name: StorePathName,
        text: Vec<u8>,
        references: BTreeSet<StorePath>,
    ) -> Result<StorePath> {
        self.call(&AddTextToStore { name, text, references }).await
    }

    /// Adds signatures to a valid path.
    ///
    /// # Errors
    /// The daemon refuses them.
    pub async fn add_signatures(&self, path: StorePath, signatures: BTreeSet<Signature>) -> Result<()> {
        self.call(&AddSignatures { path, signatures }).await.map(drop)
    }

    /// Has the daemon know what an output of a content-addressed derivation was realised as.
    ///
    /// # Errors
    /// The daemon refuses it, or knows nothing of such derivations.
    pub async fn register_realisation(&self, realisation: Realisation) -> Result<()> {
        let mut lease = self.lease_since(REALISATIONS, "registering realisations").await?;
        lease.call(&RegisterDrvOutput { realisation }, self.told()).await
    }
}
