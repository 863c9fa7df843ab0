//! Taking paths into the local store.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "support/scratch_store.rs"]
mod scratch_store;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::pin::Pin;
use std::task::{Context, Poll};

use kiln_hash::{Algorithm, Sha256};
use kiln_narinfo::{NarInfo, PathInfo, SignatureSet};
use kiln_store::{Added, CheckSignatures, EntryKind, Error, Follow, NewObject, StreamKind, Verdict};
use kiln_store_path::{ContentAddressMethod, StoreDir, StorePathName};
use scratch_store::{ScratchStore, data, sample, store_path, stream};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

async fn read_all(scratch: &ScratchStore, info: &PathInfo) -> Vec<u8> {
    let mut nar = Vec::new();
    scratch.store.read_nar(&info.path).await.unwrap().read_to_end(&mut nar).await.unwrap();
    nar
}

#[tokio::test]
async fn a_closure_from_a_cache_arrives_and_reads_back() {
    let scratch = ScratchStore::new().await;
    let store = &scratch.store;
    let sample = sample("closure");
    assert_eq!(sample.len(), 6);
    for (info, nar) in &sample {
        let added = store.add_nar(info.clone(), stream(nar.clone()), CheckSignatures::Yes).await.unwrap();
        assert_eq!(added, Added::New);
        let again = store.add_nar(info.clone(), stream(nar.clone()), CheckSignatures::Yes).await.unwrap();
        assert_eq!(again, Added::AlreadyValid);
    }
    for (info, nar) in &sample {
        let known = store.path_info(&info.path).await.unwrap().unwrap();
        assert!(known.registration_time > 0);
        assert_eq!(PathInfo { registration_time: 0, ..(*known).clone() }, *info);
        assert_eq!(read_all(&scratch, info).await, *nar);
        assert_eq!(store.verify_contents(&info.path).await.unwrap(), Verdict::Good);
        let metadata = fs::symlink_metadata(store.real_path(&info.path)).unwrap();
        assert_eq!((metadata.mtime(), metadata.mtime_nsec(), metadata.mode() & 0o7222), (1, 0, 0));
    }
    let top = store_path("lj3q75s8vxysliflp8z0a7w75mpl98wh-dep2");
    assert_eq!(store.closure(vec![top], Follow::REFERENCES).await.unwrap().len(), 6);
    assert_eq!(scratch.entries().len(), 6, "neither lock files nor scratch directories are left");
}

/// What is valid is replaced when all that comes has turned out to be right, and not before.
#[tokio::test]
async fn r4_a_damaged_path_is_replaced_by_what_is_right() {
    let scratch = ScratchStore::new().await;
    let store = &scratch.store;
    let sample = sample("closure");
    for (info, nar) in &sample {
        store.add_nar(info.clone(), stream(nar.clone()), CheckSignatures::Yes).await.unwrap();
    }
    let entries = scratch.entries();
    for (info, nar) in &sample {
        let real = store.real_path(&info.path);
        let damaged = if real.is_dir() { real.join("damage") } else { real.clone() };
        let parent = damaged.parent().unwrap();
        let mode = fs::metadata(parent).unwrap().permissions();
        fs::set_permissions(parent, PermissionsExt::from_mode(0o755)).unwrap();
        let _ = fs::remove_file(&damaged);
        fs::write(&damaged, "damage").unwrap();
        fs::set_permissions(parent, mode).unwrap();
        let is_damaged = async || store.verify_contents(&info.path).await.unwrap() != Verdict::Good;
        assert!(is_damaged().await);

        let replace = async |info: &PathInfo, nar: &[u8]| {
            let nar = std::io::Cursor::new(nar.to_vec());
            store.replace_nar_from(info.clone(), nar, CheckSignatures::Yes).await
        };
        let mut other = nar.clone();
        *other.last_mut().unwrap() ^= 1;
        let unsigned = PathInfo { signatures: SignatureSet::new(), ..info.clone() };
        let mut bad = vec![(info, &nar[..nar.len() - 1]), (info, &other[..])];
        bad.extend(info.content_address.is_none().then_some((&unsigned, &nar[..])));
        for (info, nar) in bad {
            replace(info, nar).await.unwrap_err();
            assert_eq!(fs::read(&damaged).unwrap(), b"damage", "it is as it was");
        }
        replace(info, nar).await.unwrap();
        assert!(!is_damaged().await);
        assert_eq!(read_all(&scratch, info).await, *nar);
    }
    assert_eq!(scratch.entries(), entries, "neither lock files nor scratch directories are left");
}

