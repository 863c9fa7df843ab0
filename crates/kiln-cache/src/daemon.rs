//! A store behind a daemon as the place that paths go to.

use std::collections::BTreeSet;
use std::io::{self, Read};

use kiln_narinfo::{PathInfo, Realisation};
use kiln_remote::RemoteStore;
use kiln_store::written_by;
use kiln_store_path::StorePath;

use crate::error::Result;

/// A daemon that takes paths.
#[derive(Clone)]
pub struct DaemonWriter {
    store: RemoteStore,
    /// Whether it shall look at signatures. If it doesn't trust this client, it always does.
    checks_signatures: bool,
}

impl DaemonWriter {
    /// One that looks at signatures or, if it trusts this client, doesn't.
    #[must_use]
    pub fn new(store: RemoteStore, checks_signatures: bool) -> Self {
        Self { store, checks_signatures }
    }

    /// Its URL.
    #[must_use]
    pub fn name(&self) -> &str {
        self.store.name()
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &RemoteStore {
        &self.store
    }

    /// Those of `paths` that are there. All of them stay, now and when they have come.
    pub(crate) async fn present(&self, paths: Vec<StorePath>) -> Result<BTreeSet<StorePath>> {
        self.store.add_temp_roots(paths.iter().cloned()).await?;
        Ok(self.store.valid_among(paths.into_iter().collect(), false).await?)
    }

    /// Adds a path; the daemon finds out whether the archive is what `info` says.
    pub(crate) async fn add(&self, info: &PathInfo, mut archive: Box<dyn Read + Send>) -> Result<()> {
        let info = PathInfo { ultimate: false, ..info.clone() };
        let mut stream = written_by(move |out| io::copy(&mut archive, out).map(drop));
        Ok(self.store.add_nar(info, &mut stream, self.checks_signatures).await?)
    }

    /// Has it know what an output was realised as. One that knows no content-addressed derivations refuses it.
    pub(crate) async fn add_realisation(&self, realisation: &Realisation) -> Result<()> {
        Ok(self.store.register_realisation(realisation.clone()).await?)
    }
}
