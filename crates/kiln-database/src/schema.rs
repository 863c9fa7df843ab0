//! The tables, the schema file, and migrations (local-store specification, sections 2 and 3).
//!
//! Names, types and triggers are exactly Nix's, as other Nix processes use the same file.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;

use crate::error::{Error, Result, SCHEMA_VERSION};

/// Tables of every store.
const TABLES: &str = "
create table if not exists ValidPaths (
    id               integer primary key autoincrement not null,
    path             text unique not null,
    hash             text not null, -- base16 representation
    registrationTime integer not null,
    deriver          text,
    narSize          integer,
    ultimate         integer, -- null implies \"false\"
    sigs             text, -- space-separated
    ca               text -- if not null, an assertion that the path is content-addressed; see ValidPathInfo
);
create table if not exists Refs (
    referrer  integer not null,
    reference integer not null,
    primary key (referrer, reference),
    foreign key (referrer) references ValidPaths(id) on delete cascade,
    foreign key (reference) references ValidPaths(id) on delete restrict
);
create index if not exists IndexReferrer on Refs(referrer);
create index if not exists IndexReference on Refs(reference);
create trigger if not exists DeleteSelfRefs before delete on ValidPaths
  begin
    delete from Refs where referrer = old.id and reference = old.id;
  end;
create table if not exists DerivationOutputs (
    drv  integer not null,
    id   text not null, -- symbolic output id, usually \"out\"
    path text not null,
    primary key (drv, id),
    foreign key (drv) references ValidPaths(id) on delete cascade
);
create index if not exists IndexDerivationOutputs on DerivationOutputs(path);
";

/// Tables of content-addressed derivations, made only where that feature is on.
const REALISATION_TABLES: &str = "
create table if not exists Realisations (
    id integer primary key autoincrement not null,
    drvPath text not null,
    outputName text not null, -- symbolic output id, usually \"out\"
    outputPath integer not null,
    signatures text, -- space-separated list
    foreign key (outputPath) references ValidPaths(id) on delete cascade
);
create index if not exists IndexRealisations on Realisations(drvPath, outputName);
create table if not exists RealisationsRefs (
    referrer integer not null,
    realisationReference integer,
    foreign key (referrer) references Realisations(id) on delete cascade,
    foreign key (realisationReference) references Realisations(id) on delete restrict
);
create index if not exists IndexRealisationsRefsRealisationReference on RealisationsRefs(realisationReference);
create index if not exists IndexRealisationsRefs on RealisationsRefs(referrer);
create index if not exists IndexRealisationsRefsOnOutputPath on Realisations(outputPath);
create trigger if not exists DeleteSelfRefsViaRealisations before delete on ValidPaths
  begin
    delete from RealisationsRefs where realisationReference in (
      select id from Realisations where outputPath = old.id
    );
  end;
create table if not exists SchemaMigrations (migration text primary key not null);
insert or ignore into SchemaMigrations values ('20220326-ca-derivations');
";

/// Statements that bring a database from the version before to the one named.
const MIGRATIONS: [(u32, &str); 3] = [
    (8, "alter table ValidPaths add column ultimate integer; alter table ValidPaths add column sigs text;"),
    (9, "drop table if exists FailedPaths;"),
    (10, "alter table ValidPaths add column ca text;"),
];

/// Oldest version that [`MIGRATIONS`] starts from.
const OLDEST: u32 = 6;

/// What the schema file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// There is no store here yet.
    New,
    /// An older store that [`migrate`] brings up to date.
    Old(u32),
    /// The current version.
    Current,
}

/// The file `schema` in the database's directory.
pub(crate) struct SchemaFile {
    path: PathBuf,
}

impl SchemaFile {
    pub(crate) fn in_directory(directory: &Path) -> Self {
        Self { path: directory.join("schema") }
    }

    /// Reads the version; the file stays untouched whatever it holds.
    pub(crate) fn read(&self) -> Result<Version> {
        let mut content = Vec::new();
        let read = fs::File::open(&self.path).and_then(|file| file.take(64).read_to_end(&mut content));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Version::New),
            Err(error) => return Err(self.io_error("reading", error)),
            Ok(_) => {}
        }
        let found = std::str::from_utf8(&content)
            .ok()
            .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse::<u32>().ok());
        match found {
            None => Err(Error::SchemaFile {
                path: self.path.clone(),
                content: String::from_utf8_lossy(&content).into_owned(),
            }),
            Some(0) => Ok(Version::New),
            Some(SCHEMA_VERSION) => Ok(Version::Current),
            Some(found) if found > SCHEMA_VERSION => {
                Err(Error::SchemaTooNew { path: self.path.clone(), found })
            }
            Some(found) if found < OLDEST => Err(Error::SchemaTooOld { path: self.path.clone(), found }),
            Some(found) => Ok(Version::Old(found)),
        }
    }

    /// Writes the current version, durably and in one step: a crash must never leave an empty file behind.
    pub(crate) fn write_current(&self) -> Result<()> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let scratch = self.path.with_extension(format!("tmp-{}-{number}", std::process::id()));
        let write = || -> io::Result<()> {
            let mut file = fs::File::create(&scratch)?;
            file.write_all(SCHEMA_VERSION.to_string().as_bytes())?;
            file.sync_all()?;
            fs::rename(&scratch, &self.path)?;
            match self.path.parent() {
                Some(directory) => fs::File::open(directory)?.sync_all(),
                None => Ok(()),
            }
        };
        write().map_err(|error| self.io_error("writing", error))
    }

    /// The error for an old store that may not be changed.
    pub(crate) fn read_only_error(&self, found: u32) -> Error {
        Error::SchemaReadOnly { path: self.path.clone(), found }
    }

    fn io_error(&self, doing: &'static str, error: io::Error) -> Error {
        Error::Io { doing, path: self.path.clone(), error }
    }
}

/// Creates what is missing of the tables.
pub(crate) fn create_tables(connection: &Connection, realisations: bool) -> rusqlite::Result<()> {
    in_transaction(connection, |connection| {
        connection.execute_batch(TABLES)?;
        if realisations { connection.execute_batch(REALISATION_TABLES) } else { Ok(()) }
    })
}

/// Adds the tables of content-addressed derivations to an existing database.
pub(crate) fn create_realisation_tables(connection: &Connection) -> rusqlite::Result<()> {
    in_transaction(connection, |connection| connection.execute_batch(REALISATION_TABLES))
}

/// Brings the tables from version `from` to the current one, wholly or not at all.
pub(crate) fn migrate(connection: &Connection, from: u32) -> rusqlite::Result<()> {
    in_transaction(connection, |connection| {
        MIGRATIONS
            .iter()
            .filter(|(version, _)| *version > from)
            .try_for_each(|(_, statements)| connection.execute_batch(statements))
    })
}

/// Names of the tables that exist.
pub(crate) fn table_names(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare("select name from sqlite_master where type = 'table'")?
        .query_map([], |row| row.get(0))?
        .collect()
}

fn in_transaction(
    connection: &Connection,
    run: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let transaction =
        rusqlite::Transaction::new_unchecked(connection, rusqlite::TransactionBehavior::Immediate)?;
    run(&transaction)?;
    transaction.commit()
}

/// Fails if `ValidPaths` lacks a column.
pub(crate) fn check_columns(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .prepare(
            "select id, path, hash, registrationTime, deriver, narSize, ultimate, sigs, ca from ValidPaths limit 0",
        )
        .map(drop)
}