#[tokio::test]
async fn content_addresses_of_every_method_are_checked() {
    let scratch = ScratchStore::new().await;
    for (mut info, nar) in sample("content-addressed") {
        info.signatures = SignatureSet::new();
        scratch.store.add_nar(info, stream(nar), CheckSignatures::Yes).await.unwrap();
    }
    // Content with its own path in it, addressed as Nix up to 2.16 did.
    let narinfo = fs::read(data("old-ca/ca-self.narinfo")).unwrap();
    let mut info = NarInfo::parse(&StoreDir::default(), "old", &narinfo).unwrap().info;
    info.signatures = SignatureSet::new();
    let nar = fs::read(data("old-ca/ca-self.nar")).unwrap();
    scratch.store.add_nar(info, stream(nar), CheckSignatures::Yes).await.unwrap();
}

#[tokio::test]
async fn a_content_address_vouches_only_for_its_content() {
    let scratch = ScratchStore::new().await;
    for (info, nar) in sample("content-addressed") {
        // Another content, announced with its right hash and size: only the address tells.
        let mut other = nar.clone();
        let position =
            other.windows(4).rposition(|window| window == b"self" || window == b"text" || window == b"hell");
        let Some(position) = position else { continue };
        other[position] ^= 1;
        let forged = PathInfo {
            nar_hash: Sha256::of(&other),
            nar_size: other.len() as u64,
            signatures: SignatureSet::new(),
            references: info.references.iter().filter(|path| **path == info.path).cloned().collect(),
            ..info
        };
        if !forged.is_content_addressed(scratch.store.store_dir()) {
            continue;
        }
        let error = scratch.store.add_nar(forged, stream(other), CheckSignatures::Yes).await.unwrap_err();
        assert!(matches!(error, Error::Mismatch { what: "ca hash", .. }), "{error}");
    }
    assert_eq!(scratch.entries(), [""; 0]);
}

#[tokio::test]
async fn what_nobody_vouches_for_stays_outside() {
    let scratch = ScratchStore::new().await;
    let (info, nar) = sample("closure").remove(0);
    let unsigned = PathInfo { signatures: SignatureSet::new(), ultimate: true, ..info.clone() };
    let error =
        scratch.store.add_nar(unsigned.clone(), stream(nar.clone()), CheckSignatures::Yes).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot add path '/nix/store/{}' because it lacks a signature by a trusted key", info.path)
    );
    let claim = format!("fixed:r:sha256:{}", info.nar_hash.nix32()).parse().unwrap();
    let claiming = PathInfo { content_address: Some(claim), ..unsigned.clone() };
    let error =
        scratch.store.add_nar(claiming.clone(), stream(nar.clone()), CheckSignatures::Yes).await.unwrap_err();
    assert!(matches!(error, Error::Untrusted(_)), "{error}");
    let error = scratch.store.add_nar(claiming, stream(nar.clone()), CheckSignatures::No).await.unwrap_err();
    assert!(matches!(error, Error::NotContentAddressed { .. }), "{error}");
    assert_eq!(scratch.entries(), [""; 0]);

    scratch.store.add_nar(unsigned.clone(), stream(nar), CheckSignatures::No).await.unwrap();
    let known = scratch.store.valid_path_info(&info.path).await.unwrap();
    assert!(known.ultimate, "whoever is trusted may say so");
}

