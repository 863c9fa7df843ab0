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
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

const LARGE: usize = 512 << 20;
const SMALL_FILES: usize = 50_000;
const ROUNDS: usize = 3;

/// What rounds of some work took.
struct Times {
    best: Duration,
    median: Duration,
    /// Processor time of all threads, in the round that took the least of it: what matters where others work too.
    processor: Duration,
}

/// Measures several rounds of `work`, each after `prepare`.
fn measure(mut prepare: impl FnMut(), mut work: impl FnMut()) -> Times {
    let (mut times, mut processor) = (Vec::new(), Duration::MAX);
    for _ in 0..ROUNDS {
        prepare();
        let (start, used) = (Instant::now(), processor_time());
        work();
        times.push(start.elapsed());
        processor = processor.min(processor_time() - used);
    }
    times.sort_unstable();
    Times { best: times[0], median: times[ROUNDS / 2], processor }
}

fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap()
}

fn per_second(what: &str, times: &Times) -> f64 {
    let speed = |time: Duration| LARGE as f64 / 1e6 / time.as_secs_f64();
    let (best, median) = (speed(times.best), speed(times.median));
    println!("{what:<52} {best:>7.0} MB/s best {median:>7.0} MB/s median");
    median
}

fn per_file(what: &str, times: &Times) {
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / SMALL_FILES as f64;
    let (best, median, processor) = (micros(times.best), micros(times.median), micros(times.processor));
    println!("{what:<52} {best:>7.2} µs/file best {median:>7.2} median {processor:>7.2} of processor");
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
        &measure(
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
        &measure(
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
        &measure(
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
        &measure(
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
        &measure(
            || {},
            || {
                dump(directory, &name, &mut io::sink()).unwrap();
            },
        ),
    );
    per_second(
        "hash_tree",
        &measure(
            || {},
            || {
                hash_tree(directory, &name, &mut ()).unwrap();
            },
        ),
    );
    let scan = per_second(
        "scan_output, 1,000 candidates",
        &measure(
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

/// 200 files of 200 bytes in each directory.
fn make_small_files(root: &Path) {
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

/// Makes everything as a build leaves it: writable, new, and of the build user.
fn as_left_by_a_build(path: &Path, builder: Option<u32>) {
    let directory = path.is_dir();
    fs::set_permissions(path, fs::Permissions::from_mode(if directory { 0o755 } else { 0o644 })).unwrap();
    File::open(path).unwrap().set_modified(SystemTime::now()).unwrap();
    if builder.is_some() {
        chown(path, builder, builder).unwrap();
    }
    if directory {
        for entry in fs::read_dir(path).unwrap() {
            as_left_by_a_build(&entry.unwrap().path(), builder);
        }
    }
}

fn small_files(directory: &Directory) {
    let name = Component::new("small").unwrap();
    let root = directory.path_of(&name);
    let builder = rustix::process::geteuid().is_root().then_some(30_001);
    make_small_files(&root);
    let prepare = || as_left_by_a_build(&root, builder);
    let scan = |hash_files| {
        let mut ownership = Ownership::of_this_process();
        if let Some(uid) = builder {
            ownership = ownership.built_by(uid..=uid);
        }
        let mut canonicaliser = Canonicaliser::new(ownership);
        scan_output(directory, &name, &mut canonicaliser, candidates(1000), hash_files).unwrap();
        canonicaliser.finish().unwrap();
    };
    per_file(
        "small files: open, read, close alone",
        &measure(
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
    per_file("small files: scan_output as left by a build", &measure(prepare, || scan(false)));
    per_file("small files: the same with file hashes", &measure(prepare, || scan(true)));
    per_file(
        "small files: scan_output when canonical",
        &measure(
            || {},
            || {
                let mut canonicaliser = Canonicaliser::new(Ownership::of_this_process());
                scan_output(directory, &name, &mut canonicaliser, candidates(1000), false).unwrap();
            },
        ),
    );
    per_file(
        "small files: hash_tree",
        &measure(
            || {},
            || {
                hash_tree(directory, &name, &mut ()).unwrap();
            },
        ),
    );
}

fn main() {
    // `cargo test` runs benchmarks too, with this argument missing.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let directory = Directory::open(scratch.path()).unwrap();
    // With the name of one of the two, only that.
    let wanted = |name: &str| {
        !std::env::args().any(|argument| ["large", "small"].contains(&&*argument) && argument != name)
    };
    if wanted("large") {
        large_file(&directory);
    }
    if wanted("small") {
        small_files(&directory);
    }
}
