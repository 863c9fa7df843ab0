//! What binary caches have said before, on disk (binary-cache specification, section 10).
//!
//! A small database of Kiln's own in the user's cache directory, with the tables of Nix's. It is there to save requests
//! and nothing depends on it: it may be deleted at any time, a damaged one is made anew, and where none can be kept it is
//! in memory. Entries are kept by the URL of the cache, so that no cache can speak for another one.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kiln_narinfo::NarInfo;
use kiln_store::blocking;
use kiln_store_path::{StoreDir, StorePath};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, Row, params};

mod status;

pub use status::CacheStatus;

use crate::error::Result;
use crate::source::Properties;

/// The file, in the directory of such caches.
const FILE: &str = "kiln/binary-cache-v1.sqlite";

/// How long is waited for other processes that use the file.
const BUSY: Duration = Duration::from_secs(5);

/// How often old entries are deleted at most, in seconds.
const PURGE_INTERVAL: u64 = 24 * 3600;

const SCHEMA: &str = "
    create table if not exists BinaryCaches (
        id integer primary key autoincrement not null, url text unique not null, timestamp integer not null,
        storeDir text not null, wantMassQuery integer not null, priority integer not null);
    create table if not exists NARs (
        cache integer not null, hashPart text not null, namePart text, url text, compression text, fileHash text,
        fileSize integer, narHash text, narSize integer, refs text, deriver text, sigs text, ca text,
        timestamp integer not null, present integer not null, primary key (cache, hashPart),
        foreign key (cache) references BinaryCaches(id) on delete cascade);
    create table if not exists Servers (
        url text primary key not null, answered integer, failed integer, failure text, restsUntil integer,
        latency integer);
    create table if not exists LastPurge (dummy text primary key, value integer);";

/// What was said about a path, by a cache, a store directory, a digest, and the times since when answers count that it is not
/// there or is.
const NARINFO: &str = "
    select present, namePart, N.url, compression, fileHash, fileSize, narHash, narSize, refs, deriver, sigs, ca
    from NARs N join BinaryCaches C on N.cache = C.id
    where C.url = ? and storeDir = ? and hashPart = ? and N.timestamp > case present when 0 then ? else ? end";

/// For how long answers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeToLive {
    /// That a path is not there (`narinfo-cache-negative-ttl`).
    pub negative: Duration,
    /// That a path is there (`narinfo-cache-positive-ttl`).
    pub positive: Duration,
    /// What a cache says about itself.
    pub properties: Duration,
}

impl Default for TimeToLive {
    /// An hour, 30 days, 7 days: as in Nix.
    fn default() -> Self {
        let hours = |count: u64| Duration::from_secs(count * 3600);
        Self { negative: hours(1), positive: hours(30 * 24), properties: hours(7 * 24) }
    }
}

/// What was said about a path before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Absent,
    Present(Box<NarInfo>),
}

/// The database. Cheap to clone. What goes wrong with it is as if nothing were known.
#[derive(Clone)]
pub struct LookupCache(Arc<Inner>);

struct Inner {
    connection: Mutex<Connection>,
    time_to_live: TimeToLive,
}

impl LookupCache {
    /// Opens the database below the user's cache directory, `XDG_CACHE_HOME` or `~/.cache`; without one, or if it can't
    /// be used, one in memory.
    ///
    /// # Errors
    /// Not even that is possible.
    pub async fn open(directory: Option<PathBuf>, time_to_live: TimeToLive) -> Result<Self> {
        blocking(move || {
            let on_disk = directory.and_then(|directory| open_file(&directory.join(FILE)));
            let connection = match on_disk {
                Some(connection) => connection,
                None => prepare(Connection::open_in_memory()?)?,
            };
            let cache = Self(Arc::new(Inner { connection: Mutex::new(connection), time_to_live }));
            cache.purge();
            Ok(cache)
        })
        .await
    }

