//! Registration, invalidation and the group commit.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;

use kiln_database::{Database, Error, OpenOptions, Registration};
use kiln_hash::Sha256;
use kiln_narinfo::{PathInfo, Realisation, SecretKey, SignatureSet};
use kiln_store_path::{OutputName, StoreDir, StorePath};
use rusqlite::Connection;
use tempfile::TempDir;

fn store() -> (TempDir, Database) {
    let scratch = TempDir::new().unwrap();
    let options = OpenOptions { reserved_space: 0, realisations: true, ..OpenOptions::default() };
    let database = Database::open(scratch.path(), StoreDir::default(), options).unwrap();
    (scratch, database)
}

fn path(number: usize) -> StorePath {
    StorePath::from_base_name(format!("{number:032}-p")).unwrap()
}

fn info(number: usize, references: &[usize]) -> PathInfo {
    let mut info = PathInfo::new(path(number), Sha256([9; 32]), 120);
    info.references = references.iter().map(|number| path(*number)).collect();
    info
}

fn set(infos: impl IntoIterator<Item = PathInfo>) -> Vec<Registration> {
    infos.into_iter().map(Registration::from).collect()
}

fn read(database: &Database, number: usize) -> Option<PathInfo> {
    database.reader().unwrap().path_info(&path(number)).unwrap()
}

#[test]
fn all_that_is_registered_reads_back() {
    let (_scratch, database) = store();
    let key = SecretKey::generate("k", [5; 32]).unwrap();
    let mut full = info(1, &[0, 1]);
    full.deriver = Some(StorePath::from_base_name(format!("{:032}-p.drv", 8)).unwrap());
    full.registration_time = 77;
    full.ultimate = true;
    full.content_address = Some(format!("fixed:r:sha256:{}", "0".repeat(52)).parse().unwrap());
    full.sign(&StoreDir::default(), &key).unwrap();
    // The set refers forwards: order does not matter.
    database.register(set([full.clone(), info(0, &[])])).unwrap();
    assert_eq!(read(&database, 1), Some(full));
    let time = read(&database, 0).unwrap().registration_time;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!((now - 60..=now).contains(&time), "0 means now, not {time}");
}

/// References are inserted between paths, and have numbers of their own.
#[test]
fn what_is_new_is_told_with_its_time() {
    let (_scratch, database) = store();
    let (mut known, mut told) = (BTreeSet::new(), 0);
    for round in 0_usize..200 {
        // Each number comes several times, in no simple order.
        let (number, below) = (round * 7 % 31, round * 7 % 31 / 2);
        let references: &[usize] = if known.contains(&below) { &[below] } else { &[] };
        let mut registered = info(number, references);
        registered.registration_time = 1000 + round as u64;
        let times = database.register(set([registered])).unwrap();
        if known.insert(number) {
            assert!(times == [None] || times == [Some(1000 + round as u64)], "{times:?} in round {round}");
            told += times.iter().flatten().count();
        } else {
            assert_eq!(times, [None], "{number} in round {round}");
        }
    }
    assert!(told > 25, "of 31 paths it was told {told} times that they are new");
}

#[test]
fn columns_hold_what_nix_would_write() {
    let (scratch, database) = store();
    let mut unknown = info(0, &[]);
    unknown.nar_size = 0;
    let mut known = info(1, &[]);
    known.ultimate = true;
    database.register(set([unknown, known])).unwrap();
    let connection = Connection::open(scratch.path().join("db.sqlite")).unwrap();
    let row = |number: usize| -> String {
        connection
            .query_row(
                "select path || '|' || hash || '|' || ifnull(deriver, 'null') || '|' || ifnull(narSize, 'null') || '|' || \
                 ifnull(ultimate, 'null') || '|' || ifnull(sigs, 'null') || '|' || ifnull(ca, 'null') \
                 from ValidPaths where path like ?1",
                [format!("%{number}-p")],
                |row| row.get(0),
            )
            .unwrap()
    };
    let hash = "09".repeat(32);
    assert_eq!(row(0), format!("/nix/store/{:032}-p|sha256:{hash}|null|null|null|null|null", 0));
    assert_eq!(row(1), format!("/nix/store/{:032}-p|sha256:{hash}|null|120|1|null|null", 1));
}

