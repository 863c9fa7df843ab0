//! Single steps in a directory.

use crate::scratch::{Scratch, component};
use kiln_fs::*;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::Path;

#[test]
fn only_what_is_beneath_and_without_links() {
    let scratch = Scratch::new();
    scratch.tree("tree");
    symlink("tree", scratch.path("link")).unwrap();
    let mut text = String::new();
    scratch.directory.open_beneath(Path::new("tree/bin/run")).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "#!/bin/sh\n");
    for bad in ["link/bin/run", "../x", "/etc/passwd", "tree/bin/../../../etc", "tree/dangling", "absent"] {
        assert!(scratch.directory.open_beneath(Path::new(bad)).is_err(), "{bad}");
    }
    assert!(scratch.directory.subdirectory(&component("link")).is_err());
    let bin =
        scratch.directory.subdirectory(&component("tree")).unwrap().subdirectory(&component("bin")).unwrap();
    assert_eq!(bin.status(&component("run")).unwrap().unwrap().size, 10);
    assert_eq!(bin.status(&component("absent")).unwrap(), None);
    assert_eq!(bin.path(), scratch.path("tree/bin"));
    assert_eq!(bin.try_clone().unwrap().own_status().unwrap().kind, Kind::Directory);
}

#[test]
fn creating_refuses_what_is_there() {
    let scratch = Scratch::new();
    let (directory, name) = (&scratch.directory, component("x"));
    directory.create_symlink(&name, "target").unwrap();
    assert!(directory.create_symlink(&name, "other").unwrap_err().already_exists());
    assert!(directory.create_file(&name, 0o600).unwrap_err().already_exists());
    assert!(directory.create_directory(&name, 0o700).unwrap_err().already_exists());
    assert_eq!(directory.read_link(&name).unwrap(), b"target");
    assert_eq!(directory.status(&name).unwrap().unwrap().kind, Kind::Symlink);
    directory.remove_file(&name).unwrap();
    directory.remove_file(&name).unwrap();
}

#[test]
fn links_are_replaced_at_once() {
    let scratch = Scratch::new();
    let (directory, name) = (&scratch.directory, component("x"));
    for target in ["first", "second"] {
        directory.replace_symlink(&name, target).unwrap();
        assert_eq!(directory.read_link(&name).unwrap(), target.as_bytes());
    }
    let occupied = component("d");
    directory.create_directory(&occupied, 0o755).unwrap();
    assert!(directory.replace_symlink(&occupied, "third").is_err());
    assert_eq!(fs::read_dir(scratch.path("")).unwrap().count(), 2, "nothing is left over");
}

#[test]
fn messages_name_the_full_path() {
    let scratch = Scratch::new();
    let error = scratch.directory.subdirectory(&component("absent")).unwrap_err();
    let path = scratch.path("absent");
    let expected =
        format!("cannot open directory '{}': No such file or directory (os error 2)", path.display());
    assert_eq!(error.to_string(), expected);
}
