//! Queries. Each is one statement, so that it sees one state of the store and needs no round trip per path.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use kiln_narinfo::{PathInfo, Realisation, RealisationId, SignatureSet};
use kiln_store_path::{OutputName, StoreDir, StorePath};
use rusqlite::{Connection, OptionalExtension, Params, Row};

use crate::connection::Opener;
use crate::error::{Error, Result};
use crate::row::{COLUMN_COUNT, COLUMNS, RawRow, decode_path, encode_paths};

/// A connection that reads; see [`Database::reader`](crate::Database::reader).
pub struct ReadConnection {
    pub(crate) connection: Connection,
    opener: Opener,
    store_dir: StoreDir,
    has_realisations: bool,
}

/// Which edges a closure follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Follow {
    /// Referrers instead of references.
    pub backwards: bool,
    /// From a derivation to its valid outputs; backwards from an output to its valid derivers.
    pub outputs: bool,
    /// From a path to the deriver on record, if that is valid; backwards from a derivation to its valid outputs.
    pub derivers: bool,
}

impl Follow {
    /// References, and nothing else: what a path needs.
    pub const REFERENCES: Self = Self { backwards: false, outputs: false, derivers: false };
    /// Referrers, and nothing else: what needs a path.
    pub const REFERRERS: Self = Self { backwards: true, outputs: false, derivers: false };

    /// The edges as `union` arms that lead from `closure` to further ids.
    fn recursive_terms(self) -> String {
        let mut terms = String::from(if self.backwards {
            " union select Refs.referrer from closure cross join Refs on Refs.reference = closure.id"
        } else {
            " union select Refs.reference from closure cross join Refs on Refs.referrer = closure.id"
        });
        let outputs_of_derivation = " union select o.id from closure \
             cross join DerivationOutputs d on d.drv = closure.id cross join ValidPaths o on o.path = d.path";
        let recorded_deriver = " union select d.id from closure \
             cross join ValidPaths p on p.id = closure.id cross join ValidPaths d on d.path = p.deriver";
        let valid_derivers = " union select d.drv from closure \
             cross join ValidPaths p on p.id = closure.id cross join DerivationOutputs d on d.path = p.path";
        let (of_outputs, of_derivers) = match self.backwards {
            false => (outputs_of_derivation, recorded_deriver),
            true => (valid_derivers, outputs_of_derivation),
        };
        if self.outputs {
            terms.push_str(of_outputs);
        }
        if self.derivers {
            terms.push_str(of_derivers);
        }
        terms
    }

    fn common_table_expression(self) -> String {
        format!(
            "with recursive closure(id) as (select v.id from json_each(?1) j cross join ValidPaths v on v.path = j.value{})",
            self.recursive_terms()
        )
    }
}

impl ReadConnection {
    pub(crate) fn new(
        connection: Connection,
        opener: Opener,
        store_dir: StoreDir,
        has_realisations: bool,
    ) -> Self {
        Self { connection, opener, store_dir, has_realisations }
    }

    /// What is known about a path; `None` if it is not valid.
    pub fn path_info(&self, path: &StorePath) -> Result<Option<PathInfo>> {
        let sql = format!(
            "select {COLUMNS}, r.id, r.path from ValidPaths v left join Refs on Refs.referrer = v.id \
             left join ValidPaths r on r.id = Refs.reference where v.path = ?1"
        );
        Ok(self.infos("querying path info", &sql, [self.store_dir.print(path)])?.pop())
    }

    /// What is known about those of `paths` that are valid.
    pub fn path_infos(&self, paths: &[StorePath]) -> Result<HashMap<StorePath, PathInfo>> {
        let sql = format!(
            "select {COLUMNS}, r.id, r.path from json_each(?1) j cross join ValidPaths v on v.path = j.value \
             left join Refs on Refs.referrer = v.id left join ValidPaths r on r.id = Refs.reference"
        );
        let infos = self.infos("querying path infos", &sql, [encode_paths(&self.store_dir, paths)])?;
        Ok(infos.into_iter().map(|info| (info.path.clone(), info)).collect())
    }

    /// Whether a path is valid.
    pub fn is_valid(&self, path: &StorePath) -> Result<bool> {
        let full = self.store_dir.print(path);
        self.opener.retry("querying validity", || {
            self.connection
                .prepare_cached("select 1 from ValidPaths where path = ?1")?
                .exists([full.as_str()])
        })
    }

    /// Those of `paths` that are valid.
    pub fn valid_among(&self, paths: &[StorePath]) -> Result<BTreeSet<StorePath>> {
        if let [path] = paths {
            // SQLite compiles what has a list of parameters anew each time, which takes longer than the answer.
            return Ok(if self.is_valid(path)? { BTreeSet::from([path.clone()]) } else { BTreeSet::new() });
        }
        let sql = "select v.path from json_each(?1) j cross join ValidPaths v on v.path = j.value";
        self.paths("querying validity", sql, [encode_paths(&self.store_dir, paths)])
    }

