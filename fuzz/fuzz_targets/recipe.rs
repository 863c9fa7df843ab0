//! Recipes: whatever reads can be instantiated or says why not, always the same way.

#![no_main]

use kiln_derivation::{Derivation, DerivationFile, Strictness};
use kiln_recipe::{Recipe, RecipeStore, SourceSpec, StoreError};
use kiln_store_path::{StoreDir, StorePath};
use libfuzzer_sys::fuzz_target;

/// A store that keeps nothing but what it was given.
#[derive(Default, PartialEq, Debug)]
struct Store {
    sources: Vec<SourceSpec>,
    derivations: Vec<(StorePath, Vec<u8>)>,
}

impl RecipeStore for Store {
    fn add_source(&mut self, source: &SourceSpec) -> Result<StorePath, StoreError> {
        for path in ["a", "a/b.c", ".git", source.path.as_str()] {
            source.filter.excludes(path.as_bytes(), false);
            source.filter.excludes(path.as_bytes(), true);
        }
        self.sources.push(source.clone());
        Ok(StoreDir::default().make_path("source", "sha256:0", &source.name))
    }

    fn ensure_path(&mut self, _: &StorePath) -> Result<(), StoreError> {
        Ok(())
    }

    fn add_derivation(&mut self, derivation: &Derivation, file: &DerivationFile) -> Result<(), StoreError> {
        let read =
            Derivation::parse_aterm(&file.text, &derivation.name, &StoreDir::default(), Strictness::Strict)?;
        assert_eq!(read, *derivation);
        self.derivations.push((file.path.clone(), file.text.clone()));
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    let recipe = match Recipe::parse("kiln.toml", data) {
        Ok(recipe) => recipe,
        Err(error) => return drop(error.to_string()),
    };
    let targets = recipe.default_targets();
    let instantiate = || {
        let mut store = Store::default();
        let made = recipe.instantiate(&targets, "x86_64-linux", &StoreDir::default(), &mut store);
        (made.map_err(|error| error.to_string()), store)
    };
    assert_eq!(instantiate(), instantiate());
});
