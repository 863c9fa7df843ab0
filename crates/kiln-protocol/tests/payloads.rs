//! What streams: however it is cut, the same bytes come out; what is damaged is refused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use kiln_hash::Sha256;
use kiln_nar::export::{self, ItemInfo};
use kiln_narinfo::PathInfo;
use kiln_protocol::payload::{
    ExportStreamReader, FrameReader, MultiplePathsEvent, MultiplePathsReader, NarReader, PulledReader,
};
use kiln_protocol::payload::{SizedReader, put_end, put_frame, put_pulled};
use kiln_protocol::{Dialect, Fault, PayloadError, Protocol, append};
use proptest::prelude::*;

fn archive(contents: &[u8]) -> Vec<u8> {
    let (before, after) = kiln_nar::file_framing(false, contents.len() as u64);
    [before.as_ref(), contents, after.as_ref()].concat()
}

/// An export stream of files with these contents.
fn export_of(contents: &[Vec<u8>]) -> Vec<u8> {
    let mut stream = Vec::new();
    for contents in contents {
        export::put_item_start(&mut stream);
        stream.extend(archive(contents));
        let path = b"/nix/store/00000000000000000000000000000000-x".to_vec();
        export::put_item_end(
            &mut stream,
            &ItemInfo { path: path.clone(), references: vec![path], deriver: None },
        );
    }
    export::put_end(&mut stream);
    stream
}

/// All of a payload, from pieces of a size, and what follows it.
fn pump(
    stream: &[u8],
    size: usize,
    mut next: impl for<'i> FnMut(&mut &'i [u8]) -> Result<Option<&'i [u8]>, PayloadError>,
) -> Result<(Vec<u8>, Vec<u8>), PayloadError> {
    let (mut payload, mut rest) = (Vec::new(), Vec::new());
    for mut piece in stream.chunks(size) {
        while let Some(part) = next(&mut piece)? {
            assert!(!part.is_empty());
            payload.extend_from_slice(part);
        }
        rest.extend_from_slice(piece);
    }
    Ok((payload, rest))
}

proptest! {
    #[test]
    fn frames_are_put_together(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6), size in 1usize..50,
    ) {
        let mut stream = Vec::new();
        frames.iter().for_each(|frame| put_frame(&mut stream, frame));
        put_end(&mut stream);
        stream.extend_from_slice(b"next");
        let mut reader = FrameReader::new();
        let (payload, rest) = pump(&stream, size, |input| reader.next(input)).unwrap();
        prop_assert_eq!((payload, rest, reader.is_complete()), (frames.concat(), b"next".to_vec(), true));
    }

    #[test]
    fn pulled_answers_are_read(answer in prop::collection::vec(any::<u8>(), 0..40), size in 1usize..50) {
        let mut stream = Vec::new();
        put_pulled(&mut stream, &answer);
        stream.extend_from_slice(b"next");
        let mut reader = PulledReader::new(40);
        let (payload, rest) = pump(&stream, size, |input| reader.next(input)).unwrap();
        prop_assert_eq!((reader.is_complete(), reader.is_end()), (true, answer.is_empty()));
        prop_assert_eq!((payload, rest), (answer, b"next".to_vec()));
    }

    #[test]
    fn archives_end_where_they_end(contents in prop::collection::vec(any::<u8>(), 0..40), size in 1usize..50) {
        let nar = archive(&contents);
        let stream = [nar.as_slice(), b"next"].concat();
        let mut reader = NarReader::new();
        let (payload, rest) = pump(&stream, size, |input| reader.next(input)).unwrap();
        prop_assert_eq!((payload, rest, reader.is_complete()), (nar.clone(), b"next".to_vec(), true));
        let mut reader = SizedReader::new(nar.len() as u64);
        let (payload, rest) = pump(&stream, size, |input| Ok(reader.next(input))).unwrap();
        prop_assert_eq!((payload, rest, reader.is_complete()), (nar, b"next".to_vec(), true));
    }

    #[test]
    fn exports_end_where_they_end(
        contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4), size in 1usize..50,
    ) {
        let stream = export_of(&contents);
        let followed = [stream.as_slice(), b"next"].concat();
        let mut reader = ExportStreamReader::new();
        let (payload, rest) = pump(&followed, size, |input| reader.next(input)).unwrap();
        prop_assert_eq!((payload, rest, reader.is_complete()), (stream.clone(), b"next".to_vec(), true));
        let mut reader = ExportStreamReader::new();
        pump(&stream[..stream.len() - 1], size, |input| reader.next(input)).unwrap();
        prop_assert!(!reader.is_complete());
    }

    #[test]
    fn damaged_paths_are_refused_or_others(at in any::<prop::sample::Index>(), bit in 0..8, size in 1usize..200) {
        let mut stream = multiple_paths();
        let position = at.index(stream.len());
        stream[position] ^= 1u8 << bit;
        let _ = read_paths(&stream, size);
    }
}

