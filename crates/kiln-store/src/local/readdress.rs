//! Making content-addressed copies of paths: what refers to the old ones refers to the new ones in the copies, and each copy's
//! own path follows from its content. Such paths need no signatures.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use kiln_fs::{CaseHack, Component, Directory, RestoreOptions, Restorer};
use kiln_hash::{Algorithm, Hash};
use kiln_nar::{Decoder, DigestText, HashRewriter, NarDigest, NarHasher, SelfHasher, Stage};
use kiln_narinfo::PathInfo;
use kiln_store_path::{ContentAddress, ContentAddressMethod, References, StorePath};

use crate::blocking::waiting;
use crate::error::{Error, Result};
use crate::local::LocalStore;
use crate::store::CheckSignatures;

/// Files in the store are canonical right away.
const RESTORE: RestoreOptions = RestoreOptions { canonical: true, case_hack: CaseHack::Refuse };

/// Digests in the contents, and what they are replaced by.
type Replacements = Vec<(DigestText, DigestText)>;

impl LocalStore {
    /// Adds content-addressed copies (method `nar`, SHA-256) of valid paths and of all that they refer to. Returns the copy
    /// of each; a path that is such already may be its own.
    ///
    /// # Errors
    /// A path is not valid, its files cannot be read, or they refer to each other in a circle.
    pub async fn make_content_addressed(
        &self,
        paths: Vec<StorePath>,
    ) -> Result<BTreeMap<StorePath, StorePath>> {
        let closure = self.closure_infos(paths, kiln_database::Follow::REFERENCES).await?;
        self.add_temp_roots(closure.keys().cloned().collect()).await?;
        let store = self.clone();
        waiting(move || store.readdress_all(closure)).await
    }

    fn readdress_all(
        &self,
        mut left: BTreeMap<StorePath, PathInfo>,
    ) -> Result<BTreeMap<StorePath, StorePath>> {
        let mut copies = BTreeMap::new();
        // Whatever refers to nothing that is left is next.
        while !left.is_empty() {
            let is_ready = |info: &PathInfo| {
                info.references.iter().all(|other| *other == info.path || copies.contains_key(other))
            };
            let ready: Vec<StorePath> =
                left.iter().filter(|(_, info)| is_ready(info)).map(|(path, _)| path.clone()).collect();
            if ready.is_empty() {
                let stuck = left.keys().next().map(|path| self.print(path)).unwrap_or_default();
                return Err(Error::Configuration(format!("'{stuck}' is in a circle of references")));
            }
            for path in ready {
                let Some(info) = left.remove(&path) else { continue };
                let copy = self.readdress(&info, &copies)?;
                copies.insert(path, copy);
            }
        }
        Ok(copies)
    }

    /// Adds the copy of one path, given those of its references.
    fn readdress(&self, info: &PathInfo, copies: &BTreeMap<StorePath, StorePath>) -> Result<StorePath> {
        let name = Self::component(&info.path)?;
        let References { others, to_self } = info.split_references();
        let others: BTreeSet<StorePath> =
            others.iter().map(|path| copies.get(path).unwrap_or(path).clone()).collect();
        let mut replacements = Replacements::new();
        for path in info.references.iter().filter(|path| **path != info.path) {
            if let Some(copy) = copies.get(path).filter(|copy| *copy != path) {
                replacements.push((digest(path)?, digest(copy)?));
            }
        }
        let hash = self.hash_rewritten(&name, &replacements, to_self.then_some(&info.path))?;
        let address = ContentAddress { method: ContentAddressMethod::Nar, hash };
        let references = References { others, to_self };
        let path =
            self.store_dir().make_content_addressed_path(&info.path.to_name(), &address, &references)?;
        let mut copy = PathInfo::new(path.clone(), kiln_hash::Sha256::UNKNOWN, 0);
        copy.references = references.others;
        if to_self {
            copy.references.insert(path.clone());
            replacements.push((digest(&info.path)?, digest(&path)?));
        }
        copy.content_address = Some(address);
        self.add_checked(copy, CheckSignatures::No, |_, copied| {
            rewrite((self.directory(), &name), (self.directory(), copied), &replacements)
        })?;
        Ok(path)
    }

