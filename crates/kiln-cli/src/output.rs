//! Standard output: results alone.

use std::io::{self, ErrorKind, Write};

use kiln_store::ByteStream;
use tokio::io::AsyncReadExt as _;

use crate::failure::{Failure, While};
use crate::session::Session;

/// Bytes that are copied at once.
const PIECE: usize = 64 << 10;

/// Writes `text` to standard output.
///
/// A reader that went away (`kiln … | head -1`) ends the command without a word.
pub(crate) fn print(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    written(stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()))
}

/// Copies a stream to standard output.
pub(crate) fn copy(session: &Session, stream: ByteStream) -> Result<(), Failure> {
    pieces(session, stream, |piece| print(piece))
}

/// Hands the pieces of a stream on as they come.
pub(crate) fn pieces(
    session: &Session,
    mut stream: ByteStream,
    mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut piece = Vec::with_capacity(PIECE);
    loop {
        piece.clear();
        session.wait(stream.read_buf(&mut piece))?;
        if piece.is_empty() {
            return Ok(());
        }
        take(&piece)?;
    }
}

/// Judges the result of a write to standard output.
pub(crate) fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::already_told(1)),
        result => result.doing(|| "writing to standard output"),
    }
}