#[test]
fn frames_are_no_longer_than_32_bits() {
    let mut reader = FrameReader::new();
    let length = 1u64 << 32;
    let bytes = length.to_le_bytes();
    assert_eq!(reader.next(&mut bytes.as_slice()), Err(PayloadError::FrameTooLong(length)));
}

#[test]
fn no_more_is_taken_than_was_asked_for() {
    let mut stream = Vec::new();
    put_pulled(&mut stream, b"hello");
    assert_eq!(
        PulledReader::new(4).next(&mut stream.as_slice()),
        Err(PayloadError::MoreThanAsked { asked: 4, got: 5 })
    );
    *stream.last_mut().unwrap() = 1;
    let mut reader = PulledReader::new(5);
    assert_eq!(pump(&stream, 3, |input| reader.next(input)), Err(PayloadError::NonZeroPadding));
}

#[test]
fn a_damaged_archive_is_refused() {
    let mut nar = archive(b"hello");
    nar[3] = 1;
    assert!(matches!(NarReader::new().next(&mut nar.as_slice()), Err(PayloadError::Archive(_))));
}

fn dialect() -> Dialect {
    Dialect::new(Protocol::Worker.newest(), Default::default())
}

fn infos() -> Vec<PathInfo> {
    ["a", "b"]
        .map(|name| {
            let path = format!("4gd87ivd2zhmmqkslb944cwpzpz256w1-{name}").parse().unwrap();
            PathInfo::new(path, Sha256::of(name), 120)
        })
        .to_vec()
}

/// Two paths, whose archives hold their names.
fn multiple_paths() -> Vec<u8> {
    let mut stream = Vec::new();
    append(&mut stream, &2u64, &dialect()).unwrap();
    for info in infos() {
        append(&mut stream, &info, &dialect()).unwrap();
        stream.extend(archive(info.path.name().as_bytes()));
    }
    stream
}

fn read_paths(stream: &[u8], size: usize) -> Result<Vec<(PathInfo, Vec<u8>)>, PayloadError> {
    let mut reader = MultiplePathsReader::new();
    let mut paths = Vec::new();
    for mut piece in stream.chunks(size) {
        while let Some(event) = reader.next(&dialect(), &mut piece)? {
            match (event, paths.last_mut()) {
                (MultiplePathsEvent::Path(info), _) => paths.push((*info, Vec::new())),
                (MultiplePathsEvent::Nar(bytes), Some((_, nar))) => nar.extend_from_slice(bytes),
                _ => {}
            }
        }
        assert!(piece.is_empty());
    }
    reader.finish()?;
    Ok(paths)
}

#[test]
fn several_paths_come_one_after_the_other() {
    let stream = multiple_paths();
    let expected: Vec<_> =
        infos().into_iter().map(|info| (info.clone(), archive(info.path.name().as_bytes()))).collect();
    for size in [1, 7, 64, stream.len()] {
        assert_eq!(read_paths(&stream, size).unwrap(), expected);
    }
    for length in 0..stream.len() {
        assert_eq!(read_paths(&stream[..length], 64), Err(PayloadError::Truncated));
    }
    assert_eq!(read_paths(&[stream.as_slice(), b"x"].concat(), 64), Err(PayloadError::Trailing));
    assert_eq!(read_paths(&0u64.to_le_bytes(), 64), Ok(Vec::new()));
}

#[test]
fn a_bad_path_among_several_is_named() {
    let mut stream = 1u64.to_le_bytes().to_vec();
    let info = [infos()[0].clone()];
    append(&mut stream, &info[0], &dialect()).unwrap();
    stream[16] = b'!';
    let error = read_paths(&stream, 64).unwrap_err();
    let PayloadError::Record(error) = error else { panic!("{error}") };
    assert!(matches!(error.fault(), Fault::Value(_)));
    assert_eq!(error.path(), ["ValidPathInfo", "path"]);
}
