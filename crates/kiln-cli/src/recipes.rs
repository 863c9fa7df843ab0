//! Recipes into derivations of a store.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use kiln_derivation::{Derivation, DerivationFile};
use kiln_hash::Algorithm;
use kiln_recipe::{Recipe, RecipeStore, SourceSpec, StoreError};
use kiln_store::{EntryKind, Filter, NewObject};
use kiln_store_path::{ContentAddressMethod, DerivedPath, OutputsSpec, StorePath};

use crate::any_store::StoreView;
use crate::failure::{Failure, While};
use crate::session::Work;

/// More bytes than any recipe may have.
const MAX_READ: u64 = 8 << 20;

/// Adds the derivations that a target of a recipe needs, with their sources, to the store; without a name, those of its
/// default targets.
pub(crate) fn instantiate<S: StoreView>(
    work: &Work,
    store: &S,
    file: &Path,
    name: Option<&str>,
) -> Result<Vec<DerivedPath>, Failure> {
    let recipe = Recipe::parse(&file.display().to_string(), &read(file)?)?;
    let targets = match name {
        Some(name) => vec![recipe.target(name)?],
        None => recipe.default_targets(),
    };
    let directory = file.parent().unwrap_or(Path::new("")).to_owned();
    let mut adding = Adding { work, store, directory };
    let made = recipe.instantiate(&targets, &work.settings.system, store.store_dir(), &mut adding)?;
    let wanted = targets.into_iter().filter_map(|target| {
        let derivation = made.derivations.get(&target.derivation)?;
        let outputs = OutputsSpec::Names(target.outputs.into_iter().collect());
        Some(DerivedPath::Built { derivation: derivation.path.clone().into(), outputs })
    });
    Ok(wanted.collect())
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|opened| opened.take(MAX_READ).read_to_end(&mut bytes))
        .doing(|| format!("reading '{}'", file.display()))?;
    Ok(bytes)
}

/// The store as a recipe sees it.
struct Adding<'a, S> {
    work: &'a Work,
    store: &'a S,
    /// Where the recipe is; its sources are relative to that.
    directory: PathBuf,
}

impl<S: StoreView> RecipeStore for Adding<'_, S> {
    fn add_source(&mut self, source: &SourceSpec) -> Result<StorePath, StoreError> {
        let path = self.directory.join(&source.path);
        // A directory that has no name where it is written, such as `..`, has one where it is.
        let path = if path.file_name().is_some() { path } else { path.canonicalize()? };
        let object = NewObject {
            name: source.name.clone(),
            method: ContentAddressMethod::Nar,
            algorithm: Algorithm::Sha256,
            references: BTreeSet::new(),
        };
        let patterns = source.filter.clone();
        let filter: Option<Filter> = (!patterns.is_empty()).then(|| {
            let filter: Filter =
                Box::new(move |path, kind| !patterns.excludes(path, kind == EntryKind::Directory));
            filter
        });
        self.work.wait(self.store.add_tree(object, &path, filter)).map_err(told)
    }

    fn ensure_path(&mut self, path: &StorePath) -> Result<(), StoreError> {
        if self.work.wait(self.store.is_valid(path)).map_err(told)? {
            return Ok(());
        }
        Err(format!("path '{}' is not in the store", self.store.store_dir().print(path)).into())
    }

    fn add_derivation(&mut self, _: &Derivation, file: &DerivationFile) -> Result<(), StoreError> {
        let name = file.path.to_name();
        let (text, references) = (file.text.clone(), file.references.clone());
        let added = self.work.wait(self.store.add_text(&name, text, references)).map_err(told)?;
        if added != file.path {
            let print = |path: &StorePath| self.store.store_dir().print(path);
            return Err(format!("the store calls '{}' '{}'", print(&file.path), print(&added)).into());
        }
        Ok(())
    }
}

/// What a store says, for whoever says where in the recipe.
fn told(failure: Failure) -> StoreError {
    failure.message().into()
}
