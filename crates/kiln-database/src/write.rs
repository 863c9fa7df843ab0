//! Changes. Each runs inside of a transaction of the writer and is undone as a whole if it fails.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use kiln_hash::Sha256;
use kiln_narinfo::{PathInfo, Realisation, SignatureSet};
use kiln_store_path::{OutputName, StoreDir, StorePath};
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use crate::connection::Opener;
use crate::cycle::find_cycle;
use crate::error::{Error, Result};
use crate::row::{encode_hash, encode_paths, encode_signatures, encode_size};

/// A path that is to become valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// What is known about it. A registration time of 0 means now.
    pub info: PathInfo,
    /// For a derivation: its outputs whose paths are known beforehand.
    pub outputs: BTreeMap<OutputName, StorePath>,
}

impl From<PathInfo> for Registration {
    /// A path that is no derivation.
    fn from(info: PathInfo) -> Self {
        Self { info, outputs: BTreeMap::new() }
    }
}

/// The writer's open transaction, as a change sees it.
pub struct WriteTransaction<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) opener: &'a Opener,
    pub(crate) store_dir: &'a StoreDir,
    pub(crate) has_realisations: bool,
}

impl WriteTransaction<'_> {
    /// Makes a set of paths valid.
    ///
    /// Of paths that are valid already, NAR hash and size, `ultimate`, signatures and content address are updated, and
    /// references added; deriver and registration time stay. Returns for each path when it was registered, which is all that
    /// was not given, if it is certain that it was not valid before.
    ///
    /// # Errors
    /// A reference that is neither valid nor in the set; a cycle in the references other than a path to itself.
    pub fn register(&self, set: &[Registration]) -> Result<Vec<Option<u64>>> {
        if let Some((path, from)) = find_cycle(set) {
            return Err(Error::Cycle { path: self.print(path), from: self.print(from) });
        }
        let now = seconds_since_epoch();
        let mut ids = HashMap::with_capacity(set.len());
        let mut times = Vec::with_capacity(set.len());
        for registration in set {
            let (id, time) = self.insert_or_update(&registration.info, now)?;
            ids.insert(&registration.info.path, id);
            times.push(time);
        }
        for registration in set {
            let Some(&id) = ids.get(&registration.info.path) else { continue };
            for reference in &registration.info.references {
                self.insert_reference(id, reference, ids.get(reference).copied())?;
            }
            for (name, path) in &registration.outputs {
                self.sql("registering derivation outputs", || {
                    self.connection
                        .prepare_cached(
                            "insert or replace into DerivationOutputs (drv, id, path) values (?1, ?2, ?3)",
                        )?
                        .execute(params![id, name.as_str(), self.print(path)])
                })?;
            }
        }
        Ok(times)
    }

    /// Adds a reference to a path, whose id is looked up along the way if it is not known.
    fn insert_reference(&self, referrer: i64, reference: &StorePath, id: Option<i64>) -> Result<()> {
        let inserted = self.sql("registering references", || match id {
            Some(id) => self
                .connection
                .prepare_cached("insert or replace into Refs (referrer, reference) values (?1, ?2)")?
                .execute([referrer, id]),
            None => self
                .connection
                .prepare_cached(
                    "insert or replace into Refs (referrer, reference) \
                     select ?1, id from ValidPaths where path = ?2",
                )?
                .execute(params![referrer, self.print(reference)]),
        })?;
        if inserted == 0 {
            return Err(Error::NotValid { path: self.print(reference) });
        }
        Ok(())
    }

    /// The id of a path, and when it was registered, if it is certain that it is new.
    fn insert_or_update(&self, info: &PathInfo, now: i64) -> Result<(i64, Option<u64>)> {
        let time = match info.registration_time {
            0 => now,
            time => i64::try_from(time).unwrap_or(i64::MAX),
        };
        let before = self.connection.last_insert_rowid();
        let id = self.sql("registering a path", || {
            self.connection
                .prepare_cached(
                    "insert into ValidPaths (path, hash, registrationTime, deriver, narSize, ultimate, sigs, ca) \
                     values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) on conflict (path) do update set narSize = excluded.narSize, \
                     hash = excluded.hash, ultimate = excluded.ultimate, sigs = excluded.sigs, ca = excluded.ca \
                     returning id",
                )?
                .query_row(
                    params![
                        self.print(&info.path),
                        encode_hash(&info.nar_hash),
                        time,
                        info.deriver.as_ref().map(|deriver| self.print(deriver)),
                        encode_size(info.nar_size),
                        info.ultimate.then_some(1),
                        encode_signatures(&info.signatures),
                        info.content_address.map(|address| address.to_string()),
                    ],
                    |row| row.get(0),
                )
        })?;
        // An update leaves this alone. What was inserted before may have had the same id in another table.
        let is_new = before != id && self.connection.last_insert_rowid() == id;
        Ok((id, if is_new { u64::try_from(time).ok() } else { None }))
    }

    /// Makes a set of paths invalid, in whatever order their references demand.
    ///
    /// # Errors
    /// A path has referrers that are not in the set. Paths that are not valid are skipped.
    pub fn invalidate(&self, set: &[StorePath]) -> Result<()> {
        let (find, references, paths) = match set {
            [_] => (
                "select id from ValidPaths where path = ?1",
                "delete from Refs where referrer = ?1",
                "delete from ValidPaths where id = ?1",
            ),
            // SQLite prepares each statement for being undone by itself, since triggers and foreign keys belong to it: one that
            // deletes many rows costs hardly more than one that deletes a single row.
            _ => (
                "select v.id from json_each(?1) j cross join ValidPaths v on v.path = j.value",
                "delete from Refs where referrer in (select value from json_each(?1))",
                "delete from ValidPaths where id in (select value from json_each(?1))",
            ),
        };
        let wanted = match set {
            [path] => self.print(path),
            _ => encode_paths(self.store_dir, set),
        };
        let ids: Vec<i64> = self.sql("querying paths", || {
            self.connection.prepare_cached(find)?.query_map([wanted.as_str()], |row| row.get(0))?.collect()
        })?;
        let rows = match ids.as_slice() {
            [] => return Ok(()),
            [id] if set.len() == 1 => Value::Integer(*id),
            ids => Value::Text(serde_json::Value::from(ids).to_string()),
        };
        self.sql("removing references", || self.connection.prepare_cached(references)?.execute([&rows]))?;
        match self.connection.prepare_cached(paths).and_then(|mut delete| delete.execute([&rows])) {
            Ok(_) => Ok(()),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                Err(self.in_use(set, error)?)
            }
            Err(error) => Err(self.opener.sqlite_error("invalidating paths", error)),
        }
    }

    /// Why a set cannot be made invalid: the first of its paths that others refer to, and some of these.
    fn in_use(&self, set: &[StorePath], refused: rusqlite::Error) -> Result<Error> {
        for path in set {
            let referrers: Vec<String> = self.sql("querying referrers", || {
                self.connection
                    .prepare_cached(
                        "select v.path from ValidPaths t cross join Refs on Refs.reference = t.id \
                         cross join ValidPaths v on v.id = Refs.referrer where t.path = ?1 order by v.path limit 10",
                    )?
                    .query_map([self.print(path)], |row| row.get(0))?
                    .collect()
            })?;
            if !referrers.is_empty() {
                return Ok(Error::InUse { path: self.print(path), referrers });
            }
        }
        Ok(self.opener.sqlite_error("invalidating paths", refused))
    }

    /// Adds signatures to a valid path.
    ///
    /// # Errors
    /// The path is not valid.
    pub fn add_signatures(&self, path: &StorePath, signatures: &SignatureSet) -> Result<()> {
        let id = self.id_of(path)?;
        let old: Option<String> = self.sql("querying signatures", || {
            self.connection
                .prepare_cached("select sigs from ValidPaths where id = ?1")?
                .query_row([id], |row| row.get(0))
        })?;
        let all = union(old.as_deref(), signatures);
        self.sql("adding signatures", || {
            self.connection
                .prepare_cached("update ValidPaths set sigs = ?2 where id = ?1")?
                .execute(params![id, encode_signatures(&all)])
        })?;
        Ok(())
    }

    /// Records hash and size of a valid path's NAR, where they were unknown or have changed by a repair.
    ///
    /// # Errors
    /// The path is not valid.
    pub fn set_nar(&self, path: &StorePath, hash: &Sha256, size: u64) -> Result<()> {
        let id = self.id_of(path)?;
        self.sql("recording a NAR hash", || {
            self.connection
                .prepare_cached("update ValidPaths set hash = ?2, narSize = ?3 where id = ?1")?
                .execute(params![id, encode_hash(hash), encode_size(size)])
        })?;
        Ok(())
    }

    /// Records as which path an output of a content-addressed derivation was built; of one that is on record with the
    /// same path, signatures are added.
    ///
    /// # Errors
    /// The output path is not valid, or the output is on record as another path.
    pub fn register_realisation(&self, realisation: &Realisation) -> Result<()> {
        if !self.has_realisations {
            return Err(Error::NoRealisations);
        }
        let hash = realisation.id.derivation_hash.prefixed_base16();
        let output = realisation.id.output.as_str();
        let existing: Option<(i64, String, Option<String>)> = self.sql("querying a realisation", || {
            self.connection
                .prepare_cached(
                    "select r.id, v.path, r.signatures from Realisations r join ValidPaths v on v.id = r.outputPath \
                     where r.drvPath = ?1 and r.outputName = ?2",
                )?
                .query_row([hash.as_str(), output], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .optional()
        })?;
        let new_path = self.print(&realisation.output_path);
        match existing {
            Some((_, path, _)) if path != new_path => Err(Error::RealisationConflict {
                id: realisation.id.to_string(),
                existing: path,
                new: new_path,
            }),
            Some((id, _, old)) => {
                let all =
                    encode_signatures(&union(old.as_deref(), &realisation.signatures)).unwrap_or_default();
                self.sql("updating a realisation", || {
                    self.connection
                        .prepare_cached("update Realisations set signatures = ?2 where id = ?1")?
                        .execute(params![id, all])
                })?;
                Ok(())
            }
            None => {
                let path_id = self.id_of(&realisation.output_path)?;
                // Unlike those of paths: Nix does not expect a null here.
                let signatures = encode_signatures(&realisation.signatures).unwrap_or_default();
                self.sql("registering a realisation", || {
                    self.connection
                        .prepare_cached(
                            "insert into Realisations (drvPath, outputName, outputPath, signatures) values (?1, ?2, ?3, ?4)",
                        )?
                        .execute(params![hash, output, path_id, signatures])
                })?;
                Ok(())
            }
        }
    }

    /// Those of `paths` that are valid, as this transaction sees it.
    pub fn valid_among(&self, paths: &[StorePath]) -> Result<BTreeSet<StorePath>> {
        let mut valid = BTreeSet::new();
        for path in paths {
            if self.find_id(path)?.is_some() {
                valid.insert(path.clone());
            }
        }
        Ok(valid)
    }

    fn find_id(&self, path: &StorePath) -> Result<Option<i64>> {
        let full = self.print(path);
        self.sql("querying a path", || {
            self.connection
                .prepare_cached("select id from ValidPaths where path = ?1")?
                .query_row([full.as_str()], |row| row.get(0))
                .optional()
        })
    }

    fn id_of(&self, path: &StorePath) -> Result<i64> {
        self.find_id(path)?.ok_or_else(|| Error::NotValid { path: self.print(path) })
    }

    fn print(&self, path: &StorePath) -> String {
        self.store_dir.print(path)
    }

    fn sql<T>(&self, doing: &'static str, run: impl FnOnce() -> rusqlite::Result<T>) -> Result<T> {
        run().map_err(|error| self.opener.sqlite_error(doing, error))
    }
}

fn union(old: Option<&str>, new: &SignatureSet) -> SignatureSet {
    let mut all = old.map(SignatureSet::from_separated).unwrap_or_default();
    all.extend(new.iter().cloned());
    all
}

fn seconds_since_epoch() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
}
