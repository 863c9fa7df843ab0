//! Opening the database of a store, and handing out what reads and writes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crossbeam_channel::bounded;
use kiln_store_path::StoreDir;
use rusqlite::Connection;

use crate::big_lock::BigLock;
use crate::connection::{Notice, OpenOptions, Opener, Purpose};
use crate::error::{Error, Result, SCHEMA_VERSION};
use crate::latencies::Latencies;
use crate::read::ReadConnection;
use crate::reader_pool::{Reader, ReaderPool};
use crate::schema::{self, SchemaFile, Version};
use crate::write::{Registration, WriteTransaction};
use crate::writer::{Writer, WriterState};
use crate::{Graph, reserved};

/// The database of a store, open until dropped. All methods block; share it between threads.
pub struct Database {
    // The writer goes first: what waits is still committed under the lock.
    writer: Option<Writer>,
    readers: ReaderPool,
    latencies: Arc<Latencies>,
    directory: PathBuf,
    options: OpenOptions,
    _lock: Option<BigLock>,
}

impl Database {
    /// Opens the database in `directory`, which is `db` in the state directory. A store that is not there yet is created,
    /// an old one brought up to date, if the options allow.
    ///
    /// # Errors
    /// A database that is too new, too old, damaged or missing although it should be there. It is never replaced by an
    /// empty one: every path of the store would be garbage then.
    pub fn open(directory: &Path, store_dir: StoreDir, options: OpenOptions) -> Result<Self> {
        let opener = Opener { path: directory.join("db.sqlite"), options: options.clone() };
        let waiting = || (options.on_notice)(&Notice::WaitingForBigLock);
        let lock = if options.read_only {
            None
        } else {
            if options.create {
                let doing = "creating the directory";
                fs::create_dir_all(directory).map_err(|error| Error::Io {
                    doing,
                    path: directory.to_owned(),
                    error,
                })?;
            }
            Some(BigLock::shared(directory, &waiting)?)
        };
        let connection = open_current(&opener, directory, lock.as_ref())?;
        let has_realisations = check_tables(&opener, &connection)?;
        let latencies = Arc::new(Latencies::default());
        let readers =
            ReaderPool::new(opener.clone(), store_dir.clone(), has_realisations, Arc::clone(&latencies));
        let writer = if options.read_only {
            None
        } else {
            reserved::reserve(directory, options.reserved_space);
            let connection = Mutex::new(connection);
            Some(Writer::start(WriterState { connection, opener, store_dir, has_realisations })?)
        };
        Ok(Self { writer, readers, latencies, directory: directory.to_owned(), options, _lock: lock })
    }

    /// Borrows a connection for reading; waits if as many are in use as the options allow.
    ///
    /// # Errors
    /// A new connection cannot be opened.
    pub fn reader(&self) -> Result<Reader<'_>> {
        self.readers.take()
    }

    /// Hands over a change and returns at once, or when there is room in the queue. `done` gets the result after the
    /// commit, on the writer's thread, which it must not keep; nor may it hold this database, whose end waits for that
    /// thread. `run` may run again if the group that it was committed with had to be rolled back.
    pub fn submit<T, Run, Done>(&self, run: Run, done: Done)
    where
        T: Send + 'static,
        Run: FnMut(&WriteTransaction<'_>) -> Result<T> + Send + 'static,
        Done: FnOnce(Result<T>) + Send + 'static,
    {
        let (begin, latencies) = (Instant::now(), Arc::clone(&self.latencies));
        let done = move |result| {
            latencies.writes.observe(begin.elapsed());
            done(result);
        };
        match &self.writer {
            Some(writer) => writer.submit(run, done),
            None => done(Err(Error::ReadOnly)),
        }
    }

    /// Makes a change and waits until it is committed.
    ///
    /// # Errors
    /// The change's own, or that of the commit.
    pub fn write<T, Run>(&self, run: Run) -> Result<T>
    where
        T: Send + 'static,
        Run: FnMut(&WriteTransaction<'_>) -> Result<T> + Send + 'static,
    {
        let begin = Instant::now();
        let (sender, receiver) = bounded(1);
        let Some(writer) = &self.writer else { return Err(Error::ReadOnly) };
        writer.submit_and_help(run, move |result| {
            // Nobody waits any more only if the waiting thread is gone.
            let _ = sender.send(result);
        });
        let result = receiver.recv().unwrap_or(Err(Error::Closed));
        self.latencies.writes.observe(begin.elapsed());
        result
    }

    /// Makes a set of paths valid in one transaction and waits for it; see [`WriteTransaction::register`].
    ///
    /// # Errors
    /// See there.
    pub fn register(&self, set: Vec<Registration>) -> Result<Vec<Option<u64>>> {
        self.write(move |transaction| transaction.register(&set))
    }

    /// Loads the graph of all references into memory.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn load_graph(&self) -> Result<Graph> {
        let reader: &ReadConnection = &*self.reader()?;
        Graph::load(reader)
    }

    /// Deletes the file that keeps space free, so that there is room for changes on a full disk. It comes back with the
    /// next opening.
    ///
    /// # Errors
    /// It cannot be deleted.
    pub fn release_reserved_space(&self) -> Result<()> {
        let path = self.directory.join("reserved");
        reserved::release(&self.directory).map_err(|error| Error::Io { doing: "deleting", path, error })
    }

    /// Returns when all that is committed would survive a loss of power, which otherwise is so only some time later. Does
    /// nothing if the options say that the database need not survive one.
    ///
    /// # Errors
    /// The disk reports an error.
    pub fn sync(&self) -> Result<()> {
        if self.options.sync_commits {
            Ok(())
        } else {
            sync_log(&self.directory.join("db.sqlite"), &self.options)
        }
    }

    /// A number that changes when another process has changed the database, for caches of what was read from it. Does
    /// not wait for transactions: `None` if it cannot be told right now, or the database has no write-ahead log.
    pub fn foreign_version(&self) -> Option<i64> {
        self.writer.as_ref().and_then(Writer::foreign_version)
    }

    /// How long it has taken to read and to write.
    pub fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// Whether changes are refused.
    pub fn is_read_only(&self) -> bool {
        self.options.read_only
    }
}

