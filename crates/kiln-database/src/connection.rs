//! Opening connections as all Nix processes open them, and the patience that they need with each other.

use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::ffi::ErrorCode;
use rusqlite::{Connection, FileControl, OpenFlags};

use crate::error::{Error, Result};

/// Something worth telling the user while he waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Another process upgrades the schema or keeps it from being upgraded.
    WaitingForBigLock,
    /// Another process keeps the database locked; this is how long this one has waited.
    Busy(Duration),
    /// The schema is being upgraded.
    Migrating {
        /// From this version.
        from: u32,
        /// To this one.
        to: u32,
    },
}

/// Takes notices; called on whatever thread uses the database.
pub type OnNotice = Arc<dyn Fn(&Notice) + Send + Sync>;

/// How the database is used.
#[derive(Clone)]
pub struct OpenOptions {
    /// Neither lock nor change anything; the file must not be changed by others meanwhile.
    pub read_only: bool,
    /// Create a new store where there is none.
    pub create: bool,
    /// Create the tables of content-addressed derivations, which Nix does only with that feature.
    pub realisations: bool,
    /// `use-sqlite-wal`: readers and the writer do not block each other.
    pub write_ahead_log: bool,
    /// `fsync-metadata`: survive a power failure.
    pub sync: bool,
    /// Besides, a change is on the disk when its commit returns, and not only some time later.
    pub sync_commits: bool,
    /// Longest wait for other processes; Nix waits for ever.
    pub busy_deadline: Option<Duration>,
    /// `gc-reserved-space`, in bytes: a file that is deleted to make room for deleting.
    pub reserved_space: u64,
    /// How many threads may read at once.
    pub readers: usize,
    /// Takes what is worth telling the user.
    pub on_notice: OnNotice,
}

impl Default for OpenOptions {
    /// As Nix with default settings.
    fn default() -> Self {
        Self {
            read_only: false,
            create: true,
            realisations: false,
            write_ahead_log: true,
            sync: true,
            sync_commits: false,
            busy_deadline: None,
            reserved_space: 8 << 20,
            readers: 8,
            on_notice: Arc::new(|_| {}),
        }
    }
}

/// Pages of the log after which SQLite copies it into the database; Nix's choice.
const AUTOMATIC_CHECKPOINT: u32 = 40_000;

/// Bytes to which the log is cut when it is closed; Nix's choice, which is never.
const JOURNAL_SIZE_LIMIT: i64 = 1 << 40;

/// Memory for pages that the writer changes. With SQLite's 2 MiB, a transaction of some thousand references, which are
/// scattered over four trees, writes and reads its own pages again and again.
const WRITER_CACHE_KIB: i64 = 32 << 10;

/// Longest sleep between two attempts to get a lock. Nobody is woken when it is free, and who collects garbage takes it again
/// and again.
const LONGEST_SLEEP: Duration = Duration::from_millis(8);

/// Time between two notices that the database is busy.
const NOTICE_INTERVAL: Duration = Duration::from_secs(10);

/// The file and how it is opened.
#[derive(Clone)]
pub(crate) struct Opener {
    pub(crate) path: PathBuf,
    pub(crate) options: OpenOptions,
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Create,
    Write,
    Read,
}

impl Opener {
    /// Opens a connection with all that other Nix processes rely on.
    pub(crate) fn open(&self, purpose: Purpose) -> Result<Connection> {
        // Not all of this waits by itself for others who are opening the database, too.
        self.retry("opening the store's database", || {
            self.connect(purpose).and_then(|connection| self.configure(connection, purpose))
        })
    }

    fn connect(&self, purpose: Purpose) -> rusqlite::Result<Connection> {
        // A connection is used by one thread at a time.
        let common = OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if self.options.read_only {
            let flags = common | OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
            return Connection::open_with_flags(uri(&self.path, "immutable=1"), flags);
        }
        let create = match purpose {
            Purpose::Create => OpenFlags::SQLITE_OPEN_CREATE,
            Purpose::Write | Purpose::Read => OpenFlags::empty(),
        };
        let flags = common | OpenFlags::SQLITE_OPEN_READ_WRITE | create;
        if self.options.write_ahead_log {
            Connection::open_with_flags(&self.path, flags)
        } else {
            Connection::open_with_flags_and_vfs(&self.path, flags, c"unix-dotfile")
        }
    }

