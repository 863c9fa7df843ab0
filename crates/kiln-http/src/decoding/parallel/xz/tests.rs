//! Tests of blocks on threads.

use super::super::samples::{all, text};
use super::*;
use liblzma::stream::{Check, Stream};
use liblzma::write::XzEncoder;
use proptest::prelude::*;
use std::io::{BufReader, Write as _};

/// A stream with blocks of so many bytes, whose heads tell their sizes.
fn blocks(bytes: &[u8], block: u64) -> Vec<u8> {
    let stream =
        MtStreamBuilder::new().preset(0).check(Check::Crc64).threads(2).block_size(block).encoder().unwrap();
    let mut encoder = XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn one_block(bytes: &[u8]) -> Vec<u8> {
    let stream = Stream::new_easy_encoder(0, Check::Crc64).unwrap();
    let mut encoder = XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What comes out, which must be what the ordinary decoder makes of it.
fn read(file: &[u8], length: usize) -> Result<Vec<u8>, String> {
    let expected = all(make(Coding::Xz, file).unwrap());
    for (threads, buffer) in [(1, 3), (2, 1), (4, 64 << 10)] {
        let budget = Budget::new(threads);
        let source = BufReader::with_capacity(buffer, file);
        let found =
            reader(source, length as u64, Arc::clone(&budget)).map_or_else(|e| Err(e.to_string()), all);
        assert!(found == expected, "{threads} threads, {:?} and {:?}", found.err(), expected.err());
        assert_eq!(budget.free(), threads);
    }
    expected
}

#[test]
fn blocks_come_in_order() {
    let text = text(100_000);
    for size in [1000, 10_000, 300_000, 10 << 20] {
        assert!(read(&blocks(&text, size), text.len()).unwrap() == text);
    }
    assert!(read(&one_block(&text), text.len()).unwrap() == text);
}

#[test]
fn threads_are_only_taken_for_several_blocks_with_sizes() {
    let text = text(100_000);
    let taken = |file: &[u8], length: u64| {
        let budget = Budget::new(8);
        let mut reader = reader(file, length, Arc::clone(&budget)).unwrap();
        reader.read_exact(&mut [0; 100]).unwrap();
        let taken = 8 - budget.free();
        drop(reader);
        assert_eq!(budget.free(), 8);
        taken
    };
    let length = text.len() as u64;
    assert_eq!(taken(&blocks(&text, 10_000), length), 4);
    assert_eq!(taken(&blocks(&text, length / 3), length), 4);
    assert_eq!(taken(&blocks(&text, length / 2), length), 2);
    assert_eq!(taken(&blocks(&text, length), length), 0);
    assert_eq!(taken(&one_block(&text), length), 0);
    // Who says nothing of the length gets no threads.
    assert_eq!(taken(&blocks(&text, 10_000), 0), 0);
}

#[test]
fn streams_follow_each_other() {
    let text = text(5000);
    let (some, one) = (blocks(&text, 5000), one_block(&text));
    for zeros in [0, 4, 400] {
        let padding = vec![0; zeros];
        let file = [&some[..], &padding, &one, &padding, &some, &padding].concat();
        assert!(read(&file, 60_000).unwrap() == text.repeat(3));
    }
    for trailing in
        [&[0; 3][..], &[0; 5], b"x", b"\0\0\0\0more than a head of it", b"\0\0more than a head of it"]
    {
        for stream in [&some, &one] {
            let file = [&stream[..], trailing].concat();
            assert!(read(&file, 60_000).is_err(), "{trailing:?}");
        }
    }
}

#[test]
fn what_is_cut_off_is_an_error() {
    let text = text(3000);
    let file = blocks(&text, 5000);
    for length in 0..file.len() {
        assert!(read(&file[..length], text.len()).is_err(), "{length}");
    }
    assert!(read(b"<html><body>not found</body></html>", 60_000).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damage_is_what_it_is_for_the_ordinary_decoder(at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let text = text(3000);
        let mut file = blocks(&text, 5000);
        let at = at.index(file.len());
        file[at] ^= flip;
        let expected = all(make(Coding::Xz, file.as_slice()).unwrap());
        // Some bits mean nothing for the contents.
        prop_assert!(expected.is_err() || expected == Ok(text));
        let budget = Budget::new(4);
        let reader = reader(file.as_slice(), 12_000, Arc::clone(&budget)).unwrap();
        prop_assert_eq!(all(reader).ok(), expected.ok());
        prop_assert_eq!(budget.free(), 4);
    }
}

#[test]
fn memory_is_bounded() {
    // The head of the first block is made to tell of a window of 4 GiB.
    let text = text(3000);
    let mut wide = blocks(&text, 5000);
    let end = STREAM_HEAD + (usize::from(wide[STREAM_HEAD]) + 1) * 4 - 4;
    let filter = wide.windows(2).position(|bytes| bytes == [0x21, 1]).unwrap();
    assert!(filter < end);
    wide[filter + 2] = 40;
    let mut sum = flate2::Crc::new();
    sum.update(&wide[STREAM_HEAD..end]);
    wide[end..end + 4].copy_from_slice(&sum.sum().to_le_bytes());
    assert!(read(&wide, text.len()).is_err());
}

#[test]
fn numbers_are_those_of_the_format() {
    assert_eq!(number(&[0, 9]), Some((0, &[9][..])));
    assert_eq!(number(&[0xE5, 0x8E, 0x26]), Some((624_485, &[][..])));
    assert_eq!(number(&[0x80; 9]), None);
    assert_eq!(number(&[0x80]), None);
    assert_eq!(number(&[]), None);
    let largest = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F];
    assert_eq!(number(&largest), Some((u64::MAX >> 1, &[][..])));
}
