//! What the local store keeps beside files: validity, locks, roots, logs.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "support/scratch_store.rs"]
mod scratch_store;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kiln_database::Follow;
use kiln_fs::Trash;
use kiln_hash::Sha256;
use kiln_narinfo::{PathInfo, SecretKey};
use kiln_store::{CheckSignatures, Error, LocalStore, ReadStore, Verdict};
use kiln_store_path::{StorePath, StorePathName};
use scratch_store::{ScratchStore, config, data, sample, store_path, stream};
use tokio::io::AsyncReadExt;

/// A name of those for what is being added.
const SCRATCH: &str = "00000000000000000000000000000005-tmp-kiln";

async fn add_text(store: &LocalStore, name: &str, references: &[&StorePath]) -> StorePath {
    let name = StorePathName::new(name).unwrap();
    let references = references.iter().map(|path| (*path).clone()).collect();
    store.add_text(&name, b"text".to_vec(), references).await.unwrap().path.clone()
}

/// The store as another process has it, as far as the database can tell.
async fn opened_again(store: &LocalStore) -> LocalStore {
    LocalStore::open(store.config().clone(), Arc::new(|_| {})).await.unwrap()
}

#[tokio::test]
async fn a_store_is_any_store() {
    let scratch = ScratchStore::new().await;
    let path = add_text(&scratch.store, "a", &[]).await;
    let store: &dyn ReadStore = &scratch.store;
    let mut nar = Vec::new();
    store.read_nar(&path).await.unwrap().read_to_end(&mut nar).await.unwrap();
    assert_eq!(Sha256::of(&nar), store.path_info(&path).await.unwrap().unwrap().nar_hash);
    let absent = store_path("00000000000000000000000000000000-absent");
    let both = [path.clone(), absent.clone()];
    assert_eq!(store.valid_among(&both).await.unwrap(), BTreeSet::from([path.clone()]));
    assert_eq!(store.path_infos(&both).await.unwrap().len(), 1);
    assert!(store.read_nar(&absent).await.err().unwrap().is_not_valid());
}

#[tokio::test]
async fn path_info_in_memory_follows_what_others_do() {
    let scratch = ScratchStore::new().await;
    let store = &scratch.store;
    let path = add_text(store, "a", &[]).await;
    for _ in 0..3 {
        assert!(store.is_valid(&path).await.unwrap());
    }
    let other = opened_again(store).await;
    other.invalidate(vec![path.clone()]).await.unwrap();
    assert!(!store.is_valid(&path).await.unwrap());
    assert!(matches!(store.valid_path_info(&path).await, Err(Error::NotValid(_))));

    let path = add_text(store, "b", &[]).await;
    assert!(store.is_valid(&path).await.unwrap());
    store.invalidate(vec![path.clone()]).await.unwrap();
    assert!(!store.is_valid(&path).await.unwrap());
}

/// What is remembered of a path that was just registered is what anybody else reads, also once it has been changed.
#[tokio::test]
async fn what_was_registered_is_known_as_others_read_it() {
    let scratch = ScratchStore::new().await;
    let store = &scratch.store;
    let other = opened_again(store).await;
    let below = add_text(store, "below", &[]).await;
    let above = add_text(store, "above", &[&below]).await;
    for path in [&below, &above] {
        let known = store.known_path_info(path).unwrap();
        assert_eq!(Some(known), other.path_info(path).await.unwrap());
    }
    let key = SecretKey::generate("k", [5; 32]).unwrap();
    let mut signed = (*store.known_path_info(&above).unwrap()).clone();
    signed.sign(store.store_dir(), &key).unwrap();
    signed.registration_time = 1;
    store.register_valid_paths(vec![signed]).await.unwrap();
    let read = other.path_info(&above).await.unwrap().unwrap();
    assert!(read.registration_time > 1 && read.signatures.len() == 1, "{read:?}");
    assert_eq!(store.path_info(&above).await.unwrap(), Some(read));
}

