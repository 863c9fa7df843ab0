//! From a recipe to derivations: sources get their store paths, references become paths and inputs, outputs are filled
//! in.
//!
//! What must be known about a store comes through [`RecipeStore`], so that a dry run is just another store.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use kiln_derivation::{
    Addressing, Attributes, Derivation, DerivationFile, HashModuloCache, InputOutputs, UnfilledDerivation,
};
use kiln_store_path::{OutputName, Placeholder, StoreDir, StorePath, StorePathName};

use crate::coerce::{Referents, to_json, to_text};
use crate::error::{Mistake, Problem, RecipeError};
use crate::filter::Filter;
use crate::interpolation::Reference;
use crate::recipe::{Recipe, Target};
use crate::resolve::references;
use crate::source_text::shown;
use crate::syntax::{DerivationDeclaration, SourceDeclaration, SourceOrigin, Value, visit};

/// A file or directory to be added to the store: its NAR with SHA-256, as a path of kind `source`, without references.
/// (That is what Nix makes of a path in an expression, and of `builtins.path` with a filter.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSpec {
    /// Its name in the store.
    pub name: StorePathName,
    /// The path as it is written: absolute, or relative to the directory of the recipe. A symbolic link at its end is
    /// added as the link that it is.
    pub path: String,
    /// What to leave out.
    pub filter: Filter,
}

/// An error of a store.
pub type StoreError = Box<dyn Error + Send + Sync>;

/// What instantiation asks of a store. For a dry run it is enough to compute paths.
pub trait RecipeStore {
    /// Adds a file or directory, and gives its store path. Asked once for each source.
    ///
    /// # Errors
    /// It cannot be read, or the store cannot be written.
    fn add_source(&mut self, source: &SourceSpec) -> Result<StorePath, StoreError>;

    /// Makes sure that a path that a recipe names is in the store, or can be.
    ///
    /// # Errors
    /// It is not, and cannot be.
    fn ensure_path(&mut self, path: &StorePath) -> Result<(), StoreError>;

    /// Adds a derivation as the file that is given. All that the file refers to has been added before.
    ///
    /// # Errors
    /// The store cannot be written.
    fn add_derivation(&mut self, derivation: &Derivation, file: &DerivationFile) -> Result<(), StoreError>;
}

/// What became of a recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instantiation {
    /// The derivations that the targets need, the targets among them, by their names in the recipe.
    pub derivations: BTreeMap<String, InstantiatedDerivation>,
}

/// What became of a derivation of a recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstantiatedDerivation {
    /// The path of the derivation file.
    pub path: StorePath,
    /// The outputs in the order of the recipe, with their paths as far as they are known before the build: not those of
    /// content-addressed derivations, nor of what depends on them.
    pub outputs: Vec<(OutputName, Option<StorePath>)>,
}

impl Recipe {
    /// Makes the derivations that the targets need. `system` is that of derivations for which the recipe states none.
    ///
    /// Sources are added once each, derivations after all that they need, both in an order that depends on the recipe
    /// alone.
    ///
    /// # Errors
    /// What the store cannot take, what is no path of this store, and the few things about derivations that show only
    /// in their hashing.
    pub fn instantiate(
        &self,
        targets: &[Target],
        system: &str,
        store_dir: &StoreDir,
        store: &mut impl RecipeStore,
    ) -> Result<Instantiation, RecipeError> {
        let fail = |mistake| RecipeError::new(&self.text, mistake);
        let mut run = Run {
            recipe: self,
            system,
            store_dir,
            store,
            hashes: HashModuloCache::new(store_dir.clone()),
            sources: BTreeMap::new(),
            inline_sources: BTreeMap::new(),
            done: BTreeMap::new(),
        };
        let needed = self.needed(targets).map_err(fail)?;
        for name in self.order.iter().filter(|name| needed.contains(name.as_str())) {
            if let Some(declaration) = self.document.derivations.get(name) {
                run.derivation(name, declaration).map_err(fail)?;
            }
        }
        Ok(Instantiation { derivations: run.done })
    }

