//! How much memory it takes to replace digests in a large file. A program of its own, since the system counts memory by
//! process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may fail")]

use kiln_fs::{Component, Directory, rewrite_tree};
use kiln_nar::DigestText;
use std::fs;
use std::io::Write as _;

const FILE: usize = 64 << 20;
const OLD: &str = "mz985b11rp8ccbhb4gcc1bpxwpxvbw6d";
const NEW: &str = "fkcy6m3kx766j9lmy6dy4c5i4k2x23s6";

/// The most memory that this process has had, in bytes.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
}

#[test]
fn b13_memory_does_not_grow_with_the_file() {
    let place = tempfile::tempdir().unwrap();
    let mut file = fs::File::create(place.path().join("from")).unwrap();
    // A digest at every place that is odd to the size of chunks.
    let piece = [OLD.as_bytes(), &[b'.'; 96 + 1]].concat().repeat(1000);
    let pieces = FILE / piece.len();
    for _ in 0..pieces {
        file.write_all(&piece).unwrap();
    }
    let directory = Directory::open(place.path()).unwrap();
    let (from, to) = (Component::new("from").unwrap(), Component::new("to").unwrap());
    let pair = (DigestText::new(OLD).unwrap(), DigestText::new(NEW).unwrap());
    let before = peak();
    let facts = rewrite_tree((&directory, &from), (&directory, &to), [pair]).unwrap();
    let grown = peak() - before;
    assert_eq!(facts.contents, pieces as u64 * 1000);
    assert_eq!(fs::metadata(place.path().join("to")).unwrap().len(), (pieces * piece.len()) as u64);
    assert!(grown < 4 << 20, "{grown} bytes");
}
