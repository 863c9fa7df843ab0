//! What one pass over a build's output costs, beside what plain SHA-256 and plain reading cost in the same run.
//!
//! `cargo bench -p kiln-fs` prints one line per measurement: the best and the median of several rounds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a measurement may fail"
)]

use kiln_fs::{Canonicaliser, Component, Directory, HardLinks, Ownership, dump, hash_tree, scan_output};
use kiln_hash::{Sha256, Sha256Hasher};
use kiln_nar::{DIGEST_LENGTH, DigestText, ReferenceScanner, Stage as _};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

const LARGE: usize = 512 << 20;
const SMALL_FILES: usize = 50_000;
const ROUNDS: usize = 3;

/// Best and median time of several rounds, each after `prepare`.
fn measure(mut prepare: impl FnMut(), mut work: impl FnMut()) -> (Duration, Duration) {
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|_| {
            prepare();
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    (times[0], times[ROUNDS / 2])
}

fn per_second(what: &str, bytes: usize, (best, median): (Duration, Duration)) -> f64 {
    let speed = |time: Duration| bytes as f64 / 1e6 / time.as_secs_f64();
    println!("{what:<58} {:>8.0} MB/s best {:>8.0} MB/s median", speed(best), speed(median));
    speed(median)
}

fn per_file(what: &str, (best, median): (Duration, Duration)) {
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / SMALL_FILES as f64;
    println!("{what:<58} {:>8.2} µs/file best {:>6.2} µs/file median", micros(best), micros(median));
}

fn candidates(count: u64) -> Vec<DigestText> {
    (0..count)
        .map(|seed| DigestText::new(&Sha256::of(seed.to_le_bytes()).nix32()[..DIGEST_LENGTH]).unwrap())
        .collect()
}

/// Noise, text-like noise, and a reference every 64 KiB: neither the best nor the worst case for the scan.
fn large_contents(candidates: &[DigestText]) -> Vec<u8> {
    let mut state = 0x1234_5678_9abc_def0_u64;
    let mut contents = vec![0; LARGE];
    for (index, word) in contents.chunks_exact_mut(8).enumerate() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let mask = if index % 16384 < 8192 { u64::MAX } else { 0x7f7f_7f7f_7f7f_7f7f };
        word.copy_from_slice(&(state & mask).to_le_bytes());
    }
    for (index, block) in contents.chunks_exact_mut(64 << 10).enumerate() {
        block[100..132].copy_from_slice(candidates[index % candidates.len()].as_bytes());
    }
    contents
}

fn large_file(directory: &Directory) {
    let candidates = candidates(1000);
    // One of them never occurs, or the search would end early.
    let contents = large_contents(&candidates[1..]);
    let name = Component::new("large").unwrap();
    directory.create_file(&name, 0o644).unwrap().write_all(&contents).unwrap();
    let hash = per_second(
        "SHA-256 alone, in memory",
        LARGE,
        measure(
            || {},
            || {
                let mut hasher = Sha256Hasher::new();
                contents.chunks(256 << 10).for_each(|chunk| hasher.update(chunk));
                std::hint::black_box(hasher.finish());
            },
        ),
    );
    per_second(
        "reference scan alone, 1,000 candidates, in memory",
        LARGE,
        measure(
            || {},
            || {
                let mut scanner = ReferenceScanner::new(candidates.iter().copied());
                contents.chunks(256 << 10).for_each(|chunk| scanner.update(chunk));
                assert_eq!(scanner.found().count(), 999);
            },
        ),
    );
    let digits: Vec<u8> =
        contents.iter().map(|byte| b"0123456789abcdfghijklmnpqrsvwxyz"[usize::from(byte % 32)]).collect();
    per_second(
        "reference scan alone, file of nothing but nix32",
        LARGE,
        measure(
            || {},
            || {
                let mut scanner = ReferenceScanner::new(candidates.iter().copied());
                digits.chunks(256 << 10).for_each(|chunk| scanner.update(chunk));
                std::hint::black_box(scanner.finish());
            },
        ),
    );
    drop((contents, digits));
    per_second(
        "read alone",
        LARGE,
        measure(
            || {},
            || {
                let mut file = File::open(directory.path_of(&name)).unwrap();
                let mut buffer = vec![0; 256 << 10];
                while file.read(&mut buffer).unwrap() > 0 {}
            },
        ),
    );
    per_second(
        "dump to nowhere",
        LARGE,
        measure(
            || {},
            || {
                dump(directory, &name, &mut io::sink()).unwrap();
            },
        ),
    );
    per_second(
        "hash_tree",
        LARGE,
        measure(
            || {},
            || {
                hash_tree(directory, &name, &mut ()).unwrap();
            },
        ),
    );
    let scan = per_second(
        "scan_output, 1,000 candidates",
        LARGE,
        measure(
            || {},
            || {
                let mut canonicaliser =
                    Canonicaliser::new(Ownership::of_this_process()).hard_links(HardLinks::Accept);
                let facts =
                    scan_output(directory, &name, &mut canonicaliser, candidates.iter().copied(), false)
                        .unwrap();
                assert_eq!(facts.references.len(), 999);
            },
        ),
    );
    println!("scan_output reaches {:.0} % of SHA-256 alone", 100.0 * scan / hash);
}