    /// The names of the targets and of all that they need.
    fn needed<'a>(&'a self, targets: &'a [Target]) -> Result<BTreeSet<&'a str>, Mistake> {
        let mut needed = BTreeSet::new();
        let mut pending: Vec<&str> = targets.iter().map(|target| target.derivation.as_str()).collect();
        while let Some(name) = pending.pop() {
            if !needed.insert(name) {
                continue;
            }
            let declaration = self
                .document
                .derivations
                .get(name)
                .ok_or_else(|| Mistake::of_file(Problem::UnknownDerivation(shown(name))))?;
            pending.extend(references(declaration).into_iter().filter_map(
                |(reference, _)| match reference {
                    Reference::Output { derivation, .. } => Some(derivation.as_str()),
                    _ => None,
                },
            ));
        }
        Ok(needed)
    }
}

/// The making of one recipe's derivations.
struct Run<'a, S> {
    recipe: &'a Recipe,
    system: &'a str,
    store_dir: &'a StoreDir,
    store: &'a mut S,
    hashes: HashModuloCache,
    sources: BTreeMap<&'a str, StorePath>,
    inline_sources: BTreeMap<usize, StorePath>,
    done: BTreeMap<String, InstantiatedDerivation>,
}

impl<'a, S: RecipeStore> Run<'a, S> {
    fn derivation(&mut self, name: &str, declaration: &'a DerivationDeclaration) -> Result<(), Mistake> {
        self.add_sources(declaration)?;
        let mut inputs = Inputs { run: self, derivations: BTreeMap::new(), sources: BTreeSet::new() };
        let builder = to_text(&declaration.builder, &mut inputs).into_bytes();
        let arguments =
            declaration.args.iter().map(|value| to_text(value, &mut inputs).into_bytes()).collect();
        let env = &declaration.env;
        let attributes = if declaration.structured {
            Attributes::Structured(
                env.iter().map(|(name, value)| (name.clone(), to_json(value, &mut inputs))).collect(),
            )
        } else {
            let variables = env
                .iter()
                .map(|(name, value)| (name.clone().into_bytes(), to_text(value, &mut inputs).into_bytes()));
            Attributes::Plain(variables.collect())
        };
        let Inputs { derivations: input_derivations, sources: input_sources, .. } = inputs;
        let unfilled = UnfilledDerivation {
            name: declaration.name.clone(),
            system: declaration.system.as_deref().unwrap_or(self.system).into(),
            builder,
            arguments,
            outputs: declaration.outputs.stated.then(|| declaration.outputs.names.clone()),
            addressing: match &declaration.addressing {
                Some(stated) => stated.addressing.clone(),
                None => Addressing::InputAddressed,
            },
            attributes,
            input_derivations,
            input_sources,
        };
        self.finish(name, declaration, unfilled)
    }

    /// Fills in the outputs and gives the derivation to the store.
    fn finish(
        &mut self,
        name: &str,
        declaration: &DerivationDeclaration,
        unfilled: UnfilledDerivation,
    ) -> Result<(), Mistake> {
        let at = || match &declaration.addressing {
            Some(stated) => stated.at.clone(),
            None => declaration.at.clone(),
        };
        let derivation = unfilled.fill_in(&self.hashes).map_err(|error| {
            Mistake::new(Problem::Derivation { derivation: name.to_owned(), error: error.kind }, at())
        })?;
        let file = derivation.to_file(self.store_dir).map_err(|error| Mistake::new(error, at()))?;
        self.hashes.insert(file.path.clone(), &derivation).map_err(|error| Mistake::new(error, at()))?;
        self.store.add_derivation(&derivation, &file).map_err(|error| {
            let problem = Problem::AddDerivation { derivation: name.to_owned(), error };
            Mistake::new(problem, declaration.at.clone())
        })?;
        let path_of =
            |output: &OutputName| derivation.outputs.get(output).and_then(|output| output.path().cloned());
        let outputs =
            declaration.outputs.names.iter().map(|output| (output.clone(), path_of(output))).collect();
        self.done.insert(name.to_owned(), InstantiatedDerivation { path: file.path, outputs });
        Ok(())
    }