#[test]
fn registering_again_updates_what_nix_updates() {
    let (_scratch, database) = store();
    let mut first = info(1, &[]);
    first.registration_time = 5;
    first.deriver = Some(path(8));
    database.register(set([info(0, &[]), first])).unwrap();
    let mut second = info(1, &[0]);
    second.registration_time = 99;
    second.nar_size = 240;
    second.ultimate = true;
    second.deriver = Some(path(9));
    database.register(set([second.clone()])).unwrap();
    let expected = PathInfo { registration_time: 5, deriver: Some(path(8)), ..second };
    assert_eq!(read(&database, 1), Some(expected));
}

#[test]
fn a_set_is_registered_wholly_or_not_at_all() {
    let (_scratch, database) = store();
    let error = database.register(set([info(0, &[]), info(1, &[0, 7])])).unwrap_err();
    assert_eq!(error.to_string(), format!("path '/nix/store/{:032}-p' is not valid", 7));
    assert_eq!(read(&database, 0), None);

    let error = database.register(set([info(0, &[1]), info(1, &[2]), info(2, &[1])])).unwrap_err();
    assert!(matches!(error, Error::Cycle { .. }), "{error}");
    assert!(error.to_string().starts_with("cycle detected in the references of '/nix/store/"), "{error}");
    assert_eq!(read(&database, 0), None);
}

#[test]
fn invalidating_respects_referrers_and_order_does_not_matter() {
    let (_scratch, database) = store();
    database.register(set([info(0, &[0]), info(1, &[0]), info(2, &[1, 2])])).unwrap();
    let invalidate = |numbers: &[usize]| {
        let paths: Vec<_> = numbers.iter().map(|number| path(*number)).collect();
        database.write(move |transaction| transaction.invalidate(&paths))
    };
    let error = invalidate(&[0]).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot delete path '/nix/store/{:032}-p' because it is in use by '/nix/store/{:032}-p'",
            0, 1
        )
    );
    let error = invalidate(&[0, 1]).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    assert_eq!(read(&database, 1).unwrap().references.len(), 1, "a refused deletion changes nothing");
    invalidate(&[0, 2, 1, 5]).unwrap();
    assert!(database.reader().unwrap().all_paths().unwrap().is_empty());
}

#[test]
fn outputs_of_derivations_are_recorded() {
    let (_scratch, database) = store();
    let derivation = StorePath::from_base_name(format!("{:032}-p.drv", 1)).unwrap();
    let outputs = BTreeMap::from([(OutputName::out(), path(2)), (OutputName::new("dev").unwrap(), path(3))]);
    let registration = Registration {
        info: PathInfo::new(derivation.clone(), Sha256([1; 32]), 1),
        outputs: outputs.clone(),
    };
    database.register(vec![registration]).unwrap();
    let reader = database.reader().unwrap();
    assert_eq!(reader.derivation_outputs(&derivation).unwrap(), outputs);
    assert!(reader.valid_derivers(&path(2)).unwrap().contains(&derivation));
    drop(reader);
    let gone = derivation.clone();
    database.write(move |transaction| transaction.invalidate(std::slice::from_ref(&gone))).unwrap();
    assert!(database.reader().unwrap().valid_derivers(&path(2)).unwrap().is_empty());
}

#[test]
fn signatures_add_up() {
    let (_scratch, database) = store();
    database.register(set([info(0, &[])])).unwrap();
    let sign = |name: &str| {
        let mut info = info(0, &[]);
        info.sign(&StoreDir::default(), &SecretKey::generate(name, [1; 32]).unwrap()).unwrap();
        info.signatures
    };
    for signatures in [sign("a"), sign("b"), sign("a"), SignatureSet::new()] {
        database.write(move |transaction| transaction.add_signatures(&path(0), &signatures)).unwrap();
    }
    assert_eq!(read(&database, 0).unwrap().signatures.len(), 2);
    let error =
        database.write(move |transaction| transaction.add_signatures(&path(7), &sign("a"))).unwrap_err();
    assert!(matches!(error, Error::NotValid { .. }));
    database.write(|transaction| transaction.set_nar(&path(0), &Sha256([3; 32]), 4)).unwrap();
    let changed = read(&database, 0).unwrap();
    assert_eq!((changed.nar_hash, changed.nar_size), (Sha256([3; 32]), 4));
}

