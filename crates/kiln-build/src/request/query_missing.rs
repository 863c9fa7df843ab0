//! What a request would do (R1): which derivations it would build, which paths it would fetch.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use kiln_derivation::Derivation;
use kiln_store::{LocalStore, waiting};
use kiln_store_path::{DerivedPath, OutputName, OutputsSpec, StorePath};

use crate::engine::Engine;
use crate::error::EngineError;

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

/// A derivation on the way down, or on the way back up.
enum Step {
    Enter(StorePath, OutputsSpec),
    Leave(StorePath),
}

impl Engine {
    /// Finds out what the targets need, without doing any of it. What it finds is spared by collectors from then on.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn query_missing(&self, targets: &[DerivedPath]) -> Result<Missing, EngineError> {
        let (store, targets) = (self.core.store.clone(), targets.to_vec());
        Ok(waiting(move || query_missing(&store, &targets)).await?)
    }
}

fn query_missing(store: &LocalStore, targets: &[DerivedPath]) -> Result<Missing, kiln_store::Error> {
    let mut missing = Missing::default();
    let mut unknown = BTreeSet::new();
    let mut seen: HashSet<StorePath> = HashSet::new();
    let mut steps = Vec::new();
    let mut spared = Vec::new();
    for target in targets.iter().rev() {
        match target {
            DerivedPath::Built { derivation, outputs } => {
                steps.push(Step::Enter(derivation.path.clone(), outputs.clone()));
            }
            DerivedPath::Opaque(path) => {
                if store.path_info_blocking(path)?.is_none() {
                    unknown.insert(path.clone());
                }
            }
        }
    }
    while let Some(step) = steps.pop() {
        match step {
            Step::Leave(path) => missing.will_build.push(path),
            Step::Enter(path, outputs) => {
                if seen.contains(&path) {
                    continue;
                }
                let Some(derivation) = to_build(store, &path, &outputs, &mut unknown)? else { continue };
                seen.insert(path.clone());
                spared.push(path.clone());
                spared.extend(derivation.known_output_paths().map(|(_, path)| path.clone()));
                spared.extend(derivation.input_sources.iter().cloned());
                steps.push(Step::Leave(path));
                let sources: Vec<StorePath> = derivation.input_sources.iter().cloned().collect();
                let valid = store.valid_among_blocking(&sources)?;
                unknown.extend(derivation.input_sources.difference(&valid).cloned());
                for (input, wanted) in derivation.input_derivations.iter().rev() {
                    let names: BTreeSet<OutputName> = wanted.outputs().clone();
                    steps.push(Step::Enter(input.clone(), OutputsSpec::Names(names)));
                }
            }
        }
    }
    store.add_temp_roots_blocking(&spared)?;
    missing.unknown = unknown.into_iter().collect();
    Ok(missing)
}

/// The derivation, unless there is nothing to do for it: its wanted outputs are valid, or it is missing itself.
fn to_build(
    store: &LocalStore,
    path: &StorePath,
    wanted: &OutputsSpec,
    unknown: &mut BTreeSet<StorePath>,
) -> Result<Option<Arc<Derivation>>, kiln_store::Error> {
    if store.path_info_blocking(path)?.is_none() {
        unknown.insert(path.clone());
        return Ok(None);
    }
    let derivation = store.read_derivation_blocking(path)?;
    let mut paths = Vec::new();
    for (_, output) in derivation.outputs.iter().filter(|(name, _)| wanted.contains(name)) {
        match output.path() {
            Some(path) => paths.push(path.clone()),
            None => return Ok(Some(derivation)),
        }
    }
    let valid = store.valid_among_blocking(&paths)?;
    Ok(paths.iter().any(|path| !valid.contains(path)).then_some(derivation))
}
