//! Deleting, measuring, syncing, moving.

use crate::scratch::{Scratch, component, is_root, mode, skipped};
use kiln_fs::*;
use rustix::fs::{CWD, FileType, IFlags, Mode, OFlags};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;

#[test]
fn everything_goes_and_nothing_else() {
    let scratch = Scratch::new();
    let name = scratch.tree("tree");
    let root = scratch.path("tree");
    fs::write(scratch.path("outside"), "kept").unwrap();
    fs::create_dir(scratch.path("outside directory")).unwrap();
    fs::write(scratch.path("outside directory/file"), "kept").unwrap();
    symlink(scratch.path("outside"), root.join("to file")).unwrap();
    symlink(scratch.path("outside directory"), root.join("to directory")).unwrap();
    rustix::fs::mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let _listener = UnixListener::bind(root.join("socket")).unwrap();
    for (path, mode) in [("empty", 0), ("bin", 0o500), ("", 0o555)] {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    delete_tree(&scratch.directory, &name).unwrap();
    assert!(!root.exists());
    assert_eq!(fs::read(scratch.path("outside")).unwrap(), b"kept");
    assert_eq!(fs::read(scratch.path("outside directory/file")).unwrap(), b"kept");
    assert_eq!(delete_tree(&scratch.directory, &name).unwrap(), 0, "it is gone already");
    symlink("outside directory", scratch.path("link")).unwrap();
    delete_tree(&scratch.directory, &component("link")).unwrap();
    assert!(scratch.path("outside directory/file").exists());
}

#[test]
fn freed_bytes_count_files_that_are_not_linked_elsewhere() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("tree")).unwrap();
    let file = |name: &str, size: usize, links: usize| {
        fs::write(scratch.path("tree").join(name), vec![0; size]).unwrap();
        for link in 0..links {
            fs::hard_link(scratch.path("tree").join(name), scratch.path(&format!("{name}-{link}"))).unwrap();
        }
    };
    file("one", 1000, 0);
    file("two", 100, 1);
    file("three", 10, 2);
    symlink("abc", scratch.path("tree/link")).unwrap();
    assert_eq!(delete_tree(&scratch.directory, &component("tree")).unwrap(), 1103);
}

#[test]
fn a_failure_does_not_keep_the_rest() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.path("tree/a/b")).unwrap();
    for file in ["a/b/before", "a/b/fixed", "a/b/later", "a/after", "z"] {
        fs::write(scratch.path("tree").join(file), "x").unwrap();
    }
    let fixed = fs::File::open(scratch.path("tree/a/b/fixed")).unwrap();
    if !is_root() {
        return skipped("deleting around a file that can't be deleted", "needs root");
    }
    if let Err(error) = rustix::fs::ioctl_setflags(&fixed, IFlags::IMMUTABLE) {
        return skipped("deleting around a file that can't be deleted", &error.to_string());
    }
    let result = delete_tree(&scratch.directory, &component("tree"));
    rustix::fs::ioctl_setflags(&fixed, IFlags::empty()).unwrap();
    match result {
        Err(Error::System { path, .. }) => assert_eq!(path, scratch.path("tree/a/b/fixed")),
        other => panic!("{other:?}"),
    }
    let left: Vec<_> =
        fs::read_dir(scratch.path("tree/a/b")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["fixed"]);
    assert_eq!(fs::read_dir(scratch.path("tree/a")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(scratch.path("tree")).unwrap().count(), 1);
}

/// Ten thousand levels: longer than any path, and more than there are descriptors.
#[test]
fn ten_thousand_levels() {
    let scratch = Scratch::in_memory();
    fs::create_dir(scratch.path("deep")).unwrap();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut fd = rustix::fs::openat(CWD, scratch.path("deep"), flags, Mode::empty()).unwrap();
    for level in 0..10_000 {
        rustix::fs::mkdirat(&fd, "d", Mode::from_raw_mode(0o700)).unwrap();
        if level % 100 == 0 {
            rustix::fs::symlinkat("x", &fd, "file").unwrap();
        }
        let next = rustix::fs::openat(&fd, "d", flags, Mode::empty()).unwrap();
        if level % 1000 == 0 {
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o500)).unwrap();
        }
        fd = next;
    }
    let result = canonicalise(&scratch);
    assert!(matches!(result, Err(Error::TooDeep(_))), "{result:?}");
    delete_tree(&scratch.directory, &component("deep")).unwrap();
    assert!(!scratch.path("deep").exists());
}

