//! Equal files share an inode.

use crate::scratch::{Scratch, component, is_root, mode};
use kiln_fs::*;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

fn scanned(scratch: &Scratch, name: &str) -> TreeFacts {
    let mut canonicaliser = Canonicaliser::new(Ownership::of_this_process()).hard_links(HardLinks::Accept);
    scan_output(&scratch.directory, &component(name), &mut canonicaliser, [], true).unwrap()
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

#[test]
fn equal_files_become_one() {
    let scratch = Scratch::new();
    scratch.tree("one");
    scratch.tree("two");
    fs::write(scratch.path("two/bin/plain"), "#!/bin/sh\n").unwrap();
    let pool = LinkPool::open(&scratch.directory).unwrap();
    let (one, two) = (scanned(&scratch, "one"), scanned(&scratch, "two"));
    let first = pool.link_tree(&component("one"), &one.files).unwrap();
    assert_eq!(first, Linked::default(), "the first of its kind becomes the entry");
    let second = pool.link_tree(&component("two"), &two.files).unwrap();
    assert_eq!((second.files, second.bytes), (5, 10 + 15 + 1 + 9));
    for file in ["bin/run", "nothing", "dangling", "line\nbreak"] {
        assert_eq!(
            inode(&scratch.path("one").join(file)),
            inode(&scratch.path("two").join(file)),
            "{file:?}"
        );
    }
    // The executable bit makes another file.
    assert_ne!(inode(&scratch.path("two/bin/run")), inode(&scratch.path("two/bin/plain")));
    for (tree, facts) in [("one", &one), ("two", &two)] {
        assert_eq!(&scanned(&scratch, tree), facts, "the trees are as they were");
        for directory in ["", "bin"] {
            let path = scratch.path(tree).join(directory);
            assert_eq!((mode(&path), fs::metadata(&path).unwrap().mtime()), (0o555, 1));
        }
    }
    assert_eq!(pool.link_tree(&component("two"), &two.files).unwrap(), Linked::default());
    let hash = &two.files.iter().find(|file| file.path == Path::new("nothing")).unwrap().hash;
    assert_eq!(inode(&scratch.path(".links").join(hash.nix32())), inode(&scratch.path("two/nothing")));
    let names: Vec<_> =
        fs::read_dir(scratch.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn damaged_entries_are_replaced_and_writable_files_left_alone() {
    let scratch = Scratch::new();
    for name in ["a", "b", "c"] {
        fs::write(scratch.path(name), "contents").unwrap();
    }
    let pool = LinkPool::open(&scratch.directory).unwrap();
    let facts = scanned(&scratch, "a");
    let entry = scratch.path(".links").join(facts.files[0].hash.nix32());
    fs::write(&entry, "damaged entry").unwrap();
    pool.link_tree(&component("a"), &facts.files).unwrap();
    assert_eq!(fs::read(&entry).unwrap(), b"contents");
    assert_eq!(pool.link_tree(&component("b"), &scanned(&scratch, "b").files).unwrap().bytes, 8);
    assert_eq!(inode(&scratch.path("a")), inode(&scratch.path("b")));
    fs::set_permissions(scratch.path("c"), fs::Permissions::from_mode(0o644)).unwrap();
    let linked = pool.link_tree(&component("c"), &facts.files).unwrap();
    assert_eq!(linked.suspicious, [scratch.path("c")]);
    assert_ne!(inode(&scratch.path("a")), inode(&scratch.path("c")));
    if !is_root() {
        assert!(mode(&scratch.path("b")) == 0o444);
    }
}

fn canonical(scratch: &Scratch, name: &str) -> Component {
    scratch.tree(name);
    scanned(scratch, name);
    component(name)
}

/// What is linked is the same, whether the hashes were taken while the tree was scanned or are taken now.
#[test]
fn trees_are_linked_without_known_hashes() {
    let scratch = Scratch::new();
    let [one, two, three] = ["one", "two", "three"].map(|name| canonical(&scratch, name));
    let pool = LinkPool::open(&scratch.directory).unwrap();
    let pooled = pool.pooled_files().unwrap();
    assert_eq!(pool.optimise_tree(&one, &pooled).unwrap(), Linked::default());
    let second = pool.optimise_tree(&two, &pooled).unwrap();
    assert_eq!((second.files, second.bytes), (5, 10 + 15 + 1 + 9));
    let facts = scanned(&scratch, "three");
    assert_eq!(pool.link_tree(&three, &facts.files).unwrap().files, 5);
    assert_eq!(scanned(&scratch, "two"), facts);
    for directory in ["two", "two/bin"] {
        let path = scratch.path(directory);
        assert_eq!((mode(&path), fs::metadata(&path).unwrap().mtime()), (0o555, 1));
    }
    let mut names: Vec<_> = pool
        .names()
        .unwrap()
        .iter()
        .map(|name| String::from_utf8(name.as_bytes().to_vec()).unwrap())
        .collect();
    let mut hashes: Vec<_> = facts.files.iter().map(|file| file.hash.nix32()).collect();
    names.sort();
    hashes.sort();
    hashes.dedup();
    assert_eq!(names, hashes);
}

/// In a large tree, files are replaced beside finding them.
#[test]
fn large_trees_are_linked_wholly() {
    let scratch = Scratch::new();
    let (directories, files) = (3, 200);
    for directory in 0..directories {
        let path = scratch.path("large").join(directory.to_string());
        fs::create_dir_all(&path).unwrap();
        for file in 0..files {
            fs::write(path.join(file.to_string()), format!("{}", file / 2)).unwrap();
        }
    }
    let before = scanned(&scratch, "large");
    let pool = LinkPool::open(&scratch.directory).unwrap();
    let linked = pool.optimise_tree(&component("large"), &pool.pooled_files().unwrap()).unwrap();
    assert_eq!(linked.files, directories * files - files / 2);
    assert_eq!(pool.names().unwrap().len() as u64, files / 2);
    assert_eq!(scanned(&scratch, "large"), before, "the tree is as it was");
    for directory in 0..directories {
        let path = scratch.path("large").join(directory.to_string());
        assert_eq!((mode(&path), fs::metadata(&path).unwrap().mtime()), (0o555, 1));
        for file in 0..files {
            let first = scratch.path("large/0").join((file / 2 * 2).to_string());
            assert_eq!(inode(&path.join(file.to_string())), inode(&first));
        }
    }
    let left = fs::read_dir(scratch.path("")).unwrap().count();
    assert_eq!(left, 2, "nothing is left beside the tree and the pool");
}

/// Root may ask for that. Times of access that are older than the others are brought up to date by whoever reads.
#[test]
fn nobody_sees_that_root_has_read_a_tree() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let one = canonical(&scratch, "one");
    let read = ["one", "one/bin", "one/bin/run"].map(|name| scratch.path(name));
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    let times = fs::FileTimes::new().set_accessed(long_ago);
    read.iter().for_each(|path| fs::File::open(path).unwrap().set_times(times).unwrap());
    let pool = LinkPool::open(&scratch.directory).unwrap();
    pool.optimise_tree(&one, &pool.pooled_files().unwrap()).unwrap();
    for path in read {
        assert_eq!(fs::metadata(&path).unwrap().accessed().unwrap(), long_ago, "{path:?}");
    }
}

#[test]
fn files_in_the_pool_are_not_read_again() {
    let scratch = Scratch::new();
    let one = canonical(&scratch, "one");
    let pool = LinkPool::open(&scratch.directory).unwrap();
    pool.optimise_tree(&one, &pool.pooled_files().unwrap()).unwrap();
    let file = scratch.path("one/bin/run");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    let pooled = pool.pooled_files().unwrap();
    assert_eq!(pool.optimise_tree(&one, &pooled).unwrap(), Linked::default(), "not even looked at");
    let nothing_known = PooledFiles::default();
    assert_eq!(pool.optimise_tree(&one, &nothing_known).unwrap().suspicious, [file]);
}

#[test]
fn unused_entries_go_and_damaged_ones_are_found() {
    let scratch = Scratch::new();
    let (one, two) = (canonical(&scratch, "one"), canonical(&scratch, "two"));
    let pool = LinkPool::open(&scratch.directory).unwrap();
    let pooled = pool.pooled_files().unwrap();
    for tree in [&one, &two] {
        pool.optimise_tree(tree, &pooled).unwrap();
    }
    let used = pool.remove_unused(3).unwrap();
    assert_eq!(used, RemovedLinks { removed: 0, saved: 10 + 15 + 1 + 9 });
    for name in pool.names().unwrap() {
        assert_eq!(pool.check(&name).unwrap(), EntryCheck::Good);
    }
    let run = fs::symlink_metadata(scratch.path("one/bin/run")).unwrap().ino();
    let entry = pool
        .names()
        .unwrap()
        .into_iter()
        .find(|name| inode(&scratch.path(".links").join(name.as_path())) == run);
    let entry = entry.unwrap();
    let path = scratch.path(".links").join(entry.as_path());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&path, "#!/bin/su\n").unwrap();
    assert_eq!(pool.check(&entry).unwrap(), EntryCheck::Corrupt);
    pool.remove(&entry).unwrap();
    assert_eq!(pool.check(&entry).unwrap(), EntryCheck::Vanished);
    kiln_fs::delete_tree(&scratch.directory, &one).unwrap();
    kiln_fs::delete_tree(&scratch.directory, &two).unwrap();
    assert_eq!(pool.remove_unused(3).unwrap(), RemovedLinks { removed: 4, saved: 0 });
    assert!(pool.names().unwrap().is_empty());
}

/// Several who link the same trees at once neither fail nor leave anything behind, also while unused entries are
/// removed all the time.
#[test]
fn many_link_at_once() {
    let scratch = Scratch::in_memory();
    let names: Vec<Component> = (0..8).map(|number| canonical(&scratch, &format!("tree{number}"))).collect();
    let before = scanned(&scratch, "tree0");
    let pool = LinkPool::open(&scratch.directory).unwrap();
    let left = std::sync::atomic::AtomicUsize::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let pooled = PooledFiles::default();
                    for name in &names {
                        pool.optimise_tree(name, &pooled).unwrap();
                    }
                }
                left.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            });
        }
        while left.load(std::sync::atomic::Ordering::SeqCst) > 0 {
            pool.remove_unused(1).unwrap();
            for entry in scratch.directory.names().unwrap() {
                if entry.as_bytes().starts_with(b".tmp-link") {
                    scratch.directory.remove_file(&entry).unwrap();
                }
            }
        }
    });
    for number in 0..8 {
        assert_eq!(scanned(&scratch, &format!("tree{number}")).nar, before.nar);
    }
    assert_eq!(scratch.directory.names().unwrap().len(), 9, "eight trees and the pool");
}

