//! A place for an output, and running a builtin there.

use kiln_builtins::Inputs;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// One builtin with what it is given.
pub(crate) struct Bench {
    directory: TempDir,
    name: &'static str,
    pub(crate) inputs: Inputs,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) result: Result<(), String>,
    pub(crate) log: String,
}

impl Bench {
    pub(crate) fn new(name: &'static str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut inputs = Inputs::default();
        // A test that fails shall not take minutes for it.
        inputs.transfers.download_attempts = 1;
        inputs.transfers.stalled_download_timeout = Duration::from_secs(30);
        let bench = Self { directory, name, inputs };
        let out = bench.out();
        bench.with("out", out.to_str().unwrap())
    }

    /// `builtin:fetchurl` of a fixed output, whose hash nobody checks here.
    pub(crate) fn fetchurl(url: &str) -> Self {
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        Self::new("fetchurl").with("url", url).with("outputHash", hash).with("outputHashAlgo", "sha256")
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.inputs.environment.insert(name.into(), value.into());
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.inputs.environment.remove(name.as_bytes());
        self
    }

    pub(crate) fn attempts(mut self, attempts: u32) -> Self {
        self.inputs.transfers.download_attempts = attempts;
        self
    }

    pub(crate) fn netrc(mut self, netrc: &str) -> Self {
        self.inputs.netrc = Some(netrc.into());
        self
    }

    /// A directory for what else a test needs.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.path().join("out")
    }

    pub(crate) fn run(&self) -> Ran {
        let mut log = Vec::new();
        let result = kiln_builtins::run(self.name, &self.inputs, &mut log).map_err(|error| error.to_string());
        let log = String::from_utf8(log).unwrap();
        if let Err(error) = &result {
            assert!(!error.contains('\n'), "{error:?} is not one line");
        }
        Ran { result, log }
    }

    /// Runs it, which has to go well, and returns the log.
    pub(crate) fn succeed(&self) -> String {
        let ran = self.run();
        assert_eq!(ran.result, Ok(()), "{}", ran.log);
        ran.log
    }

    /// Runs it, which has to fail, and returns the error.
    pub(crate) fn fail(&self) -> String {
        self.run().result.unwrap_err()
    }

    /// The file that was made.
    pub(crate) fn contents(&self) -> Vec<u8> {
        fs::read(self.out()).unwrap()
    }

    /// The tree that was made.
    pub(crate) fn tree(&self) -> BTreeMap<String, String> {
        tree(&self.out())
    }
}

/// What is in a tree: of each path, whether it is a directory, a link and to what, or a file with which contents.
pub(crate) fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut tree = BTreeMap::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(path) = open.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let what = if metadata.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            "directory".to_owned()
        } else if metadata.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else {
            let kind = if metadata.permissions().mode() & 0o100 == 0 { "file" } else { "program" };
            format!("{kind} {}", fs::read(&path).unwrap().escape_ascii())
        };
        let name = path.strip_prefix(root).unwrap().display().to_string();
        tree.insert(name, what);
    }
    tree
}

/// A tree in words: pairs of path and what is there, as [`tree`] has it, with the directory itself.
pub(crate) fn expected(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    let root = [("", "directory")];
    root.iter().chain(entries).map(|&(path, what)| (path.to_owned(), what.to_owned())).collect()
}
