//! How long closures of 100,000 paths take: inside of SQLite, and in the graph in memory.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use kiln_database::{Database, Follow, OpenOptions, Registration};
use kiln_hash::Sha256;
use kiln_narinfo::PathInfo;
use kiln_store_path::{StoreDir, StorePath};

const PATHS: usize = 100_000;
const REFERENCES: usize = 10;

/// A path whose digest is as scattered as real ones.
fn path(number: usize) -> StorePath {
    let digest = Sha256::of(number.to_le_bytes()).nix32();
    StorePath::from_base_name(format!("{}-package-{number}", &digest[..32])).unwrap()
}

/// Every path refers to some before it, near and far, so that the last one needs nearly all.
fn registration(number: usize) -> Registration {
    let mut info = PathInfo::new(path(number), Sha256([1; 32]), 4096);
    let targets = (1..=REFERENCES).map(|step| number.wrapping_sub(step * step * step));
    info.references = targets.filter(|target| *target < number).map(path).collect();
    info.into()
}

/// Time that the processors have worked for this process: what counts on a machine that has other work, too.
fn processor_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec.cast_unsigned() as u32)
}

fn measure<T>(what: &str, runs: u32, mut run: impl FnMut() -> T) -> T {
    let (mut wall, mut processor) = (Duration::MAX, Duration::MAX);
    let mut result = None;
    for _ in 0..runs {
        let (start, worked) = (Instant::now(), processor_time());
        result = Some(run());
        wall = wall.min(start.elapsed());
        processor = processor.min(processor_time() - worked);
    }
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
    println!("{what:<55} {:>9.1} ms, processor {:>9.1} ms", milliseconds(wall), milliseconds(processor));
    result.unwrap()
}

fn main() {
    let scratch = tempfile::tempdir().unwrap();
    let options = OpenOptions { reserved_space: 0, ..OpenOptions::default() };
    let database = Database::open(scratch.path(), StoreDir::default(), options).unwrap();
    println!("{PATHS} paths with {REFERENCES} references each; best of several runs");
    measure("register all, 1,000 per transaction", 1, || {
        for start in (0..PATHS).step_by(1000) {
            database.register((start..start + 1000).map(registration).collect()).unwrap();
        }
    });
    let top = path(PATHS - 1);
    let reader = database.reader().unwrap();
    let closure = measure("closure of the last path, one statement", 3, || {
        reader.closure(std::slice::from_ref(&top), Follow::REFERENCES).unwrap()
    });
    let backwards = measure("all that needs the first path, one statement", 3, || {
        reader.closure(&[path(0)], Follow::REFERRERS).unwrap()
    });
    println!("  ({} and {} paths)", closure.len(), backwards.len());
    measure("path info of that closure, one statement", 3, || {
        reader.closure_infos(std::slice::from_ref(&top), Follow::REFERENCES).unwrap()
    });
    let graph = measure("load the whole graph into memory", 3, || database.load_graph().unwrap());
    let in_memory = measure("closure of the last path in the graph", 10, || graph.closure(graph.node(&top)));
    assert_eq!(in_memory.len(), closure.len());
    let all: Vec<StorePath> = (0..PATHS).map(path).collect();
    let valid = measure("validity of all paths, one statement", 3, || reader.valid_among(&all).unwrap());
    assert_eq!(valid.len(), PATHS);
    measure("path info, one path at a time, 10,000 paths", 3, || {
        for path in all.iter().take(10_000) {
            reader.path_info(path).unwrap().unwrap();
        }
    });
    measure("register 1,000 paths from 8 threads, one change each", 3, || {
        let mut offset = PATHS + 10_000_000;
        std::thread::scope(|scope| {
            for _ in 0..8 {
                let (start, database) = (offset, &database);
                offset += 125;
                scope.spawn(move || {
                    for number in start..start + 125 {
                        let info = PathInfo::new(path(number), Sha256([2; 32]), 1);
                        database.register(vec![info.into()]).unwrap();
                    }
                });
            }
        });
    });
}