    /// What a cache said about itself.
    pub(crate) async fn properties(&self, url: &str, store_dir: &StoreDir) -> Option<Properties> {
        let (url, store_dir) = (url.to_owned(), store_dir.clone());
        self.with(move |connection, time_to_live| {
            connection
                .prepare_cached(
                    "select wantMassQuery, priority from BinaryCaches where url = ? and storeDir = ? and timestamp > ?",
                )?
                .query_row(params![url, store_dir.as_str(), since(time_to_live.properties)], |row| {
                    Ok(Properties { want_mass_query: row.get(0)?, priority: row.get(1)?, date: None })
                })
                .optional()
        })
        .await
        .flatten()
    }

    /// Takes note of what a cache says about itself.
    pub(crate) async fn set_properties(&self, url: &str, store_dir: &StoreDir, properties: Properties) {
        let (url, store_dir) = (url.to_owned(), store_dir.clone());
        self.with(move |connection, _| {
            connection
                .prepare_cached(
                    "insert into BinaryCaches (url, timestamp, storeDir, wantMassQuery, priority) values (?, ?, ?, ?, ?)
                     on conflict (url) do update set timestamp = excluded.timestamp, storeDir = excluded.storeDir,
                     wantMassQuery = excluded.wantMassQuery, priority = excluded.priority",
                )?
                .execute(params![
                    url,
                    now(),
                    store_dir.as_str(),
                    properties.want_mass_query,
                    properties.priority
                ])
        })
        .await;
    }

    /// What a cache said about a path. An entry under another name is none.
    pub(crate) async fn narinfo(&self, url: &str, store_dir: &StoreDir, path: &StorePath) -> Option<Known> {
        let (url, store_dir, path) = (url.to_owned(), store_dir.clone(), path.clone());
        self.with(move |connection, time_to_live| {
            let known = connection
                .prepare_cached(NARINFO)?
                .query_row(
                    params![
                        url,
                        store_dir.as_str(),
                        path.digest(),
                        since(time_to_live.negative),
                        since(time_to_live.positive)
                    ],
                    |row| known(row, &store_dir, &path),
                )
                .optional()?;
            Ok(known.flatten())
        })
        .await
        .flatten()
    }

    /// Takes note of what a cache says about a path; nothing if it doesn't have it.
    pub(crate) async fn set_narinfo(
        &self,
        url: &str,
        store_dir: &StoreDir,
        path: &StorePath,
        narinfo: Option<NarInfo>,
    ) {
        let (url, store_dir, path) = (url.to_owned(), store_dir.clone(), path.clone());
        self.with(move |connection, _| {
            let mut statement = connection.prepare_cached(
                "insert or replace into NARs (cache, hashPart, namePart, url, compression, fileHash, fileSize, narHash,
                 narSize, refs, deriver, sigs, ca, timestamp, present)
                 select id, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16 from BinaryCaches
                 where url = ?1 and storeDir = ?2",
            )?;
            let present = narinfo.is_some();
            let stated = narinfo.as_ref();
            let info = stated.map(|narinfo| &narinfo.info);
            let references: Option<Vec<&str>> =
                info.map(|info| info.references.iter().map(StorePath::base_name).collect());
            statement.execute(params![
                url,
                store_dir.as_str(),
                path.digest(),
                info.map(|info| info.path.name()),
                stated.map(|narinfo| &narinfo.url),
                stated.map(|narinfo| narinfo.compression.name()),
                stated.and_then(|narinfo| narinfo.file_hash.map(|hash| hash.prefixed_nix32())),
                stated.and_then(|narinfo| narinfo.file_size.map(u64::cast_signed)),
                info.map(|info| format!("sha256:{}", info.nar_hash.nix32())),
                info.map(|info| info.nar_size.cast_signed()),
                references.map(|references| references.join(" ")),
                info.and_then(|info| info.deriver.as_ref()).map(StorePath::base_name),
                info.map(|info| info.signatures.to_separated()),
                info.and_then(|info| info.content_address).map(|address| address.to_string()),
                now(),
                present,
            ])
        })
        .await;
    }

    /// Runs a query on a thread where it may block; nothing if it fails.
    async fn with<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Connection, TimeToLive) -> rusqlite::Result<T> + Send + 'static,
    ) -> Option<T> {
        let cache = self.clone();
        blocking(move || {
            let connection = cache.0.connection.lock().unwrap_or_else(PoisonError::into_inner);
            run(&connection, cache.0.time_to_live).ok()
        })
        .await
    }

    /// Deletes what is too old for anybody, if nobody has done so for a day. If that fails it is done another time.
    fn purge(&self) {
        let connection = self.0.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let TimeToLive { negative, positive, .. } = self.0.time_to_live;
        let _ = purge(&connection, negative, positive);
    }
}

