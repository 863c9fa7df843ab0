//! A store with something to copy, and what is looked at in a cache.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use kiln_testing::{Ran, SharedStore};

/// A large file, a small one, and a tree that refers to both and to itself; with links, programs and names of all kinds.
const GRAPH: &str = r#"
let
  mk = name: script: derivation {
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-ec" script ];
    PATH = "/usr/bin:/bin";
  };
  big = mk "big" "i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i+1)); done > $out";
  lib = mk "lib" "echo lib > $out";
  top = mk "top" ''
    echo log of top
    mkdir -p $out/bin $out/empty $out/names
    echo ${big} ${lib} $out > $out/bin/all
    chmod +x $out/bin/all
    ln -s ${big} $out/link
    : > "$out/names/quote\"and\\slash"
    echo ä > $out/names/ä
  '';
in top"#;

/// A chain of paths, each of which refers to the one before, with leaves beside it.
pub(crate) const CHAIN: &str = r#"
let
  mk = name: script: derivation {
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-ec" script ];
    PATH = "/usr/bin:/bin";
  };
  leaf = n: mk "leaf-${toString n}" "i=0; while [ $i -lt 3000 ]; do echo ${toString n} $i; i=$((i+1)); done > $out";
  link = n: if n == 0 then leaf 0 else mk "link-${toString n}" "mkdir $out; echo ${link (n - 1)} ${leaf n} > $out/refs";
in link 12"#;

/// A file that is worth several threads.
pub(crate) const LARGE: &str = r#"
derivation {
  name = "large";
  system = builtins.currentSystem;
  builder = "/bin/sh";
  args = [ "-ec" "seq 3500000 > $out" ];
  PATH = "/usr/bin:/bin";
}"#;

/// A store, what was built in it, and a key.
pub(crate) struct World {
    pub(crate) store: SharedStore,
    pub(crate) top: String,
    /// With all that it needs.
    pub(crate) closure: BTreeSet<String>,
    pub(crate) secret_key: PathBuf,
    pub(crate) public_key: String,
}

impl World {
    pub(crate) fn new() -> Option<Self> {
        Self::with(GRAPH)
    }

    pub(crate) fn with(expression: &str) -> Option<Self> {
        let store = SharedStore::find(env!("CARGO_BIN_EXE_kiln"))?.option("sandbox", "false");
        let derivations = store.instantiate(expression);
        let top = store.nix_lines("nix-store", ["-r", &derivations[0]]).remove(0);
        let closure = store.nix_lines("nix-store", ["-qR", &top]).into_iter().collect();
        let secret = store.nix().run("nix", ["key", "generate-secret", "--key-name", "test-1"]);
        let secret_key = store.write("key.sec", secret);
        let converted = store
            .kiln_command(["cache", "key", "convert-secret-to-public"])
            .stdin(fs::File::open(&secret_key).unwrap())
            .output();
        let public_key = Ran::from(converted.unwrap()).line().to_owned();
        Some(Self { store, top, closure, secret_key, public_key })
    }

    /// A directory for a cache or a store.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.store.directory().join(name)
    }

    /// The URL of a cache, with parameters.
    pub(crate) fn cache(&self, name: &str, parameters: &str) -> String {
        format!("file://{}?{parameters}", self.place(name).display())
    }

    /// The URL of another store for the same store directory, which both programs understand.
    pub(crate) fn other_store(&self, name: &str) -> String {
        let (root, store_dir) = (self.place(name), self.store.nix().store_dir());
        let root = root.display();
        format!("local?store={}&real={root}/store&state={root}/state&log={root}/log", store_dir.display())
    }

    /// Where a path of such a store is.
    pub(crate) fn in_other_store(&self, name: &str, path: &str) -> PathBuf {
        self.place(name).join("store").join(Path::new(path).file_name().unwrap())
    }

    /// Copies by Kiln, which must succeed.
    #[track_caller]
    pub(crate) fn copy(&self, arguments: &[&str]) -> Ran {
        let ran = self.store.kiln([&["copy"], arguments].concat());
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        ran
    }

    /// Runs real Nix.
    pub(crate) fn nix(&self, arguments: &[&str]) -> String {
        self.store.nix().run("nix", arguments)
    }

    /// Checks that what is at two places is the same, as archives have it.
    #[track_caller]
    pub(crate) fn same(&self, a: &Path, b: &Path) {
        let hash = |path: &Path| self.nix(&["hash", "path", &path.display().to_string()]);
        assert_eq!(hash(a), hash(b), "{} and {}", a.display(), b.display());
    }
}

/// The fields of a narinfo.
pub(crate) fn fields(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The narinfos of a cache, by name.
pub(crate) fn narinfos(cache: &Path) -> BTreeMap<String, String> {
    files(cache, "narinfo")
}

/// The texts in a directory whose names end so.
pub(crate) fn files(directory: &Path, extension: &str) -> BTreeMap<String, String> {
    let Ok(entries) = fs::read_dir(directory) else { return BTreeMap::new() };
    let files = entries.map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect()
}

/// Checks that every narinfo is whole and has its file and its references; how many there are.
#[track_caller]
pub(crate) fn check_cache(cache: &Path) -> usize {
    let narinfos = narinfos(cache);
    for (name, text) in &narinfos {
        let fields = fields(text);
        let file = cache.join(&fields["URL"]);
        let size = fs::metadata(&file).unwrap_or_else(|error| panic!("{name}: {error}")).len();
        assert_eq!(size.to_string(), fields["FileSize"], "{name}");
        for reference in fields["References"].split_whitespace() {
            let digest = reference.split('-').next().unwrap();
            assert!(narinfos.contains_key(&format!("{digest}.narinfo")), "{name} refers to {reference}");
        }
    }
    narinfos.len()
}