#[test]
fn a_realisation_is_recorded_once() {
    let (_scratch, database) = store();
    database.register(set([info(0, &[]), info(1, &[])])).unwrap();
    let id: kiln_narinfo::RealisationId = format!("sha256:{}!out", "ab".repeat(32)).parse().unwrap();
    let register = |number: usize| {
        let realisation = Realisation::new(id.clone(), path(number));
        database.write(move |transaction| transaction.register_realisation(&realisation))
    };
    assert!(matches!(register(7), Err(Error::NotValid { .. })));
    register(0).unwrap();
    register(0).unwrap();
    assert!(matches!(register(1), Err(Error::RealisationConflict { .. })));
    assert_eq!(database.reader().unwrap().realisation(&id).unwrap().unwrap().output_path, path(0));
    database.write(|transaction| transaction.invalidate(&[path(0)])).unwrap();
    assert!(database.reader().unwrap().realisation(&id).unwrap().is_none(), "it goes with its path");
}

/// While another process holds the lock, changes gather; then they are committed together, and the failure of one is
/// its own.
#[test]
fn changes_that_gathered_are_committed_in_one_transaction() {
    let (scratch, database) = store();
    let file = scratch.path().join("db.sqlite");
    let other = Connection::open(&file).unwrap();
    other.execute_batch("begin immediate").unwrap();
    let (sender, receiver) = mpsc::channel();
    for number in 0..100 {
        let sender = sender.clone();
        let file = file.clone();
        let references: &[usize] = if number % 10 == 3 { &[5000] } else { &[] };
        let registration = set([info(number, references)]);
        database.submit(
            move |transaction| {
                // What an outsider sees meanwhile tells how much was committed before this transaction.
                let committed: i64 = Connection::open(&file)
                    .unwrap()
                    .query_row("select count(*) from ValidPaths", [], |row| row.get(0))
                    .unwrap();
                transaction.register(&registration).map(|_| committed)
            },
            move |result| sender.send((number, result)).unwrap(),
        );
    }
    other.execute_batch("rollback").unwrap();
    drop(sender);
    let results: BTreeMap<_, _> = receiver.iter().collect();
    assert_eq!(results.len(), 100);
    let mut committed_before = BTreeSet::new();
    for (number, result) in results {
        assert_eq!(result.is_err(), number % 10 == 3, "{number}: {result:?}");
        assert_eq!(read(&database, number).is_some(), number % 10 != 3);
        committed_before.extend(result.ok());
    }
    // The writer may have taken up the first ones before the others came; all those are in the second transaction.
    assert!(committed_before.len() <= 2, "transactions started after {committed_before:?} paths");
}

#[test]
fn many_threads_register_at_once() {
    let (_scratch, database) = store();
    database.register(set([info(0, &[])])).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let database = &database;
            scope.spawn(move || {
                for step in 0..25 {
                    let number = 1 + thread * 1000 + step;
                    let references = if step == 0 { vec![0] } else { vec![0, number - 1] };
                    database.register(set([info(number, &references)])).unwrap();
                    assert!(read(database, number).is_some(), "a thread sees what it registered");
                }
            });
        }
    });
    assert_eq!(database.reader().unwrap().all_paths().unwrap().len(), 201);
}

#[test]
fn two_processes_write_side_by_side() {
    let scratch = TempDir::new().unwrap();
    let open = || {
        let options = OpenOptions { reserved_space: 0, ..OpenOptions::default() };
        Database::open(scratch.path(), StoreDir::default(), options).unwrap()
    };
    let databases = [open(), open()];
    std::thread::scope(|scope| {
        for (index, database) in databases.iter().enumerate() {
            scope.spawn(move || {
                for step in 0..50 {
                    database.register(set([info(index * 1000 + step, &[])])).unwrap();
                }
            });
        }
    });
    for database in &databases {
        assert_eq!(database.reader().unwrap().all_paths().unwrap().len(), 100);
    }
}

#[test]
fn what_was_submitted_is_committed_before_closing() {
    let (scratch, database) = store();
    for number in 0..50 {
        let registration = set([info(number, &[])]);
        database
            .submit(move |transaction| transaction.register(&registration), |result| drop(result.unwrap()));
    }
    drop(database);
    let connection = Connection::open(scratch.path().join("db.sqlite")).unwrap();
    let count: i64 = connection.query_row("select count(*) from ValidPaths", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 50);
}

#[test]
fn the_foreign_version_tells_changes_of_others_from_own_ones() {
    let (scratch, database) = store();
    let before = database.foreign_version().unwrap();
    database.register(set([info(0, &[])])).unwrap();
    assert_eq!(database.foreign_version(), Some(before));
    let options = OpenOptions { reserved_space: 0, ..OpenOptions::default() };
    let other = Database::open(scratch.path(), StoreDir::default(), options).unwrap();
    other.register(set([info(1, &[])])).unwrap();
    assert_ne!(database.foreign_version(), Some(before));
}
