//! Tests of frames on threads.

use super::super::samples::{all, text};
use super::*;
use proptest::prelude::*;
use std::io::BufReader;

fn frame(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).unwrap()
}

fn unsized_frame(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// A reader for which a thread pays off early.
fn small_pieces<'a, S>(source: S, least: usize, budget: &Arc<Budget>) -> Frames<'a, S>
where
    S: BufRead + Send + 'a,
{
    let mut frames = Frames::new(source, Arc::clone(budget));
    frames.least = least;
    frames
}

/// What comes out, which must be what the ordinary decoder makes of it.
fn read(file: &[u8], least: usize) -> Result<Vec<u8>, String> {
    let expected = all(make(Coding::Zstd, file).unwrap());
    for (threads, buffer) in [(0, 3), (1, 1), (4, 64 << 10)] {
        let budget = Budget::new(threads);
        let source = BufReader::with_capacity(buffer, file);
        let found = all(small_pieces(source, least, &budget));
        assert!(found == expected, "{threads} threads: {:?}, not {:?}", found.err(), expected.err());
        assert_eq!(budget.free(), threads);
    }
    expected
}

#[test]
fn frames_come_in_order() {
    let parts: Vec<Vec<u8>> = (0..30_u32).map(|number| text(number * 1000 % 7001)).collect();
    let file: Vec<u8> = parts.iter().flat_map(|part| frame(part)).collect();
    for least in [1, 3000, 50_000, PIECE] {
        assert!(read(&file, least).unwrap() == parts.concat());
    }
}

#[test]
fn what_the_ordinary_decoder_has_to_read_follows() {
    let part = text(2000);
    let skipped = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc";
    let sized = frame(&part);
    for other in [unsized_frame(&part), frame(&vec![7; frames::LARGEST + 1]), skipped.to_vec()] {
        let file = [&sized[..], &sized, &other, &sized, skipped, &other].concat();
        assert!(read(&file, 1000).is_ok());
    }
    assert_eq!(read(skipped, 1), Ok(Vec::new()));
    assert_eq!(read(b"", 1), Err("incomplete frame".to_owned()));
}

#[test]
fn errors_are_those_of_the_ordinary_decoder() {
    let file = [frame(&text(1000)), frame(&text(300)), unsized_frame(&text(300))].concat();
    for length in 0..file.len() {
        drop(read(&file[..length], 1));
    }
    assert!(read(&file[..file.len() - 1], 1).is_err());
    assert!(read(&file[..frame(&text(1000)).len() - 1], 1).is_err());
    let trailing = [&file[..], b"more of it"].concat();
    assert_eq!(read(&trailing, 1), Err("Unknown frame descriptor".to_owned()));
    assert_eq!(read(b"<html>", 1), Err("Unknown frame descriptor".to_owned()));
    // A size that is too small, and one that is too large.
    let whole = frame(&text(1000));
    let at = whole.windows(2).position(|bytes| bytes == (4000_u16 - 256).to_le_bytes()).unwrap();
    for size in [0, 3999, 4001, 65000_u16] {
        let mut wrong = [&whole[..], &whole].concat();
        wrong[at..at + 2].copy_from_slice(&size.to_le_bytes());
        assert!(all(make(Coding::Zstd, wrong.as_slice()).unwrap()).is_err(), "{size}");
        assert!(all(small_pieces(wrong.as_slice(), 1, &Budget::new(4))).is_err(), "{size}");
    }
}

#[test]
fn a_size_beyond_all_bounds_is_an_error() {
    let huge = [&b"\x28\xb5\x2f\xfd\xe0"[..], &(1_u64 << 60).to_le_bytes(), &[1, 0, 0]].concat();
    assert_eq!(read(&huge, 1), Err("Frame requires too much memory for decoding".to_owned()));
    let file = [frame(&text(1000)), huge].concat();
    assert!(read(&file, 1).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damage_is_what_it_is_for_the_ordinary_decoder(at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let mut file = [frame(&text(300)), frame(&text(400)), unsized_frame(&text(300))].concat();
        let at = at.index(file.len());
        file[at] ^= flip;
        let expected = all(make(Coding::Zstd, file.as_slice()).unwrap());
        let budget = Budget::new(4);
        let found = all(small_pieces(file.as_slice(), 1, &budget));
        prop_assert_eq!(found.clone().ok(), expected.clone().ok());
        prop_assert_eq!(budget.free(), 4);
    }
}

/// The same frame again and again, counted.
struct Endless {
    frame: Vec<u8>,
    at: usize,
    count: Arc<std::sync::atomic::AtomicUsize>,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.frame[self.at..].as_ref().read(buffer)?;
        self.at = (self.at + length) % self.frame.len();
        self.count.fetch_add(length, std::sync::atomic::Ordering::Relaxed);
        Ok(length)
    }
}

#[test]
fn no_more_is_read_than_fits() {
    let (part, budget) = (text(100_000), Budget::new(3));
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let frame = frame(&part);
    let length = frame.len();
    let source = BufReader::with_capacity(100, Endless { frame, at: 0, count: Arc::clone(&count) });
    let mut reader = small_pieces(source, 1, &budget);
    let mut found = vec![0; part.len() * 7 / 2];
    for more in 1..10 {
        reader.read_exact(&mut found).unwrap();
        let read = count.load(std::sync::atomic::Ordering::Relaxed);
        // One is being read from, and three are on their way.
        assert!(read <= (more * 7 / 2 + 4) * length + 100, "{read} of {length}");
    }
    assert!(found == [&part[..], &part, &part, &part[..part.len() / 2]].concat());
    // Threads don't outlive whom they work for.
    drop(reader);
    assert_eq!(budget.free(), 3);
}

#[test]
fn many_readers_share_few_threads() {
    let (part, budget) = (text(20_000), Budget::new(3));
    let file = frame(&part).repeat(30);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                assert!(all(small_pieces(file.as_slice(), 1, &budget)).unwrap() == part.repeat(30))
            });
        }
    });
    assert_eq!(budget.free(), 3);
}

#[test]
fn the_failure_of_a_source_comes_after_what_was_before_and_stays() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }
    let (part, budget) = (text(1000), Budget::new(2));
    for cut in [0, 10] {
        let mut file = [frame(&part), frame(&part)].concat();
        file.extend_from_slice(&frame(&part)[..cut]);
        let mut reader = small_pieces(BufReader::new(file.as_slice().chain(Broken)), 1, &budget);
        let mut found = vec![0; part.len() * 2];
        reader.read_exact(&mut found).unwrap();
        assert!(found == part.repeat(2));
        assert_eq!(reader.read(&mut [0]).unwrap_err().to_string(), "broken");
        assert!(reader.read(&mut [0]).is_err());
    }
}

#[test]
fn after_an_error_there_is_nothing_more() {
    let (part, budget) = (text(1000), Budget::new(4));
    let mut damaged = frame(&part);
    let last = damaged.len() - 1;
    damaged[last] ^= 0xFF;
    damaged[last - 30] ^= 0xFF;
    let file = [frame(&part), damaged, frame(&part).repeat(20)].concat();
    let mut reader = small_pieces(file.as_slice(), 1, &budget);
    assert!(reader.read_to_end(&mut Vec::new()).is_err());
    assert!(reader.read(&mut [0]).is_err());
    assert_eq!(budget.free(), 4);
}