#[tokio::test]
async fn what_is_not_what_was_announced_leaves_nothing_behind() {
    let scratch = ScratchStore::new().await;
    let (info, nar) = sample("closure").remove(0);
    let mut flipped = nar.clone();
    let position =
        flipped.windows(5).position(|window| window == b"hello" || window == b"text ").unwrap_or(96);
    flipped[position] ^= 1;
    let longer = [nar.clone(), vec![0; 8]].concat();
    for (what, damaged) in [
        ("flipped", flipped),
        ("longer", longer),
        ("shorter", nar[..nar.len() - 8].to_vec()),
        ("empty", Vec::new()),
        ("garbage", b"garbage that is no archive at all".to_vec()),
    ] {
        let result = scratch.store.add_nar(info.clone(), stream(damaged), CheckSignatures::Yes).await;
        assert!(result.is_err(), "{what}");
        assert_eq!(scratch.entries(), [""; 0], "{what}");
        assert!(!scratch.store.is_valid(&info.path).await.unwrap(), "{what}");
    }
    let wrong_size = PathInfo { nar_size: info.nar_size + 8, ..info.clone() };
    let error =
        scratch.store.add_nar(wrong_size, stream(nar.clone()), CheckSignatures::No).await.unwrap_err();
    assert!(matches!(error, Error::Mismatch { what: "size", .. }), "{error}");
    // An archive that says less than it is must not fill the disk.
    let bomb = PathInfo { nar_size: 64, ..info.clone() };
    assert!(scratch.store.add_nar(bomb, stream(nar.clone()), CheckSignatures::No).await.is_err());
    assert_eq!(scratch.entries(), [""; 0]);
}

#[tokio::test]
async fn references_must_be_valid_before_the_content_is_taken_in() {
    let scratch = ScratchStore::new().await;
    let (info, _) = sample("closure").pop().unwrap();
    struct NeverRead;
    impl AsyncRead for NeverRead {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            Poll::Pending
        }
    }
    let error = scratch.store.add_nar(info, Box::pin(NeverRead), CheckSignatures::Yes).await.unwrap_err();
    assert!(error.is_not_valid(), "{error}");
}

#[tokio::test]
async fn leftovers_of_a_crash_are_replaced() {
    let scratch = ScratchStore::new().await;
    let (info, nar) = sample("closure").remove(0);
    let place = scratch.store.real_path(&info.path);
    fs::create_dir_all(place.join("half/written")).unwrap();
    fs::write(place.with_file_name(format!("{}.lock", info.path)), "").unwrap();
    scratch.store.add_nar(info.clone(), stream(nar.clone()), CheckSignatures::Yes).await.unwrap();
    assert_eq!(read_all(&scratch, &info).await, nar);
    assert_eq!(scratch.entries(), [info.path.base_name()]);
}

#[tokio::test]
async fn many_who_add_the_same_add_it_once() {
    let scratch = ScratchStore::new().await;
    let (info, nar) = sample("closure").remove(0);
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (store, info, nar) = (scratch.store.clone(), info.clone(), nar.clone());
            tokio::spawn(async move { store.add_nar(info, stream(nar), CheckSignatures::Yes).await.unwrap() })
        })
        .collect();
    let mut new = 0;
    for task in tasks {
        new += usize::from(task.await.unwrap() == Added::New);
    }
    assert_eq!(new, 1);
    assert_eq!(scratch.entries(), [info.path.base_name()]);
}

fn object(name: &str, method: ContentAddressMethod, algorithm: Algorithm) -> NewObject {
    NewObject { name: StorePathName::new(name).unwrap(), method, algorithm, references: BTreeSet::new() }
}

