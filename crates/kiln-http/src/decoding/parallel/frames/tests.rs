//! Tests of finding frames.

use super::*;
use proptest::prelude::*;
use std::io::{BufReader, Write as _};

/// A frame with this in it, and whether it tells its size.
#[derive(Clone, Debug)]
enum Made {
    Sized { bytes: Vec<u8>, level: i32, checksum: bool },
    Unsized(Vec<u8>),
    Skipped(Vec<u8>),
}

impl Made {
    fn frame(&self) -> Vec<u8> {
        match self {
            Self::Sized { bytes, level, checksum } => {
                let mut encoder = zstd::Encoder::new(Vec::new(), *level).unwrap();
                encoder.include_checksum(*checksum).unwrap();
                encoder.set_pledged_src_size(Some(bytes.len() as u64)).unwrap();
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Self::Unsized(bytes) => {
                let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Self::Skipped(bytes) => {
                let magic = SKIPPABLE + u32::try_from(bytes.len() % 16).unwrap();
                let length = u32::try_from(bytes.len()).unwrap();
                [&magic.to_le_bytes()[..], &length.to_le_bytes(), bytes].concat()
            }
        }
    }

    fn length(&self) -> Next {
        match self {
            Self::Sized { bytes, .. } => Next::Frame(bytes.len()),
            Self::Unsized(_) => Next::Other,
            Self::Skipped(_) => Next::Frame(0),
        }
    }
}

/// Bytes that are random, or not at all; some make several blocks.
fn contents() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..1000),
        (any::<u8>(), 0_usize..400_000).prop_map(|(byte, length)| vec![byte; length]),
        (any::<u32>(), 0_u32..80_000).prop_map(|(seed, count)| {
            (0..count).flat_map(|number| (number.wrapping_mul(seed) >> 9).to_le_bytes()).collect()
        }),
    ]
}

fn made() -> impl Strategy<Value = Made> {
    prop_oneof![
        4 => (contents(), 1..6, any::<bool>())
            .prop_map(|(bytes, level, checksum)| Made::Sized { bytes, level, checksum }),
        1 => prop::collection::vec(any::<u8>(), 0..300).prop_map(Made::Skipped),
        1 => prop::collection::vec(any::<u8>(), 1..300).prop_map(Made::Unsized),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn frames_end_where_they_end(list in prop::collection::vec(made(), 0..5), buffer in 1_usize..5000) {
        let file: Vec<u8> = list.iter().flat_map(Made::frame).collect();
        let mut source = BufReader::with_capacity(buffer, file.as_slice());
        for made in &list {
            let mut bytes = b"before".to_vec();
            let found = next(&mut source, &mut bytes).unwrap();
            prop_assert_eq!(&found, &made.length());
            if found == Next::Other {
                // No more was read than shows that.
                prop_assert!(bytes.len() < "before".len() + 18);
                return Ok(());
            }
            prop_assert!(bytes == [b"before", &made.frame()[..]].concat());
        }
        prop_assert_eq!(next(&mut source, &mut Vec::new()).unwrap(), Next::End);
    }

    #[test]
    fn any_bytes_are_a_frame_or_not(bytes in prop::collection::vec(any::<u8>(), 0..300), begins in any::<bool>()) {
        let start = if begins { MAGIC.to_le_bytes().to_vec() } else { Vec::new() };
        let file = [start, bytes].concat();
        let mut read = Vec::new();
        let found = next(&mut file.as_slice(), &mut read).unwrap();
        prop_assert!(file.starts_with(&read));
        prop_assert_eq!(found == Next::End, file.is_empty());
    }
}

#[test]
fn what_is_cut_off_is_no_frame() {
    let text: Vec<u8> = (0..1000_u32).flat_map(|number| (number / 3).to_le_bytes()).collect();
    for checksum in [false, true] {
        let frame = Made::Sized { bytes: text.clone(), level: 3, checksum }.frame();
        for length in 1..frame.len() {
            let mut bytes = Vec::new();
            assert_eq!(next(&mut &frame[..length], &mut bytes).unwrap(), Next::Other, "{length}");
            assert!(frame[..length].starts_with(&bytes));
        }
    }
}

/// The head of a frame with a window and a size of 8 bytes.
fn head(window: u8, size: u64) -> Vec<u8> {
    [&MAGIC.to_le_bytes()[..], &[0xC0, window], &size.to_le_bytes()].concat()
}

/// An empty block, the last one.
const LAST: [u8; 3] = [1, 0, 0];

#[test]
fn heads_that_ask_for_much_are_refused() {
    let (mib_128, more) = (17 << 3, (17 << 3) + 1);
    for (window, size, expected) in [
        (mib_128, 0, Next::Frame(0)),
        (mib_128, LARGEST as u64, Next::Frame(LARGEST)),
        (mib_128, LARGEST as u64 + 1, Next::Other),
        (mib_128, 1 << 60, Next::Other),
        (mib_128, u64::MAX, Next::Other),
        (more, 0, Next::Other),
        (0xFF, 0, Next::Other),
    ] {
        let file = [&head(window, size)[..], &LAST].concat();
        let mut bytes = Vec::new();
        assert_eq!(next(&mut file.as_slice(), &mut bytes).unwrap(), expected, "{window} {size}");
    }
    let reserved_bit = [&MAGIC.to_le_bytes()[..], &[0x28, 0], &LAST].concat();
    let dictionary = [&MAGIC.to_le_bytes()[..], &[0x21, 0, 0], &LAST].concat();
    let reserved_block = [&head(0, 0)[..], &[7, 0, 0]].concat();
    let long_block = [&head(0, 0)[..], &[1, 0, 0x80], &[0; 1 << 21][..]].concat();
    let long_skipped = [&SKIPPABLE.to_le_bytes()[..], &[0xFF; 4], &[0; 1000][..]].concat();
    for file in [reserved_bit, dictionary, reserved_block, long_block, long_skipped] {
        let mut bytes = Vec::new();
        assert_eq!(next(&mut file.as_slice(), &mut bytes).unwrap(), Next::Other);
        assert!(bytes.len() < 20, "{}", bytes.len());
    }
}

#[test]
fn the_largest_contents_fit_also_if_they_are_not_compressible() {
    let mut state = 1_u64;
    let random = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let random: Vec<u8> = random.flatten().take(LARGEST).collect();
    let frame = zstd::bulk::compress(&random, 1).unwrap();
    assert!(frame.len() > LARGEST);
    assert_eq!(next(&mut frame.as_slice(), &mut Vec::new()).unwrap(), Next::Frame(LARGEST));
}

#[test]
fn blocks_without_end_are_not_read_for_ever() {
    let block: Vec<u8> =
        (LARGEST_BLOCK as u32 * 8).to_le_bytes()[..3].iter().copied().chain(vec![0; LARGEST_BLOCK]).collect();
    let start = head(17 << 3, 5);
    let blocks = std::iter::repeat_n(&block[..], 200);
    let file: Vec<u8> = std::iter::once(&start[..]).chain(blocks).flatten().copied().collect();
    let mut bytes = Vec::new();
    assert_eq!(next(&mut file.as_slice(), &mut bytes).unwrap(), Next::Other);
    assert!(bytes.len() <= LARGEST_FRAME);
}

#[test]
fn failures_of_the_source_are_passed_on() {
    struct Broken;
    impl io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }
    let frame = head(0, 0);
    let mut source = BufReader::new(frame.chain(Broken));
    assert_eq!(next(&mut source, &mut Vec::new()).unwrap_err().to_string(), "broken");
}
