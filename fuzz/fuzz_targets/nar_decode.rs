//! Whatever the archive decoder accepts is, byte for byte, what the encoder writes for its events: one tree, one text.
//! The first byte of the input says how the rest is cut into pieces.
#![no_main]

use kiln_nar::{Decoder, Encoder, Event, GitHasher, ListingWriter};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&size, archive)) = data.split_first() else { return };
    let (mut decoder, mut encoder) = (Decoder::new(), Encoder::new());
    let mut listing = Some(ListingWriter::new());
    let mut git = GitHasher::new(kiln_hash::Algorithm::Sha1).unwrap();
    let mut out = Vec::new();
    for mut piece in archive.chunks(usize::from(size).max(1)) {
        loop {
            let event = match decoder.next(&mut piece) {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.finish(), Err(error));
                    return;
                }
            };
            git.event(event);
            listing = listing.and_then(|mut writer| writer.event(event).is_ok().then_some(writer));
            match event {
                Event::Directory => encoder.directory(&mut out).unwrap(),
                Event::Entry(name) => encoder.entry(&mut out, name).unwrap(),
                Event::Regular { executable, size, offset } => {
                    encoder.regular(&mut out, executable, size).unwrap();
                    assert_eq!(encoder.offset(), offset);
                }
                Event::Contents(contents) => {
                    out.extend_from_slice(contents);
                    encoder.contents(contents.len() as u64).unwrap();
                }
                Event::EndRegular => encoder.end_regular(&mut out).unwrap(),
                Event::Symlink(target) => encoder.symlink(&mut out, target).unwrap(),
                Event::EndDirectory => encoder.end_directory(&mut out).unwrap(),
            }
        }
    }
    if decoder.finish().is_ok() {
        assert_eq!(encoder.finish().unwrap(), decoder.offset());
        assert_eq!(out, archive[..out.len()]);
        git.finish().unwrap();
        if let Some(listing) = listing {
            listing.finish().unwrap();
        }
    }
});
