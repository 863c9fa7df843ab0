//! The recipes in the documentation and the examples are recipes.

#![allow(clippy::unwrap_used)]

#[path = "support/pretend_store.rs"]
mod pretend_store;

use std::fs;
use std::path::{Path, PathBuf};

use kiln_recipe::Recipe;
use kiln_store_path::StoreDir;
use pretend_store::PretendStore;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Instantiates a recipe and gives what was added.
fn added(file: &str, text: &str) -> Vec<String> {
    let mut store = PretendStore::default();
    Recipe::parse(file, text.as_bytes())
        .and_then(|recipe| {
            recipe.instantiate(&recipe.default_targets(), "x86_64-linux", &StoreDir::default(), &mut store)
        })
        .unwrap_or_else(|error| panic!("{error}"));
    store.added
}

#[test]
fn the_recipes_of_the_manual_are_recipes() {
    let manual = fs::read_to_string(project().join("docs/recipes.md")).unwrap();
    let blocks: Vec<&str> =
        manual.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 6, "{} recipes", blocks.len());
    for block in blocks {
        assert!(!added("docs/recipes.md", block).is_empty(), "{block}");
    }
}

#[test]
fn the_examples_are_recipes() {
    for (example, expected) in [
        ("hello", &["greeting", "libgreet", "libgreet-1.0", "hello", "hello", "hello-test"][..]),
        ("sqlite", &["source", "sqlite", "notes/notes.c", "notes", "notes-test"]),
    ] {
        let file = format!("examples/{example}/kiln.toml");
        let text = fs::read_to_string(project().join(&file)).unwrap();
        assert_eq!(added(&file, &text), expected);
    }
}
