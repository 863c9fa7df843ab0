//! Having things built and substituted.

use kiln_protocol::serve;
use kiln_protocol::serve::request::BuildOptions;
use kiln_protocol::serve::response::BuiltPaths;
use kiln_protocol::value::{BuildMode, DerivationToBuild, KeyedBuildResult, RealisedBuildResult};
use kiln_protocol::worker::LogError;
use kiln_protocol::worker::request::{BuildDerivation, BuildPaths, BuildPathsWithResults, EnsurePath};
use kiln_store_path::{DerivedPath, StorePath};

use super::RemoteStore;
use crate::error::{Error, Refusal, Result};

/// The first version that tells how each build ended.
const WITH_RESULTS: u8 = 34;

/// What came of a request to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Built {
    /// How it ended for each target that the daemon tells of. It may tell of fewer, if one has failed.
    Results(Vec<KeyedBuildResult>),
    /// All is there: of a daemon before 1.34, which says no more.
    All,
}

impl RemoteStore {
    /// Builds or substitutes. When this is dropped, the daemon ends what it does for it.
    ///
    /// # Errors
    /// The daemon refuses it, or, before 1.34, something failed.
    pub async fn build(&self, targets: Vec<DerivedPath>, mode: BuildMode) -> Result<Built> {
        let mut lease = self.lease().await?;
        if lease.has_commands()? {
            // There is no other mode.
            let request = serve::request::BuildPaths { paths: targets, options: BuildOptions::default() };
            return match lease.command(&request).await? {
                BuiltPaths::Success => Ok(Built::All),
                BuiltPaths::Failure { exit_status, message } => {
                    let failure = LogError::new(message, exit_status);
                    Err(Error::Refused(Refusal::new(&failure)))
                }
            };
        }
        if lease.connection()?.version().minor >= WITH_RESULTS {
            let request = BuildPathsWithResults { paths: targets, mode };
            return lease.call(&request, self.told()).await.map(Built::Results);
        }
        lease.call(&BuildPaths { paths: targets, mode }, self.told()).await.map(|_| Built::All)
    }

    /// Builds one derivation, whose inputs have to be valid there; itself it need not be. `options` count where the serve
    /// protocol is spoken.
    ///
    /// # Errors
    /// The daemon refuses it. That the build fails is a result.
    pub async fn build_derivation(
        &self,
        derivation: DerivationToBuild,
        options: BuildOptions,
    ) -> Result<RealisedBuildResult> {
        let mut lease = self.lease().await?;
        if lease.has_commands()? {
            return lease.command(&serve::request::BuildDerivation { derivation, options }).await;
        }
        lease.call(&BuildDerivation { derivation, mode: BuildMode::Normal }, self.told()).await
    }

    /// Makes a path valid by substituting it, if it isn't valid.
    ///
    /// # Errors
    /// It is not to be had.
    pub async fn ensure(&self, path: StorePath) -> Result<()> {
        self.call(&EnsurePath { path }).await.map(drop)
    }
}