fn purge(connection: &Connection, negative: Duration, positive: Duration) -> rusqlite::Result<()> {
    let least = TimeToLive::default();
    let last: Option<i64> =
        connection.query_row("select value from LastPurge", [], |row| row.get(0)).optional()?;
    if last.is_some_and(|last| last > since(Duration::from_secs(PURGE_INTERVAL))) {
        return Ok(());
    }
    connection.execute(
        "delete from NARs where (present = 0 and timestamp < ?) or (present = 1 and timestamp < ?)",
        params![since(negative.max(least.negative)), since(positive.max(least.positive))],
    )?;
    connection
        .execute("insert or replace into LastPurge (dummy, value) values ('', ?)", params![now()])
        .map(drop)
}

/// The database in a file; a damaged one is made anew. Nothing if that can't be.
fn open_file(path: &Path) -> Option<Connection> {
    std::fs::create_dir_all(path.parent()?).ok()?;
    let open = || Connection::open(path).and_then(prepare);
    match open() {
        Err(error) if is_damaged(&error) => {
            // The log belongs to the damaged file; that there is none is as good.
            for suffix in ["", "-wal", "-shm"] {
                let mut name = path.as_os_str().to_owned();
                name.push(suffix);
                let _ = std::fs::remove_file(name);
            }
            open().ok()
        }
        opened => opened.ok(),
    }
}

fn is_damaged(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

fn prepare(connection: Connection) -> rusqlite::Result<Connection> {
    connection.busy_timeout(BUSY)?;
    // Otherwise what is asked most is compiled again for each path, which takes longer than the answer.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "foreign_keys", 1)?;
    // What is lost in a power failure is asked for again.
    connection.pragma_update(None, "synchronous", "off")?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.execute_batch(SCHEMA)?;
    Ok(connection)
}

/// Reads a row by way of the narinfo's text, so that what is in it is checked like any other one.
fn known(row: &Row<'_>, store_dir: &StoreDir, path: &StorePath) -> rusqlite::Result<Option<Known>> {
    if !row.get::<_, bool>(0)? {
        return Ok(Some(Known::Absent));
    }
    let name: Option<String> = row.get(1)?;
    if name.as_deref() != Some(path.name()) {
        return Ok(None);
    }
    let mut text = format!("StorePath: {}\n", store_dir.print(path));
    for (column, field) in [
        (2, "URL"),
        (3, "Compression"),
        (4, "FileHash"),
        (6, "NarHash"),
        (8, "References"),
        (9, "Deriver"),
        (11, "CA"),
    ] {
        if let Some(value) = row.get::<_, Option<String>>(column)? {
            text += &format!("{field}: {value}\n");
        }
    }
    for (column, field) in [(5, "FileSize"), (7, "NarSize")] {
        if let Some(value) = row.get::<_, Option<i64>>(column)? {
            text += &format!("{field}: {}\n", value.cast_unsigned());
        }
    }
    for signature in row.get::<_, Option<String>>(10)?.unwrap_or_default().split_ascii_whitespace() {
        text += &format!("Sig: {signature}\n");
    }
    let parsed = NarInfo::parse(store_dir, "entry of the lookup cache", text.as_bytes());
    Ok(parsed.ok().map(|narinfo| Known::Present(Box::new(narinfo))))
}

fn now() -> i64 {
    // Before 1970 everything is old.
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// The time that was so long ago.
fn since(age: Duration) -> i64 {
    now().saturating_sub(i64::try_from(age.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
