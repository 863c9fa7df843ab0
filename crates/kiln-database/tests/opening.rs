//! Opening, creating, migrating and refusing databases.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kiln_database::{Database, Error, Follow, Notice, OpenOptions};
use kiln_store_path::{StoreDir, StorePath};
use rusqlite::Connection;
use tempfile::TempDir;

fn options() -> OpenOptions {
    OpenOptions { reserved_space: 4096, ..OpenOptions::default() }
}

fn open(directory: &Path, options: OpenOptions) -> Result<Database, Error> {
    Database::open(directory, StoreDir::default(), options)
}

/// A directory with the sample database that Nix 2.34 made.
fn sample() -> (TempDir, PathBuf) {
    let scratch = TempDir::new().unwrap();
    let directory = scratch.path().join("db");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("db.sqlite"), include_bytes!("data/db-2.34.sqlite")).unwrap();
    fs::write(directory.join("schema"), "10").unwrap();
    (scratch, directory)
}

/// Type, name and table of everything in a database, as in the sample tables.
fn objects(file: &Path) -> Vec<String> {
    let connection = Connection::open(file).unwrap();
    let mut statement = connection
        .prepare(
            "select type, name, tbl_name from sqlite_master where name not like 'sqlite_%' order by type, name",
        )
        .unwrap();
    let rows = statement
        .query_map([], |row| {
            let columns: [String; 3] = [row.get(0)?, row.get(1)?, row.get(2)?];
            Ok(columns.join("\t"))
        })
        .unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn a_new_store_gets_the_tables_of_nix() {
    let newest: Vec<_> = include_str!("data/objects-2.34.tsv").lines().map(str::to_owned).collect();
    let scratch = TempDir::new().unwrap();
    let directory = scratch.path().join("state/db");
    drop(open(&directory, OpenOptions { realisations: true, ..options() }).unwrap());
    assert_eq!(objects(&directory.join("db.sqlite")), newest);
    assert_eq!(fs::read_to_string(directory.join("schema")).unwrap(), "10");
    assert_eq!(fs::metadata(directory.join("reserved")).unwrap().len(), 4096);

    let plain = scratch.path().join("plain/db");
    drop(open(&plain, options()).unwrap());
    let of_realisations = ["Realisation", "SchemaMigrations"];
    let without: Vec<_> = newest
        .iter()
        .filter(|object| !of_realisations.iter().any(|part| object.contains(part)))
        .cloned()
        .collect();
    assert_eq!(objects(&plain.join("db.sqlite")), without);
    // Switching the feature on later adds what is missing.
    drop(open(&plain, OpenOptions { realisations: true, ..options() }).unwrap());
    assert_eq!(objects(&plain.join("db.sqlite")), newest);
}

#[test]
fn tables_are_declared_as_nix_declares_them() {
    let columns = |connection: &Connection, table: &str| -> Vec<(String, String, bool, bool)> {
        connection
            .prepare(&format!("select name, type, \"notnull\", pk from pragma_table_info('{table}')"))
            .unwrap()
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect()
    };
    let (scratch, nix) = sample();
    let own = scratch.path().join("own");
    drop(open(&own, OpenOptions { realisations: true, ..options() }).unwrap());
    let [nix, own] = [nix, own].map(|directory| Connection::open(directory.join("db.sqlite")).unwrap());
    for table in
        ["ValidPaths", "Refs", "DerivationOutputs", "Realisations", "RealisationsRefs", "SchemaMigrations"]
    {
        assert_eq!(columns(&own, table), columns(&nix, table), "{table}");
        let foreign_keys = |connection: &Connection| -> i64 {
            let sql = format!("select count(*) from pragma_foreign_key_list('{table}')");
            connection.query_row(&sql, [], |row| row.get(0)).unwrap()
        };
        assert_eq!(foreign_keys(&own), foreign_keys(&nix), "{table}");
    }
}

#[test]
fn schema_files_that_are_not_ours_are_refused_and_left_alone() {
    for content in ["11", "5", "4", "abc", "", "10 ", "10\n", "-1", "99999999999"] {
        let (_scratch, directory) = sample();
        fs::write(directory.join("schema"), content).unwrap();
        let error = open(&directory, options()).err().unwrap();
        let as_expected = match content {
            "11" => matches!(error, Error::SchemaTooNew { found: 11, .. }),
            "4" | "5" => matches!(error, Error::SchemaTooOld { .. }),
            _ => matches!(error, Error::SchemaFile { .. }),
        };
        assert!(as_expected, "{content:?}: {error}");
        assert_eq!(fs::read_to_string(directory.join("schema")).unwrap(), content);
    }
}

#[test]
fn version_0_means_that_the_file_has_yet_to_be_written() {
    let (_scratch, directory) = sample();
    fs::write(directory.join("schema"), "0").unwrap();
    let database = open(&directory, options()).unwrap();
    assert_eq!(database.reader().unwrap().all_paths().unwrap().len(), 12);
    assert_eq!(fs::read_to_string(directory.join("schema")).unwrap(), "10");
}

/// The tables as old versions of Nix made them.
fn old_database(directory: &Path, version: u32) {
    fs::create_dir_all(directory).unwrap();
    let connection = Connection::open(directory.join("db.sqlite")).unwrap();
    let newer = match version {
        9 => ", ultimate integer, sigs text",
        8 => ", ultimate integer, sigs text",
        _ => "",
    };
    connection
        .execute_batch(&format!(
            "create table ValidPaths (id integer primary key autoincrement not null, path text unique not null, \
             hash text not null, registrationTime integer not null, deriver text, narSize integer{newer}); \
             create table Refs (referrer integer not null, reference integer not null, \
             primary key (referrer, reference)); \
             create table DerivationOutputs (drv integer not null, id text not null, path text not null, \
             primary key (drv, id)); \
             insert into ValidPaths (path, hash, registrationTime) values \
             ('/nix/store/mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple', 'sha256:{}', 5);",
            "0".repeat(64)
        ))
        .unwrap();
    if version < 9 {
        connection
            .execute_batch("create table FailedPaths (path text primary key not null, time integer)")
            .unwrap();
    }
    fs::write(directory.join("schema"), version.to_string()).unwrap();
}

#[test]
fn old_stores_are_migrated_and_keep_their_paths() {
    for version in 6..=9 {
        let scratch = TempDir::new().unwrap();
        old_database(scratch.path(), version);
        let read_only = OpenOptions { read_only: true, ..options() };
        let error = open(scratch.path(), read_only).err().unwrap();
        assert!(matches!(error, Error::SchemaReadOnly { .. }), "{version}: {error}");

        let notices = Arc::new(Mutex::new(Vec::new()));
        let heard = notices.clone();
        let options = OpenOptions {
            on_notice: Arc::new(move |notice: &Notice| heard.lock().unwrap().push(notice.clone())),
            ..options()
        };
        let database = open(scratch.path(), options).unwrap();
        assert_eq!(*notices.lock().unwrap(), [Notice::Migrating { from: version, to: 10 }]);
        let path = StorePath::from_base_name("mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple").unwrap();
        assert_eq!(database.reader().unwrap().path_info(&path).unwrap().unwrap().registration_time, 5);
        assert_eq!(fs::read_to_string(scratch.path().join("schema")).unwrap(), "10");
        let tables = objects(&scratch.path().join("db.sqlite")).join("\n");
        assert!(!tables.contains("FailedPaths"));
    }
}

#[test]
fn a_migration_that_fails_changes_nothing() {
    let (_scratch, directory) = sample();
    fs::write(directory.join("schema"), "9").unwrap();
    assert!(open(&directory, options()).is_err(), "the column is there already");
    assert_eq!(fs::read_to_string(directory.join("schema")).unwrap(), "9");
}

#[test]
fn a_missing_or_emptied_database_is_never_replaced() {
    let (_scratch, directory) = sample();
    let file = directory.join("db.sqlite");
    fs::write(&file, "").unwrap();
    let error = open(&directory, options()).err().unwrap();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains(".recover"), "the message has a way out: {error}");

    fs::remove_file(&file).unwrap();
    let error = open(&directory, options()).err().unwrap();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    assert!(!file.exists());

    fs::write(&file, "this is no database, and long enough for a header of one").unwrap();
    let error = open(&directory, options()).err().unwrap();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(fs::read_to_string(&file).unwrap().starts_with("this is no database"));
}

