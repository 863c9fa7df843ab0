//! Export streams: out of one store, into another, whole and damaged.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

#[path = "support/scratch_store.rs"]
mod scratch_store;

use std::collections::BTreeSet;
use std::io::Cursor;

use kiln_events::EventSender;
use kiln_store::{CheckSignatures, LocalStore};
use kiln_store_path::{StorePath, StorePathName};
use scratch_store::ScratchStore;
use tokio::io::AsyncReadExt;

/// Three paths, the last of which refers to the others, and their export.
async fn exported() -> (Vec<StorePath>, Vec<u8>) {
    let scratch = ScratchStore::in_memory().await;
    let mut paths = Vec::new();
    for name in ["one", "two", "three"] {
        let references: BTreeSet<StorePath> =
            if name == "three" { paths.iter().cloned().collect() } else { BTreeSet::new() };
        let name = StorePathName::new(name).unwrap();
        let text = name.as_str().repeat(30).into_bytes();
        paths.push(scratch.store.add_text(&name, text, references).await.unwrap().path.clone());
    }
    let mut stream = Vec::new();
    let mut source = scratch.store.export(paths.iter().cloned().collect()).await.unwrap();
    source.read_to_end(&mut stream).await.unwrap();
    (paths, stream)
}

async fn import(store: &LocalStore, stream: &[u8]) -> kiln_store::Result<Vec<StorePath>> {
    store.import(Cursor::new(stream.to_vec()), CheckSignatures::No).await
}

/// Nothing is wrong with the store, and nothing lies around in it.
async fn assert_whole(store: &LocalStore) {
    let verified = store.verify(true, None, EventSender::null()).await.unwrap();
    assert_eq!(verified.findings, []);
    let valid = store.all_paths().await.unwrap().len();
    let names = store.directory().names().unwrap();
    assert_eq!(names.iter().filter(|name| name.as_bytes() != b".links").count(), valid);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_exported_is_imported() {
    let (paths, stream) = exported().await;
    let target = ScratchStore::in_memory().await;
    let mut imported = import(&target.store, &stream).await.unwrap();
    assert_eq!(imported.last(), paths.last(), "what is referred to comes first");
    assert_eq!(import(&target.store, &stream).await.unwrap(), imported);
    imported.sort();
    assert_eq!(imported, paths.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>());
    assert_whole(&target.store).await;
    let refused =
        target
            .store
            .export(BTreeSet::from([StorePath::from_base_name(format!("{}-x", "0".repeat(32))).unwrap()]));
    assert!(refused.await.is_err_and(|error| error.is_not_valid()));
}

#[tokio::test(flavor = "multi_thread")]
async fn untrusted_streams_are_refused() {
    let (_, stream) = exported().await;
    let target = ScratchStore::in_memory().await;
    let refused = target.store.import(Cursor::new(stream), CheckSignatures::Yes).await.unwrap_err();
    assert!(matches!(refused, kiln_store::Error::Untrusted(_)), "{refused}");
    assert_whole(&target.store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_streams_leave_a_whole_store() {
    let (_, stream) = exported().await;
    let (mut refused, mut taken) = (0, 0);
    let target = ScratchStore::in_memory().await;
    for position in (0..stream.len()).step_by(11) {
        // What was imported is kept as long as this.
        let importer = target.store.with_own_roots();
        for damage in [0x01, 0x80, 0xff] {
            let mut damaged = stream.clone();
            damaged[position] ^= damage;
            match import(&importer, &damaged).await {
                Ok(_) => taken += 1,
                Err(_) => refused += 1,
            }
        }
        assert!(import(&importer, &stream[..position]).await.is_err(), "cut at {position}");
        assert_whole(&target.store).await;
        drop(importer);
        let all = target.store.all_paths().await.unwrap();
        target
            .store
            .delete_paths(all, true, kiln_store::Retention::default(), EventSender::null())
            .await
            .unwrap();
    }
    // Contents can be any; all else has to make sense.
    assert!(refused > 100 && taken > 10, "{refused} refused, {taken} taken");
}
