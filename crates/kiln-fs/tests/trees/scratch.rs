//! A place for trees.

use kiln_fs::{Component, Directory};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A directory that is gone at the end.
pub(crate) struct Scratch {
    pub(crate) directory: Directory,
    // Deleted after the descriptor is closed.
    place: tempfile::TempDir,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        Self { directory: Directory::open(place.path()).unwrap(), place }
    }

    /// In memory where possible: disks take long for what some tests do.
    pub(crate) fn in_memory() -> Self {
        let Ok(place) = tempfile::tempdir_in("/dev/shm") else { return Self::new() };
        Self { directory: Directory::open(place.path()).unwrap(), place }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// A tree with something of everything.
    pub(crate) fn tree(&self, name: &str) -> Component {
        let root = self.path(name);
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::create_dir(root.join("empty")).unwrap();
        fs::write(root.join("bin/run"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(root.join("bin/run"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(root.join("line\nbreak"), "x").unwrap();
        fs::write(root.join("nothing"), "").unwrap();
        std::os::unix::fs::symlink("/does/not/exist", root.join("dangling")).unwrap();
        let odd = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff\xfe");
        fs::write(root.join(<&std::ffi::OsStr>::clone(&odd)), "not UTF-8").unwrap();
        component(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What a test has made unreadable, its ordinary user couldn't delete otherwise.
        for entry in fs::read_dir(self.place.path()).unwrap() {
            let name = Component::new(entry.unwrap().file_name().as_encoded_bytes()).unwrap();
            kiln_fs::delete_tree(&self.directory, &name).unwrap();
        }
    }
}

pub(crate) fn component(name: &str) -> Component {
    Component::new(name).unwrap()
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says that a test can't be run here.
pub(crate) fn skipped(what: &str, reason: &str) {
    eprintln!("SKIPPED: {what}: {reason}");
}

pub(crate) fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}
