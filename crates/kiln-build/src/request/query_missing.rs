//! What a request would do (R1): which derivations it would build, which paths it would fetch.

use std::collections::{BTreeSet, HashSet};

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
                    if !self.core.store.is_valid(path).await? {
                        unknown.insert(path.clone());
                    }
                }
            }
        }
        while let Some(step) = steps.pop() {
            match step {
                Step::Leave(path) => missing.will_build.push(path),
                Step::Enter(path, outputs) => {
                    if seen.contains(&path) || self.has_outputs(&path, &outputs, &mut unknown).await? {
                        continue;
                    }
                    seen.insert(path.clone());
                    let derivation = self.core.store.read_derivation(&path).await?;
                    spared.push(path.clone());
                    spared.extend(derivation.known_output_paths().map(|(_, path)| path.clone()));
                    spared.extend(derivation.input_sources.iter().cloned());
                    steps.push(Step::Leave(path));
                    let valid = self.core.valid(&derivation.input_sources).await?;
                    unknown.extend(derivation.input_sources.difference(&valid).cloned());
                    for (input, wanted) in derivation.input_derivations.iter().rev() {
                        let names: BTreeSet<OutputName> = wanted.outputs().clone();
                        steps.push(Step::Enter(input.clone(), OutputsSpec::Names(names)));
                    }
                }
            }
        }
        self.core.store.add_temp_roots(spared).await?;
        missing.unknown = unknown.into_iter().collect();
        Ok(missing)
    }

    /// Whether there is nothing to do for a derivation: its wanted outputs are valid, or it is missing itself.
    async fn has_outputs(
        &self,
        path: &StorePath,
        wanted: &OutputsSpec,
        unknown: &mut BTreeSet<StorePath>,
    ) -> Result<bool, EngineError> {
        if !self.core.store.is_valid(path).await? {
            unknown.insert(path.clone());
            return Ok(true);
        }
        let derivation = self.core.store.read_derivation(path).await?;
        let mut paths = BTreeSet::new();
        for (_, output) in derivation.outputs.iter().filter(|(name, _)| wanted.contains(name)) {
            match output.path() {
                Some(path) => paths.insert(path.clone()),
                None => return Ok(false),
            };
        }
        Ok(self.core.valid(&paths).await?.len() == paths.len())
    }
}
