//! Queries on the database that real Nix made, and their agreement with each other.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use kiln_database::{Database, Error, Follow, Graph, OpenOptions, Registration};
use kiln_hash::Sha256;
use kiln_narinfo::PathInfo;
use kiln_narinfo::registration::{Entry, Form, Reader};
use kiln_store_path::{OutputName, StoreDir, StorePath};
use proptest::prelude::*;
use tempfile::TempDir;

fn path(base_name: &str) -> StorePath {
    StorePath::from_base_name(base_name).unwrap()
}

fn names(paths: impl IntoIterator<Item = StorePath>) -> Vec<String> {
    paths.into_iter().map(|path| path.name().to_owned()).collect()
}

fn sample_bytes_in(directory: &Path, bytes: &[u8]) {
    fs::write(directory.join("db.sqlite"), bytes).unwrap();
    fs::write(directory.join("schema"), "10").unwrap();
}

fn open(directory: &Path) -> Result<Database, Error> {
    let options = OpenOptions { reserved_space: 0, sync: false, ..OpenOptions::default() };
    Database::open(directory, StoreDir::default(), options)
}

fn sample() -> (TempDir, Database) {
    let scratch = TempDir::new().unwrap();
    sample_bytes_in(scratch.path(), include_bytes!("data/db-2.34.sqlite"));
    let database = open(scratch.path()).unwrap();
    (scratch, database)
}

const DEP2: &str = "lj3q75s8vxysliflp8z0a7w75mpl98wh-dep2";
const SIMPLE: &str = "mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple";

#[test]
fn path_info_is_what_nix_dumps() {
    let (_scratch, database) = sample();
    let reader = database.reader().unwrap();
    let mut entries = Vec::new();
    let mut dump = Reader::new(StoreDir::default(), Form::WithHashes);
    dump.push(include_bytes!("data/dump-db.dep2-closure.txt"), &mut entries).unwrap();
    dump.finish().unwrap();
    assert_eq!(entries.len(), 6);
    for expected in &entries {
        let info = reader.path_info(&expected.path).unwrap().unwrap();
        assert_eq!(Entry::of(&info, Form::WithHashes, true), *expected);
    }
    let dep2 = reader.path_info(&path(DEP2)).unwrap().unwrap();
    assert_eq!(dep2.registration_time, 1_795_291_510);
    assert_eq!(dep2.signatures.len(), 1);
    assert!(!dep2.ultimate);
    let source = reader.path_info(&path("pfqja8c3gi5f4j3dhhgb8f01ck85cl15-src.txt")).unwrap().unwrap();
    assert!(source.content_address.is_some() && source.is_content_addressed(&StoreDir::default()));

    let all: Vec<_> = reader.all_paths().unwrap().into_iter().collect();
    let batch = reader.path_infos(&all).unwrap();
    assert_eq!(batch.len(), 12);
    for info in reader.all_path_infos().unwrap() {
        assert_eq!(batch[&info.path], info);
        assert_eq!(reader.path_info(&info.path).unwrap().unwrap(), info);
    }
}

#[test]
fn what_is_not_valid_is_nothing() {
    let (_scratch, database) = sample();
    let reader = database.reader().unwrap();
    let absent = path("00000000000000000000000000000000-absent");
    assert!(reader.path_info(&absent).unwrap().is_none());
    assert!(!reader.is_valid(&absent).unwrap());
    assert!(reader.is_valid(&path(SIMPLE)).unwrap());
    assert!(reader.referrers(&absent).unwrap().is_empty());
    assert!(reader.derivation_outputs(&absent).unwrap().is_empty());
    let asked = [path(SIMPLE), absent.clone(), path(SIMPLE)];
    assert_eq!(reader.valid_among(&asked).unwrap(), BTreeSet::from([path(SIMPLE)]));
    assert!(matches!(
        reader.closure(&asked, Follow::REFERENCES),
        Err(Error::NotValid { path }) if path.ends_with("-absent")
    ));
}

#[test]
fn neighbours_of_a_path() {
    let (_scratch, database) = sample();
    let reader = database.reader().unwrap();
    assert_eq!(names(reader.referrers(&path(SIMPLE)).unwrap()), ["dep", "dep2"]);
    assert_eq!(names(reader.valid_derivers(&path(SIMPLE)).unwrap()), ["simple.drv"]);
    let multi = path("6p7lmr7vjv930imcp4sgg2f8cm95s7xj-multi.drv");
    let outputs = reader.derivation_outputs(&multi).unwrap();
    assert_eq!(outputs.keys().map(OutputName::as_str).collect::<Vec<_>>(), ["dev", "man", "out"]);
    assert_eq!(outputs[&OutputName::out()].name(), "multi");
    let digest = path(DEP2).digest().to_owned();
    assert_eq!(reader.path_by_digest(&digest).unwrap(), Some(path(DEP2)));
    for digest in
        ["lj3q75s8vxysliflp8z0a7w75mpl98wg", "00000000000000000000000000000000", "", "lj3q75s8", "%", "zz"]
    {
        assert_eq!(reader.path_by_digest(digest).unwrap(), None, "{digest}");
    }
}