#[test]
fn a_store_is_created_only_where_that_is_wanted() {
    let scratch = TempDir::new().unwrap();
    for options in [OpenOptions { create: false, ..options() }, OpenOptions { read_only: true, ..options() }]
    {
        assert!(matches!(open(scratch.path(), options), Err(Error::NoStore { .. })));
        assert!(!scratch.path().join("db.sqlite").exists());
    }
}

#[test]
fn reading_only_leaves_no_trace() {
    let (_scratch, directory) = sample();
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    let database = open(&directory, OpenOptions { read_only: true, ..options() }).unwrap();
    let top = StorePath::from_base_name("lj3q75s8vxysliflp8z0a7w75mpl98wh-dep2").unwrap();
    assert_eq!(database.reader().unwrap().closure(&[top], Follow::REFERENCES).unwrap().len(), 6);
    assert!(matches!(database.register(Vec::new()), Err(Error::ReadOnly)));
    assert_eq!(names(), before);
}

#[test]
fn every_process_holds_the_big_lock_shared() {
    let (_scratch, directory) = sample();
    let first = open(&directory, options()).unwrap();
    let second = open(&directory, options()).unwrap();
    let file = fs::File::open(directory.join("big-lock")).unwrap();
    let exclusive = || rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    assert!(exclusive().is_err());
    drop(first);
    assert!(exclusive().is_err());
    drop(second);
    assert!(exclusive().is_ok());
}