/// That a path is not valid is remembered only until somebody makes it valid.
#[tokio::test]
async fn what_is_not_valid_is_remembered_until_it_is() {
    let scratch = ScratchStore::new().await;
    let store = &scratch.store;
    let other = opened_again(store).await;
    let first = add_text(store, "first", &[]).await;
    let second = add_text(store, "second", &[]).await;
    store.invalidate(vec![first.clone(), second.clone()]).await.unwrap();
    let both = vec![first.clone(), second.clone()];
    for _ in 0..2 {
        assert!(store.valid_among(both.clone()).await.unwrap().is_empty());
    }
    add_text(&other, "first", &[]).await;
    assert_eq!(store.valid_among(both.clone()).await.unwrap(), BTreeSet::from([first.clone()]));
    add_text(store, "second", &[]).await;
    assert_eq!(store.valid_among(both.clone()).await.unwrap().len(), 2);
    other.invalidate(vec![first]).await.unwrap();
    assert_eq!(store.valid_among(both).await.unwrap(), BTreeSet::from([second]));
}

/// A closure that is found in memory is that of the database, whoever has changed it.
#[tokio::test]
async fn closures_in_memory_follow_what_others_do() {
    let scratch = ScratchStore::new().await;
    let store = &scratch.store;
    let lowest = add_text(store, "lowest", &[]).await;
    let middle = add_text(store, "middle", &[&lowest]).await;
    let above = add_text(store, "above", &[&middle]).await;
    let closure = async |path: &StorePath| store.closure(vec![path.clone()], Follow::REFERENCES).await;
    for _ in 0..2 {
        let all = BTreeSet::from([lowest.clone(), middle.clone(), above.clone()]);
        assert_eq!(closure(&above).await.unwrap(), all);
    }
    let other = opened_again(store).await;
    other.invalidate(vec![above.clone()]).await.unwrap();
    assert!(closure(&above).await.is_err());
    assert_eq!(closure(&middle).await.unwrap().len(), 2);
    store.invalidate(vec![middle.clone()]).await.unwrap();
    assert!(closure(&middle).await.is_err());
    assert_eq!(closure(&lowest).await.unwrap(), BTreeSet::from([lowest.clone()]));
}

#[tokio::test]
async fn registering_takes_what_is_in_place() {
    let scratch = ScratchStore::new().await;
    let store = &scratch.store;
    let paths = ["00000000000000000000000000000001-a", "00000000000000000000000000000002-b"].map(store_path);
    let mut infos = Vec::new();
    for path in &paths {
        fs::write(store.real_path(path), "content").unwrap();
        infos.push(PathInfo::new(path.clone(), Sha256([1; 32]), 1));
    }
    infos[0].references.insert(paths[1].clone());
    infos[1].references.insert(paths[0].clone());
    let error = store.register_valid_paths(infos.clone()).await.unwrap_err();
    assert!(error.to_string().contains("cycle detected in the references"), "{error}");
    infos[1].references.clear();
    infos[1].nar_hash = Sha256::UNKNOWN;
    store.register_valid_paths(infos).await.unwrap();
    assert!(matches!(store.verify_contents(&paths[0]).await.unwrap(), Verdict::Modified { .. }));
    assert_eq!(store.verify_contents(&paths[1]).await.unwrap(), Verdict::Recorded);
    assert_eq!(store.verify_contents(&paths[1]).await.unwrap(), Verdict::Good);
    fs::remove_file(store.real_path(&paths[1])).unwrap();
    assert_eq!(store.verify_contents(&paths[1]).await.unwrap(), Verdict::Missing);
    let absent = store_path("00000000000000000000000000000000-absent");
    assert_eq!(store.verify_contents(&absent).await.unwrap(), Verdict::NotValid);
}