    /// Adds the sources that a derivation uses, if they have not been added.
    fn add_sources(&mut self, declaration: &'a DerivationDeclaration) -> Result<(), Mistake> {
        let document = &self.recipe.document;
        for (reference, _) in references(declaration) {
            let Reference::Source(name) = reference else { continue };
            if self.sources.contains_key(name.as_str()) {
                continue;
            }
            if let Some(source) = document.sources.get(name) {
                let path = self.add_source(source)?;
                self.sources.insert(name, path);
            }
        }
        let mut inline = BTreeSet::new();
        let own = declaration.env.values().map(AsRef::as_ref);
        for value in std::iter::once(declaration.builder.as_ref()).chain(declaration.args.iter()).chain(own) {
            visit(value, |value| {
                if let Value::InlineSource(index) = value.get_ref() {
                    inline.insert(*index);
                }
            });
        }
        for index in inline {
            let Some(source) = document.inline_sources.get(index) else { continue };
            if !self.inline_sources.contains_key(&index) {
                let path = self.add_source(source)?;
                self.inline_sources.insert(index, path);
            }
        }
        Ok(())
    }

    fn add_source(&mut self, source: &SourceDeclaration) -> Result<StorePath, Mistake> {
        let mistake = |problem| Mistake::new(problem, source.at.clone());
        match &source.origin {
            SourceOrigin::Local { path, name, filter } => {
                let spec = SourceSpec { name: name.clone(), path: path.clone(), filter: filter.clone() };
                self.store
                    .add_source(&spec)
                    .map_err(|error| mistake(Problem::AddSource { path: shown(path), error }))
            }
            SourceOrigin::Store { path } => {
                let parsed = self
                    .store_dir
                    .parse(path)
                    .map_err(|error| mistake(Problem::InvalidStorePath { path: shown(path), error }))?;
                self.store
                    .ensure_path(&parsed)
                    .map_err(|error| mistake(Problem::UseStorePath { path: path.clone(), error }))?;
                Ok(parsed)
            }
        }
    }
}

/// What a derivation refers to, collected while its values become text.
struct Inputs<'r, 'a, S> {
    run: &'r Run<'a, S>,
    derivations: BTreeMap<StorePath, InputOutputs>,
    sources: BTreeSet<StorePath>,
}

impl<S> Inputs<'_, '_, S> {
    fn source(&mut self, path: Option<&StorePath>) -> String {
        // All sources of a derivation have been added before its values are looked at.
        let Some(path) = path else { return String::new() };
        self.sources.insert(path.clone());
        self.run.store_dir.print(path)
    }
}

impl<S> Referents for Inputs<'_, '_, S> {
    fn reference(&mut self, reference: &Reference) -> String {
        match reference {
            Reference::Source(name) => {
                let run = self.run;
                self.source(run.sources.get(name.as_str()))
            }
            Reference::Placeholder(output) => match OutputName::new(output) {
                Ok(output) => Placeholder::own_output(&output).to_string(),
                Err(_) => String::new(),
            },
            Reference::Output { derivation, output } => {
                // The order of derivations has seen to it that this one is made.
                let Some(made) = self.run.done.get(derivation) else { return String::new() };
                let found = made
                    .outputs
                    .iter()
                    .find(|(name, _)| output.as_ref().is_none_or(|wanted| name.as_str() == wanted));
                let Some((output, path)) = found else { return String::new() };
                self.derivations.entry(made.path.clone()).or_default().insert(output.clone());
                match path {
                    Some(path) => self.run.store_dir.print(path),
                    None => Placeholder::upstream_output(&made.path, output).to_string(),
                }
            }
        }
    }

    fn inline_source(&mut self, index: usize) -> String {
        let run = self.run;
        self.source(run.inline_sources.get(&index))
    }
}