#[test]
fn contention_is_waited_out_up_to_the_deadline() {
    let (_scratch, directory) = sample();
    let options = OpenOptions { busy_deadline: Some(Duration::from_millis(300)), ..options() };
    let database = open(&directory, options).unwrap();
    let other = Connection::open(directory.join("db.sqlite")).unwrap();
    other.execute_batch("begin immediate").unwrap();
    let error = database.register(Vec::new()).unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(database.reader().unwrap().all_paths().is_ok(), "readers do not wait for writers");

    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| database.register(Vec::new()));
        std::thread::sleep(Duration::from_millis(50));
        other.execute_batch("rollback").unwrap();
        waiting.join().unwrap()
    });
    waiting.unwrap();
}

#[test]
fn without_a_write_ahead_log_all_works_the_same() {
    let scratch = TempDir::new().unwrap();
    let options = OpenOptions { write_ahead_log: false, sync: false, ..options() };
    let database = open(scratch.path(), options).unwrap();
    let path = StorePath::from_base_name("mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple").unwrap();
    let info = kiln_narinfo::PathInfo::new(path.clone(), kiln_hash::Sha256([1; 32]), 7);
    database.register(vec![info.into()]).unwrap();
    assert!(database.reader().unwrap().is_valid(&path).unwrap());
    assert!(!scratch.path().join("db.sqlite-wal").exists());
}

#[test]
fn releasing_the_reserved_space_removes_its_file() {
    let (_scratch, directory) = sample();
    let database = open(&directory, options()).unwrap();
    assert!(directory.join("reserved").exists());
    database.release_reserved_space().unwrap();
    assert!(!directory.join("reserved").exists());
    database.release_reserved_space().unwrap();
}

#[test]
fn many_create_a_store_at_once() {
    let scratch = TempDir::new().unwrap();
    std::thread::scope(|scope| {
        let opening: Vec<_> = (0..8)
            .map(|number: u8| {
                let directory = scratch.path().join("db");
                scope.spawn(move || {
                    let database = open(&directory, options()).unwrap();
                    let path = StorePath::from_base_name(format!("{number:032}-p")).unwrap();
                    let info = kiln_narinfo::PathInfo::new(path, kiln_hash::Sha256([number; 32]), 7);
                    database.register(vec![info.into()]).unwrap();
                })
            })
            .collect();
        opening.into_iter().for_each(|thread| thread.join().unwrap());
    });
    let database = open(&scratch.path().join("db"), options()).unwrap();
    assert_eq!(database.reader().unwrap().all_paths().unwrap().len(), 8);
    let names: Vec<_> =
        fs::read_dir(scratch.path().join("db")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().contains("tmp")), "{names:?}");
}