#[tokio::test]
async fn paths_of_new_objects_are_those_of_nix() {
    let scratch = ScratchStore::new().await;
    let add = |name: &'static str, method, algorithm, kind, bytes: &[u8]| {
        let (store, bytes) = (scratch.store.clone(), bytes.to_vec());
        async move { store.add_stream(object(name, method, algorithm), kind, stream(bytes)).await }
    };
    let flat = ContentAddressMethod::Flat;
    // The same path as that of the fixed-output derivation of these bytes.
    let info = add("fod-flat", flat, Algorithm::Sha256, StreamKind::File, b"hello\n").await.unwrap();
    assert_eq!(info.path.base_name(), "2vmnikz9gvdskxvni5na3alrgzm86qqy-fod-flat");
    assert_eq!(info.nar_hash.nix32(), "04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw");
    let info = add("fod-md5", flat, Algorithm::Md5, StreamKind::File, b"hello\n").await.unwrap();
    assert_eq!(info.path.base_name(), "cg4rma9a3ybxpr1c5zc84ckpc41f4s15-fod-md5");
    let text = scratch
        .store
        .add_text(&StorePathName::new("src.txt").unwrap(), b"text of the source\n".to_vec(), BTreeSet::new())
        .await
        .unwrap();
    assert_eq!(text.path.base_name(), "pfqja8c3gi5f4j3dhhgb8f01ck85cl15-src.txt");
    // A text that refers to another one.
    let referring = scratch
        .store
        .add_text(
            &StorePathName::new("src-ref.txt").unwrap(),
            b"see /nix/store/pfqja8c3gi5f4j3dhhgb8f01ck85cl15-src.txt\n".to_vec(),
            BTreeSet::from([text.path.clone()]),
        )
        .await
        .unwrap();
    assert_eq!(referring.path.base_name(), "xxlmda44d9s5ynk70d0qwlghi3i9bp0j-src-ref.txt");

    let recursive = sample("content-addressed").into_iter().find(|(info, _)| info.path.name() == "fod-rec");
    let (expected, nar) = recursive.unwrap();
    let nar_method = ContentAddressMethod::Nar;
    let info = add("fod-rec", nar_method, Algorithm::Sha256, StreamKind::Nar, &nar).await.unwrap();
    assert_eq!((&info.path, info.nar_hash), (&expected.path, expected.nar_hash));
    let info = add("fod-rec-sha1", nar_method, Algorithm::Sha1, StreamKind::Nar, &nar).await.unwrap();
    assert_eq!(info.path.base_name(), "h3kawl4wiz0d0gxm6q62l3rjb8zxh8ga-fod-rec-sha1");

    let error = add("x", flat, Algorithm::Sha256, StreamKind::Nar, &nar).await.unwrap_err();
    assert!(matches!(error, Error::ContentAddress { .. }), "a directory has no flat hash: {error}");
    let error = add("x", nar_method, Algorithm::Sha256, StreamKind::Nar, &nar[..100]).await.unwrap_err();
    assert!(matches!(error, Error::Files(_)), "{error}");
    let trailing = [nar.clone(), b"more".to_vec()].concat();
    assert!(add("x", nar_method, Algorithm::Sha256, StreamKind::Nar, &trailing).await.is_err());
    let names: BTreeSet<_> = scratch.entries().iter().map(|name| name[33..].to_owned()).collect();
    let expected = ["fod-flat", "fod-md5", "fod-rec", "fod-rec-sha1", "src-ref.txt", "src.txt"];
    assert_eq!(names, expected.map(str::to_owned).into());
}