#[test]
fn closures_follow_the_edges_that_are_wanted() {
    let (_scratch, database) = sample();
    let reader = database.reader().unwrap();
    let closure = |start: &str, follow| {
        let mut names = names(reader.closure(&[path(start)], follow).unwrap());
        names.sort();
        names
    };
    let needs = ["dep", "dep2", "multi", "multi-dev", "simple", "src.txt"];
    assert_eq!(closure(DEP2, Follow::REFERENCES), needs);
    assert_eq!(closure(SIMPLE, Follow::REFERRERS), ["dep", "dep2", "simple"]);
    let drv = "4gd87ivd2zhmmqkslb944cwpzpz256w1-simple.drv";
    assert_eq!(closure(drv, Follow::REFERENCES), ["simple.drv"]);
    assert_eq!(closure(drv, Follow { outputs: true, ..Follow::REFERENCES }), ["simple", "simple.drv"]);
    assert_eq!(closure(SIMPLE, Follow { derivers: true, ..Follow::REFERENCES }), ["simple", "simple.drv"]);
    let with_derivers = Follow { outputs: true, ..Follow::REFERRERS };
    assert_eq!(
        closure(SIMPLE, with_derivers),
        ["dep", "dep.drv", "dep2", "dep2.drv", "simple", "simple.drv"]
    );
    let with_outputs = Follow { derivers: true, ..Follow::REFERRERS };
    assert_eq!(closure(drv, with_outputs), ["dep", "dep.drv", "dep2", "dep2.drv", "simple", "simple.drv"]);
    let infos = reader.closure_infos(&[path(DEP2)], Follow::REFERENCES).unwrap();
    for (path, info) in infos {
        assert_eq!(reader.path_info(&path).unwrap(), Some(info));
    }
}

#[test]
fn realisations_of_nix_are_found() {
    let (_scratch, database) = sample();
    let reader = database.reader().unwrap();
    let id = "sha256:e5367c7cdb4ac33dad6c36a43ca1b46056ad0a17dfbba2f3a9cb91b8c947e322!out".parse().unwrap();
    let realisation = reader.realisation(&id).unwrap().unwrap();
    assert_eq!(realisation.output_path, path("a9bmxp27g1v0jdv0w9jylsq2pdq60fdr-ca-dep"));
    let other =
        "sha256:e5367c7cdb4ac33dad6c36a43ca1b46056ad0a17dfbba2f3a9cb91b8c947e322!dev".parse().unwrap();
    assert!(reader.realisation(&other).unwrap().is_none());
}

#[test]
fn the_graph_agrees_with_the_queries() {
    let (_scratch, database) = sample();
    let reader = database.reader().unwrap();
    let graph = database.load_graph().unwrap();
    assert_eq!(graph.len(), 12);
    let paths = |nodes: &[kiln_database::Node]| -> BTreeSet<StorePath> {
        nodes.iter().map(|node| graph.path(*node).unwrap().clone()).collect()
    };
    for node in graph.nodes() {
        let path = graph.path(node).unwrap();
        let info = reader.path_info(path).unwrap().unwrap();
        assert_eq!(graph.node(path), Some(node));
        assert_eq!(paths(graph.references(node)), info.references);
        assert_eq!(paths(graph.referrers(node)), reader.referrers(path).unwrap());
        assert_eq!(graph.nar_size(node), info.nar_size);
        assert_eq!(graph.registration_time(node), info.registration_time);
        let valid = |path: &StorePath| graph.node(path).is_some();
        assert_eq!(graph.deriver(node), info.deriver.as_ref().and_then(|deriver| graph.node(deriver)));
        let outputs = reader.derivation_outputs(path).unwrap();
        assert_eq!(paths(graph.outputs(node)), outputs.into_values().filter(valid).collect());
    }
}

/// Every single-byte damage to the database is an error or goes unnoticed, but nothing panics or hangs.
#[test]
fn damage_is_an_error_or_unnoticed() {
    let bytes = include_bytes!("data/db-2.34.sqlite");
    let scratch = TempDir::new().unwrap();
    let mut noticed = 0;
    for position in (0..bytes.len()).step_by(211) {
        let directory = scratch.path().join(position.to_string());
        fs::create_dir(&directory).unwrap();
        let mut damaged = bytes.to_vec();
        damaged[position] ^= 0x55;
        sample_bytes_in(&directory, &damaged);
        let used = open(&directory).and_then(|database| {
            let reader = database.reader()?;
            reader.all_path_infos()?;
            let closure =
                reader.closure(&[path(DEP2)], Follow { outputs: true, derivers: true, backwards: false });
            drop(reader);
            database.load_graph()?;
            closure
        });
        noticed += usize::from(used.is_err());
        fs::remove_dir_all(&directory).unwrap();
    }
    assert!(noticed > 10, "only {noticed} damages were noticed");
}

