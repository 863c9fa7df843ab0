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
