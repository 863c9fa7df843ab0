//! What both ends of the serve protocol read: no panic, whatever the bytes; nothing depends on how they are cut; and what reads is
//! written so that it reads the same.
//!
//! The first two bytes say how the rest is cut, and the version.
#![no_main]

use kiln_protocol::serve::handshake::Handshake;
use kiln_protocol::serve::{Command, Request, Response};
use kiln_protocol::{Dialect, MessageReader, ReadError, Version, append, from_bytes};
use libfuzzer_sys::fuzz_target;

/// The first message, from pieces.
fn read<T>(
    stream: &[u8],
    size: usize,
    mut read: impl FnMut(&mut &[u8]) -> Result<Option<T>, ReadError>,
) -> Result<Option<T>, ReadError> {
    for mut piece in stream.chunks(size.max(1)) {
        if let Some(message) = read(&mut piece)? {
            return Ok(Some(message));
        }
        assert!(piece.is_empty());
    }
    Ok(None)
}

fuzz_target!(|data: &[u8]| {
    let [size, minor, stream @ ..] = data else { return };
    let dialect = Dialect::new(Version::serve(1 + minor % 7), Default::default());
    let sizes = [usize::from(*size), stream.len()];
    let [pieces, whole] = sizes.map(|size| {
        let mut reader = MessageReader::new(1 << 20);
        read(stream, size, |input| reader.read::<Request>(&dialect, input))
    });
    assert_eq!(pieces, whole);
    if let Ok(Some(request)) = whole {
        let mut bytes = Vec::new();
        append(&mut bytes, &request, &dialect).expect("what was said can be said");
        assert_eq!(from_bytes::<Request>(&bytes, &dialect), Ok(request));
    }
    for &command in Command::ALL {
        let [pieces, whole] = sizes.map(|size| {
            let mut reader = MessageReader::new(1 << 20);
            read(stream, size, |input| Response::read(command, &mut reader, &dialect, input))
        });
        assert_eq!(pieces, whole);
        if let Ok(Some(response)) = whole {
            response.append(&mut Vec::new(), &dialect).expect("what was said can be said");
        }
    }
    let _ = Handshake::server().step(&mut &stream[..], &mut Vec::new());
    let _ = Handshake::client().step(&mut &stream[..], &mut Vec::new());
});
