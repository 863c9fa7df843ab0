//! Derivations in the local store: reading, hashing, and the check that each has to pass on its way in.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kiln_derivation::{Derivation, HashModulo, HashModuloCache, InputWalk, Strictness, check_outputs};
use kiln_store_path::{OutputName, StoreDir, StorePath};

use crate::cancel::Cancel;
use crate::error::{During, Error, Result};
use crate::local::LocalStore;
use crate::parallel::on_threads;

/// The longest derivation file that is read, in bytes.
const MAX_DERIVATION_LENGTH: u64 = 256 << 20;

/// Parsed derivations that are kept.
const KEPT_DERIVATIONS: usize = 4096;

/// Hashes of derivations that are kept: some hundred bytes each.
const KEPT_HASHES: usize = 200_000;

/// Derivations that are looked up and parsed by one thread at a time: several times what it takes to start the thread.
const BATCH: usize = 128;

/// Derivations that were parsed before. Their files never change, and a path that was read from a text that had to hash to
/// it stands for that text for ever, so that nothing needs to be forgotten but for room.
pub(crate) struct DerivationCache(Mutex<HashMap<StorePath, Arc<Derivation>>>);

impl DerivationCache {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    fn get(&self, path: &StorePath) -> Option<Arc<Derivation>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }

    fn insert(&self, path: StorePath, derivation: Arc<Derivation>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let old = if known.len() >= KEPT_DERIVATIONS { std::mem::take(&mut *known) } else { HashMap::new() };
        known.insert(path, derivation);
        drop(known);
        // Nobody waits while so many are taken apart.
        drop(old);
    }
}

/// Hashes of derivations that were computed before, true for ever like the derivations.
pub(crate) struct KnownHashes {
    cache: HashModuloCache,
    count: usize,
}

impl KnownHashes {
    pub(crate) fn new(store_dir: StoreDir) -> Self {
        Self { cache: HashModuloCache::new(store_dir), count: 0 }
    }
}

impl LocalStore {
    /// Reads a valid derivation.
    ///
    /// # Errors
    /// The path is not valid, is no derivation, or its file does not parse.
    pub async fn read_derivation(&self, path: &StorePath) -> Result<Arc<Derivation>> {
        if let Some(derivation) =
            self.0.derivations.get(path).filter(|_| self.known_path_info(path).is_some())
        {
            return Ok(derivation);
        }
        let path = path.clone();
        self.work(move |store| store.read_derivation_blocking(&path)).await
    }

    /// Like [`read_derivation`](Self::read_derivation), for code that may block.
    ///
    /// # Errors
    /// The path is not valid, is no derivation, or its file does not parse.
    pub fn read_derivation_blocking(&self, path: &StorePath) -> Result<Arc<Derivation>> {
        if self.path_info_blocking(path)?.is_none() {
            return Err(self.not_valid(path));
        }
        self.known_or_read(path)
    }

    /// Reads those of `paths` that are valid, all of which must be derivations, and gives them to `look` batch by batch, side by
    /// side: of each batch the database is asked at once. What is found out about them is remembered.
    ///
    /// # Errors
    /// See [`read_derivation_blocking`](Self::read_derivation_blocking), and whatever `look` fails with.
    pub fn look_at_derivations_blocking<R: Send, E: From<Error> + Send>(
        &self,
        paths: &[StorePath],
        look: impl Fn(Vec<(StorePath, Arc<Derivation>)>) -> std::result::Result<R, E> + Sync,
    ) -> std::result::Result<Vec<R>, E> {
        let batches: Vec<&[StorePath]> = paths.chunks(BATCH).collect();
        let read = |batch: &&[StorePath]| look(self.valid_derivations(batch)?);
        match batches.as_slice() {
            [batch] => Ok(vec![read(batch)?]),
            _ => on_threads(&batches, &Cancel::default(), read).into_iter().collect(),
        }
    }

    /// Those of some derivations that are valid.
    fn valid_derivations(&self, paths: &[StorePath]) -> Result<Vec<(StorePath, Arc<Derivation>)>> {
        let version = self.0.database.foreign_version();
        let (mut valid, mut asked) = (Vec::with_capacity(paths.len()), Vec::new());
        let before = self.0.infos.stamp(version);
        for path in paths {
            match self.0.infos.get(version, path).0 {
                Some(_) => valid.push(path.clone()),
                None => asked.push(path.clone()),
            }
        }
        if !asked.is_empty() {
            for (path, info) in self.0.database.reader()?.path_infos(&asked)? {
                self.0.infos.insert(before, Arc::new(info));
                valid.push(path);
            }
        }
        let read = |path: StorePath| {
            let derivation = self.known_or_read(&path)?;
            Ok((path, derivation))
        };
        valid.into_iter().map(read).collect()
    }

