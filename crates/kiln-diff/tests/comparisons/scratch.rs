//! Two trees in a place that goes away.

use super::mirror;
use kiln_diff::{Limits, Report, compare_trees};
use kiln_fs::{Component, Directory};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

pub(crate) struct Scratch(tempfile::TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// The path of something in tree `a` or `b`, whose directories are made.
    pub(crate) fn path(&self, path: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(OsStr::from_bytes(path.as_ref()));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    pub(crate) fn file(&self, path: impl AsRef<[u8]>, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(path);
        fs::write(&path, contents).unwrap();
        path
    }

    pub(crate) fn executable(&self, path: &str, contents: &str) {
        fs::set_permissions(self.file(path, contents), fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn link(&self, path: &str, target: impl AsRef<Path>) {
        std::os::unix::fs::symlink(target, self.path(path)).unwrap();
    }

    pub(crate) fn directory(&self, path: &str) {
        fs::create_dir_all(self.path(path)).unwrap();
    }

    pub(crate) fn open(&self) -> Directory {
        Directory::open(self.0.path()).unwrap()
    }

    /// Compares the trees `a` and `b`, and the other way around.
    pub(crate) fn compare_within(&self, limits: &Limits) -> Report {
        let (directory, [a, b]) = (self.open(), ["a", "b"].map(|name| Component::new(name).unwrap()));
        let forth = compare_trees((&directory, &a), (&directory, &b), limits).unwrap();
        let back = compare_trees((&directory, &b), (&directory, &a), limits).unwrap();
        assert_eq!(mirror::report(&forth), back, "the other way around");
        forth
    }

    pub(crate) fn compare(&self) -> Report {
        self.compare_within(&Limits::default())
    }

    /// The report for people, without the lines that name the trees.
    pub(crate) fn told(&self) -> String {
        let text = self.compare().to_string();
        text.lines().skip(2).map(|line| format!("{line}\n")).collect()
    }
}