/// As a build leaves them: 200 files of 200 bytes in each directory.
fn make_small_files(root: &Path) {
    if root.exists() {
        fs::remove_dir_all(root).unwrap();
    }
    for number in 0..SMALL_FILES {
        let directory = root.join(format!("d{}", number / 200));
        if number % 200 == 0 {
            fs::create_dir_all(&directory).unwrap();
        }
        let mut contents = vec![b'x'; 200];
        contents[..8].copy_from_slice(&(number as u64).to_le_bytes());
        fs::write(directory.join(format!("file-{number}")), contents).unwrap();
    }
}

fn small_files(directory: &Directory) {
    let name = Component::new("small").unwrap();
    let root = directory.path_of(&name);
    let builder = rustix::process::geteuid().is_root().then_some(30_001);
    let prepare = || {
        make_small_files(&root);
        if let Some(uid) = builder {
            own(&root, uid);
        }
    };
    let scan = |hash_files| {
        let mut ownership = Ownership::of_this_process();
        if let Some(uid) = builder {
            ownership = ownership.built_by(uid..=uid);
        }
        let mut canonicaliser = Canonicaliser::new(ownership);
        scan_output(directory, &name, &mut canonicaliser, candidates(1000), hash_files).unwrap();
        canonicaliser.finish().unwrap();
    };
    per_file("small files: scan_output as left by a build", measure(prepare, || scan(false)));
    per_file("small files: the same with file hashes", measure(prepare, || scan(true)));
    per_file(
        "small files: scan_output when canonical",
        measure(
            || {},
            || {
                let mut canonicaliser = Canonicaliser::new(Ownership::of_this_process());
                scan_output(directory, &name, &mut canonicaliser, candidates(1000), false).unwrap();
            },
        ),
    );
    per_file(
        "small files: hash_tree",
        measure(
            || {},
            || {
                hash_tree(directory, &name, &mut ()).unwrap();
            },
        ),
    );
    per_file(
        "small files: open, read, close alone",
        measure(
            || {},
            || {
                let mut buffer = [0; 4096];
                for number in 0..SMALL_FILES {
                    let path = root.join(format!("d{}/file-{number}", number / 200));
                    assert_eq!(File::open(path).unwrap().read(&mut buffer).unwrap(), 200);
                }
            },
        ),
    );
}

/// Gives a tree to a build user.
fn own(root: &Path, uid: u32) {
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        for file in fs::read_dir(&path).unwrap() {
            std::os::unix::fs::chown(file.unwrap().path(), Some(uid), Some(uid)).unwrap();
        }
        std::os::unix::fs::chown(path, Some(uid), Some(uid)).unwrap();
    }
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(root, Some(uid), Some(uid)).unwrap();
}

fn main() {
    // `cargo test` runs benchmarks too, with this argument missing.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let directory = Directory::open(scratch.path()).unwrap();
    large_file(&directory);
    small_files(&directory);
}