    /// What each of `paths` refers to of them, by their positions, in ascending order; nothing if it is not valid.
    pub fn references_among(&self, paths: &[StorePath]) -> Result<Vec<Vec<usize>>> {
        self.snapshot(|reader| {
            let sql = "select v.id, j.key from json_each(?1) j cross join ValidPaths v on v.path = j.value";
            let positions: HashMap<i64, usize> = reader
                .rows("querying paths", sql, [encode_paths(&reader.store_dir, paths)], |row| {
                    Ok((row.get::<_, i64>(0)?, row.get::<_, u32>(1)? as usize))
                })?
                .into_iter()
                .collect();
            let mut references = vec![Vec::new(); paths.len()];
            for (id, &position) in &positions {
                let sql = "select reference from Refs where referrer = ?1";
                let all = reader.rows("querying references", sql, [id], |row| row.get::<_, i64>(0))?;
                if let Some(references) = references.get_mut(position) {
                    references.extend(all.iter().filter_map(|id| positions.get(id)).copied());
                    references.sort_unstable();
                }
            }
            Ok(references)
        })
    }

    /// The valid paths that refer to a path, itself among them if it does.
    pub fn referrers(&self, path: &StorePath) -> Result<BTreeSet<StorePath>> {
        let sql = "select v.path from ValidPaths t cross join Refs on Refs.reference = t.id \
                   cross join ValidPaths v on v.id = Refs.referrer where t.path = ?1";
        self.paths("querying referrers", sql, [self.store_dir.print(path)])
    }

    /// The valid derivations that have a path as an output.
    pub fn valid_derivers(&self, path: &StorePath) -> Result<BTreeSet<StorePath>> {
        let sql =
            "select v.path from DerivationOutputs d join ValidPaths v on v.id = d.drv where d.path = ?1";
        self.paths("querying valid derivers", sql, [self.store_dir.print(path)])
    }

