//! Streams of bytes between asynchronous and blocking code, in both directions, bounded and without copying chunks.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::sync::mpsc;

use crate::blocking::waiting;

/// The contents of a path on their way: an archive, or a file.
pub type ByteStream = Pin<Box<dyn AsyncRead + Send>>;

/// Bytes in a chunk.
const CHUNK: usize = 256 << 10;

/// Chunks that wait between the two sides.
const QUEUED_CHUNKS: usize = 2;

/// Reads on a blocking thread what asynchronous code provides.
pub(crate) struct BlockingReader {
    chunks: mpsc::Receiver<io::Result<Vec<u8>>>,
    current: io::Cursor<Vec<u8>>,
    ended: bool,
}

/// The asynchronous side of a [`BlockingReader`].
pub(crate) struct Feeder(mpsc::Sender<io::Result<Vec<u8>>>);

/// A stream of what `write` writes, on a thread of its own, as fast as it is read. The thread ends by itself when the
/// stream is dropped; a failure or panic of `write` is an error at the end of the stream. Must be called within the
/// runtime.
pub fn written_by(write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) -> ByteStream {
    let (mut writer, reader) = from_blocking();
    tokio::spawn(waiting(move || {
        let written = write(&mut writer);
        writer.finish(written);
    }));
    Box::pin(reader)
}

/// A stream into blocking code.
pub(crate) fn into_blocking() -> (Feeder, BlockingReader) {
    let (sender, chunks) = mpsc::channel(QUEUED_CHUNKS);
    (Feeder(sender), BlockingReader { chunks, current: io::Cursor::default(), ended: false })
}

impl Feeder {
    /// Passes on all of `source`, or as much as the other side wants. A failure of the source reaches the other side.
    pub(crate) async fn feed(self, mut source: ByteStream) {
        let mut chunk = Vec::new();
        let end = loop {
            // What comes while the other side is busy is gathered: a slow source costs a wake-up for each piece, a fast one
            // for each chunk.
            let room = CHUNK.saturating_sub(chunk.len());
            chunk.reserve(room);
            tokio::select! {
                biased;
                permit = self.0.reserve(), if !chunk.is_empty() => match permit {
                    Ok(permit) => permit.send(Ok(std::mem::take(&mut chunk))),
                    // The other side has seen enough.
                    Err(_) => return,
                },
                read = source.read_buf(&mut chunk), if room > 0 => match read {
                    Ok(0) => break Ok(Vec::new()),
                    Ok(_) => {}
                    Err(error) => break Err(error),
                },
            }
        };
        if chunk.is_empty() || self.0.send(Ok(chunk)).await.is_ok() {
            let _ = self.0.send(end).await;
        }
    }
}

impl Read for BlockingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = Read::read(&mut self.current, buffer)?;
            if read > 0 || buffer.is_empty() || self.ended {
                return Ok(read);
            }
            match self.chunks.blocking_recv() {
                Some(Ok(chunk)) if chunk.is_empty() => self.ended = true,
                Some(Ok(chunk)) => self.current = io::Cursor::new(chunk),
                Some(Err(error)) => return Err(error),
                // The feeding task is gone, and what comes is not known to be all.
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}

/// Feeds a stream to the work that reads it, for as long as that wants it.
pub(crate) async fn while_feeding<T>(feeder: Feeder, stream: ByteStream, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    tokio::select! {
        biased;
        result = &mut work => result,
        () = feeder.feed(stream) => work.await,
    }
}

/// Writes on a blocking thread what asynchronous code reads.
pub(crate) struct BlockingWriter {
    chunks: mpsc::Sender<io::Result<Vec<u8>>>,
    current: Vec<u8>,
}

/// The asynchronous side of a [`BlockingWriter`].
pub(crate) struct ChunkReader {
    chunks: mpsc::Receiver<io::Result<Vec<u8>>>,
    current: io::Cursor<Vec<u8>>,
    ended: bool,
}

/// A stream out of blocking code.
pub(crate) fn from_blocking() -> (BlockingWriter, ChunkReader) {
    let (sender, chunks) = mpsc::channel(QUEUED_CHUNKS);
    let reader = ChunkReader { chunks, current: io::Cursor::default(), ended: false };
    (BlockingWriter { chunks: sender, current: Vec::new() }, reader)
}

impl BlockingWriter {
    /// Says that the stream is over, or why it broke off. Without this the reader gets an error at its end.
    pub(crate) fn finish(mut self, result: io::Result<()>) {
        let last = match result.and_then(|()| self.flush()) {
            Ok(()) => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        // If nobody reads any more, nobody wants to know.
        let _ = self.chunks.blocking_send(last);
    }
}

impl Write for BlockingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.current.extend_from_slice(bytes);
        if self.current.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.current.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.current, Vec::with_capacity(CHUNK));
        self.chunks.blocking_send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl AsyncRead for ChunkReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let position = usize::try_from(self.current.position()).unwrap_or(usize::MAX);
            let rest = self.current.get_ref().get(position..).unwrap_or_default();
            if !rest.is_empty() || self.ended {
                let taken = rest.get(..buffer.remaining()).unwrap_or(rest);
                buffer.put_slice(taken);
                let position = position + taken.len();
                self.current.set_position(position as u64);
                return Poll::Ready(Ok(()));
            }
            match std::task::ready!(self.chunks.poll_recv(context)) {
                Some(Ok(chunk)) if chunk.is_empty() => self.ended = true,
                Some(Ok(chunk)) => self.current = io::Cursor::new(chunk),
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocking;

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|index| (index * 31 % 251) as u8).collect()
    }

    #[tokio::test]
    async fn bytes_arrive_in_both_directions() {
        for length in [0, 1, CHUNK - 1, CHUNK, 3 * CHUNK + 17, 40 * CHUNK] {
            let (feeder, mut reader) = into_blocking();
            let reading = tokio::spawn(blocking(move || {
                let mut all = Vec::new();
                reader.read_to_end(&mut all).map(|_| all)
            }));
            feeder.feed(Box::pin(io::Cursor::new(bytes(length)))).await;
            assert_eq!(reading.await.unwrap().unwrap(), bytes(length));

            let (mut writer, mut reader) = from_blocking();
            let writing = tokio::spawn(blocking(move || {
                let result = bytes(length).chunks(1000).try_for_each(|chunk| writer.write_all(chunk));
                writer.finish(result);
            }));
            let mut all = Vec::new();
            reader.read_to_end(&mut all).await.unwrap();
            writing.await.unwrap();
            assert_eq!(all, bytes(length));
        }
    }

    #[tokio::test]
    async fn a_stream_that_breaks_off_is_not_taken_for_a_whole_one() {
        let (feeder, mut reader) = into_blocking();
        drop(feeder);
        let read = blocking(move || reader.read_to_end(&mut Vec::new())).await;
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);

        let (mut writer, mut reader) = from_blocking();
        blocking(move || writer.write_all(b"part").unwrap()).await;
        assert!(reader.read_to_end(&mut Vec::new()).await.is_err());

        let (writer, mut reader) = from_blocking();
        blocking(move || writer.finish(Err(io::Error::other("damaged")))).await;
        assert_eq!(reader.read_to_end(&mut Vec::new()).await.unwrap_err().to_string(), "damaged");
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_stops_the_writer() {
        let (mut writer, reader) = from_blocking();
        drop(reader);
        let written = blocking(move || (0..100).try_for_each(|_| writer.write_all(&bytes(CHUNK)))).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
