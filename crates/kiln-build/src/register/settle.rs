//! Giving outputs their own paths: what a builder made at scratch paths is rewritten (B13), and outputs that are addressed by
//! their content get the path that follows from it.
//!
//! Outputs may refer to each other and to themselves. Those whose paths follow from content are settled after what they refer
//! to; the content is hashed as if its own path were not in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kiln_derivation::{Derivation, DerivationOutput};
use kiln_fs::{
    Canonicaliser, Component, FailPoint, HardLinks, Ownership, delete_tree, fail_point, hash_tree,
    rewrite_tree,
};
use kiln_hash::Algorithm;
use kiln_nar::{DigestText, HashRewriter, SelfHasher, Stage};
use kiln_store_path::{ContentAddress, ContentAddressMethod, OutputName, References, StoreDir, StorePath};

use super::collect::{Collected, copies};
use super::content::{ContentError, read_content};
use crate::plan::PlannedOutput;

/// What is to be settled, and where.
#[derive(Debug)]
pub(super) struct Settle<'a> {
    pub(super) store_dir: &'a StoreDir,
    pub(super) derivation: &'a Derivation,
    pub(super) outputs: &'a BTreeMap<OutputName, PlannedOutput>,
    /// The paths of all outputs that the builder was told.
    pub(super) told: &'a BTreeMap<OutputName, StorePath>,
    /// Where to make rewritten trees: nobody else can reach it.
    pub(super) own_directory: &'a Path,
}

/// Why outputs have no paths.
#[derive(Debug, thiserror::Error)]
pub(super) enum SettleError {
    /// Outputs that refer to each other cannot be named by what they contain.
    #[error(
        "cycle detected in build of '{derivation}' in the references of output '{from}' from output '{to}'"
    )]
    Cycle { derivation: String, from: OutputName, to: OutputName },
    #[error("output '{output}' of '{derivation}' {error}")]
    Content { derivation: String, output: OutputName, error: ContentError },
    #[error("output '{output}' of '{derivation}' has no path: {reason}")]
    Path { derivation: String, output: OutputName, reason: String },
    #[error(transparent)]
    Files(#[from] kiln_fs::Error),
}

/// Outputs with their own paths, and those of them that had to be rewritten.
pub(super) struct Settled {
    pub(super) outputs: BTreeMap<OutputName, Collected>,
    pub(super) rewritten: Vec<StorePath>,
}

