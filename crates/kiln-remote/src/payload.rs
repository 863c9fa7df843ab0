//! Streams to the daemon: in frames, bare, or as much as it asks for.
//!
//! A source that fails leaves the payload without its end, and the connection closed: a payload that was ended early could
//! be taken for whole.

use kiln_protocol::payload::{put_end, put_frame, put_pulled};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::channel::Output;
use crate::error::Fault;
use crate::limits::CHUNK;

/// The next bytes of a source; none at its end.
async fn next(source: &mut (dyn AsyncRead + Send + Unpin), chunk: &mut Vec<u8>) -> Result<bool, Fault> {
    chunk.clear();
    Ok(source.read_buf(chunk).await.map_err(Fault::Source)? > 0)
}

/// Sends all of a source in frames (from 1.23 on).
pub(crate) async fn send_frames(
    output: &mut Output,
    source: &mut (dyn AsyncRead + Send + Unpin),
) -> Result<(), Fault> {
    let (mut chunk, mut out) = (Vec::with_capacity(CHUNK), Vec::with_capacity(CHUNK + 8));
    while next(source, &mut chunk).await? {
        out.clear();
        put_frame(&mut out, &chunk);
        output.send(&out).await?;
    }
    out.clear();
    put_end(&mut out);
    output.send(&out).await
}

/// Sends all of a source as it is.
pub(crate) async fn send_raw(
    output: &mut Output,
    source: &mut (dyn AsyncRead + Send + Unpin),
) -> Result<(), Fault> {
    let mut chunk = Vec::with_capacity(CHUNK);
    while next(source, &mut chunk).await? {
        output.send(&chunk).await?;
    }
    Ok(())
}

/// Sends some bytes of a source, at most as many as the daemon wants (1.21 and 1.22).
pub(crate) async fn answer_pull(
    output: &mut Output,
    source: &mut (dyn AsyncRead + Send + Unpin),
    wanted: u64,
) -> Result<(), Fault> {
    let length = usize::try_from(wanted).unwrap_or(CHUNK).min(CHUNK);
    if length == 0 {
        return Err(Fault::Nonsense("it wants to read nothing".to_owned()));
    }
    let mut chunk = vec![0; length];
    let read = source.read(&mut chunk).await.map_err(Fault::Source)?;
    let mut out = Vec::with_capacity(read + 16);
    put_pulled(&mut out, chunk.get(..read).unwrap_or_default());
    output.send(&out).await
}
