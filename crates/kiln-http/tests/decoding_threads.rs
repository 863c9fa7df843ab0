//! Threads that help with decoding: that there are some, not many, and none when they are no longer needed. This is a
//! program of its own because it counts all threads.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::thread::{available_parallelism, sleep};
use std::time::{Duration, Instant};

use kiln_http::{Coding, decoder_on_threads};
use liblzma::stream::{Check, MtStreamBuilder};
use liblzma::write::XzEncoder;

const READERS: usize = 16;

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// Threads that have ended are forgotten by the system a moment later.
#[track_caller]
fn assert_at_most(most: usize) {
    let start = Instant::now();
    while threads() > most {
        assert!(start.elapsed() < Duration::from_secs(10), "{} threads, not {most}", threads());
        sleep(Duration::from_millis(1));
    }
}

#[test]
fn few_threads_help_and_none_stays() {
    let before = threads();
    let contents: Vec<u8> = (0..6_000_000_u32).flat_map(|number| (number / 5).to_le_bytes()).collect();
    let frames: Vec<u8> =
        contents.chunks(4 << 20).flat_map(|part| zstd::bulk::compress(part, 1).unwrap()).collect();
    let blocks = MtStreamBuilder::new().preset(0).check(Check::Crc64).encoder().unwrap();
    let mut encoder = XzEncoder::new_stream(Vec::new(), blocks);
    encoder.write_all(&contents).unwrap();
    let blocks = encoder.finish().unwrap();

    assert_at_most(before);
    let length = contents.len() as u64;
    let processors = available_parallelism().unwrap().get();
    for (coding, file) in [(Coding::Zstd, frames), (Coding::Xz, blocks)] {
        let begin = || {
            let mut reader = decoder_on_threads(coding, file.as_slice(), length);
            let mut start = vec![0; 100_000];
            reader.read_exact(&mut start).unwrap();
            assert!(contents.starts_with(&start));
            reader
        };
        let mut readers: Vec<_> = (0..READERS).map(|_| begin()).collect();
        assert_at_most(before + processors.min(READERS));
        // Threads of zstd come and go with what they decode; those of xz stay with the reader.
        assert!(threads() > before || processors == 1 || coding == Coding::Zstd, "no thread");

        let mut first = readers.remove(0);
        let mut rest = Vec::new();
        first.read_to_end(&mut rest).unwrap();
        assert!(contents.ends_with(&rest) && rest.len() == contents.len() - 100_000, "{coding:?}");
        drop(first);
        // The others are dropped in the middle.
        drop(readers);
        assert_at_most(before);
    }
}