#[tokio::test]
async fn trees_are_copied_with_links_and_without_what_the_filter_leaves_out() {
    let scratch = ScratchStore::new().await;
    let source = tempfile::tempdir().unwrap();
    let tree = source.path().join("tree");
    fs::create_dir_all(tree.join("keep/deep")).unwrap();
    fs::create_dir_all(tree.join("drop/deep/deeper")).unwrap();
    fs::write(tree.join("drop/deep/file"), "x").unwrap();
    for name in ["drop/a", "drop/z"] {
        fs::write(tree.join(name), "x").unwrap();
    }
    fs::write(tree.join("keep/deep/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(tree.join("keep/deep/run"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(tree.join("keep/secret"), "x").unwrap();
    fs::write(tree.join("empty"), "").unwrap();
    symlink("/dangling", tree.join("keep/link")).unwrap();
    symlink("secret", tree.join("keep/zlink")).unwrap();

    let whole = object("tree", ContentAddressMethod::Nar, Algorithm::Sha256);
    let info = scratch.store.add_tree(whole.clone(), &tree, None).await.unwrap();
    let copy = scratch.store.real_path(&info.path);
    assert_eq!(fs::read_link(copy.join("keep/link")).unwrap().to_str(), Some("/dangling"));
    assert_eq!(fs::metadata(copy.join("keep/deep/run")).unwrap().mode() & 0o7777, 0o555);
    assert!(copy.join("drop/deep/deeper").is_dir());
    let again = scratch.store.add_tree(whole.clone(), &tree, Some(Box::new(|_, _| true))).await.unwrap();
    assert_eq!(again.path, info.path, "a filter that leaves nothing out changes nothing");

    let filtered = scratch
        .store
        .add_tree(
            whole,
            &tree,
            Some(Box::new(|path, kind| match path {
                b"drop" => {
                    assert_eq!(kind, EntryKind::Directory);
                    false
                }
                b"keep/secret" | b"keep/zlink" => false,
                path => {
                    assert!(!path.starts_with(b"drop/"), "nothing below what is left out is asked for");
                    true
                }
            })),
        )
        .await
        .unwrap();
    fs::remove_dir_all(tree.join("drop")).unwrap();
    fs::remove_file(tree.join("keep/secret")).unwrap();
    fs::remove_file(tree.join("keep/zlink")).unwrap();
    let expected = object("tree", ContentAddressMethod::Nar, Algorithm::Sha256);
    let expected = scratch.store.add_tree(expected, &tree, None).await.unwrap();
    assert_eq!(filtered.path, expected.path);
    assert_ne!(filtered.path, info.path);
}

#[tokio::test]
async fn derivations_are_checked_on_every_way_in() {
    let scratch = ScratchStore::new().await;
    let good = fs::read(data("drv/4gd87ivd2zhmmqkslb944cwpzpz256w1-simple.drv")).unwrap();
    let text = String::from_utf8(good.clone()).unwrap();
    let name = StorePathName::new("simple.drv").unwrap();
    let lying = text.replace("mz985b11rp8ccbhb4gcc1bpxwpxvbw6d", "mz985b11rp8ccbhb4gcc1bpxwpxvbw6c");
    let error = scratch.store.add_text(&name, lying.clone().into_bytes(), BTreeSet::new()).await.unwrap_err();
    assert!(matches!(error, Error::DerivationOutputs { .. }), "{error}");
    let error = scratch.store.add_text(&name, b"Derive(".to_vec(), BTreeSet::new()).await.unwrap_err();
    assert!(matches!(error, Error::ParseDerivation { .. }), "{error}");

    // As an archive, with the right path for its text, and by somebody who is trusted.
    let path = scratch.store.store_dir().make_text_path(&name, lying.as_bytes(), BTreeSet::new()).unwrap();
    let (before, after) = kiln_nar::file_framing(false, lying.len() as u64);
    let nar = [before, lying.into_bytes(), after].concat();
    let info = PathInfo::new(path, Sha256::of(&nar), nar.len() as u64);
    let error =
        scratch.store.add_nar(info.clone(), stream(nar.clone()), CheckSignatures::No).await.unwrap_err();
    assert!(matches!(error, Error::DerivationOutputs { .. }), "{error}");
    let elsewhere = PathInfo { path: store_path("4gd87ivd2zhmmqkslb944cwpzpz256w1-simple.drv"), ..info };
    let error = scratch.store.add_nar(elsewhere, stream(nar), CheckSignatures::No).await.unwrap_err();
    assert!(matches!(error, Error::Mismatch { what: "derivation path", .. }), "{error}");
    assert_eq!(scratch.entries(), [""; 0]);

    let info = scratch.store.add_text(&name, good, BTreeSet::new()).await.unwrap();
    assert_eq!(info.path.base_name(), "4gd87ivd2zhmmqkslb944cwpzpz256w1-simple.drv");
    let derivation = scratch.store.read_derivation(&info.path).await.unwrap();
    assert_eq!(derivation.name.as_str(), "simple");
    let hash = scratch.store.hash_modulo(&info.path, derivation).await.unwrap();
    assert_eq!(hash.hash.base16(), "acb5cfeef60b883429633150f8c6edcce30388c568a54afcbaf7a571ec6c8f4c");
    let outputs = scratch.store.derivation_outputs(&info.path).await.unwrap();
    assert_eq!(outputs.len(), 1);
    let output = store_path("mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple");
    assert_eq!(scratch.store.valid_derivers(&output).await.unwrap(), BTreeSet::from([info.path.clone()]));
}