#[test]
fn truncated_files_are_refused() {
    let bytes = include_bytes!("data/db-2.34.sqlite");
    let scratch = TempDir::new().unwrap();
    for length in [1, 50, 100, 2048, 4096, 8192, 40_000] {
        sample_bytes_in(scratch.path(), &bytes[..length]);
        let used = open(scratch.path()).and_then(|database| database.reader()?.all_path_infos());
        assert!(matches!(used, Err(Error::Corrupt { .. })), "{length} bytes: {used:?}");
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(scratch.path().join(format!("db.sqlite{suffix}")));
        }
    }
}

fn numbered(number: usize) -> StorePath {
    path(&format!("{number:032}-p"))
}

/// A store in which path `n` refers to the paths that its set of smaller numbers gives.
fn store_of(references: &[BTreeSet<usize>]) -> (TempDir, Database) {
    let scratch = TempDir::new().unwrap();
    let database = open(scratch.path()).unwrap();
    let set = references.iter().enumerate().map(|(number, references)| {
        let mut info = PathInfo::new(numbered(number), Sha256([7; 32]), 1);
        info.references = references.iter().map(|number| numbered(*number)).collect();
        Registration::from(info)
    });
    database.register(set.collect()).unwrap();
    (scratch, database)
}

fn reach(graph: &Graph, start: &StorePath) -> BTreeSet<StorePath> {
    let closure = graph.closure(graph.node(start));
    closure.iter().map(|node| graph.path(node).unwrap().clone()).collect()
}

#[test]
fn referrers_come_first_in_whatever_order_they_were_registered() {
    let scratch = TempDir::new().unwrap();
    let database = open(scratch.path()).unwrap();
    let set = [(5, &[1][..]), (3, &[5, 3]), (1, &[]), (4, &[1]), (2, &[3, 4])].map(|(number, references)| {
        let mut info = PathInfo::new(numbered(number), Sha256([7; 32]), 1);
        info.references = references.iter().map(|number| numbered(*number)).collect();
        Registration::from(info)
    });
    database.register(set.into()).unwrap();
    let graph = database.load_graph().unwrap();
    let order = |set: &[usize]| -> Vec<usize> {
        let mut nodes = graph.empty_set();
        for number in set {
            nodes.insert(graph.node(&numbered(*number)).unwrap());
        }
        let order = graph.referrers_first(&nodes);
        let number = |node: &_| (1..6).find(|number| graph.path(*node) == Some(&numbered(*number)));
        order.iter().filter_map(number).collect()
    };
    assert_eq!(order(&[1, 2, 3, 4, 5]), [2, 4, 3, 5, 1]);
    assert_eq!(order(&[1, 3, 4]), [4, 1, 3], "what 3 refers to is not among them");
    assert_eq!(order(&[]), [0; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn sql_graph_and_naive_closures_agree(
        raw in proptest::collection::vec(proptest::collection::btree_set(0_usize..24, 0..5), 1..24),
    ) {
        let references: Vec<BTreeSet<usize>> = raw
            .iter()
            .enumerate()
            .map(|(number, set)| set.iter().map(|to| to % (number + 1)).collect())
            .collect();
        let (_scratch, database) = store_of(&references);
        let reader = database.reader().unwrap();
        let graph = database.load_graph().unwrap();
        let mut naive: Vec<BTreeSet<usize>> = Vec::new();
        for (number, set) in references.iter().enumerate() {
            let mut closure = BTreeSet::from([number]);
            for to in set.iter().filter(|to| **to != number) {
                closure.extend(naive[*to].iter().copied());
            }
            naive.push(closure);
        }
        for (number, closure) in naive.iter().enumerate() {
            let expected: BTreeSet<_> = closure.iter().map(|number| numbered(*number)).collect();
            let start = numbered(number);
            prop_assert_eq!(&reader.closure(std::slice::from_ref(&start), Follow::REFERENCES).unwrap(), &expected);
            prop_assert_eq!(reach(&graph, &start), expected);
            let backwards = reader.closure(&[start], Follow::REFERRERS).unwrap();
            let expected: BTreeSet<_> =
                (0..naive.len()).filter(|other| naive[*other].contains(&number)).map(numbered).collect();
            prop_assert_eq!(backwards, expected);
        }
        // One that is not valid is among them.
        let numbers: Vec<usize> = (0..=references.len()).filter(|number| number % 3 != 1).collect();
        let among: Vec<StorePath> = numbers.iter().map(|number| numbered(*number)).collect();
        let found = reader.references_among(&among).unwrap();
        prop_assert_eq!(found.len(), among.len());
        for (found, number) in found.iter().zip(&numbers) {
            let of = references.get(*number).into_iter().flatten();
            let expected: Vec<usize> = of.filter_map(|to| numbers.iter().position(|other| other == to)).collect();
            prop_assert_eq!(found, &expected);
        }
        let all = graph.closure(graph.nodes());
        let order = graph.referrers_first(&all);
        let mut newest_first: Vec<_> = graph.nodes().collect();
        newest_first.reverse();
        prop_assert_eq!(order, newest_first, "what a path refers to was registered before it");
    }
}
