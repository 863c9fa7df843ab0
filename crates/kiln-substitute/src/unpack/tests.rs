//! Tests of unpacking.

use super::*;
use kiln_hash::{Algorithm, Hash};
use proptest::prelude::*;
use std::io::Write as _;

fn file(bytes: &[u8], compression: &str) -> NarFile {
    NarFile {
        url: "nar/x".to_owned(),
        compression: Compression::from_name(compression),
        hash: Some(Hash::of(Algorithm::Sha256, bytes)),
        size: Some(bytes.len() as u64),
    }
}

/// The archive in a file, checked and unpacked.
fn archive(
    file: &NarFile,
    nar_size: u64,
    reader: Box<dyn Read + Send>,
    progress: &Progress,
    wanted: &Arc<()>,
) -> Result<Box<dyn Read + Send>, FetchFault> {
    let checked = checked(file, nar_size, reader, progress, Arc::downgrade(wanted));
    unpacked(&file.compression, nar_size, checked, progress)
}

/// Reads all, in pieces of this size.
fn read(file: &NarFile, nar_size: u64, bytes: Vec<u8>, piece: usize) -> Result<Vec<u8>, FetchFault> {
    let (progress, wanted) = (Progress::default(), Arc::new(()));
    let reader = Box::new(io::Cursor::new(bytes));
    let mut reader = archive(file, nar_size, reader, &progress, &wanted)?;
    let mut found = Vec::new();
    let mut buffer = vec![0; piece];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(found),
            Ok(length) => found.extend_from_slice(&buffer[..length]),
            Err(error) => return Err(progress.fault.take().unwrap_or(FetchFault::Io(error))),
        }
    }
}

/// `hello` as `gzip -n` packs it.
const HELLO: &[u8] =
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcb\x48\xcd\xc9\xc9\x07\x00\x86\xa6\x10\x36\x05\x00\x00\x00";

#[test]
fn the_right_file_is_unpacked() {
    for piece in [1, 3, 100] {
        assert_eq!(read(&file(HELLO, "gzip"), 5, HELLO.to_vec(), piece).unwrap(), b"hello");
        assert_eq!(read(&file(b"plain", "none"), 5, b"plain".to_vec(), piece).unwrap(), b"plain");
    }
}

#[test]
fn g5_a_file_that_is_not_the_one_of_the_narinfo_is_an_error() {
    let right = file(HELLO, "gzip");
    let other_hash = NarFile { hash: Some(Hash::of(Algorithm::Sha256, b"other")), ..right.clone() };
    let fault = read(&other_hash, 5, HELLO.to_vec(), 100).unwrap_err();
    assert!(matches!(fault, FetchFault::FileHash { .. }), "{fault}");
    for size in [0, 1, 24, 26, 1000] {
        let other_size = NarFile { size: Some(size), hash: None, ..right.clone() };
        let fault = read(&other_size, 5, HELLO.to_vec(), 100).unwrap_err();
        assert!(
            matches!(fault, FetchFault::FileSize { specified, .. } if specified == size),
            "{size}: {fault}"
        );
    }
    // What follows the archive counts, too.
    let trailing = [b"plain", &b"more"[..]].concat();
    let fault = read(&file(b"plain", "none"), 5, trailing, 100).unwrap_err();
    assert_eq!(fault.to_string(), "its file has more than 5 bytes, but its narinfo says 5");
}

#[test]
fn damage_is_told() {
    let right = NarFile { hash: None, size: None, ..file(HELLO, "gzip") };
    let fault = read(&right, 5, HELLO[..15].to_vec(), 100).unwrap_err();
    assert!(fault.to_string().starts_with("its gzip file is damaged: "), "{fault}");
    let fault = read(&right, 5, b"<html>".to_vec(), 100).unwrap_err();
    assert!(fault.to_string().starts_with("its gzip file is damaged: "), "{fault}");
    for unknown in ["lz4", "foo\n\x1b[2J"] {
        let fault = read(&file(b"", unknown), 5, Vec::new(), 100).unwrap_err();
        assert!(matches!(&fault, FetchFault::Compression(name) if !name.contains('\n')), "{fault}");
    }
}

