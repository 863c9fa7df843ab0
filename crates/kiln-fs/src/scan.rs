//! What an archive says of a tree, without the archive: hash, size, references. One read of every file.

use crate::canonical::Canonicaliser;
use crate::component::Component;
use crate::directory::Directory;
use crate::dump::{FileHash, dump_to};
use crate::error::{Error, Result};
use crate::pipeline::Overlapped;
use kiln_nar::{DigestText, NarDigest, NarHasher, ReferenceScanner, Stage};
use std::collections::BTreeSet;

/// What a store wants to know of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeFacts {
    /// SHA-256 and size of the archive.
    pub nar: NarDigest,
    /// The digests, of those looked for, that occur in the archive.
    pub references: BTreeSet<DigestText>,
    /// The hashes of all files and links for the pool of hard links, if they were asked for; in the archive's order.
    pub files: Vec<FileHash>,
}

/// Makes the output of a build canonical, hashes it, and searches it for `candidates`, in one pass that reads each file
/// once. With `hash_files` also the hash of each file is taken.
///
/// Whoever may have written the tree must be gone. When all outputs of the build have been scanned,
/// [`Canonicaliser::finish`] tells whether they have hard links to elsewhere.
///
/// # Errors
/// If something in the tree can't be made canonical, is someone else's, can't be archived, or changes meanwhile.
pub fn scan_output(
    directory: &Directory,
    name: &Component,
    canonicaliser: &mut Canonicaliser,
    candidates: impl IntoIterator<Item = DigestText>,
    hash_files: bool,
) -> Result<TreeFacts> {
    let mut scanner = ReferenceScanner::new(candidates);
    let (nar, files) = read(directory, name, &mut scanner, Some(canonicaliser), hash_files)?;
    Ok(TreeFacts { nar, references: scanner.finish(), files })
}

/// Hashes a tree as it is, and shows its archive to `stage` at the same time.
///
/// # Errors
/// If something in the tree can't be archived, or changes meanwhile.
pub fn hash_tree(directory: &Directory, name: &Component, stage: &mut impl Stage) -> Result<NarDigest> {
    read(directory, name, stage, None, false).map(|(nar, _)| nar)
}

fn read(
    directory: &Directory,
    name: &Component,
    stage: &mut impl Stage,
    canonicaliser: Option<&mut Canonicaliser>,
    hash_files: bool,
) -> Result<(NarDigest, Vec<FileHash>)> {
    let mut sink = Overlapped::new(stage, NarHasher::new());
    let dumped = dump_to(directory, name, &mut sink, canonicaliser, hash_files)?;
    let hasher = sink.finish().map_err(|source| Error::Sink { path: directory.path_of(name), source })?;
    Ok((hasher.finish(), dumped.files))
}
