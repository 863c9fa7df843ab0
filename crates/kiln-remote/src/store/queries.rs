//! Questions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kiln_narinfo::{PathInfo, Realisation, RealisationId};
use kiln_protocol::serve::request::{DumpStorePath, QueryPathInfos};
use kiln_protocol::serve::response::QueriedPathInfos;
use kiln_protocol::serve::{self, ServeRequest as _};
use kiln_protocol::value::SubstitutablePathInfo;
use kiln_protocol::worker::WorkerRequest as _;
use kiln_protocol::worker::request::{
    IsValidPath, NarFromPath, QueryAllValidPaths, QueryDerivationOutputMap, QueryMissing,
    QueryPathFromHashPart, QueryPathInfo, QueryRealisation, QueryReferrers, QuerySubstitutablePathInfos,
    QueryValidDerivers, QueryValidPaths,
};
use kiln_protocol::worker::response::{MissingPaths, QueriedPathInfo, QueriedRealisation};
use kiln_store_path::{DerivedPath, OutputName, StorePath};

use super::RemoteStore;
use crate::error::{Error, Result};
use crate::limits::CLOSURE;
use crate::nar_stream::NarStream;
use crate::pool::Lease;

/// The first versions with what some questions need.
const BATCHES: u8 = 12;
const ARCHIVES: u8 = 18;
const MISSING: u8 = 19;
const OUTPUT_MAPS: u8 = 22;
const REALISATIONS: u8 = 27;

impl RemoteStore {
    /// Whether a path is valid.
    ///
    /// # Errors
    /// The daemon can't be asked.
    pub async fn is_valid(&self, path: &StorePath) -> Result<bool> {
        let mut lease = self.lease().await?;
        match lease.has_commands()? {
            true => Ok(self.valid_by_command(&mut lease, [path.clone()].into(), false).await?.contains(path)),
            false => lease.ask(&IsValidPath { path: path.clone() }, self.told()).await,
        }
    }

    /// What is known of a path; `None` if it is not valid.
    ///
    /// # Errors
    /// The daemon can't be asked.
    pub async fn path_info(&self, path: &StorePath) -> Result<Option<Arc<PathInfo>>> {
        let mut lease = self.lease().await?;
        Ok(self.info(&mut lease, path).await?.map(Arc::new))
    }

    async fn info(&self, lease: &mut Lease, path: &StorePath) -> Result<Option<PathInfo>> {
        if lease.has_commands()? {
            let request = QueryPathInfos { paths: [path.clone()].into() };
            let QueriedPathInfos(found) = lease.ask_command(&request).await?;
            return match found.into_iter().next() {
                Some((found, info)) if found == *path => Ok(Some(info.with_path(found))),
                Some((other, _)) => Err(self.unasked(QueryPathInfos::COMMAND.name(), &other)),
                None => Ok(None),
            };
        }
        let QueriedPathInfo(info) = lease.ask(&QueryPathInfo { path: path.clone() }, self.told()).await?;
        Ok(info.map(|info| info.with_path(path.clone())))
    }

    /// Those of `paths` that are valid; with `substitute`, after the daemon has tried to substitute what is not.
    ///
    /// # Errors
    /// The daemon can't be asked.
    pub async fn valid_among(
        &self,
        paths: BTreeSet<StorePath>,
        substitute: bool,
    ) -> Result<BTreeSet<StorePath>> {
        let mut lease = self.lease().await?;
        if lease.has_commands()? {
            return self.valid_by_command(&mut lease, paths, substitute).await;
        }
        self.expect_since(&mut lease, BATCHES, "asking about several paths")?;
        let request = QueryValidPaths { paths, substitute };
        let valid = if substitute {
            lease.call(&request, self.told()).await?
        } else {
            lease.ask(&request, self.told()).await?
        };
        self.among(QueryValidPaths::OPERATION.name(), &request.paths, valid)
    }

    async fn valid_by_command(
        &self,
        lease: &mut Lease,
        paths: BTreeSet<StorePath>,
        substitute: bool,
    ) -> Result<BTreeSet<StorePath>> {
        let request = serve::request::QueryValidPaths { lock: false, substitute, paths };
        let valid =
            if substitute { lease.command(&request).await? } else { lease.ask_command(&request).await? };
        self.among(serve::request::QueryValidPaths::COMMAND.name(), &request.paths, valid)
    }

    /// An answer about paths, if it is about those that were asked about.
    fn among(
        &self,
        operation: &'static str,
        asked: &BTreeSet<StorePath>,
        answer: BTreeSet<StorePath>,
    ) -> Result<BTreeSet<StorePath>> {
        match answer.iter().find(|path| !asked.contains(*path)) {
            None => Ok(answer),
            Some(other) => Err(self.unasked(operation, other)),
        }
    }

    fn unasked(&self, operation: &'static str, path: &StorePath) -> Error {
        let reason = format!("it tells of '{}', which it was not asked about", self.print(path));
        self.nonsense(operation, reason)
    }

    /// All valid paths.
    ///
    /// # Errors
    /// The daemon can't be asked.
    pub async fn all_paths(&self) -> Result<BTreeSet<StorePath>> {
        self.ask(&QueryAllValidPaths {}).await
    }

    /// The valid paths that refer to a path.
    ///
    /// # Errors
    /// The daemon can't be asked.
    pub async fn referrers(&self, path: &StorePath) -> Result<BTreeSet<StorePath>> {
        self.ask(&QueryReferrers { path: path.clone() }).await
    }