#[tokio::test]
async fn locks_exclude_others_and_leave_nothing() {
    let scratch = ScratchStore::new().await;
    let store = &scratch.store;
    let paths = vec![
        store_path("00000000000000000000000000000001-a"),
        store_path("00000000000000000000000000000002-b"),
    ];
    let mut held = store.lock_paths(paths.clone(), |_| {}).await.unwrap();
    assert!(store.try_lock_paths(paths[1..].to_vec()).await.unwrap().is_none());
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let waiting = tokio::spawn({
        let (store, paths) = (store.clone(), paths.clone());
        async move { store.lock_paths(paths, move |file| drop(sender.send(file.to_owned()))).await }
    });
    let file = receiver.recv().await.unwrap();
    assert_eq!(file, PathBuf::from(format!("{}.lock", store.real_path(&paths[0]).display())));
    assert!(!waiting.is_finished());
    held.delete_on_release(true);
    drop(held);
    let mut next = tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap().unwrap();
    next.delete_on_release(true);
    drop(next);
    assert_eq!(scratch.entries(), [""; 0]);
}

#[tokio::test]
async fn temporary_roots_are_in_the_file_of_this_process() {
    let scratch = ScratchStore::new().await;
    let other = LocalStore::open(scratch.store.config().clone(), Arc::new(|_| {})).await.unwrap();
    let file = scratch.store.config().locations.state_dir.join(format!("temproots/{}", std::process::id()));
    let paths = ["00000000000000000000000000000001-a", "00000000000000000000000000000002-b"].map(store_path);
    scratch.store.add_temp_roots(paths[..1].to_vec()).await.unwrap();
    other.add_temp_roots(paths.to_vec()).await.unwrap();
    let expected: String = paths.iter().map(|path| format!("/nix/store/{path}\0")).collect();
    assert_eq!(fs::read_to_string(&file).unwrap(), expected, "two handles of a store share one file");
    drop(scratch.store);
    assert!(file.exists());
    drop(other);
    assert!(!file.exists());
}

#[tokio::test]
async fn temporary_roots_last_as_long_as_a_holder() {
    let scratch = ScratchStore::new().await;
    let file = scratch.store.config().locations.state_dir.join(format!("temproots/{}", std::process::id()));
    let paths = ["00000000000000000000000000000001-a", "00000000000000000000000000000002-b"].map(store_path);
    let kept = || -> Vec<String> {
        let contents = fs::read_to_string(&file).unwrap();
        let live =
            contents.split_terminator('\0').filter(|path| !path.contains("00000000000000000000000000000000"));
        live.map(|path| path.trim_start_matches("/nix/store/").to_owned()).collect()
    };
    let becomes = async |expected: &[&StorePath]| {
        for _ in 0..1000 {
            if kept() == expected.iter().map(ToString::to_string).collect::<Vec<_>>() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{:?} are kept", kept());
    };
    let (first, second) = (scratch.store.with_own_roots(), scratch.store.with_own_roots());
    first.add_temp_roots(paths.to_vec()).await.unwrap();
    second.add_temp_roots(paths[..1].to_vec()).await.unwrap();
    second.add_temp_roots(paths[..1].to_vec()).await.unwrap();
    let clone = first.clone();
    drop(first);
    becomes(&[&paths[0], &paths[1]]).await;
    drop(clone);
    becomes(&[&paths[0]]).await;
    drop(second);
    becomes(&[]).await;
}

#[tokio::test]
async fn out_links_are_indirect_roots() {
    let scratch = ScratchStore::new().await;
    let store = &scratch.store;
    let path = add_text(store, "a", &[]).await;
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("result");
    for _ in 0..2 {
        store.add_out_link(&link, &path).await.unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), PathBuf::from(format!("/nix/store/{path}")));
    }
    let auto = store.config().locations.state_dir.join("gcroots/auto");
    let roots: Vec<_> = fs::read_dir(&auto).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(roots.len(), 1);
    assert_eq!(fs::read_link(&roots[0]).unwrap(), link);

    let other = add_text(store, "b", &[]).await;
    store.add_out_link(&link, &other).await.unwrap();
    assert_eq!(fs::read_link(&link).unwrap(), PathBuf::from(format!("/nix/store/{other}")));
    let occupied = directory.path().join("file");
    fs::write(&occupied, "mine").unwrap();
    assert!(matches!(store.add_out_link(&occupied, &path).await, Err(Error::RootOccupied(_))));
    let elsewhere = directory.path().join("elsewhere");
    symlink("/etc/passwd", &elsewhere).unwrap();
    assert!(matches!(store.add_out_link(&elsewhere, &path).await, Err(Error::RootOccupied(_))));
    assert_eq!(fs::read_to_string(&occupied).unwrap(), "mine");

    let permanent = store.config().locations.state_dir.join("gcroots/mine/x");
    store.add_permanent_root(&permanent, &path).await.unwrap();
    assert_eq!(fs::read_link(&permanent).unwrap(), PathBuf::from(format!("/nix/store/{path}")));
    let outside = store.config().locations.state_dir.join("gcroots/../x");
    assert!(matches!(store.add_permanent_root(&outside, &path).await, Err(Error::RootOutside { .. })));
}

