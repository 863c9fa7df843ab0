//! Making paths valid: the checks that every path has to pass, and the transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_database::Registration;
use kiln_derivation::Derivation;
use kiln_fs::{FailPoint, fail_point};
use kiln_narinfo::{PathInfo, Realisation, SignatureSet};
use kiln_store_path::StorePath;

use crate::error::{Error, Result};
use crate::local::LocalStore;
use crate::store::CheckSignatures;

/// Of sets of so many paths and fewer, it is remembered what has become known of them.
const FEW: usize = 16;

impl LocalStore {
    /// Makes a set of paths valid, wholly or not at all. Their files must be in place, complete and canonical, the paths
    /// locked and temporary roots. Of paths that are valid already, hash, size, `ultimate`, signatures and content address
    /// are updated.
    ///
    /// # Errors
    /// A reference that is neither valid nor in the set; references in a circle; a false claim to be content-addressed; a
    /// derivation that does not parse or whose outputs do not follow from it.
    pub async fn register_valid_paths(&self, set: Vec<PathInfo>) -> Result<()> {
        self.work(move |store| store.register_blocking(set)).await
    }

    /// Like [`register_valid_paths`](Self::register_valid_paths), for code that may block.
    ///
    /// # Errors
    /// See there.
    pub fn register_blocking(&self, set: Vec<PathInfo>) -> Result<()> {
        self.refuse_if_read_only()?;
        for info in &set {
            self.check_claim(info)?;
        }
        let mut derivations = BTreeMap::new();
        for info in set.iter().filter(|info| info.path.is_derivation()) {
            derivations.insert(info.path.clone(), Arc::new(self.parse_new_derivation(info)?));
        }
        self.sync_before_registering(&set)?;
        let mut registrations = Vec::with_capacity(set.len());
        for info in set {
            let outputs = match derivations.get(&info.path) {
                Some(derivation) => self.check_derivation(&info.path, derivation, &derivations)?,
                None => BTreeMap::new(),
            };
            registrations.push(Registration { info, outputs });
        }
        let paths: Vec<StorePath> =
            registrations.iter().map(|registration| registration.info.path.clone()).collect();
        let bytes: u64 =
            registrations.iter().map(|registration| registration.info.nar_size).fold(0, u64::saturating_add);
        // Whoever builds or fetches one thing after the other asks for them next.
        let few = if registrations.len() <= FEW { registrations.as_slice() } else { &[] };
        let infos: Vec<PathInfo> = few.iter().map(|registration| registration.info.clone()).collect();
        let before = self.0.infos.stamp(self.0.database.foreign_version());
        fail_point(FailPoint::BeforeTransaction);
        let result = self.0.database.register(registrations);
        fail_point(FailPoint::AfterTransaction);
        let times = result.as_deref().unwrap_or_default();
        let known = infos
            .into_iter()
            .zip(times)
            .filter_map(|(info, time)| Some(Arc::new(PathInfo { registration_time: (*time)?, ..info })));
        self.0.infos.replace(before, &paths, known);
        result?;
        self.0.figures.registered_paths.add(paths.len() as u64);
        self.0.figures.registered_bytes.add(bytes);
        Ok(())
    }