    fn configure(&self, mut connection: Connection, purpose: Purpose) -> rusqlite::Result<Connection> {
        connection.busy_handler(Some(self.patience()))?;
        connection.set_prepared_statement_cache_capacity(64);
        // Otherwise some statements are compiled again for each new value.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        // The triggers and cascades of the schema depend on it.
        connection.pragma_update(None, "foreign_keys", 1)?;
        if self.options.read_only {
            return Ok(connection);
        }
        let synchronous = match (self.options.sync, self.options.sync_commits) {
            (true, true) => "full",
            (true, false) => "normal",
            (false, _) => "off",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        let mode = if self.options.write_ahead_log { "wal" } else { "truncate" };
        let old: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
        if old != mode {
            connection.pragma_update_and_check(None, "journal_mode", mode, |_| Ok(()))?;
        }
        if self.options.write_ahead_log {
            connection.pragma_update_and_check(None, "journal_size_limit", JOURNAL_SIZE_LIMIT, |_| Ok(()))?;
            // Users who may only read the directory could not create the log again.
            connection.file_control(None::<&str>, FileControl::PersistWal(&mut 1))?;
            connection
                .pragma_update_and_check(None, "wal_autocheckpoint", AUTOMATIC_CHECKPOINT, |_| Ok(()))?;
        }
        if purpose == Purpose::Read {
            connection.pragma_update(None, "query_only", 1)?;
        } else {
            connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
            // What a savepoint needs for undoing goes to a file otherwise, page by page.
            connection.pragma_update(None, "temp_store", "memory")?;
        }
        Ok(connection)
    }

    /// What SQLite calls when a lock is taken: sleeps for a moment and says whether to try again.
    fn patience(&self) -> impl FnMut(i32) -> bool + Send + 'static {
        let mut wait = Wait::new(&self.options);
        move |attempt| {
            if attempt == 0 {
                wait.restart();
            }
            wait.once_more()
        }
    }

    /// Runs a whole operation again for as long as other processes are in its way.
    pub(crate) fn retry<T>(
        &self,
        doing: &'static str,
        mut run: impl FnMut() -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut wait = Wait::new(&self.options);
        loop {
            match run() {
                Err(error) if is_contention(&error) => {
                    if !wait.once_more() {
                        return Err(self.sqlite_error(doing, error));
                    }
                }
                result => return result.map_err(|error| self.sqlite_error(doing, error)),
            }
        }
    }

    /// Tells a damaged file and a busy one from other failures.
    pub(crate) fn sqlite_error(&self, doing: &'static str, error: rusqlite::Error) -> Error {
        let path = self.path.clone();
        match error.sqlite_error_code() {
            _ if is_corruption(&error) => Error::Corrupt { path, detail: error.to_string() },
            Some(ErrorCode::DatabaseBusy | ErrorCode::FileLockingProtocolFailed) => {
                Error::Busy { path, waited: self.options.busy_deadline.unwrap_or_default() }
            }
            _ => Error::Sqlite { doing, path, error },
        }
    }
}

/// Whether the file is damaged.
pub(crate) fn is_corruption(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Whether another process was in the way, so that the same again may succeed.
pub(crate) fn is_contention(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::FileLockingProtocolFailed))
}

/// A wait for another process.
struct Wait {
    since: Instant,
    last_notice: Instant,
    deadline: Option<Duration>,
    on_notice: OnNotice,
    random: std::hash::RandomState,
    attempts: u64,
}

impl Wait {
    fn new(options: &OpenOptions) -> Self {
        let now = Instant::now();
        Self {
            since: now,
            last_notice: now,
            deadline: options.busy_deadline,
            on_notice: options.on_notice.clone(),
            random: std::hash::RandomState::new(),
            attempts: 0,
        }
    }

    fn restart(&mut self) {
        self.since = Instant::now();
        self.last_notice = self.since;
    }

    /// Sleeps for a random while, so that several who wait do not meet again; false if that was enough.
    fn once_more(&mut self) -> bool {
        let waited = self.since.elapsed();
        if self.deadline.is_some_and(|deadline| waited >= deadline) {
            return false;
        }
        if self.last_notice.elapsed() >= NOTICE_INTERVAL {
            self.last_notice = Instant::now();
            (self.on_notice)(&Notice::Busy(waited));
        }
        self.attempts += 1;
        let mut hasher = self.random.build_hasher();
        hasher.write_u64(self.attempts);
        // The first waits are short: most transactions take well below a millisecond.
        let longest = (LONGEST_SLEEP.as_micros() as u64).min(200 << self.attempts.min(10));
        std::thread::sleep(Duration::from_micros(hasher.finish() % longest.max(1)));
        true
    }
}

/// The URI of a file with parameters for SQLite: `immutable=1` is without locks and without a log.
pub(crate) fn uri(path: &Path, parameters: &str) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => uri.push(*byte as char),
            _ => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    uri.push('?');
    uri.push_str(parameters);
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uri_keeps_every_byte_of_the_path() {
        assert_eq!(uri(Path::new("/a b/c?d#e%"), "immutable=1"), "file:/a%20b/c%3fd%23e%25?immutable=1");
    }

    #[test]
    fn waiting_ends_at_the_deadline() {
        let options =
            OpenOptions { busy_deadline: Some(Duration::from_millis(20)), ..OpenOptions::default() };
        let mut wait = Wait::new(&options);
        let start = Instant::now();
        while wait.once_more() {}
        assert!(start.elapsed() >= Duration::from_millis(20));
    }
}