    /// A derivation whose path is valid.
    fn known_or_read(&self, path: &StorePath) -> Result<Arc<Derivation>> {
        if let Some(derivation) = self.0.derivations.get(path) {
            return Ok(derivation);
        }
        let derivation = Arc::new(self.parse_derivation(path, &self.read_derivation_text(path)?)?);
        self.0.derivations.insert(path.clone(), derivation.clone());
        Ok(derivation)
    }

    /// The text of a derivation file, valid or about to be.
    pub(crate) fn read_derivation_text(&self, path: &StorePath) -> Result<Vec<u8>> {
        let file = self.directory().open_beneath(Path::new(path.base_name()))?;
        let length = file.metadata().map_or(0, |metadata| metadata.len()).min(MAX_DERIVATION_LENGTH);
        // One more byte, and the first read tells that this is the end.
        let mut text = Vec::with_capacity(usize::try_from(length).unwrap_or(0).saturating_add(1));
        file.take(MAX_DERIVATION_LENGTH).read_to_end(&mut text).during("read", &self.real_path(path))?;
        Ok(text)
    }

    /// Parses the text of a derivation that is at `path`.
    ///
    /// # Errors
    /// It does not parse, or the path is no derivation's.
    pub fn parse_derivation(&self, path: &StorePath, text: &[u8]) -> Result<Derivation> {
        let name = Derivation::name_of_path(path).map_err(|_| Error::NotADerivation(self.print(path)))?;
        Derivation::parse_aterm(text, &name, self.store_dir(), Strictness::Lenient)
            .map_err(|error| Error::ParseDerivation { path: self.print(path), error: Box::new(error) })
    }

    /// The hash of a derivation with its own outputs left out, from which their paths and realisation ids follow. Its
    /// input derivations must be valid.
    ///
    /// # Errors
    /// An input derivation cannot be read.
    pub async fn hash_modulo(&self, path: &StorePath, derivation: Arc<Derivation>) -> Result<HashModulo> {
        let path = path.clone();
        self.work(move |store| store.hash_modulo_blocking(&path, &derivation)).await
    }

    /// Like [`hash_modulo`](Self::hash_modulo), for code that may block.
    ///
    /// # Errors
    /// See there.
    pub fn hash_modulo_blocking(&self, path: &StorePath, derivation: &Derivation) -> Result<HashModulo> {
        let hashes = self.load_hashes(path, derivation, &BTreeMap::new())?;
        hashes.cache.masked(derivation).map_err(|error| self.hash_error(path, error))
    }

    /// Checks that the outputs of a derivation follow from it, which must hold of each that becomes valid; returns those
    /// whose paths are known. Input derivations may be valid or in `set`, which is what is to become valid together.
    pub(crate) fn check_derivation(
        &self,
        path: &StorePath,
        derivation: &Derivation,
        set: &BTreeMap<StorePath, Arc<Derivation>>,
    ) -> Result<BTreeMap<OutputName, StorePath>> {
        let hashes = self.load_hashes(path, derivation, set)?;
        check_outputs(derivation, &hashes.cache)
            .map_err(|error| Error::DerivationOutputs { path: self.print(path), error: Box::new(error) })?;
        Ok(derivation.known_output_paths().map(|(name, path)| (name.clone(), path.clone())).collect())
    }

    /// The hashes of a derivation's inputs, read from their files as far as they are not known yet.
    fn load_hashes(
        &self,
        path: &StorePath,
        derivation: &Derivation,
        set: &BTreeMap<StorePath, Arc<Derivation>>,
    ) -> Result<MutexGuard<'_, KnownHashes>> {
        // A walk that was broken off leaves hashes that are right.
        let mut known = self.0.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        if known.count > KEPT_HASHES {
            *known = KnownHashes::new(self.store_dir().clone());
        }
        let mut walk = InputWalk::new(derivation);
        while let Some(input) = walk.next(&mut known.cache).map_err(|error| self.hash_error(path, error))? {
            let derivation = match set.get(&input) {
                Some(derivation) => derivation.clone(),
                None => self.read_derivation_blocking(&input)?,
            };
            walk.supply(input, (*derivation).clone());
            known.count += 1;
        }
        Ok(known)
    }

    fn hash_error(&self, path: &StorePath, error: kiln_derivation::HashModuloError) -> Error {
        Error::HashModulo { path: self.print(path), error: Box::new(error) }
    }
}
