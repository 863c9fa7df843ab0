//! Standard output: results alone.

use std::io::{self, ErrorKind, Write};

use crate::failure::{Failure, While};

/// Writes `text` to standard output.
///
/// A reader that went away (`kiln … | head -1`) ends the command without a word.
pub(crate) fn print(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    written(stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()))
}

/// Judges the result of a write to standard output.
pub(crate) fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::already_told(1)),
        result => result.doing(|| "writing to standard output"),
    }
}
