//! Stores in scratch directories, and the sample caches that real Nix wrote.

#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_fs::{Component, Directory};
use kiln_narinfo::{NarInfo, PathInfo, PublicKeys};
use kiln_settings::LocalStoreUrl;
use kiln_store::{ByteStream, LocalStore, StoreConfig};
use kiln_store_path::{StoreDir, StorePath};
use tempfile::TempDir;

/// A store below a scratch directory, which goes with it.
pub(crate) struct ScratchStore {
    pub(crate) store: LocalStore,
    pub(crate) root: ScratchDirectory,
}

/// A directory that is removed when dropped, together with store objects in it, whose directories nobody but root can
/// empty without further ado.
pub(crate) struct ScratchDirectory(TempDir);

impl ScratchDirectory {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// In memory where possible: disks take long for what some tests do.
    pub(crate) fn in_memory() -> Self {
        tempfile::tempdir_in("/dev/shm").map_or_else(|_| Self::new(), Self)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for ScratchDirectory {
    fn drop(&mut self) {
        let directory = Directory::open(self.path()).unwrap();
        for entry in fs::read_dir(self.path()).unwrap() {
            let name = Component::new(entry.unwrap().file_name().as_encoded_bytes()).unwrap();
            kiln_fs::delete_tree(&directory, &name).unwrap();
        }
    }
}

/// The configuration of a store below `root`, for speed rather than for surviving a power failure.
pub(crate) fn config(root: &Path) -> StoreConfig {
    let root = root.canonicalize().unwrap();
    let url = LocalStoreUrl { root: Some(root), ..LocalStoreUrl::default() };
    let mut config = StoreConfig::from_url(&url, &|_| None).unwrap();
    config.sync_metadata = false;
    config.reserved_space = 0;
    config.trusted_keys = PublicKeys::from_iter([read("kiln-test-1.pub").parse().unwrap()]);
    config
}

impl ScratchStore {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn in_memory() -> Self {
        Self::below(ScratchDirectory::in_memory(), |_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut StoreConfig)) -> Self {
        Self::below(ScratchDirectory::new(), change).await
    }

    async fn below(root: ScratchDirectory, change: impl FnOnce(&mut StoreConfig)) -> Self {
        let mut config = config(root.path());
        change(&mut config);
        let store = LocalStore::open(config, Arc::new(|_| {})).await.unwrap();
        Self { store, root }
    }

    /// Names in the store directory, without the pool of hard links.
    pub(crate) fn entries(&self) -> Vec<String> {
        let directory = &self.store.config().locations.real_dir;
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != ".links")
            .collect();
        names.sort();
        names
    }
}

pub(crate) fn data(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path)
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(data(path)).unwrap()
}

pub(crate) fn store_path(base_name: &str) -> StorePath {
    StorePath::from_base_name(base_name).unwrap()
}

pub(crate) fn stream(bytes: impl Into<Vec<u8>>) -> ByteStream {
    Box::pin(std::io::Cursor::new(bytes.into()))
}

/// Path info and archive of everything in a sample cache, references first.
pub(crate) fn sample(cache: &str) -> Vec<(PathInfo, Vec<u8>)> {
    let directory = data("cache").join(cache);
    let mut left: Vec<(PathInfo, Vec<u8>)> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "narinfo"))
        .map(|path| {
            let narinfo = NarInfo::parse(&StoreDir::default(), "sample", &fs::read(path).unwrap()).unwrap();
            let nar = fs::read(directory.join(&narinfo.url)).unwrap();
            (narinfo.info, nar)
        })
        .collect();
    left.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    let mut ordered: Vec<(PathInfo, Vec<u8>)> = Vec::new();
    while !left.is_empty() {
        let known = |path: &StorePath| ordered.iter().any(|(info, _)| info.path == *path);
        let next = left
            .iter()
            .position(|(info, _)| info.references.iter().all(|path| *path == info.path || known(path)))
            .unwrap();
        let item = left.remove(next);
        ordered.push(item);
    }
    ordered
}