/// An archive that is worth several threads, and files of it in parts that can be unpacked at once.
fn large() -> (Vec<u8>, [(&'static str, Vec<u8>); 2]) {
    let nar: Vec<u8> = (0..5_000_000_u32).flat_map(|number| (number / 5).to_le_bytes()).collect();
    let frames: Vec<u8> =
        nar.chunks(3 << 20).flat_map(|part| zstd::bulk::compress(part, 1).unwrap()).collect();
    let mut blocks = liblzma::stream::MtStreamBuilder::new();
    let stream = blocks.preset(0).check(liblzma::stream::Check::Crc64).threads(2).encoder().unwrap();
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(&nar).unwrap();
    (nar, [("zstd", frames), ("xz", encoder.finish().unwrap())])
}

#[test]
fn g5_large_files_in_parts_are_checked_as_all_are() {
    let (nar, files) = large();
    let nar_size = nar.len() as u64;
    for (compression, bytes) in files {
        let right = file(&bytes, compression);
        assert!(read(&right, nar_size, bytes.clone(), 100_000).unwrap() == nar);

        let mut damaged = bytes.clone();
        damaged[bytes.len() / 2] ^= 1;
        assert!(read(&right, nar_size, damaged.clone(), 100_000).is_err());
        let unstated = NarFile { hash: None, size: None, ..right.clone() };
        if compression == "xz" {
            let fault = read(&unstated, nar_size, damaged, 100_000).unwrap_err();
            assert_eq!(fault.to_string(), "its xz file is damaged: lzma data error");
        }
        let cut = bytes[..bytes.len() - 1].to_vec();
        let fault = read(&unstated, nar_size, cut.clone(), 100_000).unwrap_err();
        assert!(fault.to_string().contains(" file is damaged: "), "{fault}");
        let fault = read(&right, nar_size, cut, 100_000).unwrap_err();
        assert!(matches!(fault, FetchFault::FileSize { .. }), "{fault}");
        let other = NarFile { hash: Some(Hash::of(Algorithm::Sha256, b"other")), ..right.clone() };
        let fault = read(&other, nar_size, bytes.clone(), 100_000).unwrap_err();
        assert!(matches!(fault, FetchFault::FileHash { .. }), "{fault}");

        // Who stops in the middle is not kept.
        let (progress, wanted) = (Progress::default(), Arc::new(()));
        let source = Box::new(io::Cursor::new(bytes));
        let mut reader = archive(&right, nar_size, source, &progress, &wanted).unwrap();
        reader.read_exact(&mut [0; 1000]).unwrap();
    }
}

#[test]
fn a_file_without_end_is_not_read_for_ever() {
    struct Empty(usize);
    impl Read for Empty {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            // Members of gzip with nothing in them, one after the other.
            const MEMBER: &[u8] =
                b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00";
            for byte in buffer.iter_mut() {
                *byte = MEMBER[self.0];
                self.0 = (self.0 + 1) % MEMBER.len();
            }
            Ok(buffer.len())
        }
    }
    let (progress, wanted) = (Progress::default(), Arc::new(()));
    let endless = NarFile { hash: None, size: None, ..file(b"", "gzip") };
    let mut reader = archive(&endless, 100, Box::new(Empty(0)), &progress, &wanted).unwrap();
    assert!(reader.read_to_end(&mut Vec::new()).is_err());
    assert!(matches!(progress.fault.take(), Some(FetchFault::Endless(limit)) if limit < 2 << 20));
}

#[test]
fn nobody_reads_for_nobody() {
    let (progress, wanted) = (Progress::default(), Arc::new(()));
    let plain = file(b"plain", "none");
    let reader = Box::new(io::Cursor::new(b"plain".to_vec()));
    let mut reader = archive(&plain, 5, reader, &progress, &wanted).unwrap();
    assert_eq!(reader.read(&mut [0; 2]).unwrap(), 2);
    drop(wanted);
    assert!(reader.read(&mut [0; 2]).is_err());
}

proptest! {
    #[test]
    fn any_damage_to_a_file_is_noticed(at in 0..HELLO.len(), flip in 1_u8.., piece in 1_usize..10) {
        let mut damaged = HELLO.to_vec();
        damaged[at] ^= flip;
        prop_assert!(read(&file(HELLO, "gzip"), 5, damaged, piece).is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        compression in prop::sample::select(vec!["xz", "bzip2", "gzip", "zstd", "br", "lzip", "lzma"]),
    ) {
        let unstated = NarFile { hash: None, size: None, ..file(&bytes, compression) };
        let _ = read(&unstated, 1000, bytes, 50);
    }
}