fn canonicalise(scratch: &Scratch) -> Result<()> {
    Canonicaliser::new(Ownership::of_this_process()).canonicalise(&scratch.directory, &component("deep"))
}

#[test]
fn sizes() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.path("tree/d")).unwrap();
    fs::write(scratch.path("tree/one"), vec![0; 100]).unwrap();
    fs::hard_link(scratch.path("tree/one"), scratch.path("tree/d/same")).unwrap();
    symlink("four", scratch.path("tree/link")).unwrap();
    let size = tree_size(&scratch.directory, &component("tree")).unwrap();
    assert_eq!(size, TreeSize { bytes: 104, nodes: 5 });
    let fits = |most| is_small(&scratch.directory, &component("tree"), most);
    assert!(fits(size));
    assert!(!fits(TreeSize { bytes: 103, ..size }) && !fits(TreeSize { nodes: 4, ..size }));
    assert!(!is_small(&scratch.directory, &component("missing"), size));
}

#[test]
fn small_and_large_trees_are_synced() {
    let scratch = Scratch::new();
    let small = scratch.tree("small");
    sync_tree(&scratch.directory, &small).unwrap();
    let large = scratch.tree("large");
    for number in 0..100 {
        fs::write(scratch.path(&format!("large/{number}")), "x").unwrap();
    }
    sync_tree(&scratch.directory, &large).unwrap();
    assert!(sync_tree(&scratch.directory, &component("absent")).unwrap_err().is_not_found());
}

#[test]
fn moving() {
    let scratch = Scratch::new();
    let name = scratch.tree("tree");
    let target = scratch.directory.create_directory(&component("target"), 0o755).unwrap();
    Canonicaliser::new(Ownership::of_this_process()).canonicalise(&scratch.directory, &name).unwrap();
    rename_new((&scratch.directory, &name), (&target, &name)).unwrap();
    let moved = scratch.path("target/tree");
    assert_eq!((mode(&moved), fs::metadata(&moved).unwrap().mtime()), (0o555, 1));
    scratch.tree("tree");
    let error = rename_new((&scratch.directory, &name), (&target, &name)).unwrap_err();
    assert!(error.already_exists());
    assert!(error.to_string().contains("target/tree"), "{error}");
    assert!(scratch.path("tree/bin/run").exists());
    let error =
        rename_new((&scratch.directory, &component("absent")), (&target, &component("x"))).unwrap_err();
    assert!(error.is_not_found());
}

#[test]
fn a_tree_takes_the_place_of_another() {
    let scratch = Scratch::new();
    let (old, new, place) = (scratch.tree("old"), scratch.tree("new"), component("place"));
    let elsewhere = scratch.directory.create_directory(&component("elsewhere"), 0o755).unwrap();
    fs::write(scratch.path("new/mark"), "").unwrap();
    for name in [&old, &new] {
        Canonicaliser::new(Ownership::of_this_process()).canonicalise(&scratch.directory, name).unwrap();
    }
    replace((&scratch.directory, &old), (&elsewhere, &place)).unwrap();
    assert!(scratch.path("elsewhere/place/bin/run").exists(), "where nothing was");
    replace((&scratch.directory, &new), (&elsewhere, &place)).unwrap();
    let metadata = fs::metadata(scratch.path("elsewhere/place")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o555, 1));
    assert!(scratch.path("elsewhere/place/mark").exists());
    for name in ["old", "new", "elsewhere/place.old"] {
        assert!(!scratch.path(name).exists(), "{name}");
    }
    let absent = component("absent");
    assert!(replace((&scratch.directory, &absent), (&elsewhere, &place)).unwrap_err().is_not_found());
    assert!(scratch.path("elsewhere/place/mark").exists(), "it stays");
}
