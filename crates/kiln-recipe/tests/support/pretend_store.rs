//! A store for tests that looks at nothing: the path of a source follows from what the recipe says about it.

use kiln_derivation::{Derivation, DerivationFile};
use kiln_hash::Sha256;
use kiln_recipe::{RecipeStore, SourceSpec, StoreError};
use kiln_store_path::{StoreDir, StorePath};

/// What was asked of a store.
#[derive(Default)]
pub(crate) struct PretendStore {
    /// The path of each source, and the names of derivations, in order.
    pub(crate) added: Vec<String>,
    pub(crate) derivations: Vec<Derivation>,
    /// A path or name at which adding fails.
    pub(crate) refuses: Option<&'static str>,
}

impl PretendStore {
    fn add(&mut self, what: &str) -> Result<(), StoreError> {
        self.added.push(what.to_owned());
        if self.refuses == Some(what) { Err("disk on fire".into()) } else { Ok(()) }
    }
}

impl RecipeStore for PretendStore {
    fn add_source(&mut self, source: &SourceSpec) -> Result<StorePath, StoreError> {
        self.add(&source.path)?;
        let hash = format!("sha256:{}", Sha256::of(format!("{source:?}")).base16());
        Ok(StoreDir::default().make_path("source", &hash, &source.name))
    }

    fn ensure_path(&mut self, path: &StorePath) -> Result<(), StoreError> {
        self.add(path.base_name())
    }

    fn add_derivation(&mut self, derivation: &Derivation, _: &DerivationFile) -> Result<(), StoreError> {
        self.derivations.push(derivation.clone());
        self.add(derivation.name.as_str())
    }
}