    /// The valid derivations that have a path as output.
    ///
    /// # Errors
    /// The daemon can't be asked.
    pub async fn valid_derivers(&self, path: &StorePath) -> Result<BTreeSet<StorePath>> {
        self.ask(&QueryValidDerivers { path: path.clone() }).await
    }

    /// The valid path with a digest, of 32 digits.
    ///
    /// # Errors
    /// The daemon can't be asked.
    pub async fn path_by_digest(&self, digest: &str) -> Result<Option<StorePath>> {
        let path = self.ask(&QueryPathFromHashPart { digest: digest.to_owned() }).await?;
        match &path {
            Some(path) if path.digest() != digest => {
                let reason = format!("'{}' has another digest", self.print(path));
                Err(self.nonsense(QueryPathFromHashPart::OPERATION.name(), reason))
            }
            _ => Ok(path),
        }
    }

    /// All that `start` refers to, directly or not, with itself and what is known of it. References that are not valid, as no store
    /// should have them, are an error.
    ///
    /// # Errors
    /// The daemon can't be asked, or tells of more paths than there can be.
    pub async fn closure_infos(&self, start: Vec<StorePath>) -> Result<BTreeMap<StorePath, Arc<PathInfo>>> {
        let mut found = BTreeMap::new();
        let mut seen: BTreeSet<StorePath> = start.iter().cloned().collect();
        let mut queue = start;
        let mut lease = self.lease().await?;
        while let Some(path) = queue.pop() {
            let not_valid = || Error::NotValid { path: self.print(&path), daemon: self.name().to_owned() };
            let info = self.info(&mut lease, &path).await?.ok_or_else(not_valid)?;
            for reference in &info.references {
                if seen.insert(reference.clone()) {
                    queue.push(reference.clone());
                }
            }
            if seen.len() > CLOSURE {
                let reason = format!("paths refer to more than {CLOSURE} others");
                return Err(self.nonsense(QueryPathInfo::OPERATION.name(), reason));
            }
            found.insert(path, Arc::new(info));
        }
        Ok(found)
    }

    /// The outputs of a valid derivation, with their paths as far as the daemon knows them.
    ///
    /// # Errors
    /// The daemon can't be asked, is too old, or doesn't have the derivation.
    pub async fn output_map(
        &self,
        derivation: &StorePath,
    ) -> Result<BTreeMap<OutputName, Option<StorePath>>> {
        let mut lease = self.lease_since(OUTPUT_MAPS, "asking for a derivation's outputs").await?;
        lease.ask(&QueryDerivationOutputMap { path: derivation.clone() }, self.told()).await
    }

    /// What an output of a content-addressed derivation was realised as.
    ///
    /// # Errors
    /// The daemon can't be asked, or knows nothing of such derivations.
    pub async fn realisation(&self, id: &RealisationId) -> Result<Option<Realisation>> {
        let mut lease = self.lease_since(REALISATIONS, "asking for realisations").await?;
        match lease.ask(&QueryRealisation { output: id.clone() }, self.told()).await? {
            QueriedRealisation::Realisations(found) => match found.into_iter().next() {
                Some(realisation) if realisation.id != *id => {
                    let reason = format!("it tells of '{}' instead", realisation.id);
                    Err(self.nonsense(QueryRealisation::OPERATION.name(), reason))
                }
                found => Ok(found),
            },
            QueriedRealisation::Paths(paths) => {
                Ok(paths.into_iter().next().map(|path| Realisation::new(id.clone(), path)))
            }
        }
    }

    /// What the daemon's substituters say of paths.
    ///
    /// # Errors
    /// The daemon can't be asked.
    pub async fn substitutable_infos(
        &self,
        paths: BTreeSet<StorePath>,
    ) -> Result<Vec<SubstitutablePathInfo>> {
        let mut lease = self.lease_since(BATCHES, "asking what substituters have").await?;
        let paths = paths.into_iter().map(|path| (path, None)).collect();
        lease.ask(&QuerySubstitutablePathInfos { paths }, self.told()).await
    }

    /// What building would build and fetch.
    ///
    /// # Errors
    /// The daemon can't be asked, or is too old.
    pub async fn missing(&self, targets: &[DerivedPath]) -> Result<MissingPaths> {
        let mut lease = self.lease_since(MISSING, "asking what is missing").await?;
        lease.ask(&QueryMissing { paths: targets.to_vec() }, self.told()).await
    }

    /// The archive of a valid path, which has at most `limit` bytes.
    ///
    /// # Errors
    /// The daemon can't be asked, is too old, or does not have the path.
    pub async fn nar(&self, path: &StorePath, limit: u64) -> Result<NarStream> {
        let mut lease = self.lease().await?;
        let operation = if lease.has_commands()? {
            lease.ask_command(&DumpStorePath { path: path.clone() }).await?;
            DumpStorePath::COMMAND.name()
        } else {
            self.expect_since(&mut lease, ARCHIVES, "reading archives")?;
            lease.ask(&NarFromPath { path: path.clone() }, self.told()).await?;
            NarFromPath::OPERATION.name()
        };
        // Until the archive has been read to its end.
        lease.connection()?.set_usable(false);
        Ok(NarStream::new(lease, operation, limit))
    }
}
