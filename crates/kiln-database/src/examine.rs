//! Looking a database over without changing anything, while others use it or nobody does.

use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rusqlite::ffi::ErrorCode;
use rusqlite::{Connection, OpenFlags};

use crate::connection::is_corruption;
use crate::connection::uri;
use crate::error::{Error, Result, SCHEMA_VERSION};
use crate::schema::{SchemaFile, Version};

/// Most faults that are told.
const MOST_FAULTS: u32 = 10;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examination {
    /// The version of the schema.
    pub schema: u32,
    /// Valid paths.
    pub valid_paths: u64,
    /// Bytes of the database's file.
    pub size: u64,
    /// Bytes of its write-ahead log.
    pub log_size: u64,
    /// Whether the file is whole.
    pub integrity: Integrity,
}

/// Whether a database's file is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// It is, as far as its structure goes.
    Whole,
    /// It takes longer to find out than there was time for.
    Unknown,
    /// It is not; the first of what is wrong.
    Damaged(Vec<String>),
}

/// Looks over the database in `directory`, for about as long as `patience` says. Changes nothing, unless
/// something is in the write-ahead log: then SQLite notes who reads in the file that all readers share. Blocks.
///
/// # Errors
/// There is none, it has a schema that is not spoken here, or it cannot be read.
pub fn examine(directory: &Path, patience: Duration) -> Result<Examination> {
    let file = SchemaFile::in_directory(directory);
    let schema = match file.read()? {
        Version::Current => SCHEMA_VERSION,
        Version::Old(found) => return Err(file.read_only_error(found)),
        Version::New => return Err(Error::NoStore { path: directory.to_owned() }),
    };
    let path = directory.join("db.sqlite");
    if log_size(directory) == 0 {
        // Nothing need be made or changed beside it to read it, as long as nobody begins to write.
        let found = look_over(&path, schema, "immutable=1", patience);
        let is_damaged = !matches!(&found, Ok(found) if !matches!(found.integrity, Integrity::Damaged(_)));
        if !is_damaged || log_size(directory) == 0 {
            return found;
        }
    }
    look_over(&path, schema, "mode=ro", patience)
}

fn look_over(path: &Path, schema: u32, mode: &str, patience: Duration) -> Result<Examination> {
    let doing = "looking over the store's database";
    let failed = |error: rusqlite::Error| {
        let path = path.to_owned();
        if is_corruption(&error) {
            Error::Corrupt { path, detail: error.to_string() }
        } else {
            Error::Sqlite { doing, path, error }
        }
    };
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(uri(path, mode), flags).map_err(failed)?;
    connection.busy_timeout(patience).map_err(failed)?;
    let count = connection.query_row("select count(*) from ValidPaths", [], |row| row.get::<_, i64>(0));
    let valid_paths = u64::try_from(count.map_err(failed)?).unwrap_or_default();
    let integrity = match quick_check(&connection, patience) {
        Ok(faults) if faults.is_empty() => Integrity::Whole,
        Ok(faults) => Integrity::Damaged(faults),
        Err(rusqlite::Error::SqliteFailure(error, _)) if error.code == ErrorCode::OperationInterrupted => {
            Integrity::Unknown
        }
        Err(error) => return Err(failed(error)),
    };
    let size = fs::metadata(path).map_or(0, |metadata| metadata.len());
    let log_size = path.parent().map_or(0, log_size);
    Ok(Examination { schema, valid_paths, size, log_size, integrity })
}

/// Bytes of the write-ahead log of the database in `directory`.
fn log_size(directory: &Path) -> u64 {
    fs::metadata(directory.join("db.sqlite-wal")).map_or(0, |metadata| metadata.len())
}

/// What is wrong with the file. Interrupts itself when it takes too long.
fn quick_check(connection: &Connection, patience: Duration) -> rusqlite::Result<Vec<String>> {
    let interrupt = connection.get_interrupt_handle();
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if is_done.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
                interrupt.interrupt();
            }
        });
        let checked = (|| {
            let mut check = connection.prepare(&format!("pragma quick_check({MOST_FAULTS})"))?;
            let lines = check.query_map([], |row| row.get::<_, String>(0))?;
            lines.filter(|line| !matches!(line, Ok(line) if line == "ok")).collect()
        })();
        drop(done);
        checked
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Database, OpenOptions};
    use kiln_store_path::StoreDir;
    use std::io::{Seek, SeekFrom, Write};

    const PATIENCE: Duration = Duration::from_secs(60);

    fn made() -> tempfile::TempDir {
        let scratch = tempfile::tempdir().unwrap();
        drop(Database::open(scratch.path(), StoreDir::default(), OpenOptions::default()).unwrap());
        scratch
    }

    fn names(directory: &Path) -> Vec<std::ffi::OsString> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_database_is_looked_over_and_stays_as_it_is() {
        let scratch = made();
        let before = names(scratch.path());
        let found = examine(scratch.path(), PATIENCE).unwrap();
        assert_eq!((found.schema, found.valid_paths), (SCHEMA_VERSION, 0));
        assert_eq!(found.integrity, Integrity::Whole);
        assert_eq!(names(scratch.path()), before);
        // While somebody uses it, too.
        let options = OpenOptions::default();
        let database = Database::open(scratch.path(), StoreDir::default(), options).unwrap();
        assert_eq!(examine(scratch.path(), PATIENCE).unwrap().integrity, Integrity::Whole);
        drop(database);
    }

    #[test]
    fn damage_is_found() {
        let scratch = made();
        let path = scratch.path().join("db.sqlite");
        let size = fs::metadata(&path).unwrap().len();
        let mut file = fs::File::options().write(true).open(&path).unwrap();
        // Not the first page, without which it is no database at all.
        for page in 2..size / 4096 {
            file.seek(SeekFrom::Start(page * 4096)).unwrap();
            file.write_all(&[0x5a; 64]).unwrap();
        }
        match examine(scratch.path(), PATIENCE) {
            Ok(found) => assert!(matches!(found.integrity, Integrity::Damaged(_)), "{found:?}"),
            Err(error) => assert!(error.to_string().contains("malformed"), "{error}"),
        }
        file.set_len(10).unwrap();
        assert!(examine(scratch.path(), PATIENCE).is_err());
    }

    #[test]
    fn there_must_be_one() {
        let scratch = tempfile::tempdir().unwrap();
        assert!(matches!(examine(scratch.path(), PATIENCE), Err(Error::NoStore { .. })));
        assert!(names(scratch.path()).is_empty());
    }
}
