//! The reader of export streams neither panics nor depends on how the stream is cut into pieces.
#![no_main]

use kiln_nar::export::{ExportError, ExportEvent, ExportReader};
use libfuzzer_sys::fuzz_target;

/// What the stream says, and where it stops to make sense.
fn read(stream: &[u8], size: usize) -> (Vec<ExportEvent>, Result<(), ExportError>) {
    let mut reader = ExportReader::new();
    let mut events = Vec::new();
    for mut piece in stream.chunks(size.max(1)) {
        loop {
            match reader.next(&mut piece) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Err(error)),
            }
        }
    }
    (events, reader.finish())
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, stream)) = data.split_first() else { return };
    assert_eq!(read(stream, usize::from(size)), read(stream, stream.len()));
});