    /// Checks that a claim to be content-addressed fits the path. That it fits the content is checked where that is read.
    fn check_claim(&self, info: &PathInfo) -> Result<()> {
        match &info.content_address {
            Some(address) if !info.is_content_addressed(self.store_dir()) => {
                let path = self.print(&info.path);
                Err(Error::NotContentAddressed { path, address: address.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// Reads the file of a derivation that is to become valid, and checks that its path follows from its text: all that is
    /// ever remembered of derivations goes by their paths.
    fn parse_new_derivation(&self, info: &PathInfo) -> Result<Derivation> {
        let text = self.read_derivation_text(&info.path)?;
        let references = info.references.clone();
        let computed = self.store_dir().make_text_path(&info.path.to_name(), &text, references)?;
        if computed != info.path {
            return Err(Error::Mismatch {
                what: "derivation path",
                path: self.print(&info.path),
                specified: self.print(&info.path),
                got: self.print(&computed),
            });
        }
        self.parse_derivation(&info.path, &text)
    }

    /// Decides whether a path from elsewhere may become valid: the one place for it. A content address counts, as every
    /// way in compares it with the content.
    ///
    /// # Errors
    /// Nothing vouches for the path.
    pub fn check_trust(&self, info: &PathInfo, check: CheckSignatures) -> Result<()> {
        let config = self.config();
        if check == CheckSignatures::No || !config.require_signatures {
            return Ok(());
        }
        // Only this store itself knows what it has built.
        let claimed = PathInfo { ultimate: false, ..info.clone() };
        if claimed.trust(self.store_dir(), &config.trusted_keys).is_trusted() {
            Ok(())
        } else {
            Err(Error::Untrusted(self.print(&info.path)))
        }
    }

    /// Checks early that all references of a path are valid, before its content is taken in.
    pub(crate) fn check_references(&self, info: &PathInfo) -> Result<()> {
        let others: Vec<StorePath> =
            info.references.iter().filter(|reference| **reference != info.path).cloned().collect();
        if others.is_empty() {
            return Ok(());
        }
        let valid: BTreeSet<StorePath> = self.0.database.reader()?.valid_among(&others)?;
        match others.iter().find(|path| !valid.contains(*path)) {
            Some(path) => Err(self.not_valid(path)),
            None => Ok(()),
        }
    }

    /// Adds signatures to a valid path.
    ///
    /// # Errors
    /// The path is not valid.
    pub async fn add_signatures(&self, path: &StorePath, signatures: SignatureSet) -> Result<()> {
        let path = path.clone();
        self.change(vec![path.clone()], move |transaction| transaction.add_signatures(&path, &signatures))
            .await
    }

    /// Records as which path an output of a content-addressed derivation was built.
    ///
    /// # Errors
    /// The output path is not valid, or the output is on record as another path.
    pub async fn register_realisation(&self, realisation: Realisation) -> Result<()> {
        self.change(Vec::new(), move |transaction| transaction.register_realisation(&realisation)).await
    }

    /// Makes paths invalid; their files stay. Whoever does this must hold the collector's lock, or have the paths locked
    /// and know that nobody needs them.
    ///
    /// # Errors
    /// A valid path outside of the set refers to one in it.
    pub async fn invalidate(&self, paths: Vec<StorePath>) -> Result<()> {
        let set = paths.clone();
        self.change(paths, move |transaction| transaction.invalidate(&set)).await
    }

    /// Like [`invalidate`](Self::invalidate), for code that may block. Tells for how long others could not write.
    ///
    /// # Errors
    /// See there.
    pub(crate) fn invalidate_blocking(&self, paths: Arc<[StorePath]>) -> Result<Duration> {
        let set = paths.clone();
        let begun = self.0.database.write(move |transaction| {
            let begun = Instant::now();
            transaction.invalidate(&set).map(|()| begun)
        });
        self.0.infos.forget(paths.iter());
        Ok(begun?.elapsed())
    }

    /// Hands a change to the database's writer, waits for it without a thread, and forgets what it concerns.
    pub(crate) async fn change<T, Run>(&self, concerned: Vec<StorePath>, run: Run) -> Result<T>
    where
        T: Send + 'static,
        Run: FnMut(&kiln_database::WriteTransaction<'_>) -> kiln_database::Result<T> + Send + 'static,
    {
        self.refuse_if_read_only()?;
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.work(move |store| {
            // Not the whole store, which the writer's thread must never be the last to hold.
            let infos = store.0.infos.clone();
            // A full queue makes this wait, which is why it is not done right here.
            store.0.database.submit(run, move |result| {
                infos.forget(&concerned);
                // Whoever asked may have gone away.
                let _ = sender.send(result);
            });
        })
        .await;
        Ok(receiver.await.unwrap_or(Err(kiln_database::Error::Closed))?)
    }
}