/// Brings the write-ahead log of a database to the disk, if it is to be there.
fn sync_log(database: &Path, options: &OpenOptions) -> Result<()> {
    let path = database.with_extension("sqlite-wal");
    if !options.sync || options.read_only || !options.write_ahead_log {
        return Ok(());
    }
    match fs::File::open(&path).and_then(|log| log.sync_data()) {
        // What is in no log is in the database, and was brought to the disk on the way there.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(|error| Error::Io { doing: "syncing", path, error }),
    }
}

/// Opens a connection to a database whose schema is the current one, creating or migrating it if need be.
fn open_current(opener: &Opener, directory: &Path, lock: Option<&BigLock>) -> Result<Connection> {
    let schema = SchemaFile::in_directory(directory);
    let Some(lock) = lock else {
        return match schema.read()? {
            Version::Current => open_existing(opener),
            Version::Old(found) => Err(schema.read_only_error(found)),
            Version::New => Err(Error::NoStore { path: directory.to_owned() }),
        };
    };
    match schema.read()? {
        Version::Current => open_existing(opener),
        Version::New if !opener.options.create => Err(Error::NoStore { path: directory.to_owned() }),
        Version::New => {
            let connection = opener.open(Purpose::Create)?;
            opener.retry("creating the tables of the store", || {
                schema::create_tables(&connection, opener.options.realisations)
            })?;
            // A database without its schema file may be an old one; it must not be declared current.
            check_tables(opener, &connection)?;
            // Nor one whose tables a loss of power could still undo.
            sync_log(&opener.path, &opener.options)?;
            schema.write_current()?;
            Ok(connection)
        }
        Version::Old(_) => upgrade(opener, &schema, lock),
    }
}

/// Migrates under the exclusive lock.
fn upgrade(opener: &Opener, schema: &SchemaFile, lock: &BigLock) -> Result<Connection> {
    let on_notice = &opener.options.on_notice;
    lock.make_exclusive(&|| on_notice(&Notice::WaitingForBigLock))?;
    // Somebody else may have been quicker.
    let connection = open_existing(opener)?;
    if let Version::Old(from) = schema.read()? {
        on_notice(&Notice::Migrating { from, to: SCHEMA_VERSION });
        opener.retry("upgrading the store's schema", || schema::migrate(&connection, from))?;
        sync_log(&opener.path, &opener.options)?;
        schema.write_current()?;
    }
    lock.make_shared()?;
    Ok(connection)
}

fn open_existing(opener: &Opener) -> Result<Connection> {
    match opener.path.try_exists() {
        Ok(true) => opener.open(Purpose::Write),
        Ok(false) => Err(Error::Missing { path: opener.path.clone() }),
        Err(error) => Err(Error::Io { doing: "looking for", path: opener.path.clone(), error }),
    }
}

/// Checks that all tables are there with their columns, and adds those of realisations if they are wanted. Returns
/// whether there are any.
fn check_tables(opener: &Opener, connection: &Connection) -> Result<bool> {
    let reading = "reading the store's schema";
    let tables = opener.retry(reading, || schema::table_names(connection))?;
    let has = |name: &str| tables.iter().any(|table| table == name);
    let corrupt = |detail: String| Error::Corrupt { path: opener.path.clone(), detail };
    if let Some(missing) = ["ValidPaths", "Refs", "DerivationOutputs"].into_iter().find(|name| !has(name)) {
        return Err(corrupt(format!("table '{missing}' is missing")));
    }
    opener.retry(reading, || schema::check_columns(connection)).map_err(|error| match error {
        Error::Sqlite { error, .. } => corrupt(error.to_string()),
        other => other,
    })?;
    if has("Realisations") {
        return Ok(true);
    }
    let wanted = opener.options.realisations && !opener.options.read_only;
    if wanted {
        opener
            .retry("creating the tables of realisations", || schema::create_realisation_tables(connection))?;
    }
    Ok(wanted)
}
