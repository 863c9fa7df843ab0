//! Whether contents are what they were.

use kiln_events::{ActivityGuard, ActivityResult};
use kiln_fs::{EntryCheck, LinkPool};
use kiln_hash::Sha256;
use kiln_store_path::StorePath;

use super::{Check, Finding, Verdict, Verified};
use crate::error::{Error, Result};
use crate::local::LocalStore;
use crate::parallel::on_threads;

/// Paths that are read under one lock, which keeps collectors waiting.
const BATCH: usize = 64;

impl LocalStore {
    /// Reads the files of a path and compares them with the hash and size on record.
    ///
    /// # Errors
    /// The files cannot be read.
    pub async fn verify_contents(&self, path: &StorePath) -> Result<Verdict> {
        let path = path.clone();
        self.work(move |store| store.verify_contents_blocking(&path)).await
    }

    /// Like [`verify_contents`](Self::verify_contents), for code that may block.
    ///
    /// # Errors
    /// See there.
    pub fn verify_contents_blocking(&self, path: &StorePath) -> Result<Verdict> {
        let Some(info) = self.database().reader()?.path_info(path)? else { return Ok(Verdict::NotValid) };
        let name = Self::component(path)?;
        if self.directory().status(&name)?.is_none() {
            return Ok(Verdict::Missing);
        }
        let nar = kiln_fs::hash_tree(self.directory(), &name, &mut ())?;
        if info.nar_hash == Sha256::UNKNOWN || info.nar_size == 0 && info.nar_hash == nar.hash {
            if !self.config().read_only {
                let concerned = path.clone();
                self.database()
                    .write(move |transaction| transaction.set_nar(&concerned, &nar.hash, nar.size))?;
                self.forget([path]);
            }
            return Ok(Verdict::Recorded);
        }
        if info.nar_hash == nar.hash && info.nar_size == nar.size {
            return Ok(Verdict::Good);
        }
        Ok(Verdict::Modified { expected: info.nar_hash, found: nar.hash })
    }
}

impl Check<'_> {
    /// Reads all valid paths.
    pub(super) fn contents(&self, activity: &ActivityGuard, verified: &mut Verified) -> Result<()> {
        let paths: Vec<StorePath> = self.store.database().reader()?.all_paths()?.into_iter().collect();
        let known = verified.findings.iter().filter_map(Finding::path).cloned().collect();
        let known: std::collections::BTreeSet<StorePath> = known;
        let (mut done, mut failed) = (0, 0);
        for batch in paths.chunks(BATCH) {
            let _lock = self.lock()?;
            let found = on_threads(batch, self.cancel, |path| self.judge(path));
            self.cancel.check()?;
            for finding in found {
                let Some(finding) = finding? else { continue };
                // What is missing has been told.
                if finding.path().is_some_and(|path| known.contains(path)) {
                    continue;
                }
                if let Some(path) = finding.path() {
                    activity.result(ActivityResult::CorruptedPath(self.store.print(path).into()));
                }
                failed += 1;
                verified.findings.push(finding);
            }
            done += batch.len() as u64;
            activity.progress(done, paths.len() as u64, 0, failed);
        }
        Ok(())
    }

    fn judge(&self, path: &StorePath) -> Result<Option<Finding>> {
        let path = path.clone();
        match self.store.verify_contents_blocking(&path) {
            Ok(Verdict::Good | Verdict::Recorded | Verdict::NotValid) => Ok(None),
            Ok(Verdict::Missing) => Ok(Some(Finding::Missing { path, referrers: Vec::new() })),
            Ok(Verdict::Modified { expected, found }) => {
                Ok(Some(Finding::Modified { path, expected, found }))
            }
            Err(Error::Files(error)) => Ok(Some(Finding::Unreadable { path, reason: error.to_string() })),
            Err(error) => Err(error),
        }
    }

    /// Reads all entries of the pool of hard links; with `removes`, bad ones are removed, so that nothing new uses them.
    pub(super) fn pool(&self, removes: bool, verified: &mut Verified) -> Result<()> {
        let pool = LinkPool::open(self.store.directory())?;
        for batch in pool.names()?.chunks(BATCH) {
            let bad = on_threads(batch, self.cancel, |name| match pool.check(name) {
                Ok(EntryCheck::Good | EntryCheck::Vanished) => Ok(None),
                Ok(EntryCheck::Corrupt) if removes => pool.remove(name).map(|()| Some(name)),
                Ok(EntryCheck::Corrupt) | Err(_) => Ok(Some(name)),
            });
            self.cancel.check()?;
            for entry in bad {
                let Some(name) = entry? else { continue };
                let entry = self.store.directory().path().join(".links").join(name.as_path());
                let list = if removes { &mut verified.repaired } else { &mut verified.findings };
                list.push(Finding::CorruptLink { entry });
            }
        }
        Ok(())
    }
}
