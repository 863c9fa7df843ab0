//! Where a builder makes its outputs: at their own paths, or at scratch paths that are rewritten afterwards (B13).
//!
//! A sandbox has a store directory of its own, where nothing is in the way. Without one a builder would write to what is
//! valid; and what follows from content has no path before there is content. Then the builder is told another path of the
//! same length.

use std::collections::{BTreeMap, BTreeSet};

use kiln_derivation::{Derivation, floating_scratch_path, scratch_path};
use kiln_store_path::{InvalidName, OutputName, StoreDir, StorePath};

use super::confinement::Confined;

/// The paths that a builder is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScratchPaths {
    /// One for each output.
    pub(crate) paths: BTreeMap<OutputName, StorePath>,
    /// Known paths of outputs, and what is in their place.
    pub(crate) redirections: Vec<(StorePath, StorePath)>,
}

impl ScratchPaths {
    /// Those of a derivation, of whose outputs some are `occupied`: they are valid, whatever their contents are by now.
    ///
    /// # Errors
    /// An output's name makes that of its path too long.
    pub(crate) fn new(
        store_dir: &StoreDir,
        (path, derivation): (&StorePath, &Derivation),
        occupied: &BTreeSet<StorePath>,
        confined: Confined,
    ) -> Result<Self, InvalidName> {
        let mut scratch = Self { paths: BTreeMap::new(), redirections: Vec::new() };
        for (name, output) in &derivation.outputs {
            let told = match output.path() {
                // What an earlier build has made is no promise of what this one makes.
                None => floating_scratch_path(store_dir, path, &derivation.name, name)?,
                Some(output) if confined == Confined::Nothing && occupied.contains(output) => {
                    let told = scratch_path(store_dir, path, output);
                    scratch.redirections.push((output.clone(), told.clone()));
                    told
                }
                Some(output) => output.clone(),
            };
            scratch.paths.insert(name.clone(), told);
        }
        Ok(scratch)
    }
}
