//! Verification and the sharing of equal files.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "support/scratch_store.rs"]
mod scratch_store;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use futures_util::future::BoxFuture;
use kiln_events::EventSender;
use kiln_hash::{Algorithm, Sha256};
use kiln_narinfo::PathInfo;
use kiln_store::{Finding, LocalStore, NewObject, Repair, Result};
use kiln_store_path::{ContentAddressMethod, StorePath, StorePathName};
use scratch_store::{ScratchStore, store_path};

async fn add(store: &LocalStore, name: &str, source: &Path, references: &[&StorePath]) -> StorePath {
    let object = NewObject {
        name: StorePathName::new(name).unwrap(),
        method: ContentAddressMethod::Nar,
        algorithm: Algorithm::Sha256,
        references: references.iter().map(|path| (*path).clone()).collect(),
    };
    store.add_tree(object, source, None).await.unwrap().path.clone()
}

fn tree(directory: &Path, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let root = directory.join(name);
    fs::create_dir(&root).unwrap();
    for (file, contents) in files {
        fs::write(root.join(file), contents).unwrap();
    }
    root
}

/// Overwrites a file of the store, which stays as long as it was.
fn damage(file: &Path) {
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    let contents = fs::read(file).unwrap();
    fs::write(file, vec![b'!'; contents.len()]).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o444)).unwrap();
}

fn inode(file: &Path) -> u64 {
    fs::symlink_metadata(file).unwrap().ino()
}

struct NotesRepairs(Mutex<Vec<StorePath>>);

impl Repair for NotesRepairs {
    fn repair<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<bool>> {
        self.0.lock().unwrap().push(path.clone());
        Box::pin(async { Ok(path.name() != "upper") })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_modified_is_found() {
    let scratch = ScratchStore::new().await;
    let store = &scratch.store;
    let sources = tempfile::tempdir().unwrap();
    let source = tree(sources.path(), "a", &[("file", "contents")]);
    let lower = add(store, "lower", &source, &[]).await;
    let upper = add(store, "upper", &source, &[&lower]).await;
    let [gone, also_gone] =
        [add(store, "gone", &source, &[]).await, add(store, "also-gone", &source, &[]).await];
    let needs_gone = add(store, "needs-gone", &source, &[&gone]).await;
    let good = store.verify(true, None, EventSender::null()).await.unwrap();
    assert_eq!((good.paths, good.findings.len()), (5, 0));
    for path in [&lower, &gone, &also_gone, &needs_gone] {
        let name = LocalStore::component(path).unwrap();
        kiln_fs::delete_tree(store.directory(), &name).unwrap();
    }
    damage(&store.real_path(&upper).join("file"));
    let verified = store.verify(true, None, EventSender::null()).await.unwrap();
    let missing = Finding::Missing { path: lower.clone(), referrers: vec![upper.clone()] };
    let disappeared = |path: &StorePath| Finding::Disappeared(path.clone());
    for finding in [disappeared(&gone), disappeared(&also_gone), disappeared(&needs_gone), missing.clone()] {
        assert!(verified.findings.contains(&finding), "{finding:?} in {:?}", verified.findings);
    }
    assert!(
        verified
            .findings
            .iter()
            .any(|finding| matches!(finding, Finding::Modified { path, .. } if *path == upper))
    );
    assert_eq!(verified.findings.len(), 5);
    assert_eq!(store.all_paths().await.unwrap(), [lower.clone(), upper.clone()].into());
    let repair = NotesRepairs(Mutex::default());
    let verified = store.verify(true, Some(&repair), EventSender::null()).await.unwrap();
    assert_eq!(verified.repaired, [missing]);
    assert_eq!(verified.findings.len(), 1, "that could not be repaired");
    assert_eq!(repair.0.into_inner().unwrap(), [lower, upper]);
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_files_are_shared_and_damage_to_them_is_found() {
    let scratch = ScratchStore::new().await;
    let store = &scratch.store;
    let sources = tempfile::tempdir().unwrap();
    let a = tree(sources.path(), "a", &[("x", "equal"), ("y", "equal"), ("z", "different")]);
    let b = tree(sources.path(), "b", &[("x", "equal")]);
    let (a, b) = (add(store, "a", &a, &[]).await, add(store, "b", &b, &[]).await);
    let file = |path: &StorePath, name: &str| store.real_path(path).join(name);
    assert_ne!(inode(&file(&a, "x")), inode(&file(&a, "y")));
    let optimised = store.optimise(EventSender::null()).await.unwrap();
    assert_eq!((optimised.paths, optimised.files, optimised.bytes), (2, 2, 10));
    assert_eq!(inode(&file(&a, "x")), inode(&file(&a, "y")));
    assert_eq!(inode(&file(&a, "x")), inode(&file(&b, "x")));
    assert_eq!(store.optimise(EventSender::null()).await.unwrap().files, 0);
    assert!(store.verify(true, None, EventSender::null()).await.unwrap().findings.is_empty());
    damage(&file(&b, "x"));
    let found = store.verify(true, None, EventSender::null()).await.unwrap().findings;
    let is_link = |finding: &&Finding| matches!(finding, Finding::CorruptLink { .. });
    assert_eq!((found.len(), found.iter().filter(is_link).count()), (3, 1), "{found:?}");
    // An entry that is damaged is removed when something can be repaired, so that nothing new links to it.
    let repair = NotesRepairs(Mutex::default());
    let repaired = store.verify(true, Some(&repair), EventSender::null()).await.unwrap().repaired;
    assert_eq!((repaired.len(), repaired.iter().filter(is_link).count()), (3, 1));
    let entries = fs::read_dir(store.config().locations.real_dir.join(".links")).unwrap().count();
    assert_eq!(entries, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_paths_are_optimised_if_that_is_wanted() {
    let scratch = ScratchStore::with(|config| config.auto_optimise = true).await;
    let store = &scratch.store;
    let sources = tempfile::tempdir().unwrap();
    let a = tree(sources.path(), "a", &[("x", "equal")]);
    let (first, second) = (add(store, "first", &a, &[]).await, add(store, "second", &a, &[]).await);
    let files = [first, second].map(|path| store.real_path(&path).join("x"));
    assert_eq!(inode(&files[0]), inode(&files[1]));
    assert_eq!(fs::metadata(&files[0]).unwrap().nlink(), 3);
    assert!(store.verify(true, None, EventSender::null()).await.unwrap().findings.is_empty());
}

/// Trees that no archive could hold are passed over, and don't keep others from being looked at.
#[tokio::test(flavor = "multi_thread")]
async fn odd_trees_are_told_of() {
    let scratch = ScratchStore::new().await;
    let store = &scratch.store;
    let odd = store_path("00000000000000000000000000000001-odd");
    let mut deep = store.real_path(&odd);
    for _ in 0..70 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    store.register_valid_paths(vec![PathInfo::new(odd.clone(), Sha256([1; 32]), 1)]).await.unwrap();
    let sources = tempfile::tempdir().unwrap();
    let a = tree(sources.path(), "a", &[("x", "equal"), ("y", "equal")]);
    add(store, "a", &a, &[]).await;
    let optimised = store.optimise(EventSender::null()).await.unwrap();
    assert_eq!((optimised.files, optimised.failures.len()), (1, 1));
    let found = store.verify(true, None, EventSender::null()).await.unwrap().findings;
    assert!(matches!(&found[..], [Finding::Unreadable { path, .. }] if *path == odd), "{found:?}");
}
