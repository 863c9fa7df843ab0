//! Passing bytes on between standard input and output and a daemon.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use crate::failure::{Failure, While};

/// Bytes that are passed on at once.
const CHUNK: usize = 64 << 10;

/// Passes everything on in both directions, until the daemon closes the connection.
pub(crate) fn between_stdio_and(stream: UnixStream) -> Result<(), Failure> {
    let mut to_daemon = stream.try_clone().doing(|| "copying a descriptor")?;
    std::thread::spawn(move || {
        // What fails here ends the other direction, too.
        let _ = pass_on(&mut io::stdin().lock(), &mut to_daemon);
        let _ = to_daemon.shutdown(Shutdown::Write);
    });
    let mut from_daemon = stream;
    pass_on(&mut from_daemon, &mut io::stdout().lock()).doing(|| "passing on what the daemon says")
}

/// Copies and flushes whatever is there, as the other end may wait for it.
fn pass_on(from: &mut impl io::Read, to: &mut impl io::Write) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = from.read(&mut chunk)?;
        if length == 0 {
            return Ok(());
        }
        to.write_all(chunk.get(..length).unwrap_or_default())?;
        to.flush()?;
    }
}