    /// The outputs of a valid derivation whose paths are known beforehand.
    pub fn derivation_outputs(&self, derivation: &StorePath) -> Result<BTreeMap<OutputName, StorePath>> {
        let sql = "select d.id, d.path from ValidPaths v join DerivationOutputs d on d.drv = v.id where v.path = ?1";
        let full = self.store_dir.print(derivation);
        let rows = self.rows("querying derivation outputs", sql, [full.as_str()], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })?;
        rows.into_iter()
            .map(|(name, path)| {
                let name = OutputName::new(&name).map_err(|error| Error::Value {
                    column: "DerivationOutputs.id",
                    subject: full.clone(),
                    detail: error.to_string(),
                })?;
                Ok((name, decode_path(&self.store_dir, "DerivationOutputs.path", &path)?))
            })
            .collect()
    }

    /// The valid path with these 32 digits of a digest.
    pub fn path_by_digest(&self, digest: &str) -> Result<Option<StorePath>> {
        let start = format!("{}/{digest}", self.store_dir);
        let found: Option<String> = self.opener.retry("querying a path by its digest", || {
            self.connection
                .prepare_cached("select path from ValidPaths where path >= ?1 order by path limit 1")?
                .query_row([start.as_str()], |row| row.get(0))
                .optional()
        })?;
        match found.filter(|path| path.strip_prefix(&start).is_some_and(|rest| rest.starts_with('-'))) {
            None => Ok(None),
            Some(path) => decode_path(&self.store_dir, "ValidPaths.path", &path).map(Some),
        }
    }

    /// All valid paths.
    pub fn all_paths(&self) -> Result<BTreeSet<StorePath>> {
        self.paths("querying all valid paths", "select path from ValidPaths", [])
    }

    /// Path info of all valid paths, in the order in which they were registered first.
    pub fn all_path_infos(&self) -> Result<Vec<PathInfo>> {
        let sql = format!(
            "select {COLUMNS}, r.id, r.path from ValidPaths v left join Refs on Refs.referrer = v.id \
             left join ValidPaths r on r.id = Refs.reference order by v.id"
        );
        self.infos("querying all path infos", &sql, [])
    }

    /// All that can be reached from `start`, itself included, computed inside of SQLite.
    ///
    /// # Errors
    /// A path of `start` is not valid.
    pub fn closure(&self, start: &[StorePath], follow: Follow) -> Result<BTreeSet<StorePath>> {
        let sql = format!(
            "{} select v.path from closure cross join ValidPaths v on v.id = closure.id",
            follow.common_table_expression()
        );
        let closure = self.paths("computing a closure", &sql, [encode_paths(&self.store_dir, start)])?;
        match start.iter().find(|path| !closure.contains(*path)) {
            Some(path) => Err(Error::NotValid { path: self.store_dir.print(path) }),
            None => Ok(closure),
        }
    }

    /// Path info of all that can be reached from `start`, itself included.
    ///
    /// # Errors
    /// A path of `start` is not valid.
    pub fn closure_infos(
        &self,
        start: &[StorePath],
        follow: Follow,
    ) -> Result<BTreeMap<StorePath, PathInfo>> {
        let sql = format!(
            "{} select {COLUMNS}, r.id, r.path from closure cross join ValidPaths v on v.id = closure.id \
             left join Refs on Refs.referrer = v.id left join ValidPaths r on r.id = Refs.reference",
            follow.common_table_expression()
        );
        let infos = self.infos("computing a closure", &sql, [encode_paths(&self.store_dir, start)])?;
        let closure: BTreeMap<_, _> = infos.into_iter().map(|info| (info.path.clone(), info)).collect();
        match start.iter().find(|path| !closure.contains_key(*path)) {
            Some(path) => Err(Error::NotValid { path: self.store_dir.print(path) }),
            None => Ok(closure),
        }
    }

    /// Which path an output of a content-addressed derivation was built as, if that is on record.
    pub fn realisation(&self, id: &RealisationId) -> Result<Option<Realisation>> {
        if !self.has_realisations {
            return Ok(None);
        }
        let sql = "select v.path, r.signatures from Realisations r join ValidPaths v on v.id = r.outputPath \
                   where r.drvPath = ?1 and r.outputName = ?2";
        let parameters = (id.derivation_hash.prefixed_base16(), id.output.as_str());
        let rows = self.rows("querying a realisation", sql, parameters, |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?))
        })?;
        let Some((path, signatures)) = rows.into_iter().next() else { return Ok(None) };
        let path = decode_path(&self.store_dir, "ValidPaths.path", &path)?;
        let mut realisation = Realisation::new(id.clone(), path);
        realisation.signatures = signatures.as_deref().map(SignatureSet::from_separated).unwrap_or_default();
        Ok(Some(realisation))
    }

    /// The valid derivations that have no outputs whose paths are known before they are built.
    pub fn derivations_without_known_outputs(&self) -> Result<Vec<StorePath>> {
        let sql = "select path from ValidPaths v where path like '%.drv' \
                   and not exists (select 1 from DerivationOutputs where drv = v.id)";
        let rows = self.rows("querying derivations", sql, [], |row| row.get::<_, String>(0))?;
        rows.iter().map(|path| decode_path(&self.store_dir, "ValidPaths.path", path)).collect()
    }

    /// Runs several queries on one state of the store.
    pub fn snapshot<T>(&self, run: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        self.opener.retry("starting to read", || self.connection.execute_batch("begin"))?;
        let result = run(self);
        // A transaction that has only read cannot fail to end.
        let _ = self.connection.execute_batch("rollback");
        result
    }

    pub(crate) const fn store_dir(&self) -> &StoreDir {
        &self.store_dir
    }

    pub(crate) fn rows<T>(
        &self,
        doing: &'static str,
        sql: &str,
        parameters: impl Params + Clone,
        mut read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        self.opener.retry(doing, || {
            self.connection
                .prepare_cached(sql)?
                .query_map(parameters.clone(), &mut read)?
                .collect::<rusqlite::Result<Vec<T>>>()
        })
    }

    fn paths(
        &self,
        doing: &'static str,
        sql: &str,
        parameters: impl Params + Clone,
    ) -> Result<BTreeSet<StorePath>> {
        self.rows(doing, sql, parameters, |row| row.get::<_, String>(0))?
            .iter()
            .map(|path| decode_path(&self.store_dir, "ValidPaths.path", path))
            .collect()
    }

    /// Reads path infos from rows of [`COLUMNS`] and id and path of one reference each; rows of one path come together.
    fn infos(
        &self,
        doing: &'static str,
        sql: &str,
        parameters: impl Params + Clone,
    ) -> Result<Vec<PathInfo>> {
        let rows = self.opener.retry(doing, || {
            let mut current = None;
            let mut seen = HashSet::new();
            let read = |row: &Row<'_>| {
                let id: i64 = row.get(0)?;
                // The columns of a path are read once, not once per reference.
                let head = if current == Some(id) { None } else { Some(RawRow::read(row)?) };
                current = Some(id);
                let reference: Option<i64> = row.get(COLUMN_COUNT)?;
                // So is the text of a reference, however many refer to it.
                let path = match reference {
                    Some(reference) if seen.insert(reference) => {
                        Some(row.get::<_, String>(COLUMN_COUNT + 1)?)
                    }
                    _ => None,
                };
                Ok((head, reference, path))
            };
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_map(parameters.clone(), read)?.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let mut infos: Vec<PathInfo> = Vec::new();
        let mut paths = HashMap::new();
        for (head, reference, path) in rows {
            if let Some(head) = head {
                infos.push(head.decode(&self.store_dir)?);
            }
            if let (Some(reference), Some(path)) = (reference, path) {
                paths.insert(reference, decode_path(&self.store_dir, "ValidPaths.path", &path)?);
            }
            let known = reference.and_then(|reference| paths.get(&reference));
            if let (Some(info), Some(path)) = (infos.last_mut(), known) {
                info.references.insert(path.clone());
            }
        }
        Ok(infos)
    }
}