#[tokio::test]
async fn logs_are_read_from_all_places_of_nix() {
    let scratch = ScratchStore::new().await;
    let store = &scratch.store;
    let derivation = store_path("4gd87ivd2zhmmqkslb944cwpzpz256w1-simple.drv");
    let read = || async {
        let mut log = String::new();
        store.read_log(&derivation).await.unwrap()?.read_to_string(&mut log).await.ok().map(|_| log)
    };
    assert_eq!(read().await, None);
    let drvs = store.config().locations.log_dir.join("drvs");
    assert_eq!(
        store.log_path(&derivation, true),
        drvs.join("4g/d87ivd2zhmmqkslb944cwpzpz256w1-simple.drv.bz2")
    );
    let compress = |text: &str| {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    fs::create_dir_all(drvs.join("4g")).unwrap();
    fs::write(drvs.join(format!("{derivation}.bz2")), compress("old place")).unwrap();
    assert_eq!(read().await.as_deref(), Some("old place"));
    fs::write(store.log_path(&derivation, true), [compress("two "), compress("streams")].concat()).unwrap();
    assert_eq!(read().await.as_deref(), Some("two streams"));
    fs::write(store.log_path(&derivation, false), "plain").unwrap();
    assert_eq!(read().await.as_deref(), Some("plain"));
    fs::remove_file(store.log_path(&derivation, false)).unwrap();
    fs::write(store.log_path(&derivation, true), &compress("cut off")[..20]).unwrap();
    assert_eq!(read().await, None, "a damaged log is not taken for a whole one");
}

#[tokio::test]
async fn a_read_only_store_is_left_alone() {
    let scratch = ScratchStore::new().await;
    let path = add_text(&scratch.store, "a", &[]).await;
    let root = scratch.root.path().to_owned();
    let writable = scratch.store.config().clone();
    drop(scratch.store);
    let mut read_only = config(&root);
    read_only.read_only = true;
    let store = LocalStore::open(read_only, Arc::new(|_| {})).await.unwrap();
    assert!(store.is_valid(&path).await.unwrap());
    store.add_temp_roots(vec![path.clone()]).await.unwrap();
    let name = StorePathName::new("b").unwrap();
    for error in [
        store.add_text(&name, b"x".to_vec(), BTreeSet::new()).await.unwrap_err(),
        store.invalidate(vec![path.clone()]).await.unwrap_err(),
        store.lock_paths(vec![path.clone()], |_| {}).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::ReadOnly), "{error}");
    }
    assert!(!writable.locations.state_dir.join(format!("temproots/{}", std::process::id())).exists());
}

