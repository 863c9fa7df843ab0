//! Recipes and Nix expressions that say the same make the same derivations, byte for byte.
//!
//! Each `tests/data/nix/NAME.toml` has a `NAME.nix`, an attribute set with one derivation for each of the recipe.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "support/directory_store.rs"]
mod directory_store;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use directory_store::DirectoryStore;
use kiln_recipe::Recipe;
use kiln_store_path::StoreDir;
use kiln_testing::NixPeer;

/// The files that the recipes add to the store.
fn write_sources(directory: &Path) {
    let write = |path: &str, content: &str, mode: u32| {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    write("greeting.txt", "hello\n", 0o644);
    write("tree/tool", "#!/bin/sh\n", 0o755);
    write("tree/a.o", "object", 0o600);
    write("tree/keep.o", "kept", 0o644);
    write("tree/sub/b.c", "int b;\n", 0o644);
    write("tree/sub/b.o", "object", 0o644);
    write("tree/deep/er/ü", "", 0o644);
    symlink("sub/b.c", directory.join("tree/link")).unwrap();
    symlink("/nowhere/at all", directory.join("tree/dangling")).unwrap();
}

fn compare(case: &str) {
    let scratch = tempfile::tempdir().unwrap();
    // As Nix sees it: it refuses a store below a symbolic link.
    let directory = scratch.path().canonicalize().unwrap();
    let Some(nix) = NixPeer::find(&directory.join("peer")) else { return };
    write_sources(&directory);
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/nix");
    for (from, to) in [("toml", "kiln.toml"), ("nix", "default.nix")] {
        fs::copy(data.join(format!("{case}.{from}")), directory.join(to)).unwrap();
    }

    let expression = format!(
        "builtins.mapAttrs (_: made: builtins.unsafeDiscardStringContext made.drvPath) (import {}/default.nix)",
        directory.display()
    );
    let options = [
        "--extra-experimental-features",
        "ca-derivations impure-derivations",
        "--eval",
        "--strict",
        "--json",
    ];
    let printed = nix
        .run("nix-instantiate", options.into_iter().chain(["--read-write-mode", "-E", expression.as_str()]));
    let expected: BTreeMap<String, String> = serde_json::from_str(&printed).unwrap();

    let text = fs::read(directory.join("kiln.toml")).unwrap();
    let recipe = Recipe::parse("kiln.toml", &text).unwrap_or_else(|error| panic!("{error}"));
    let store_dir = StoreDir::new(nix.store_dir().to_str().unwrap()).unwrap();
    let mut store = DirectoryStore::new(store_dir.clone(), &directory);
    let made = recipe
        .instantiate(&recipe.default_targets(), "unused-system", &store_dir, &mut store)
        .unwrap_or_else(|error| panic!("{error}"));

    assert_eq!(made.derivations.len(), expected.len(), "both describe the same derivations");
    for file in &store.files {
        let path = store_dir.print(&file.path);
        let by_nix = fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert_eq!(by_nix.unwrap_or_default(), String::from_utf8_lossy(&file.text), "{path}");
    }
    for (name, derivation) in &made.derivations {
        assert_eq!(store_dir.print(&derivation.path), expected[name], "{name}");
    }
    for source in store.sources.keys() {
        assert!(nix.store_dir().join(source.base_name()).symlink_metadata().is_ok(), "{source}");
    }
}

#[test]
fn plain_attributes() {
    compare("plain");
}

#[test]
fn inputs() {
    compare("inputs");
}

#[test]
fn sources() {
    compare("sources");
}

#[test]
fn fixed_outputs() {
    compare("fixed");
}

#[test]
fn structured_attributes() {
    compare("structured");
}

#[test]
fn content_addressed_outputs() {
    compare("floating");
}
