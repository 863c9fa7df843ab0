//! Garbage collection, roots and deletion, on stores that are made up.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "support/scratch_store.rs"]
mod scratch_store;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use kiln_events::EventSender;
use kiln_fs::Trash;
use kiln_hash::Sha256;
use kiln_narinfo::PathInfo;
use kiln_store::{CollectOptions, Collected, FreeSpace, Holder, LocalStore, OldGenerations, Retention};
use kiln_store_path::StorePath;
use proptest::prelude::*;
use scratch_store::{ScratchStore, store_path};

fn path(number: usize) -> StorePath {
    store_path(&format!("{number:032}-path"))
}

/// Makes a path valid that is a directory with a file of 100 bytes.
async fn add(store: &LocalStore, path: &StorePath, references: &[StorePath], deriver: Option<&StorePath>) {
    fs::create_dir(store.real_path(path)).unwrap();
    fs::write(store.real_path(path).join("file"), [b'x'; 100]).unwrap();
    let mut info = PathInfo::new(path.clone(), Sha256([1; 32]), 100);
    info.references = references.iter().cloned().collect();
    info.deriver = deriver.cloned();
    store.register_valid_paths(vec![info]).await.unwrap();
}

/// Makes the paths `0..count` valid at once, each of which refers to the one before it unless its number can be divided by
/// `every`.
async fn add_many(store: &LocalStore, count: usize, every: usize) {
    let mut infos = Vec::new();
    for number in 0..count {
        fs::create_dir(store.real_path(&path(number))).unwrap();
        fs::write(store.real_path(&path(number)).join("file"), [b'x'; 100]).unwrap();
        let mut info = PathInfo::new(path(number), Sha256([1; 32]), 100);
        info.references.extend((number % every != 0).then(|| path(number - 1)));
        infos.push(info);
    }
    store.register_valid_paths(infos).await.unwrap();
}

fn root(store: &LocalStore, name: &str, target: impl AsRef<Path>) {
    symlink(target, store.config().locations.state_dir.join("gcroots").join(name)).unwrap();
}

fn root_of(store: &LocalStore, name: &str, path: &StorePath) {
    root(store, name, store.print(path));
}

async fn collect(store: &LocalStore, options: CollectOptions) -> Collected {
    store.collect_garbage(options, EventSender::null()).await.unwrap()
}

/// A store: of each path, which of those before it it refers to, and which is its deriver; and which are roots.
#[derive(Clone, Debug)]
struct Shape {
    references: Vec<BTreeSet<usize>>,
    derivers: Vec<Option<usize>>,
    roots: BTreeSet<usize>,
    /// Files of this path have gone, or were never registered.
    unregistered: BTreeSet<usize>,
    derivations: bool,
}

fn shape() -> impl Strategy<Value = Shape> {
    (1_usize..24).prop_flat_map(|count| {
        let references = (0..count)
            .map(|number| proptest::collection::btree_set(0..number.max(1), 0..4.min(number + 1)))
            .collect::<Vec<_>>();
        let derivers = (0..count).map(|_| proptest::option::weighted(0.3, 0..count)).collect::<Vec<_>>();
        let roots = proptest::collection::btree_set(0..count, 0..4);
        let unregistered = proptest::collection::btree_set(100_usize..120, 0..5);
        (references, derivers, roots, unregistered, any::<bool>()).prop_map(
            |(references, derivers, roots, unregistered, derivations)| {
                // The first can only refer to itself.
                Shape { references, derivers, roots, unregistered, derivations }
            },
        )
    })
}

impl Shape {
    /// What is alive, found out in the most simple way: what something alive needs is, until nothing changes.
    fn alive(&self) -> BTreeSet<usize> {
        let mut alive = self.roots.clone();
        loop {
            let mut more = alive.clone();
            for number in &alive {
                more.extend(&self.references[*number]);
                more.extend(self.derivers[*number].filter(|_| self.derivations));
            }
            if more == alive {
                return alive;
            }
            alive = more;
        }
    }

