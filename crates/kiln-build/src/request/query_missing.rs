//! What a request would do (R1): which derivations it would build, which paths it would fetch.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use futures_util::stream::FuturesUnordered;
use kiln_derivation::{BuildOptions, Derivation};
use kiln_narinfo::PathInfo;
use kiln_store::{LocalStore, waiting};
use kiln_store_path::{DerivedPath, OutputsSpec, StorePath};
use kiln_substitute::Substituters;

use crate::core::Core;
use crate::engine::Engine;
use crate::error::{EngineError, Failure};
use crate::goal::output_paths;

use super::survey::survey;

/// What is missing for some targets, and how it would be had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Derivations to build, inputs before those that use them.
    pub will_build: Vec<StorePath>,
    /// Paths to substitute.
    pub will_substitute: Vec<StorePath>,
    /// Paths that are neither valid nor known how to make.
    pub unknown: Vec<StorePath>,
    /// Bytes to download.
    pub download_size: u64,
    /// Bytes that the downloads unpack to.
    pub nar_size: u64,
}

/// As many derivations are asked about at once.
const ASKED_AT_ONCE: usize = 64;

impl Engine {
    /// Finds out what the targets need, without doing any of it. What it finds is spared by collectors from then on.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn query_missing(&self, targets: &[DerivedPath]) -> Result<Missing, EngineError> {
        let core = self.core();
        let offered = offered(&core, targets).await?;
        for trouble in &offered.troubles {
            self.warn_of(&trouble.matter(), &trouble.to_string());
        }
        let (store, targets) = (self.store.clone(), targets.to_vec());
        let substituted = offered.paths.clone();
        let mut missing = waiting(move || survey(&store, &targets, &substituted)).await?;
        missing.will_substitute = offered.paths.into_iter().collect();
        (missing.download_size, missing.nar_size) = (offered.download_size, offered.nar_size);
        Ok(missing)
    }

    /// What substituters that may be believed say of paths, valid or not, and how many bytes are to be downloaded of each, as
    /// far as they tell; see [`Substituters::offered`].
    pub async fn query_substitutable(&self, paths: Vec<StorePath>) -> Vec<(Arc<PathInfo>, u64)> {
        match self.core().substituters().await {
            Some(substituters) => substituters.offered(paths).await,
            None => Vec::new(),
        }
    }
}

/// What would be fetched.
#[derive(Default)]
struct Offered {
    paths: BTreeSet<StorePath>,
    download_size: u64,
    nar_size: u64,
    troubles: Vec<Arc<kiln_substitute::Error>>,
}

/// Asks the substituters for what the targets lack, from the top: of what they have, the inputs are not asked for.
async fn offered(core: &Core, targets: &[DerivedPath]) -> Result<Offered, EngineError> {
    let Some(substituters) = core.substituters().await else { return Ok(Offered::default()) };
    let mut wanted = BTreeSet::new();
    let mut seen = HashSet::new();
    let mut open = Vec::new();
    for target in targets {
        match target {
            DerivedPath::Opaque(path) => drop(wanted.insert(path.clone())),
            DerivedPath::Built { derivation, outputs } => {
                open.push((derivation.path.clone(), outputs.clone()))
            }
        }
    }
    let mut asking = FuturesUnordered::new();
    loop {
        while asking.len() < ASKED_AT_ONCE
            && let Some((path, outputs)) = open.pop()
        {
            if seen.insert((path.clone(), format!("{outputs:?}"))) {
                asking.push(ask_about(core, substituters, path, outputs));
            }
        }
        let Some(answer) = asking.next().await else { break };
        let Needs { fetched, built } = answer?;
        wanted.extend(fetched);
        open.extend(built);
    }
    let found = substituters.missing(wanted, &core.store).await.map_err(Failure::misc)?;
    let kiln_substitute::Missing { will_substitute: paths, download_size, nar_size, troubles, .. } = found;
    Ok(Offered { paths, download_size, nar_size, troubles })
}

/// What a derivation needs: paths that may be fetched, and derivations to look at next.
#[derive(Default)]
struct Needs {
    fetched: Vec<StorePath>,
    built: Vec<(StorePath, OutputsSpec)>,
}

async fn ask_about(
    core: &Core,
    substituters: &Substituters,
    path: StorePath,
    wanted: OutputsSpec,
) -> Result<Needs, EngineError> {
    let (store, outputs) = (core.store.clone(), wanted.clone());
    let derivation = {
        let path = path.clone();
        waiting(move || to_build(&store, &path, &outputs)).await?
    };
    let Some(derivation) = derivation else {
        let missing = if core.store.is_valid(&path).await? { Vec::new() } else { vec![path] };
        return Ok(Needs { fetched: missing, built: Vec::new() });
    };
    let allows = BuildOptions::of(&derivation).is_ok_and(|options| options.allow_substitutes);
    if allows || core.settings.always_allow_substitutes {
        let outputs = derivation.outputs.iter().filter(|(name, _)| wanted.contains(name));
        let paths: Option<Vec<StorePath>> = outputs.map(|(_, output)| output.path().cloned()).collect();
        let valid = core.valid(paths.iter().flatten()).await?;
        let paths: Option<Vec<StorePath>> =
            paths.map(|paths| paths.into_iter().filter(|path| !valid.contains(path)).collect());
        if let Some(paths) = paths
            && has_all(substituters, &paths).await
        {
            return Ok(Needs { fetched: paths, built: Vec::new() });
        }
    }
    let inputs = derivation.input_derivations.iter();
    Ok(Needs {
        fetched: derivation.input_sources.iter().cloned().collect(),
        built: inputs
            .map(|(path, wanted)| (path.clone(), OutputsSpec::Names(wanted.outputs().clone())))
            .collect(),
    })
}

/// Whether somebody who may be believed has each of the paths. All are asked for at once, until one is found that nobody has.
async fn has_all(substituters: &Substituters, paths: &[StorePath]) -> bool {
    let asked =
        paths.iter().map(async |path| if is_offered(substituters, path).await { Ok(()) } else { Err(()) });
    try_join_all(asked).await.is_ok()
}

/// Whether somebody who may be believed has a path.
async fn is_offered(substituters: &Substituters, path: &StorePath) -> bool {
    let mut search = substituters.find(path);
    while let Some(candidate) = search.next().await {
        if substituters.verdict(&candidate).is_trusted() {
            return true;
        }
    }
    false
}

/// The derivation, unless there is nothing to build for it: its wanted outputs are valid, or it is missing itself.
fn to_build(
    store: &LocalStore,
    path: &StorePath,
    wanted: &OutputsSpec,
) -> Result<Option<Arc<Derivation>>, Failure> {
    if store.path_info_blocking(path)?.is_none() {
        return Ok(None);
    }
    let derivation = store.read_derivation_blocking(path)?;
    let known = output_paths(store, path, &derivation)?;
    let names = derivation.outputs.keys().filter(|name| wanted.contains(name));
    let Some(paths) = names.map(|name| known.get(name).cloned()).collect::<Option<Vec<StorePath>>>() else {
        return Ok(Some(derivation));
    };
    let valid = store.valid_among_blocking(&paths)?;
    Ok(paths.iter().any(|path| !valid.contains(path)).then_some(derivation))
}