/// An entry that was damaged and kept its length is not linked to, and neither are its other users' contents spread.
#[test]
fn damage_does_not_spread() {
    let scratch = Scratch::new();
    let one = canonical(&scratch, "one");
    let pool = LinkPool::open(&scratch.directory).unwrap();
    pool.optimise_tree(&one, &PooledFiles::default()).unwrap();
    for (name, damage, mode_after) in [("two", "#!/bin/su\n", 0o555), ("three", "#!/bin/sh\n", 0o755)] {
        let file = scratch.path("one/bin/run");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(&file, damage).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode_after)).unwrap();
        let good = canonical(&scratch, name);
        pool.optimise_tree(&good, &PooledFiles::default()).unwrap();
        let made = scratch.path(name).join("bin/run");
        assert_eq!((fs::read(&made).unwrap().as_slice(), mode(&made)), (&b"#!/bin/sh\n"[..], 0o555));
        assert_ne!(inode(&made), inode(&file));
        // What it is linked to is good again.
        let entries = pool.names().unwrap();
        assert!(entries.iter().all(|entry| pool.check(entry).unwrap() == EntryCheck::Good));
        fs::set_permissions(scratch.path("one/bin"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::remove_file(&file).unwrap();
        fs::hard_link(&made, &file).unwrap();
    }
}