    async fn make(&self, store: &LocalStore) {
        for (number, (references, deriver)) in self.references.iter().zip(&self.derivers).enumerate() {
            let references: Vec<StorePath> = references.iter().map(|number| path(*number)).collect();
            add(store, &path(number), &references, deriver.map(path).as_ref()).await;
        }
        for number in &self.roots {
            root_of(store, &number.to_string(), &path(*number));
        }
        for number in &self.unregistered {
            fs::write(store.real_path(&path(*number)), "leftover").unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// A collection deletes what is dead, all of it, and nothing else; and says so before.
    #[test]
    fn what_is_alive_stays_and_all_else_goes(shape in shape()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let scratch = ScratchStore::in_memory().await;
            let store = &scratch.store;
            shape.make(store).await;
            let retention = Retention { outputs: false, derivations: shape.derivations };
            let alive: BTreeSet<StorePath> = shape.alive().into_iter().map(path).collect();
            let all = (0..shape.references.len()).chain(shape.unregistered.iter().copied()).map(path);
            let dead: BTreeSet<StorePath> = all.filter(|path| !alive.contains(path)).collect();
            let garbage = store.find_garbage(retention, EventSender::null()).await.unwrap();
            assert_eq!(garbage.alive.iter().cloned().collect::<BTreeSet<_>>(), alive);
            assert_eq!(garbage.dead.iter().cloned().collect::<BTreeSet<_>>(), dead);
            for (number, reasons) in
                store.why_alive((0..shape.references.len()).map(path).collect(), retention, EventSender::null()).await.unwrap().into_iter().enumerate()
            {
                assert_eq!(reasons.is_empty(), !alive.contains(&path(number)));
                for reason in reasons {
                    assert_eq!(reason.way.last(), Some(&path(number)));
                    assert!(reason.way.iter().all(|path| alive.contains(path)));
                }
            }
            let collected = collect(store, CollectOptions { retention, max_freed: None }).await;
            assert_eq!(collected.failures, [""; 0]);
            assert_eq!(collected.paths.iter().cloned().collect::<BTreeSet<_>>(), dead);
            assert_eq!(collected.freed, dead.iter().map(|path| if is_leftover(path) { 8 } else { 100 }).sum::<u64>());
            assert_eq!(store.all_paths().await.unwrap(), alive);
            let names: BTreeSet<String> = scratch.entries().into_iter().collect();
            assert_eq!(names, alive.iter().map(|path| path.base_name().to_owned()).collect());
        });
    }
}

