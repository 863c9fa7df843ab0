//! Questions, which change nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kiln_build::{BuildMode, BuildRequest};
use kiln_narinfo::{PathInfo, RealisationId};
use kiln_protocol::value::{SubstitutableInfo, SubstitutablePathInfo, UnkeyedPathInfo};
use kiln_protocol::worker::request::QueryValidPaths;
use kiln_protocol::worker::response::{MissingPaths, QueriedRealisation};
use kiln_store_path::{DerivedPath, OutputName, StorePath};

use super::Session;
use super::failure::Failure;

/// The first version that can be told that a path is not valid.
const WITH_VALIDITY: u8 = 17;

/// Digits of a digest.
const DIGEST_LENGTH: usize = 32;

impl Session {
    pub(super) async fn path_info(&self, path: &StorePath) -> Result<Option<UnkeyedPathInfo>, Failure> {
        let paths = self.read_ahead.together_with(path);
        if !paths.is_empty() {
            self.store().read_ahead(paths).await?;
        }
        let info = self.store().path_info(path).await?;
        if info.is_none() && self.dialect.version.minor < WITH_VALIDITY {
            return Err(Failure::new(format!("path '{}' is not valid", self.store().print(path))));
        }
        Ok(info.map(|info| self.told(info)))
    }

    /// What [`path_info`](Self::path_info) answers, if that is in memory.
    pub(super) fn known_path_info(&self, path: &StorePath) -> Option<UnkeyedPathInfo> {
        self.store().known_path_info(path).map(|info| self.told(info))
    }

    fn told(&self, info: Arc<PathInfo>) -> UnkeyedPathInfo {
        self.read_ahead.tell(&info);
        UnkeyedPathInfo::from(Arc::unwrap_or_clone(info))
    }

    pub(super) async fn valid_path_info(&self, path: &StorePath) -> Result<Arc<PathInfo>, Failure> {
        Ok(self.store().valid_path_info(path).await?)
    }

    pub(super) async fn path_by_digest(&self, digest: &str) -> Result<Option<StorePath>, Failure> {
        if digest.len() != DIGEST_LENGTH {
            return Err(Failure::new("invalid hash part"));
        }
        Ok(self.store().path_by_digest(digest).await?)
    }

    /// Those that are valid, if that is wished after what is missing has been substituted as far as possible.
    pub(super) async fn valid_paths(&self, asked: QueryValidPaths) -> Result<BTreeSet<StorePath>, Failure> {
        let paths: Vec<StorePath> = asked.paths.into_iter().collect();
        let mut valid = self.store().valid_among(paths.clone()).await?;
        if asked.substitute && valid.len() < paths.len() {
            let missing = paths.iter().filter(|path| !valid.contains(*path));
            let targets = missing.cloned().map(DerivedPath::Opaque).collect();
            let request = BuildRequest { targets, mode: BuildMode::Normal, keep_going: true };
            // That something cannot be had is no failure here.
            self.engine.build(request).await;
            valid = self.store().valid_among(paths).await?;
        }
        Ok(valid)
    }

    /// Those that a substituter has, and that are not valid.
    pub(super) async fn substitutable(
        &self,
        paths: BTreeSet<StorePath>,
    ) -> Result<BTreeSet<StorePath>, Failure> {
        let targets: Vec<DerivedPath> = paths.iter().cloned().map(DerivedPath::Opaque).collect();
        let missing = self.engine.query_missing(&targets).await?;
        Ok(missing.will_substitute.into_iter().filter(|path| paths.contains(path)).collect())
    }

    /// What substituters that may be believed say of paths. Whoever has a path is asked by its own name: content that is the
    /// same in a store elsewhere is not looked for.
    pub(super) async fn substitutable_infos(
        &self,
        paths: impl IntoIterator<Item = StorePath>,
    ) -> Vec<SubstitutablePathInfo> {
        let offered = self.engine.query_substitutable(paths.into_iter().collect()).await;
        let said = |(info, download_size): (Arc<PathInfo>, u64)| SubstitutablePathInfo {
            path: info.path.clone(),
            info: SubstitutableInfo {
                deriver: info.deriver.clone(),
                references: info.references.clone(),
                download_size,
                nar_size: info.nar_size,
            },
        };
        offered.into_iter().map(said).collect()
    }

    /// The outputs of a valid derivation, with their paths as far as they are known: from the derivation itself, or since it
    /// was built.
    pub(super) async fn outputs(
        &self,
        derivation: &StorePath,
    ) -> Result<BTreeMap<OutputName, Option<StorePath>>, Failure> {
        let parsed = self.store().read_derivation(derivation).await?;
        let mut outputs: BTreeMap<OutputName, Option<StorePath>> =
            parsed.outputs.iter().map(|(name, output)| (name.clone(), output.path().cloned())).collect();
        if self.store().config().realisations && outputs.values().any(Option::is_none) {
            let hash = self.store().hash_modulo(derivation, parsed).await?;
            for (name, path) in outputs.iter_mut().filter(|(_, path)| path.is_none()) {
                let realisation = self.store().realisation(&hash.realisation_id(name.clone())).await?;
                *path = realisation.map(|realisation| realisation.output_path);
            }
        }
        Ok(outputs)
    }

    pub(super) async fn output_paths(&self, derivation: &StorePath) -> Result<BTreeSet<StorePath>, Failure> {
        Ok(self.outputs(derivation).await?.into_values().flatten().collect())
    }

    pub(super) async fn missing(&self, targets: &[DerivedPath]) -> Result<MissingPaths, Failure> {
        let missing = self.engine.query_missing(targets).await?;
        Ok(MissingPaths {
            will_build: missing.will_build.into_iter().collect(),
            will_substitute: missing.will_substitute.into_iter().collect(),
            unknown: missing.unknown.into_iter().collect(),
            download_size: missing.download_size,
            nar_size: missing.nar_size,
        })
    }

    pub(super) async fn realisation(&self, output: &RealisationId) -> Result<QueriedRealisation, Failure> {
        if !self.store().config().realisations {
            return Ok(QueriedRealisation::Realisations(Vec::new()));
        }
        let realisation = self.store().realisation(output).await?;
        Ok(QueriedRealisation::Realisations(realisation.into_iter().collect()))
    }
}