    /// The hash by which the copy is addressed: of the archive with the replacements, without regard to the path's own digest.
    fn hash_rewritten(
        &self,
        name: &Component,
        replacements: &Replacements,
        own: Option<&StorePath>,
    ) -> Result<Hash> {
        let hasher = match own {
            Some(path) => Addresser::WithoutSelf(SelfHasher::new(Algorithm::Sha256, digest(path)?)),
            None => Addresser::Plain(NarHasher::new()),
        };
        let mut sink = HashingSink { rewriter: rewriter(replacements), piece: Vec::new(), hasher };
        kiln_fs::dump(self.directory(), name, &mut sink)?;
        Ok(sink.finish())
    }
}

fn digest(path: &StorePath) -> Result<DigestText> {
    DigestText::new(path.digest()).map_err(|error| Error::Configuration(error.to_string()))
}

fn rewriter(replacements: &Replacements) -> HashRewriter {
    HashRewriter::new(replacements.iter().map(|(old, new)| (*old, *new.as_bytes())))
}

enum Addresser {
    Plain(NarHasher),
    WithoutSelf(SelfHasher),
}

/// Hashes what is written to it, with digests replaced.
struct HashingSink {
    rewriter: HashRewriter,
    piece: Vec<u8>,
    hasher: Addresser,
}

impl HashingSink {
    fn pass(&mut self) {
        match &mut self.hasher {
            Addresser::Plain(hasher) => hasher.update(&self.piece),
            Addresser::WithoutSelf(hasher) => hasher.update(&self.piece),
        }
        self.piece.clear();
    }

    fn finish(mut self) -> Hash {
        self.rewriter.finish(&mut self.piece);
        self.pass();
        match self.hasher {
            Addresser::Plain(hasher) => hasher.finish().hash.into(),
            Addresser::WithoutSelf(hasher) => hasher.finish().hash,
        }
    }
}

impl Write for HashingSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rewriter.update(bytes, &mut self.piece);
        self.pass();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Copies a tree with digests replaced, wherever they are: in contents, names and targets of links.
fn rewrite(
    from: (&Directory, &Component),
    to: (&Directory, &Component),
    replacements: &Replacements,
) -> Result<NarDigest> {
    let mut sink = RestoringSink {
        rewriter: rewriter(replacements),
        piece: Vec::new(),
        decoder: Decoder::new(),
        restorer: Restorer::new(to.0, to.1, RESTORE),
        hasher: NarHasher::new(),
        failure: None,
    };
    if let Err(error) = kiln_fs::dump(from.0, from.1, &mut sink) {
        // The cause is what the other end says.
        return Err(sink.failure.unwrap_or(error).into());
    }
    sink.rewriter.finish(&mut sink.piece);
    sink.pass()?;
    let path = || to.0.path_of(to.1);
    sink.decoder.finish().map_err(|source| kiln_fs::Error::Decode { path: path(), source })?;
    Ok(sink.hasher.finish())
}

/// Restores what is written to it, with digests replaced.
struct RestoringSink<'a> {
    rewriter: HashRewriter,
    piece: Vec<u8>,
    decoder: Decoder,
    restorer: Restorer<'a>,
    hasher: NarHasher,
    failure: Option<kiln_fs::Error>,
}

impl RestoringSink<'_> {
    fn pass(&mut self) -> kiln_fs::Result<()> {
        let mut input = self.piece.as_slice();
        let damaged = |source| kiln_fs::Error::Decode { path: "the copy".into(), source };
        while let Some(event) = self.decoder.next(&mut input).map_err(damaged)? {
            self.restorer.event(event)?;
        }
        self.hasher.update(&self.piece);
        self.piece.clear();
        Ok(())
    }
}

impl Write for RestoringSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rewriter.update(bytes, &mut self.piece);
        if let Err(error) = self.pass() {
            self.failure = Some(error);
            return Err(io::Error::other("the copy failed"));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
