//! Taking over a builder's outputs: one pass that makes each canonical, hashes it and finds its references.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use kiln_fs::{
    Canonicaliser, Component, Directory, HardLinks, Ownership, check_not_suspicious, copy_tree, scan_output,
};
use kiln_nar::{DigestText, NarDigest};
use kiln_store_path::{OutputName, StorePath};

use crate::plan::PlannedOutput;

/// What to take over, and on which terms.
#[derive(Debug)]
pub(super) struct Collect {
    pub(super) outputs: BTreeMap<OutputName, PlannedOutput>,
    /// The user that the builder ran as, if it had one of its own.
    pub(super) builder: Option<u32>,
    /// Paths that the outputs may refer to.
    pub(super) referenceable: BTreeSet<StorePath>,
    /// Where to make a directory that no builder has seen, and to copy outputs to it before anything of them is believed:
    /// for builds whose network others share, since descriptors of the outputs may have left the sandbox.
    pub(super) copy_to: Option<PathBuf>,
    pub(super) ignored_attributes: Vec<String>,
}

/// An output that is the engine's own now.
#[derive(Debug)]
pub(crate) struct Collected {
    pub(super) path: StorePath,
    /// The directory that it is in, under its path's base name.
    pub(super) directory: Directory,
    pub(super) nar: NarDigest,
    pub(super) references: BTreeSet<StorePath>,
}

impl Collected {
    pub(super) fn try_clone(&self) -> Result<Self, kiln_fs::Error> {
        Ok(Self {
            path: self.path.clone(),
            directory: self.directory.try_clone()?,
            nar: self.nar,
            references: self.references.clone(),
        })
    }
}

/// Why outputs are refused before they are looked at any closer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CollectError {
    #[error("failed to produce output path '{0}'")]
    Missing(StorePath),
    #[error(transparent)]
    Files(#[from] kiln_fs::Error),
}

/// Takes over all outputs. Reads every file once.
pub(super) fn collect(terms: &Collect) -> Result<BTreeMap<OutputName, Collected>, CollectError> {
    let users: Option<RangeInclusive<u32>> = terms.builder.map(|uid| uid..=uid);
    let ownership = match &users {
        Some(users) => Ownership::of_this_process().built_by(users.clone()),
        None => Ownership::of_this_process(),
    };
    let mut canonicaliser = Canonicaliser::new(ownership).ignore_attributes(&terms.ignored_attributes);
    let by_digest: BTreeMap<DigestText, &StorePath> = terms
        .referenceable
        .iter()
        .filter_map(|path| Some((DigestText::new(path.digest()).ok()?, path)))
        .collect();
    let copies = match &terms.copy_to {
        Some(parent) => Some(
            Directory::open(parent)?
                .create_directory(&Component::new("copies").map_err(kiln_fs::Error::from)?, 0o700)?,
        ),
        None => None,
    };
    // All are looked at before the first one gets its new owner: they may have files in common.
    let mut found = Vec::new();
    for (name, output) in &terms.outputs {
        let component = Component::new(output.path.base_name()).map_err(kiln_fs::Error::from)?;
        let directory = Directory::open(&output.directory)?;
        if directory.status(&component)?.is_none() {
            return Err(CollectError::Missing(output.path.clone()));
        }
        check_not_suspicious(&directory, &component, users.as_ref())?;
        found.push((name, output, component, directory));
    }
    let mut collected = BTreeMap::new();
    for (name, output, component, mut directory) in found {
        let candidates = by_digest.keys().copied();
        let facts = match &copies {
            None => scan_output(&directory, &component, &mut canonicaliser, candidates, false)?,
            Some(copies) => {
                canonicaliser.canonicalise(&directory, &component)?;
                copy_tree((&directory, &component), (copies, &component), true)?;
                directory = copies.try_clone()?;
                let mut own = Canonicaliser::new(Ownership::of_this_process()).hard_links(HardLinks::Accept);
                scan_output(&directory, &component, &mut own, candidates, false)?
            }
        };
        let references = facts.references.iter().filter_map(|digest| by_digest.get(digest).copied().cloned());
        let references = references.collect();
        collected.insert(
            name.clone(),
            Collected { path: output.path.clone(), directory, nar: facts.nar, references },
        );
    }
    canonicaliser.finish()?;
    Ok(collected)
}
