//! The hash of a derivation modulo its fixed outputs: what the paths of input-addressed outputs and the ids of
//! realisations are made of.
//!
//! A derivation is hashed with the hashes of its input derivations in the place of their paths, and a fixed-output
//! derivation counts as its output and nothing else. So it does not matter how a fixed output is fetched.
//!
//! [`HashModuloCache`] keeps the hash of each derivation file; [`InputWalk`] finds out, without recursion, which files
//! must be read before a derivation can be hashed, and asks the caller for them one at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use kiln_hash::Sha256;
use kiln_narinfo::RealisationId;
use kiln_store_path::{OutputName, StoreDir, StorePath, StorePathName};

use crate::aterm::{self, Inputs, OutputPaths, WriteError};
use crate::derivation::{Derivation, DerivationKind, KindError};

/// The hash modulo of a derivation; all its outputs share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashModulo {
    /// The hash.
    pub hash: Sha256,
    /// Whether paths that depend on this derivation cannot be computed, since the path of some output in its closure
    /// follows from content.
    pub is_deferred: bool,
    /// The outputs that the derivation has.
    outputs: BTreeSet<OutputName>,
}

impl HashModulo {
    /// The id of the realisation of one output; for hashes with masked output paths ([`HashModuloCache::masked`]).
    pub fn realisation_id(&self, output: OutputName) -> RealisationId {
        RealisationId { derivation_hash: self.hash.into(), output }
    }
}

/// Why a derivation has no hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashModuloError {
    /// It has no text.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Its outputs do not make sense together.
    #[error("derivation '{derivation}': {error}")]
    Kind {
        /// The derivation.
        derivation: StorePathName,
        /// What is wrong with its outputs.
        error: KindError,
    },
    /// An input derivation has not been hashed yet.
    #[error("derivation '{derivation}' cannot be hashed before its input derivation '{input}'")]
    UnknownInput {
        /// The derivation.
        derivation: StorePathName,
        /// Its input.
        input: StorePath,
    },
    /// An input derivation lacks an output that is asked for.
    #[error(
        "derivation '{derivation}' requires non-existent output '{output}' from input derivation '{input}'"
    )]
    NoSuchOutput {
        /// The derivation.
        derivation: StorePathName,
        /// Its input.
        input: StorePath,
        /// The output that the input does not have.
        output: OutputName,
    },
    /// A derivation is among its own inputs, which no real store can hold.
    #[error("derivation '{0}' depends on itself")]
    Cycle(StorePath),
}

/// The hashes of derivation files, by their paths.
#[derive(Clone, Debug)]
pub struct HashModuloCache {
    store_dir: StoreDir,
    known: HashMap<StorePath, HashModulo>,
}

impl HashModuloCache {
    /// Knows no derivation yet.
    pub fn new(store_dir: StoreDir) -> Self {
        Self { store_dir, known: HashMap::new() }
    }

    /// The store directory, which takes part in every hash.
    pub fn store_dir(&self) -> &StoreDir {
        &self.store_dir
    }

    /// The hash of a derivation file as an input of others, if it is known.
    pub fn get(&self, path: &StorePath) -> Option<&HashModulo> {
        self.known.get(path)
    }

    /// Hashes a derivation as an input of others and keeps the result under the path of its file.
    ///
    /// # Errors
    /// Among others, its own inputs must be known.
    pub fn insert(&mut self, path: StorePath, derivation: &Derivation) -> Result<(), HashModuloError> {
        let hash = self.compute(derivation, OutputPaths::Known)?;
        self.known.insert(path, hash);
        Ok(())
    }

    /// The hash of a derivation with the paths of its own outputs left out: the paths of its outputs and the ids of its
    /// realisations follow from it.
    ///
    /// # Errors
    /// Among others, its inputs must be known.
    pub fn masked(&self, derivation: &Derivation) -> Result<HashModulo, HashModuloError> {
        self.compute(derivation, OutputPaths::Masked)
    }

    /// The input derivations that must be known for hashing this one and are not.
    pub fn unknown_inputs<'a>(&'a self, derivation: &'a Derivation) -> impl Iterator<Item = &'a StorePath> {
        inputs_that_count(derivation).filter(|path| !self.known.contains_key(*path))
    }