#[tokio::test]
async fn a_file_of_the_store_that_cannot_be_archived_breaks_the_stream() {
    let scratch = ScratchStore::new().await;
    let (info, nar) = sample("closure").into_iter().find(|(info, _)| info.path.name() == "simple").unwrap();
    scratch.store.add_nar(info.clone(), stream(nar), CheckSignatures::Yes).await.unwrap();
    let place = scratch.store.real_path(&info.path);
    fs::remove_file(&place).unwrap();
    let mut all = Vec::new();
    let read = scratch.store.read_nar(&info.path).await.unwrap().read_to_end(&mut all).await;
    assert!(read.unwrap_err().to_string().contains(info.path.base_name()));
}

#[tokio::test]
async fn derivations_that_belong_together_register_together() {
    let scratch = ScratchStore::new().await;
    let store = &scratch.store;
    let names = [
        "4gd87ivd2zhmmqkslb944cwpzpz256w1-simple.drv",
        "6p7lmr7vjv930imcp4sgg2f8cm95s7xj-multi.drv",
        "p4rh9rh6s137h8va7x6qv8qhi9sfl5ny-dep.drv",
    ];
    let mut infos = Vec::new();
    for name in names {
        let text = fs::read(data("drv").join(name)).unwrap();
        let path = store_path(name);
        let derivation = store.parse_derivation(&path, &text).unwrap();
        fs::write(store.real_path(&path), &text).unwrap();
        fs::set_permissions(store.real_path(&path), fs::Permissions::from_mode(0o444)).unwrap();
        let mut info = PathInfo::new(path, Sha256::of(&text), text.len() as u64);
        info.references = derivation.references();
        infos.push(info);
    }
    // The one that needs the others first.
    infos.reverse();
    store.register_valid_paths(infos).await.unwrap();
    let outputs = store.derivation_outputs(&store_path(names[1])).await.unwrap();
    assert_eq!(outputs.len(), 3);
}

/// What a process that was killed leaves beside the paths that it was working on, and what somebody still works on.
#[tokio::test]
async fn the_first_to_work_on_a_store_clears_up_after_the_dead() {
    let root = scratch_store::ScratchDirectory::new();
    let config = config(root.path());
    let (directory, state) = (config.locations.real_dir.clone(), config.locations.state_dir.clone());
    let open = || LocalStore::open(config.clone(), Arc::new(|_| {}));
    drop(open().await.unwrap());
    let [dead, busy] = ["0", "1"].map(|digit| format!("{}-path", digit.repeat(32)));
    let write = |path: PathBuf, text: &str| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let full = |name: &str| format!("/nix/store/{name}");
    // The last entry was being written.
    let roots = format!("{}\0{}\0nonsense\0{}", full(&dead), full(&busy), full(&dead));
    write(state.join("temproots/4194305"), &roots);
    write(state.join("temproots/4194306"), &full(&dead));
    let living = fs::File::open(state.join("temproots/4194306")).unwrap();
    living.lock().unwrap();
    for name in [
        &format!("{dead}.lock"),
        &format!("{busy}.lock"),
        &format!("{SCRATCH}/x"),
        &format!("{}-9/1", Trash::STORE_PATH),
    ] {
        write(directory.join(name), "");
    }
    let lock = fs::File::open(directory.join(format!("{busy}.lock"))).unwrap();
    lock.lock().unwrap();
    let store = open().await.unwrap();
    let names = |directory: &PathBuf| -> BTreeSet<String> {
        fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    assert!(names(&directory).contains(SCRATCH), "who only looks changes nothing");
    store.add_temp_roots(vec![store_path(&dead)]).await.unwrap();
    assert_eq!(names(&directory), BTreeSet::from([".links".to_owned(), format!("{busy}.lock")]));
    let own = std::process::id().to_string();
    assert_eq!(names(&state.join("temproots")), BTreeSet::from(["4194306".to_owned(), own]));
}
