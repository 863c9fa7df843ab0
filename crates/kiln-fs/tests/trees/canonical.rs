//! The canonical form, and what is refused on the way to it.

use crate::scratch::{Scratch, component, is_root, mode, skipped};
use kiln_fs::*;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// A user that nobody is, for builds.
const BUILDER: u32 = 30_001;

fn canonicalise(scratch: &Scratch, name: &str) -> Result<()> {
    let mut canonicaliser = Canonicaliser::new(Ownership::of_this_process());
    canonicaliser.canonicalise(&scratch.directory, &component(name))?;
    canonicaliser.finish()
}

/// The same for what a build user has left.
fn canonicalise_built(scratch: &Scratch, names: &[&str]) -> Result<()> {
    let mut canonicaliser = Canonicaliser::new(Ownership::of_this_process().built_by(BUILDER..=BUILDER));
    for name in names {
        scan_output(&scratch.directory, &component(name), &mut canonicaliser, [], false)?;
    }
    canonicaliser.finish()
}

fn own_all(path: &Path, uid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(uid)).unwrap();
    if fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            own_all(&entry.unwrap().path(), uid);
        }
    }
}

fn assert_canonical(path: &Path) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let own = Ownership::of_this_process();
    assert_eq!((metadata.uid(), metadata.gid()), (own.uid, own.gid), "{}", path.display());
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1, 0), "{}", path.display());
    if !metadata.is_symlink() {
        let allowed: &[u32] = if metadata.is_dir() { &[0o555] } else { &[0o444, 0o555] };
        assert!(allowed.contains(&mode(path)), "{} {:o}", path.display(), mode(path));
    }
    if metadata.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| assert_canonical(&entry.unwrap().path()));
    }
}

#[test]
fn everything_is_made_canonical_and_stays_so() {
    let scratch = Scratch::new();
    scratch.tree("tree");
    let root = scratch.path("tree");
    for (file, mode) in [("bin/run", 0o4777), ("nothing", 0o666), ("line\nbreak", 0o602), ("empty", 0o1777)] {
        fs::set_permissions(root.join(file), fs::Permissions::from_mode(mode)).unwrap();
    }
    canonicalise(&scratch, "tree").unwrap();
    assert_canonical(&root);
    assert_eq!(mode(&root.join("bin/run")), 0o555);
    assert_eq!(mode(&root.join("line\nbreak")), 0o444);
    let changed = |path: &str| fs::symlink_metadata(root.join(path)).unwrap().ctime_nsec();
    let paths = ["", "bin", "bin/run", "dangling", "nothing"];
    let before = paths.map(changed);
    canonicalise(&scratch, "tree").unwrap();
    assert_eq!(paths.map(changed), before, "what is canonical is left alone");
}