    /// Makes the inputs of a derivation known, by reading their files with `load`. Each file is read once.
    ///
    /// # Errors
    /// What `load` or hashing fails with.
    pub fn load_inputs<E>(
        &mut self,
        derivation: &Derivation,
        mut load: impl FnMut(&StorePath) -> Result<Derivation, E>,
    ) -> Result<(), LoadError<E>> {
        let mut walk = InputWalk::new(derivation);
        while let Some(path) = walk.next(self).map_err(LoadError::Hash)? {
            let input = load(&path).map_err(|error| LoadError::Load { path: path.clone(), error })?;
            walk.supply(path, input);
        }
        Ok(())
    }

    fn compute(
        &self,
        derivation: &Derivation,
        output_paths: OutputPaths,
    ) -> Result<HashModulo, HashModuloError> {
        let kind = derivation
            .kind()
            .map_err(|error| HashModuloError::Kind { derivation: derivation.name.clone(), error })?;
        let outputs = derivation.outputs.keys().cloned().collect();
        if let Some((address, path)) = derivation.fixed_output() {
            let text = format!(
                "fixed:out:{}{}:{}",
                address.method.derivation_prefix(),
                address.hash.prefixed_base16(),
                self.store_dir.display(path)
            );
            return Ok(HashModulo { hash: Sha256::of(text), is_deferred: false, outputs });
        }
        let mut is_deferred = matches!(kind, DerivationKind::Floating | DerivationKind::Impure);
        let mut inputs: BTreeMap<String, BTreeSet<&OutputName>> = BTreeMap::new();
        for (path, used) in &derivation.input_derivations {
            let input = self.known.get(path).ok_or_else(|| HashModuloError::UnknownInput {
                derivation: derivation.name.clone(),
                input: path.clone(),
            })?;
            is_deferred |= input.is_deferred;
            if let Some(output) = used.outputs().iter().find(|output| !input.outputs.contains(*output)) {
                return Err(HashModuloError::NoSuchOutput {
                    derivation: derivation.name.clone(),
                    input: path.clone(),
                    output: output.clone(),
                });
            }
            if !used.outputs().is_empty() {
                inputs.entry(input.hash.base16()).or_default().extend(used.outputs());
            }
        }
        let text = aterm::write(derivation, &self.store_dir, &Inputs::Hashes(&inputs), output_paths)?;
        Ok(HashModulo { hash: Sha256::of(text), is_deferred, outputs })
    }
}

/// The input derivations that take part in the hash: none of a fixed-output derivation.
fn inputs_that_count(derivation: &Derivation) -> impl Iterator<Item = &StorePath> {
    let inputs = derivation.fixed_output().is_none().then_some(&derivation.input_derivations);
    inputs.into_iter().flat_map(BTreeMap::keys)
}

/// Why the inputs of a derivation could not be made known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError<E> {
    /// A derivation file could not be read.
    #[error("cannot read derivation '{path}': {error}")]
    Load {
        /// The file.
        path: StorePath,
        /// What failed.
        error: E,
    },
    /// A derivation could not be hashed.
    #[error(transparent)]
    Hash(HashModuloError),
}

/// The way through the inputs of a derivation, inputs before what uses them. It holds the derivations whose inputs are
/// not all known yet, which are at most as many as the graph is deep.
///
/// Call [`Self::next`], read the derivation that it names, hand it to [`Self::supply`], and so on until there is none.
#[derive(Debug)]
pub struct InputWalk {
    waiting: Vec<Waiting>,
    /// The paths of the derivations in `waiting`.
    open: HashSet<StorePath>,
}

#[derive(Debug)]
struct Waiting {
    /// The derivation and its path; none for the one that the walk began with.
    derivation: Option<(StorePath, Derivation)>,
    /// Its inputs that have not been looked at yet, the next one last.
    inputs: Vec<StorePath>,
}

impl InputWalk {
    /// Begins at the inputs of a derivation, which is not hashed itself.
    pub fn new(derivation: &Derivation) -> Self {
        let inputs = pending_inputs(derivation);
        Self { waiting: vec![Waiting { derivation: None, inputs }], open: HashSet::new() }
    }

    /// The next derivation that is needed, or nothing if all inputs are known now. Hashes what can be hashed.
    ///
    /// # Errors
    /// See [`HashModuloError`].
    pub fn next(&mut self, cache: &mut HashModuloCache) -> Result<Option<StorePath>, HashModuloError> {
        while let Some(last) = self.waiting.last_mut() {
            match last.inputs.pop() {
                Some(path) if cache.known.contains_key(&path) => {}
                Some(path) if self.open.contains(&path) => return Err(HashModuloError::Cycle(path)),
                Some(path) => return Ok(Some(path)),
                None => {
                    let finished = self.waiting.pop().and_then(|waiting| waiting.derivation);
                    if let Some((path, derivation)) = finished {
                        self.open.remove(&path);
                        cache.insert(path, &derivation)?;
                    }
                }
            }
        }
        Ok(None)
    }

