//! Taking over a builder's outputs: one pass that makes each canonical, hashes it and finds its references.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use kiln_fs::{
    Canonicaliser, Component, Directory, FailPoint, FileHash, HardLinks, Ownership, check_not_suspicious,
    copy_tree, fail_point, scan_output,
};
use kiln_nar::{DigestText, NarDigest};
use kiln_store::blocking;
use kiln_store_path::{ContentAddress, OutputName, StorePath};

use crate::plan::PlannedOutput;

/// As many outputs of one build are read at a time. Reading one keeps up to three threads busy.
const AT_ONCE: usize = 4;

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
    /// Whether the hashes of all files are wanted.
    pub(super) hash_files: bool,
}

/// An output that is the engine's own now.
#[derive(Debug)]
pub(crate) struct Collected {
    /// The path that it will have. Until [`settle`](super::settle::settle), of one whose path follows from its content, the
    /// one that the builder was told.
    pub(super) path: StorePath,
    /// The directory that it is in.
    pub(super) directory: Directory,
    /// Its name there.
    pub(super) tree: Component,
    pub(super) nar: NarDigest,
    /// As the builder was told them, until settled.
    pub(super) references: BTreeSet<StorePath>,
    /// What its path follows from, if that is its content.
    pub(super) address: Option<ContentAddress>,
    /// The hashes of its files, if they were wanted and the files are still what they were then.
    pub(super) files: Option<Vec<FileHash>>,
}

impl Collected {
    pub(super) fn try_clone(&self) -> Result<Self, kiln_fs::Error> {
        Ok(Self {
            path: self.path.clone(),
            directory: self.directory.try_clone()?,
            tree: self.tree.clone(),
            nar: self.nar,
            references: self.references.clone(),
            address: self.address,
            files: self.files.clone(),
        })
    }
}

/// The directory for trees that the engine makes of outputs, below one that only the engine can reach.
pub(super) fn copies(parent: &Path) -> Result<Directory, kiln_fs::Error> {
    let (parent, name) = (Directory::open(parent)?, Component::new("copies")?);
    match parent.create_directory(&name, 0o700) {
        Err(error) if error.already_exists() => parent.subdirectory(&name),
        created => created,
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

/// Takes over all outputs, several at a time; of several errors, it is that of the first output, by name, that counts. Reads
/// every file once.
pub(super) async fn collect(terms: Collect) -> Result<BTreeMap<OutputName, Collected>, CollectError> {
    let mut outputs: Vec<(OutputName, PlannedOutput)> = terms.outputs.clone().into_iter().collect();
    // What is alone, as most are, goes to no other thread.
    let alone = if outputs.len() == 1 { outputs.pop() } else { None };
    let begun = blocking(move || {
        let taking = Taking::begin(&terms)?;
        let taken = alone.map(|alone| taking.take(alone)).transpose()?;
        Ok::<_, CollectError>((Arc::new(taking), taken))
    });
    let (taking, taken) = begun.await?;
    let takes = outputs.into_iter().map(|output| {
        let taking = Arc::clone(&taking);
        blocking(move || taking.take(output))
    });
    // All are waited for, whatever has become of the first: they work on the build's directories.
    let all: Vec<Result<_, CollectError>> = stream::iter(takes).buffered(AT_ONCE).collect().await;
    let collected = taken.map(Ok).into_iter().chain(all).collect::<Result<_, _>>()?;
    taking.canonicaliser.finish()?;
    Ok(collected)
}

/// What those have in common who take over the outputs of one build.
struct Taking {
    canonicaliser: Canonicaliser,
    by_digest: BTreeMap<DigestText, StorePath>,
    copies: Option<Directory>,
    hash_files: bool,
}

impl Taking {
    /// Looks at all outputs before the first one gets its new owner: they may have files in common.
    fn begin(terms: &Collect) -> Result<Self, CollectError> {
        let users: Option<RangeInclusive<u32>> = terms.builder.map(|uid| uid..=uid);
        for output in terms.outputs.values() {
            let (directory, component) = place(output)?;
            if directory.status(&component)?.is_none() {
                return Err(CollectError::Missing(output.path_or_scratch().clone()));
            }
            check_not_suspicious(&directory, &component, users.as_ref())?;
        }
        let ownership = match users {
            Some(users) => Ownership::of_this_process().built_by(users),
            None => Ownership::of_this_process(),
        };
        let by_digest = |path: &StorePath| Some((DigestText::new(path.digest()).ok()?, path.clone()));
        Ok(Self {
            canonicaliser: Canonicaliser::new(ownership).ignore_attributes(&terms.ignored_attributes),
            by_digest: terms.referenceable.iter().filter_map(by_digest).collect(),
            copies: terms.copy_to.as_deref().map(copies).transpose()?,
            hash_files: terms.hash_files,
        })
    }

    fn take(
        &self,
        (name, output): (OutputName, PlannedOutput),
    ) -> Result<(OutputName, Collected), CollectError> {
        let hash_files = self.hash_files;
        let (mut directory, component) = place(&output)?;
        let mut canonicaliser = self.canonicaliser.share();
        let candidates = self.by_digest.keys().copied();
        let facts = match &self.copies {
            None => scan_output(&directory, &component, &mut canonicaliser, candidates, hash_files)?,
            Some(copies) => {
                canonicaliser.canonicalise(&directory, &component)?;
                copy_tree((&directory, &component), (copies, &component), true)?;
                directory = copies.try_clone()?;
                let mut own = Canonicaliser::new(Ownership::of_this_process()).hard_links(HardLinks::Accept);
                scan_output(&directory, &component, &mut own, candidates, hash_files)?
            }
        };
        fail_point(FailPoint::OutputScanned);
        let references = facts.references.iter().filter_map(|digest| self.by_digest.get(digest).cloned());
        let made = Collected {
            path: output.path_or_scratch().clone(),
            directory,
            tree: component,
            nar: facts.nar,
            references: references.collect(),
            address: None,
            files: hash_files.then_some(facts.files),
        };
        Ok((name, made))
    }
}

/// Where the builder has made an output.
fn place(output: &PlannedOutput) -> Result<(Directory, Component), kiln_fs::Error> {
    Ok((Directory::open(&output.directory)?, Component::new(output.scratch.base_name())?))
}
