//! Hashing content for content addresses (hashes-and-paths specification, section 6).

use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use kiln_fs::{Component, Directory, Kind};
use kiln_hash::{Algorithm, Hash, Hasher};
use kiln_nar::{Decoder, DigestText, GitHasher, NarDigest, SelfHash, SelfHasher, Stage};
use kiln_narinfo::PathInfo;
use kiln_store_path::{ContentAddressMethod, StoreDir};

use crate::error::{During, Error, Result};

/// A tree of files whose content is to be hashed.
pub(crate) struct Content<'a> {
    /// The directory that it is in.
    pub(crate) directory: &'a Directory,
    /// Its name there.
    pub(crate) name: &'a Component,
    /// Hash and size of its archive.
    pub(crate) nar: NarDigest,
    /// How messages call it.
    pub(crate) shown: &'a str,
}

impl Content<'_> {
    /// The hash that a content address by this method and algorithm has, of content that does not contain its own path.
    pub(crate) fn hash(&self, method: ContentAddressMethod, algorithm: Algorithm) -> Result<Hash> {
        match method {
            ContentAddressMethod::Flat | ContentAddressMethod::Text => self.file_hash(method, algorithm),
            ContentAddressMethod::Nar if algorithm == Algorithm::Sha256 => Ok(self.nar.hash.into()),
            ContentAddressMethod::Nar => {
                let mut stage = HashStage(Hasher::new(algorithm));
                kiln_fs::hash_tree(self.directory, self.name, &mut stage)?;
                Ok(stage.0.finish())
            }
            ContentAddressMethod::Git => self.git_hash(algorithm),
        }
    }

    /// The hash without regard to one digest, that of the path which the content contains.
    fn self_hash(&self, algorithm: Algorithm, digest: &str) -> Result<SelfHash> {
        let digest = DigestText::new(digest)
            .map_err(|error| self.error(ContentAddressMethod::Nar, error.to_string()))?;
        let mut stage = SelfHasher::new(algorithm, digest).with_old_hash();
        kiln_fs::hash_tree(self.directory, self.name, &mut stage)?;
        Ok(stage.finish())
    }

    /// Checks that the content is what the path's content address says, and that the path follows from it.
    pub(crate) fn check_address(&self, store_dir: &StoreDir, info: &PathInfo) -> Result<()> {
        let Some(address) = info.content_address else { return Ok(()) };
        if !info.is_content_addressed(store_dir) {
            let address = address.to_string();
            return Err(Error::NotContentAddressed { path: store_dir.print(&info.path), address });
        }
        let refers_to_itself = info.references.contains(&info.path);
        let found = if address.method == ContentAddressMethod::Nar && refers_to_itself {
            let found = self.self_hash(address.hash.algorithm(), info.path.digest())?;
            // Nix up to 2.16 addressed such content differently.
            if found.old_hash == Some(address.hash) { address.hash } else { found.hash }
        } else {
            self.hash(address.method, address.hash.algorithm())?
        };
        if found == address.hash {
            return Ok(());
        }
        Err(Error::Mismatch {
            what: "ca hash",
            path: store_dir.print(&info.path),
            specified: address.hash.prefixed_nix32(),
            got: found.prefixed_nix32(),
        })
    }

    fn file_hash(&self, method: ContentAddressMethod, algorithm: Algorithm) -> Result<Hash> {
        let status = self.directory.status(self.name)?;
        if status.is_none_or(|status| status.kind != Kind::Regular) {
            return Err(self.error(method, "it is not a regular file".to_owned()));
        }
        let path = self.directory.path_of(self.name);
        let mut file = self.directory.open_beneath(self.name.as_path())?;
        let mode = file.metadata().during("look at", &path)?.permissions().mode();
        if mode & 0o100 != 0 {
            return Err(self.error(method, "it is executable".to_owned()));
        }
        hash_reader(&mut file, algorithm, &path)
    }

    fn git_hash(&self, algorithm: Algorithm) -> Result<Hash> {
        let method = ContentAddressMethod::Git;
        let hasher = GitHasher::new(algorithm).map_err(|error| self.error(method, error.to_string()))?;
        let mut sink = GitSink { decoder: Decoder::new(), hasher };
        kiln_fs::dump(self.directory, self.name, &mut sink)?;
        sink.hasher.finish().map_err(|error| self.error(method, error.to_string()))
    }

    fn error(&self, method: ContentAddressMethod, reason: String) -> Error {
        Error::ContentAddress { path: self.shown.to_owned(), method: method.to_string(), reason }
    }
}

fn hash_reader(source: &mut dyn Read, algorithm: Algorithm, path: &Path) -> Result<Hash> {
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; 128 << 10];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(length) => hasher.update(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).during("read", path),
        }
    }
}

/// Any hash over the bytes of an archive.
struct HashStage(Hasher);

impl Stage for HashStage {
    fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }
}

/// Git's hash over the events of an archive.
struct GitSink {
    decoder: Decoder,
    hasher: GitHasher,
}

impl Write for GitSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut input = bytes;
        while let Some(event) = self.decoder.next(&mut input).map_err(io::Error::other)? {
            self.hasher.event(event);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