    /// Takes the derivation that [`Self::next`] asked for.
    pub fn supply(&mut self, path: StorePath, derivation: Derivation) {
        self.open.insert(path.clone());
        let inputs = pending_inputs(&derivation);
        self.waiting.push(Waiting { derivation: Some((path, derivation)), inputs });
    }
}

fn pending_inputs(derivation: &Derivation) -> Vec<StorePath> {
    let mut inputs: Vec<StorePath> = inputs_that_count(derivation).cloned().collect();
    inputs.reverse();
    inputs
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::aterm::Strictness;

    fn file(number: usize) -> StorePath {
        StorePath::from_base_name(format!("{number:032}-t.drv")).unwrap()
    }

    /// A derivation that uses an output of each of some others.
    fn user_of(inputs: impl IntoIterator<Item = (usize, &'static str)>) -> Derivation {
        let inputs: Vec<String> = inputs
            .into_iter()
            .map(|(number, output)| format!(r#"("/nix/store/{}",["{output}"])"#, file(number)))
            .collect();
        let text = format!(
            r#"Derive([("out","/nix/store/00000000000000000000000000000000-t","","")],[{}],[],"x","y",[],[])"#,
            inputs.join(",")
        );
        let name = StorePathName::new("t").unwrap();
        Derivation::parse_aterm(text.as_bytes(), &name, &StoreDir::default(), Strictness::Lenient).unwrap()
    }

    #[test]
    fn a_chain_of_a_hundred_thousand_is_hashed_without_recursion() {
        const LENGTH: usize = 100_000;
        let mut hashes = HashModuloCache::new(StoreDir::default());
        let mut loaded = 0;
        hashes
            .load_inputs(&user_of([(LENGTH, "out")]), |path| {
                loaded += 1;
                let number: usize = path.digest().parse().unwrap();
                Ok::<_, Infallible>(user_of((number > 1).then(|| (number - 1, "out"))))
            })
            .unwrap();
        assert_eq!(loaded, LENGTH);
        assert!(hashes.get(&file(1)).is_some() && hashes.get(&file(LENGTH)).is_some());
    }

    /// Every level uses both derivations of the level below: the number of ways down doubles with each level.
    #[test]
    fn each_file_is_read_once() {
        let mut hashes = HashModuloCache::new(StoreDir::default());
        let mut loaded = Vec::new();
        hashes
            .load_inputs(&user_of([(120, "out"), (121, "out")]), |path| {
                let number: usize = path.digest().parse().unwrap();
                loaded.push(number);
                let below = number / 2 * 2;
                Ok::<_, Infallible>(user_of(
                    (below > 0).then(|| [(below - 2, "out"), (below - 1, "out")]).into_iter().flatten(),
                ))
            })
            .unwrap();
        loaded.sort_unstable();
        assert_eq!(loaded, (0..122).collect::<Vec<_>>());
    }

    #[test]
    fn a_cycle_is_an_error() {
        let mut hashes = HashModuloCache::new(StoreDir::default());
        let result = hashes.load_inputs(&user_of([(1, "out")]), |path| {
            Ok::<_, Infallible>(user_of([(if *path == file(1) { 2 } else { 1 }, "out")]))
        });
        assert_eq!(result, Err(LoadError::Hash(HashModuloError::Cycle(file(1)))));
    }

    #[test]
    fn inputs_must_be_known_and_have_the_output() {
        let mut hashes = HashModuloCache::new(StoreDir::default());
        let user = user_of([(1, "dev")]);
        assert_eq!(hashes.unknown_inputs(&user).collect::<Vec<_>>(), [&file(1)]);
        assert_eq!(
            hashes.masked(&user).unwrap_err().to_string(),
            format!("derivation 't' cannot be hashed before its input derivation '{}'", file(1))
        );
        hashes.insert(file(1), &user_of([])).unwrap();
        assert_eq!(hashes.unknown_inputs(&user).count(), 0);
        // D5
        assert_eq!(
            hashes.masked(&user).unwrap_err().to_string(),
            format!("derivation 't' requires non-existent output 'dev' from input derivation '{}'", file(1))
        );
    }

    #[test]
    fn what_cannot_be_loaded_is_named() {
        let mut hashes = HashModuloCache::new(StoreDir::default());
        let error = hashes.load_inputs(&user_of([(1, "out")]), |_| Err("gone")).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot read derivation '{}': gone", file(1)));
    }
}
