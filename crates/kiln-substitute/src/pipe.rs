//! Chunks on their way to a thread that may block, bounded.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::mpsc;

/// Chunks that wait between the two sides.
const QUEUED_CHUNKS: usize = 8;

/// Bytes that a thread gathers in a chunk.
const CHUNK: usize = 64 << 10;

/// The end that is written to. If it is dropped before [`finish`](Self::finish), the reader gets an error.
pub(crate) struct PipeWriter {
    chunks: mpsc::Sender<Bytes>,
    gathered: BytesMut,
}

/// The end that is read from, on a thread that may block.
pub(crate) struct PipeReader {
    chunks: mpsc::Receiver<Bytes>,
    current: Bytes,
    ended: bool,
}

/// A pipe that holds a few chunks.
pub(crate) fn pipe() -> (PipeWriter, PipeReader) {
    let (sender, chunks) = mpsc::channel(QUEUED_CHUNKS);
    let writer = PipeWriter { chunks: sender, gathered: BytesMut::new() };
    (writer, PipeReader { chunks, current: Bytes::new(), ended: false })
}

impl PipeWriter {
    /// Passes on a chunk, which must not be empty; `false` if nobody wants it any more.
    pub(crate) async fn send(&self, chunk: Bytes) -> bool {
        self.chunks.send(chunk).await.is_ok()
    }

    /// Says that this was all; `false` if nobody wants to know.
    pub(crate) async fn finish(self) -> bool {
        self.chunks.send(Bytes::new()).await.is_ok()
    }

    /// Says that this was all, on a thread that may block.
    pub(crate) fn finish_blocking(mut self) -> io::Result<()> {
        self.flush()?;
        self.chunks.blocking_send(Bytes::new()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.gathered.is_empty() {
            self.gathered.reserve(CHUNK);
        }
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let chunk = self.gathered.split().freeze();
        self.chunks.blocking_send(chunk).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.chunks.blocking_recv() {
                Some(chunk) if chunk.is_empty() => self.ended = true,
                Some(chunk) => self.current = chunk,
                // The writer is gone, and what came is not known to be all.
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let length = buffer.len().min(self.current.len());
        if let Some(start) = buffer.get_mut(..length) {
            self.current.copy_to_slice(start);
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_store::waiting;

    #[tokio::test]
    async fn bytes_arrive_in_order_and_end() {
        let (writer, mut reader) = pipe();
        let reading = tokio::spawn(waiting(move || {
            let mut read = Vec::new();
            reader.read_to_end(&mut read).map(|_| read)
        }));
        for number in 0..100_u8 {
            assert!(writer.send(Bytes::from(vec![number; 1000])).await);
        }
        assert!(writer.finish().await);
        let expected: Vec<u8> = (0..100_u8).flat_map(|number| vec![number; 1000]).collect();
        assert!(reading.await.unwrap().unwrap() == expected);
    }

    #[tokio::test]
    async fn a_writer_that_goes_away_is_no_end() {
        let (writer, mut reader) = pipe();
        assert!(writer.send(Bytes::from_static(b"x")).await);
        drop(writer);
        let error = waiting(move || reader.read_to_end(&mut Vec::new())).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_stops_the_writer() {
        let (mut writer, reader) = pipe();
        drop(reader);
        let written = waiting(move || (0..100).try_for_each(|_| writer.write_all(&[0; CHUNK]))).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