/// What its owner may not read, an ordinary user has to be given first.
#[test]
fn unreadable_things_are_made_readable() {
    let scratch = Scratch::new();
    scratch.tree("tree");
    let root = scratch.path("tree");
    for (file, mode) in [("nothing", 0), ("bin/run", 0o111), ("empty", 0), ("bin", 0o000)] {
        fs::set_permissions(root.join(file), fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut canonicaliser = Canonicaliser::new(Ownership::of_this_process());
    scan_output(&scratch.directory, &component("tree"), &mut canonicaliser, [], false).unwrap();
    assert_canonical(&root);
    assert_eq!((mode(&root.join("nothing")), mode(&root.join("bin/run"))), (0o444, 0o555));
}

#[test]
fn a_single_file_or_link_is_a_tree() {
    let scratch = Scratch::new();
    fs::write(scratch.path("file"), "x").unwrap();
    symlink("nowhere", scratch.path("link")).unwrap();
    for name in ["file", "link"] {
        canonicalise(&scratch, name).unwrap();
        assert_canonical(&scratch.path(name));
    }
    assert!(canonicalise(&scratch, "absent").unwrap_err().is_not_found());
}

#[test]
fn other_kinds_of_files_are_refused() {
    let scratch = Scratch::new();
    let make = |kind, path: &Path| mknodat(CWD, path, kind, Mode::from_raw_mode(0o644), 0);
    fs::create_dir(scratch.path("pipe")).unwrap();
    make(FileType::Fifo, &scratch.path("pipe/p")).unwrap();
    fs::create_dir(scratch.path("socket")).unwrap();
    let _listener = UnixListener::bind(scratch.path("socket/s")).unwrap();
    let mut kinds = vec![("pipe", "pipe"), ("socket", "socket")];
    fs::create_dir(scratch.path("device")).unwrap();
    match make(FileType::CharacterDevice, &scratch.path("device/d")) {
        Ok(()) => kinds.push(("device", "character device")),
        Err(error) => skipped("a device in an output", &error.to_string()),
    }
    for (name, expected) in kinds {
        let mut sink = Vec::new();
        for result in [
            canonicalise(&scratch, name),
            dump(&scratch.directory, &component(name), &mut sink).map(drop),
            tree_size(&scratch.directory, &component(name)).map(drop),
        ] {
            match result {
                Err(Error::UnsupportedKind { path, kind }) => {
                    assert_eq!(kind, expected);
                    assert!(path.starts_with(scratch.path(name)), "{}", path.display());
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }
    make(FileType::Fifo, &scratch.path("root")).unwrap();
    assert!(matches!(canonicalise(&scratch, "root"), Err(Error::UnsupportedKind { .. })));
}

#[test]
fn trees_deeper_than_an_archive_are_refused() {
    let scratch = Scratch::new();
    let nested = |name: &str, directories: usize| {
        let mut path = scratch.path(name);
        (1..directories).for_each(|_| path.push("d"));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("f"), "x").unwrap();
    };
    nested("fits", 63);
    canonicalise(&scratch, "fits").unwrap();
    dump(&scratch.directory, &component("fits"), &mut Vec::new()).unwrap();
    nested("deep", 64);
    assert!(matches!(canonicalise(&scratch, "deep"), Err(Error::TooDeep(_))));
    assert!(matches!(dump(&scratch.directory, &component("deep"), &mut Vec::new()), Err(Error::TooDeep(_))));
}

#[test]
fn attributes_are_removed() {
    let scratch = Scratch::new();
    scratch.tree("tree");
    let root = scratch.path("tree");
    let set = |path: &Path, name: &str| rustix::fs::setxattr(path, name, b"value", XattrFlags::empty());
    if let Err(error) = set(&root, "user.test") {
        return skipped("removal of extended attributes", &error.to_string());
    }
    set(&root.join("nothing"), "user.test").unwrap();
    set(&root.join("bin/run"), "user.kept").unwrap();
    // Many and long ones, so that the list doesn't fit the first buffer.
    for number in 0..20 {
        set(&root.join("bin"), &format!("user.{number}-{}", "x".repeat(40))).unwrap();
    }
    fs::set_permissions(root.join("nothing"), fs::Permissions::from_mode(0o444)).unwrap();
    // An access control list that lets another user write: version 2, owner, user 12345, group, mask, others.
    let mut acl = vec![2, 0, 0, 0];
    for (tag, permissions, id) in
        [(1_u16, 6_u16, u32::MAX), (2, 6, 12_345), (4, 4, u32::MAX), (16, 6, u32::MAX), (32, 0, u32::MAX)]
    {
        acl.extend([tag.to_le_bytes(), permissions.to_le_bytes()].concat());
        acl.extend(id.to_le_bytes());
    }
    let list = "system.posix_acl_access";
    if let Err(error) = rustix::fs::setxattr(root.join("line\nbreak"), list, &acl, XattrFlags::empty()) {
        skipped("removal of access control lists", &error.to_string());
    }
    if is_root() {
        rustix::fs::lsetxattr(root.join("dangling"), "trusted.test", b"x", XattrFlags::empty()).unwrap();
    }
    let mut canonicaliser = Canonicaliser::new(Ownership::of_this_process()).ignore_attributes(["user.kept"]);
    canonicaliser.canonicalise(&scratch.directory, &component("tree")).unwrap();
    let list = |path: &str| {
        let mut names = [0; 1000];
        let length = rustix::fs::llistxattr(root.join(path), &mut names).unwrap();
        String::from_utf8(names[..length].to_vec()).unwrap().replace("security.selinux\0", "")
    };
    for path in ["", "nothing", "bin", "line\nbreak", "dangling"] {
        assert_eq!(list(path), "", "{path}");
    }
    assert_eq!(list("bin/run"), "user.kept\0");
    assert_canonical(&root);
}

#[test]
fn outputs_of_a_build_user_become_ours() {
    if !is_root() {
        return skipped("outputs of a build user", "needs root");
    }
    let scratch = Scratch::new();
    scratch.tree("out");
    scratch.tree("dev");
    let (out, dev) = (scratch.path("out"), scratch.path("dev"));
    fs::set_permissions(out.join("bin/run"), fs::Permissions::from_mode(0o6755)).unwrap();
    // Hard links within an output and between two of the same build are fine.
    fs::hard_link(out.join("bin/run"), out.join("bin/again")).unwrap();
    fs::hard_link(out.join("nothing"), dev.join("shared")).unwrap();
    fs::hard_link(out.join("dangling"), dev.join("shared link")).unwrap();
    own_all(&out, BUILDER);
    own_all(&dev, BUILDER);
    canonicalise_built(&scratch, &["out", "dev"]).unwrap();
    assert_canonical(&out);
    assert_canonical(&dev);
    assert_eq!(mode(&out.join("bin/again")), 0o555);
}

#[test]
fn foreign_files_in_an_output_are_refused() {
    if !is_root() {
        return skipped("foreign files in an output", "needs root");
    }
    for foreign in ["", "bin", "bin/run", "dangling"] {
        let scratch = Scratch::new();
        scratch.tree("out");
        let out = scratch.path("out");
        own_all(&out, BUILDER);
        std::os::unix::fs::lchown(out.join(foreign), Some(4242), None).unwrap();
        match canonicalise_built(&scratch, &["out"]) {
            Err(Error::ForeignOwner { path, owner: 4242 }) => {
                assert_eq!(
                    path.components().collect::<Vec<_>>(),
                    out.join(foreign).components().collect::<Vec<_>>()
                );
            }
            other => panic!("{foreign}: {other:?}"),
        }
        // What is someone else's has not been touched.
        assert_eq!(fs::symlink_metadata(out.join(foreign)).unwrap().uid(), 4242);
    }
}

/// Also where a second thread makes files canonical.
#[test]
fn foreign_files_among_many_are_refused() {
    if !is_root() {
        return skipped("foreign files among many", "needs root");
    }
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("out")).unwrap();
    for number in 0..300 {
        fs::write(scratch.path(&format!("out/{number:03}")), "x").unwrap();
    }
    for foreign in (0..300).rev().step_by(11) {
        own_all(&scratch.path("out"), BUILDER);
        let path = scratch.path(&format!("out/{foreign:03}"));
        chown(&path, Some(4242), None).unwrap();
        match canonicalise_built(&scratch, &["out"]) {
            Err(Error::ForeignOwner { path: found, owner: 4242 }) => assert_eq!(found, path),
            other => panic!("{other:?}"),
        }
        assert_eq!(fs::metadata(&path).unwrap().uid(), 4242);
    }
    own_all(&scratch.path("out"), BUILDER);
    canonicalise_built(&scratch, &["out"]).unwrap();
    assert_canonical(&scratch.path("out"));
}

#[test]
fn hard_links_to_elsewhere_are_refused() {
    if !is_root() {
        return skipped("hard links to elsewhere, with a build user", "needs root");
    }
    let scratch = Scratch::new();
    // Someone else's file: the owner gives it away, and nothing happens to it.
    scratch.tree("out");
    own_all(&scratch.path("out"), BUILDER);
    fs::write(scratch.path("shadow"), "secret").unwrap();
    fs::set_permissions(scratch.path("shadow"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::hard_link(scratch.path("shadow"), scratch.path("out/linked")).unwrap();
    assert!(matches!(canonicalise_built(&scratch, &["out"]), Err(Error::ForeignOwner { owner: 0, .. })));
    assert_eq!(mode(&scratch.path("shadow")), 0o600);
    // A file of the build's own user, that stays reachable elsewhere.
    scratch.tree("dev");
    fs::hard_link(scratch.path("dev/nothing"), scratch.path("kept")).unwrap();
    own_all(&scratch.path("dev"), BUILDER);
    match canonicalise_built(&scratch, &["dev"]) {
        Err(Error::LinkedOutside { path, found: 1, links: 2 }) => assert!(path.ends_with("dev/nothing")),
        other => panic!("{other:?}"),
    }
}

/// Trees of one build that are done at the same time, with files in common, come out as one after the other.
#[test]
fn trees_with_files_in_common_can_be_done_at_once() {
    if !is_root() {
        return skipped("hard links between trees, with a build user", "needs root");
    }
    let names = ["a", "b", "c"];
    let make = || {
        let scratch = Scratch::new();
        for name in names {
            scratch.tree(name);
            for number in 0..200 {
                let (first, file) =
                    (scratch.path(&format!("a/{number}")), scratch.path(&format!("{name}/{number}")));
                if name == "a" {
                    fs::write(&file, vec![b'x'; number * 100]).unwrap();
                    fs::set_permissions(&file, fs::Permissions::from_mode(0o640 | (number as u32 % 2) << 6))
                        .unwrap();
                } else {
                    fs::hard_link(&first, &file).unwrap();
                }
            }
        }
        names.iter().for_each(|name| own_all(&scratch.path(name), BUILDER));
        scratch
    };
    let ownership = || Ownership::of_this_process().built_by(BUILDER..=BUILDER);
    let scan = |scratch: &Scratch, canonicaliser: &Canonicaliser, name: &str| {
        scan_output(&scratch.directory, &component(name), &mut canonicaliser.share(), [], true)
    };
    let one_by_one = make();
    let canonicaliser = Canonicaliser::new(ownership());
    let expected = names.map(|name| scan(&one_by_one, &canonicaliser, name).unwrap());
    canonicaliser.finish().unwrap();

    let scratch = make();
    fs::hard_link(scratch.path("a/7"), scratch.path("kept")).unwrap();
    let canonicaliser = Canonicaliser::new(ownership());
    let found = std::thread::scope(|scope| {
        let scans = names.map(|name| {
            scope.spawn({
                let (scratch, canonicaliser) = (&scratch, &canonicaliser);
                move || scan(scratch, canonicaliser, name).unwrap()
            })
        });
        scans.map(|scan| scan.join().unwrap())
    });
    assert_eq!(found, expected);
    names.iter().for_each(|name| assert_canonical(&scratch.path(name)));
    match canonicaliser.finish() {
        // Whichever thread has seen which of them first.
        Err(Error::LinkedOutside { path, found: 3, links: 4 }) => assert_eq!(path, scratch.path("a/7")),
        other => panic!("{other:?}"),
    }
}

/// Without a build user of its own, a build may have linked to any file of the engine's user.
#[test]
fn hard_links_are_copied_without_a_build_user() {
    let scratch = Scratch::new();
    scratch.tree("out");
    let (kept, linked) = (scratch.path("kept"), scratch.path("out/linked"));
    let contents = vec![b'k'; 600_000];
    fs::write(&kept, &contents).unwrap();
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o700)).unwrap();
    fs::hard_link(&kept, &linked).unwrap();
    fs::hard_link(&kept, scratch.path("out/bin/linked")).unwrap();
    fs::hard_link(scratch.path("out/dangling"), scratch.path("kept link")).unwrap();
    canonicalise(&scratch, "out").unwrap();
    assert_canonical(&scratch.path("out"));
    assert_eq!(fs::read(&linked).unwrap(), contents);
    assert_eq!(mode(&linked), 0o555);
    assert_eq!(mode(&kept), 0o700);
    assert_ne!(fs::metadata(&kept).unwrap().mtime(), 1);
    assert_eq!(fs::metadata(&linked).unwrap().nlink(), 1);
    assert_eq!(fs::metadata(&kept).unwrap().nlink(), 1);
    assert_eq!(fs::read_link(scratch.path("out/dangling")).unwrap(), Path::new("/does/not/exist"));
    assert_ne!(fs::symlink_metadata(scratch.path("kept link")).unwrap().mtime(), 1);
    assert_eq!(fs::read_dir(scratch.path("out")).unwrap().count(), 7);
    // Even if it is the output itself; the directory it is in keeps its permissions and time.
    fs::write(scratch.path("root"), "x").unwrap();
    fs::hard_link(scratch.path("root"), scratch.path("root kept")).unwrap();
    let before = scratch.directory.own_status().unwrap();
    canonicalise(&scratch, "root").unwrap();
    let after = scratch.directory.own_status().unwrap();
    assert_eq!((before.permissions, before.uid), (after.permissions, after.uid));
    assert_ne!(after.modified.0, 1);
    // What the engine has made itself has hard links into the pool.
    let mut accepting = Canonicaliser::new(Ownership::of_this_process()).hard_links(HardLinks::Accept);
    fs::hard_link(&linked, scratch.path("pool")).unwrap();
    accepting.canonicalise(&scratch.directory, &component("out")).unwrap();
    assert_eq!(fs::metadata(&linked).unwrap().nlink(), 2);
}

#[test]
fn suspicious_outputs() {
    let scratch = Scratch::new();
    let own = rustix::process::geteuid().as_raw();
    let check = |name: &str, builder: Option<u32>| {
        let users = builder.map(|uid| uid..=uid);
        check_not_suspicious(&scratch.directory, &component(name), users.as_ref())
    };
    fs::create_dir(scratch.path("out")).unwrap();
    symlink("x", scratch.path("link")).unwrap();
    for (mode, good) in [(0o755, true), (0o700, true), (0o775, false), (0o757, false), (0o1777, false)] {
        fs::set_permissions(scratch.path("out"), fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(check("out", Some(own)).is_ok(), good, "{mode:o}");
    }
    let error = check("out", Some(own)).unwrap_err().to_string();
    let path = scratch.path("out");
    assert_eq!(
        error,
        format!("suspicious ownership or permission on '{}'; rejecting this build output", path.display())
    );
    check("link", Some(own)).unwrap();
    check("link", None).unwrap();
    assert!(matches!(check("link", Some(own + 1)), Err(Error::Suspicious(_))));
    if is_root() {
        fs::set_permissions(scratch.path("out"), fs::Permissions::from_mode(0o755)).unwrap();
        chown(scratch.path("out"), Some(BUILDER), None).unwrap();
        check("out", Some(BUILDER)).unwrap();
        assert!(check("out", Some(BUILDER + 1)).is_err());
    }
}