fn is_leftover(path: &StorePath) -> bool {
    path.base_name()[..32].parse::<usize>().unwrap() >= 100
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_kept_about() {
    let scratch = ScratchStore::in_memory().await;
    for number in 0..10 {
        let references: Vec<StorePath> = (0..number).map(path).collect();
        add(&scratch.store, &path(number), &references, None).await;
    }
    let options = CollectOptions { max_freed: Some(250), ..CollectOptions::default() };
    let collected = collect(&scratch.store, options).await;
    assert_eq!((collected.freed, collected.paths.len()), (300, 3));
    assert_eq!(collected.paths, [path(9), path(8), path(7)], "referrers first");
    assert_eq!(scratch.entries().len(), 7);
    let nothing = CollectOptions { max_freed: Some(0), ..CollectOptions::default() };
    assert_eq!(collect(&scratch.store, nothing).await.paths, []);
}

/// What others have thrown into the store directory, by intention or not, goes, and is no obstacle.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_leftovers_go() {
    let scratch = ScratchStore::in_memory().await;
    let (store, directory) = (&scratch.store, scratch.store.config().locations.real_dir.clone());
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("precious"), "").unwrap();
    for name in [&b"new\nline"[..], b"\xff\xfe", b".hidden", b"trash", b"x.lock", b"tmp-2147483647-1"] {
        fs::write(directory.join(std::ffi::OsStr::from_bytes(name)), "junk").unwrap();
    }
    symlink(outside.path(), directory.join("link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, directory.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    // Deeper than any path can be.
    let mut place = rustix::fs::openat(
        rustix::fs::CWD,
        &directory,
        rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    for _ in 0..10_000 {
        rustix::fs::mkdirat(&place, "deep", 0o700.into()).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        place = rustix::fs::openat(&place, "deep", flags, rustix::fs::Mode::empty()).unwrap();
    }
    drop(place);
    let deep = path(0);
    add(store, &deep, &[], None).await;
    symlink(outside.path(), store.real_path(&deep).join("link")).unwrap();
    let collected = collect(store, CollectOptions::default()).await;
    assert_eq!(collected.failures, [""; 0]);
    assert_eq!((collected.paths, collected.leftovers.len()), (vec![deep], 9));
    assert!(scratch.entries().is_empty(), "{:?}", scratch.entries());
    assert!(outside.path().join("precious").exists());
}

/// What somebody holds a lock on is in use.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_locked_stays() {
    let scratch = ScratchStore::in_memory().await;
    let (store, directory) = (&scratch.store, scratch.store.config().locations.real_dir.clone());
    let locked = fs::File::create(directory.join("tmp-1-x")).unwrap();
    rustix::fs::flock(&locked, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let lock = store.lock_paths(vec![path(1)], |_| {}).await.unwrap();
    fs::create_dir(directory.join(format!("add-{}-0", std::process::id()))).unwrap();
    let collected = collect(store, CollectOptions::default()).await;
    assert_eq!((collected.paths, collected.leftovers), (vec![], vec![]));
    assert_eq!(scratch.entries().len(), 3);
    drop((lock, locked));
    collect(store, CollectOptions::default()).await;
    assert_eq!(scratch.entries().len(), 1, "that of a living process");
}

/// What this process works with, and what belongs to it.
#[tokio::test(flavor = "multi_thread")]
async fn temporary_roots_are_kept_with_all_that_begins_like_them() {
    let scratch = ScratchStore::in_memory().await;
    let (store, directory) = (&scratch.store, scratch.store.config().locations.real_dir.clone());
    add(store, &path(0), &[], None).await;
    add(store, &path(1), &[path(0)], None).await;
    add(store, &path(2), &[path(0)], None).await;
    store.add_temp_roots(vec![path(1), path(3)]).await.unwrap();
    for (number, suffix) in [(1, ".lock"), (3, ".chroot"), (3, ""), (4, ".chroot")] {
        fs::write(directory.join(format!("{}{suffix}", path(number).base_name())), "").unwrap();
    }
    let collected = collect(store, CollectOptions::default()).await;
    assert_eq!(collected.paths.len(), 2, "{:?}", collected.paths);
    assert_eq!(scratch.entries().len(), 5, "{:?}", scratch.entries());
    let roots = store.roots(&EventSender::null()).await.unwrap();
    let process = Holder::Temporary(std::process::id().to_string());
    let root = |number| kiln_store::Root { path: path(number), holder: process.clone() };
    assert_eq!(roots, [root(1), root(3)]);
    // Nor can it be deleted by name, valid or not, whatever else it is asked with.
    add(store, &path(5), &[], None).await;
    for kept in [path(1), path(3), store_path(&format!("{}.chroot", path(3).base_name()))] {
        for ignore_liveness in [false, true] {
            let paths = vec![kept.clone(), path(5)];
            let error = store.delete_paths(paths, ignore_liveness, Retention::default(), EventSender::null());
            let error = error.await.unwrap_err().to_string();
            assert!(error.contains("still alive") && error.contains(&process.to_string()), "{error}");
        }
    }
    assert_eq!(scratch.entries().len(), 6, "{:?}", scratch.entries());
}

/// Whoever adds temporary roots while a collection runs neither waits for its end nor loses a path. Here as many as are
/// deleted are tried to be saved at the same time: each is either gone for good or kept for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_announced_during_a_collection_is_gone_or_kept() {
    let scratch = ScratchStore::in_memory().await;
    let store = &scratch.store;
    const COUNT: usize = 1500;
    add_many(store, COUNT, 10).await;
    let saving = tokio::spawn({
        let store = store.clone();
        async move {
            let mut saved = BTreeSet::new();
            for number in (0..COUNT).step_by(7) {
                store.add_temp_roots(vec![path(number)]).await.unwrap();
                if store.is_valid(&path(number)).await.unwrap() {
                    saved.insert(number);
                }
            }
            saved
        }
    });
    let mut deleted = BTreeSet::new();
    while !saving.is_finished() {
        deleted.extend(collect(store, CollectOptions::default()).await.paths);
    }
    let saved = saving.await.unwrap();
    deleted.extend(collect(store, CollectOptions::default()).await.paths);
    assert!(!saved.is_empty(), "all were gone before");
    let kept: BTreeSet<StorePath> =
        saved.iter().flat_map(|number| (number - number % 10)..=*number).map(path).collect();
    assert_eq!(store.all_paths().await.unwrap(), kept);
    assert!(kept.iter().all(|path| store.real_path(path).join("file").exists() && !deleted.contains(path)));
    assert_eq!(scratch.entries().len(), kept.len());
}

/// The socket is real Nix's: a line for each path, a byte for each answer. Clients that misbehave don't disturb others.
#[tokio::test(flavor = "multi_thread")]
async fn clients_of_the_socket_are_answered() {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    let scratch = ScratchStore::in_memory().await;
    let store = &scratch.store;
    add_many(store, 3000, 1).await;
    let socket = store.config().locations.state_dir.join("gc-socket/socket");
    let talking = std::thread::spawn({
        let (socket, store) = (socket.clone(), store.clone());
        move || {
            let mut stream = loop {
                match UnixStream::connect(&socket) {
                    Ok(stream) => break stream,
                    Err(_) => std::thread::yield_now(),
                }
            };
            let mut rude = UnixStream::connect(&socket).unwrap();
            rude.write_all(&[b'x'; 10_000]).unwrap();
            let _silent = UnixStream::connect(&socket).unwrap();
            let mut answer = [0; 3];
            stream.write_all(b"nonsense\n/nix/store\n/nix/").unwrap();
            stream.read_exact(&mut answer[..2]).unwrap();
            stream.write_all(format!("store/{}-a\n", "1".repeat(32)).as_bytes()).unwrap();
            stream.read_exact(&mut answer[2..]).unwrap();
            assert_eq!(&answer, b"111");
            // A path that is valid still at this moment stays so.
            let asked = path(2999);
            stream.write_all(format!("{}\n", store.print(&asked)).as_bytes()).unwrap();
            let mut answer = [0];
            stream.read_exact(&mut answer).unwrap();
            let is_valid = store.path_info_blocking(&asked).unwrap().is_some();
            let rest = rude.read(&mut answer);
            assert!(!matches!(rest, Ok(1..)), "who sends no line is not answered: {rest:?}");
            is_valid
        }
    });
    let mut paths = 0;
    while !talking.is_finished() {
        paths += collect(store, CollectOptions::default()).await.paths.len();
    }
    let is_valid = talking.join().unwrap();
    assert!(is_valid && paths == 2999 || !is_valid && paths == 3000, "{is_valid} {paths}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_nothing_keeps_can_be_deleted() {
    let scratch = ScratchStore::in_memory().await;
    let store = &scratch.store;
    add(store, &path(0), &[], None).await;
    add(store, &path(1), &[path(0)], None).await;
    add(store, &path(2), &[path(1), path(2)], None).await;
    root_of(store, "root", &path(1));
    let delete = |paths: Vec<StorePath>, ignore_liveness| {
        store.delete_paths(paths, ignore_liveness, Retention::default(), EventSender::null())
    };
    let error = delete(vec![path(0), path(2)], false).await.unwrap_err().to_string();
    let link = store.config().locations.state_dir.join("gcroots/root");
    for part in ["still alive", link.to_str().unwrap(), &store.print(&path(1))] {
        assert!(error.contains(part), "{error}");
    }
    assert!(store.is_valid(&path(2)).await.unwrap(), "nothing was deleted");
    let error = delete(vec![path(1)], true).await.unwrap_err().to_string();
    assert!(error.contains(&format!("in use by {}", store.print(&path(2)))), "{error}");
    let collected = delete(vec![path(1), path(2)], true).await.unwrap();
    assert_eq!(collected.paths, [path(2), path(1)]);
    assert_eq!(store.all_paths().await.unwrap(), BTreeSet::from([path(0)]));
    fs::write(store.real_path(&path(7)), "not valid").unwrap();
    assert_eq!(delete(vec![path(7), path(8)], false).await.unwrap().paths, [path(7)]);
    assert_eq!(delete(vec![path(0)], false).await.unwrap().freed, 100);
    assert!(scratch.entries().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn roots_are_found_wherever_they_are() {
    let scratch = ScratchStore::in_memory().await;
    let store = &scratch.store;
    let state = &store.config().locations.state_dir;
    for number in 0..8 {
        add(store, &path(number), &[], None).await;
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let link = |name: &str| elsewhere.path().join(name);
    root_of(store, "direct", &path(0));
    root(store, "below", format!("{}/file", store.print(&path(1))));
    fs::write(state.join("gcroots").join(path(2).base_name()), "").unwrap();
    store.add_out_link(&link("result"), &path(3)).await.unwrap();
    symlink(store.print(&path(4)), state.join("profiles/system-1-link")).unwrap();
    symlink("system-1-link", state.join("profiles/system")).unwrap();
    // None of these is one, and none is an obstacle.
    symlink(link("result"), link("second")).unwrap();
    root(store, "two-steps", link("second"));
    root(store, "dangling", link("nothing"));
    root(store, "invalid", store.print(&path(9)));
    root(store, "long", "/x".repeat(2000));
    root(store, "longer", format!("/{}", "x".repeat(300)));
    root(store, "loop", "loop");
    symlink("/nothing", link("gone")).unwrap();
    store.add_indirect_root(&link("gone")).await.unwrap();
    fs::remove_file(link("gone")).unwrap();
    let held: BTreeMap<StorePath, Vec<Holder>> = {
        let mut held: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for root in store.roots(&EventSender::null()).await.unwrap() {
            held.entry(root.path).or_default().push(root.holder);
        }
        held
    };
    assert_eq!(held.keys().cloned().collect::<Vec<_>>(), (0..5).map(path).collect::<Vec<_>>());
    let is_result =
        |holder: &Holder| matches!(holder, Holder::Indirect { link: found, .. } if *found == link("result"));
    // It is a temporary root, too, of whoever has made the link.
    assert_eq!(held[&path(3)].iter().filter(|holder| is_result(holder) || holder.is_temporary()).count(), 2);
    assert_eq!(held[&path(4)].len(), 1, "through 'profiles' alone");
    let automatic = || fs::read_dir(state.join("gcroots/auto")).unwrap().count();
    assert_eq!(automatic(), 2);
    collect(store, CollectOptions::default()).await;
    assert_eq!(automatic(), 1, "the link to nothing has gone");
    assert!(fs::symlink_metadata(state.join("gcroots/dangling")).is_ok());
    assert_eq!(store.all_paths().await.unwrap(), (0..5).map(path).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn old_generations_are_forgotten() {
    let scratch = ScratchStore::in_memory().await;
    let profiles = scratch.store.config().locations.state_dir.join("profiles");
    for (directory, current) in [("per-user/u", 2), (".", 3)] {
        let directory = profiles.join(directory);
        fs::create_dir_all(&directory).unwrap();
        for number in 1..=3 {
            symlink("/nix/store/x", directory.join(format!("p-{number}-link"))).unwrap();
        }
        symlink(format!("p-{current}-link"), directory.join("p")).unwrap();
        symlink("/nix/store/x", directory.join("other-1-link")).unwrap();
    }
    let store = &scratch.store;
    let month = OldGenerations::OlderThan(Duration::from_secs(30 * 24 * 3600));
    assert_eq!(store.delete_generations(month, false).await.unwrap().len(), 0);
    let told = store.delete_generations(OldGenerations::All, true).await.unwrap();
    assert_eq!(told.len(), 4);
    assert!(told.iter().all(|link| fs::symlink_metadata(link).is_ok()));
    assert_eq!(store.delete_generations(OldGenerations::All, false).await.unwrap(), told);
    assert!(told.iter().all(|link| fs::symlink_metadata(link).is_err()));
    let names = |directory: &str| {
        let entries = fs::read_dir(profiles.join(directory)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names("per-user/u"), ["other-1-link", "p", "p-2-link"]);
    assert_eq!(names("."), ["other-1-link", "p", "p-3-link", "per-user"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_begin_by_themselves_when_space_is_short() {
    let scratch = ScratchStore::in_memory().await;
    let store = &scratch.store;
    add(store, &path(0), &[], None).await;
    let short = |space| store.collect_if_short(space, Retention::default(), EventSender::null());
    assert_eq!(short(FreeSpace { min: 0, max: u64::MAX }).await.unwrap(), None);
    assert_eq!(short(FreeSpace { min: 1, max: u64::MAX }).await.unwrap(), None);
    let collected = short(FreeSpace { min: u64::MAX, max: u64::MAX }).await.unwrap().unwrap();
    assert_eq!(collected.paths, [path(0)]);
    add(store, &path(0), &[], None).await;
    let again = short(FreeSpace { min: u64::MAX, max: u64::MAX }).await.unwrap();
    assert_eq!(again, None, "another one would not find more space");
}

/// A collection that is given up leaves a store that is whole, and the next one goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_can_be_given_up() {
    let scratch = ScratchStore::in_memory().await;
    let store = &scratch.store;
    add_many(store, 1200, 1).await;
    let options = CollectOptions::default();
    let given_up =
        tokio::time::timeout(Duration::from_millis(30), store.collect_garbage(options, EventSender::null()));
    let _ = given_up.await;
    // The lock is free when the work has come to its end.
    let collected = collect(store, options).await;
    assert!(collected.failures.is_empty());
    assert_eq!(store.all_paths().await.unwrap().len(), 0);
    assert!(scratch.entries().is_empty(), "{:?}", scratch.entries());
}

/// What a collector that was killed leaves: paths that are not valid but there, and trash.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_collection_has_left_goes() {
    let scratch = ScratchStore::in_memory().await;
    let store = &scratch.store;
    for number in 0..3 {
        add(store, &path(number), &[], None).await;
    }
    root_of(store, "root", &path(2));
    store.invalidate(vec![path(0), path(1)]).await.unwrap();
    let trash = store.config().locations.real_dir.join(format!("{}-0", Trash::STORE_PATH));
    fs::create_dir(&trash).unwrap();
    fs::rename(store.real_path(&path(1)), trash.join("1")).unwrap();
    let collected = collect(store, CollectOptions::default()).await;
    assert_eq!(collected.paths, [path(0)]);
    assert_eq!(scratch.entries(), [path(2).base_name()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_tell_what_would_go() {
    let scratch = ScratchStore::in_memory().await;
    let store = &scratch.store;
    add(store, &path(0), &[], None).await;
    add(store, &path(1), &[path(0)], None).await;
    add(store, &path(2), &[path(1)], None).await;
    add(store, &path(3), &[path(0)], None).await;
    add(store, &path(4), &[path(2)], None).await;
    let usage = store.usage(vec![path(2), path(3)]).await.unwrap();
    assert_eq!((usage[0].nar_size, usage[0].closure_size, usage[0].exclusive_size), (100, 300, 200));
    assert_eq!((usage[1].closure_size, usage[1].exclusive_size), (200, 100));
    assert!(store.usage(vec![path(9)]).await.is_err());
}