impl Settle<'_> {
    /// Settles the outputs. Reads each that must be rewritten twice, and writes it once.
    pub(super) fn settle(self, collected: BTreeMap<OutputName, Collected>) -> Result<Settled, SettleError> {
        // From the paths that the builder was told to the right ones.
        let mut right: BTreeMap<StorePath, StorePath> = BTreeMap::new();
        for (name, told) in self.told {
            let known = self.derivation.outputs.get(name).and_then(DerivationOutput::path);
            if let Some(path) = known.filter(|path| *path != told) {
                right.insert(told.clone(), path.clone());
            }
        }
        let mut settled = Settled { outputs: BTreeMap::new(), rewritten: Vec::new() };
        let order = self.order(&collected)?;
        let mut collected = collected;
        for name in order {
            let Some(mut output) = collected.remove(&name) else { continue };
            let Some(planned) = self.outputs.get(&name) else { continue };
            if planned.path.is_none() {
                let (path, address) = self.address(&name, planned, &output, &right)?;
                right.insert(planned.scratch.clone(), path.clone());
                (output.path, output.address) = (path, Some(address));
            }
            if output.references.iter().any(|path| right.contains_key(path)) {
                output = self.rewrite(output, &right)?;
                settled.rewritten.push(output.path.clone());
            }
            settled.outputs.insert(name, output);
        }
        Ok(settled)
    }

    /// The outputs, those first that others refer to.
    fn order(&self, collected: &BTreeMap<OutputName, Collected>) -> Result<Vec<OutputName>, SettleError> {
        let floats = |name: &OutputName| self.outputs.get(name).is_some_and(|output| output.path.is_none());
        let by_scratch: BTreeMap<&StorePath, &OutputName> =
            self.outputs.iter().map(|(name, output)| (&output.scratch, name)).collect();
        // Of an output whose path is known nobody needs to know more.
        let needs = |name: &OutputName| -> BTreeSet<OutputName> {
            let references = collected.get(name).into_iter().flat_map(|output| &output.references);
            let outputs = references.filter_map(|path| by_scratch.get(path).copied());
            outputs.filter(|needed| *needed != name && floats(needed)).cloned().collect()
        };
        let mut left: BTreeMap<OutputName, BTreeSet<OutputName>> =
            collected.keys().map(|name| (name.clone(), needs(name))).collect();
        let mut order = Vec::new();
        while !left.is_empty() {
            let ready: Vec<OutputName> =
                left.iter().filter(|(_, needs)| needs.is_empty()).map(|(name, _)| name.clone()).collect();
            if ready.is_empty() {
                return Err(self.cycle(&left));
            }
            for name in ready {
                left.remove(&name);
                for needs in left.values_mut() {
                    needs.remove(&name);
                }
                order.push(name);
            }
        }
        Ok(order)
    }

    /// Names one step of a circle among outputs of which each needs another one.
    fn cycle(&self, left: &BTreeMap<OutputName, BTreeSet<OutputName>>) -> SettleError {
        let mut seen = BTreeSet::new();
        let mut step = left.first_key_value();
        let (mut from, mut to) = (OutputName::out(), OutputName::out());
        while let Some((name, needs)) = step {
            let Some(next) = needs.first() else { break };
            (from, to) = (name.clone(), next.clone());
            if !seen.insert(name.clone()) {
                break;
            }
            step = left.get_key_value(next);
        }
        SettleError::Cycle { derivation: self.derivation.name.to_string(), from, to }
    }

    /// The path of content, and the address that it follows from.
    fn address(
        &self,
        name: &OutputName,
        planned: &PlannedOutput,
        output: &Collected,
        right: &BTreeMap<StorePath, StorePath>,
    ) -> Result<(StorePath, ContentAddress), SettleError> {
        let derivation = || self.derivation.name.to_string();
        let no_path =
            |reason: String| SettleError::Path { derivation: derivation(), output: name.clone(), reason };
        let Some(DerivationOutput::Floating { method, algorithm }) = self.derivation.outputs.get(name) else {
            return Err(no_path("it is not one that follows from content".to_owned()));
        };
        let hash = self.hash(planned, output, right, (*method, *algorithm));
        let hash = hash.map_err(|error| SettleError::Content {
            derivation: derivation(),
            output: name.clone(),
            error,
        })?;
        let address = ContentAddress { method: *method, hash };
        let right_path = |path: &StorePath| right.get(path).unwrap_or(path).clone();
        let others = output.references.iter().filter(|path| **path != planned.scratch).map(right_path);
        let references =
            References { others: others.collect(), to_self: output.references.contains(&planned.scratch) };
        let full_name = planned.scratch.to_name();
        let path = self.store_dir.make_content_addressed_path(&full_name, &address, &references);
        Ok((path.map_err(|error| no_path(error.to_string()))?, address))
    }

    fn hash(
        &self,
        planned: &PlannedOutput,
        output: &Collected,
        right: &BTreeMap<StorePath, StorePath>,
        (method, algorithm): (ContentAddressMethod, Algorithm),
    ) -> Result<kiln_hash::Hash, ContentError> {
        let is_told = |path: &StorePath| *path == planned.scratch || right.contains_key(path);
        if !output.references.iter().any(is_told) {
            return super::content::hash_content(output, method, algorithm);
        }
        let Some(own) = digest(&planned.scratch) else {
            return super::content::hash_content(output, method, algorithm);
        };
        let mut stage = AsSettled {
            rewriter: HashRewriter::new(pairs(right).into_iter().map(|(old, new)| (old, *new.as_bytes()))),
            hasher: SelfHasher::new(algorithm, own),
            rewritten: Vec::new(),
        };
        read_content(output, method, &mut stage)?;
        Ok(stage.finish())
    }

    /// Makes of an output one with the right paths in it.
    fn rewrite(
        &self,
        output: Collected,
        right: &BTreeMap<StorePath, StorePath>,
    ) -> Result<Collected, SettleError> {
        let copies = copies(self.own_directory)?;
        let tree =
            Component::new(format!("{}.right", output.path.base_name())).map_err(kiln_fs::Error::from)?;
        rewrite_tree((&output.directory, &output.tree), (&copies, &tree), pairs(right))?;
        let mut canonicaliser =
            Canonicaliser::new(Ownership::of_this_process()).hard_links(HardLinks::Accept);
        canonicaliser.canonicalise(&copies, &tree)?;
        fail_point(FailPoint::OutputRewritten);
        // It may be in the place that the copy is for.
        delete_tree(&output.directory, &output.tree)?;
        fail_point(FailPoint::OriginalDeleted);
        let nar = hash_tree(&copies, &tree, &mut ())?;
        let references =
            output.references.iter().map(|path| right.get(path).unwrap_or(path).clone()).collect();
        Ok(Collected { directory: copies, tree, nar, references, files: None, ..output })
    }
}

/// Sees a stream as it will be when everything in it is right, but for its own path.
struct AsSettled {
    rewriter: HashRewriter,
    hasher: SelfHasher,
    rewritten: Vec<u8>,
}

impl AsSettled {
    fn finish(mut self) -> kiln_hash::Hash {
        self.rewriter.finish(&mut self.rewritten);
        self.hasher.update(&self.rewritten);
        self.hasher.finish().hash
    }
}

impl Stage for AsSettled {
    fn update(&mut self, piece: &[u8]) {
        self.rewriter.update(piece, &mut self.rewritten);
        self.hasher.update(&self.rewritten);
        self.rewritten.clear();
    }
}

fn digest(path: &StorePath) -> Option<DigestText> {
    DigestText::new(path.digest()).ok()
}

/// The digests of paths, and of those that take their places.
fn pairs(right: &BTreeMap<StorePath, StorePath>) -> Vec<(DigestText, DigestText)> {
    right.iter().filter_map(|(old, new)| Some((digest(old)?, digest(new)?))).collect()
}
