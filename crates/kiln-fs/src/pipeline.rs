//! The stream of an archive in chunks, and the second thread that hashes it.
//!
//! One thread reads files into chunks and searches them for references, the other hashes; chunks go around between
//! the two, so memory is bounded by their number. A small tree is hashed by the thread that reads it: a thread costs
//! more than it saves then.

use crossbeam_channel::{Receiver, Sender, bounded};
use kiln_nar::Stage;
use std::io;
use std::thread::JoinHandle;

/// Size of a chunk in bytes.
pub(crate) const CHUNK: usize = 256 << 10;

/// Chunks of a stream that are taken by the reading thread alone.
const INLINE_CHUNKS: usize = 4;

/// Chunks that wait for the hashing thread.
const WAITING_CHUNKS: usize = 4;

/// Takes the chunks of a stream.
pub(crate) trait ChunkSink {
    /// Takes what is in `chunk`, and leaves in its place an empty one of at least the same capacity.
    fn take(&mut self, chunk: &mut Vec<u8>) -> io::Result<()>;
}

/// Writes the chunks somewhere.
pub(crate) struct WriteChunks<'a>(pub(crate) &'a mut dyn io::Write);

impl ChunkSink for WriteChunks<'_> {
    fn take(&mut self, chunk: &mut Vec<u8>) -> io::Result<()> {
        self.0.write_all(chunk)?;
        chunk.clear();
        Ok(())
    }
}

/// Shows the chunks to a stage on this thread, and to another on a thread of its own as soon as it is worth it.
pub(crate) struct Overlapped<'a, Near, Far> {
    near: &'a mut Near,
    far: FarSide<Far>,
    taken: usize,
}

enum FarSide<Far> {
    /// On this thread, still or for good.
    Inline(Far),
    Thread {
        full: Sender<Vec<u8>>,
        empty: Receiver<Vec<u8>>,
        thread: JoinHandle<Far>,
    },
    /// The thread could not be started and took the stage along, or has ended before its time.
    Gone,
}

impl<'a, Near: Stage, Far: Stage + Send + 'static> Overlapped<'a, Near, Far> {
    pub(crate) fn new(near: &'a mut Near, far: Far) -> Self {
        Self { near, far: FarSide::Inline(far), taken: 0 }
    }

    /// The far stage, when it has seen everything.
    pub(crate) fn finish(self) -> io::Result<Far> {
        match self.far {
            FarSide::Inline(far) => Ok(far),
            FarSide::Thread { full, thread, .. } => {
                drop(full);
                thread.join().map_err(|_| thread_gone())
            }
            FarSide::Gone => Err(thread_gone()),
        }
    }

    fn start_thread(&mut self) -> io::Result<()> {
        if matches!(self.far, FarSide::Inline(_))
            && let FarSide::Inline(mut far) = std::mem::replace(&mut self.far, FarSide::Gone)
        {
            let (full, full_here) = bounded::<Vec<u8>>(WAITING_CHUNKS);
            let (empty_there, empty) = bounded(WAITING_CHUNKS + 2);
            let thread = std::thread::Builder::new().name("hash".into()).spawn(move || {
                for chunk in full_here {
                    far.update(&chunk);
                    // Nobody waits for chunks any more when the stream has ended.
                    let _ = empty_there.try_send(chunk);
                }
                far
            })?;
            self.far = FarSide::Thread { full, empty, thread };
        }
        Ok(())
    }
}

impl<Near: Stage, Far: Stage + Send + 'static> Overlapped<'_, Near, Far> {
    /// Takes what is in `chunk`, and leaves in its place one with anything in it, which needn't be cleared to be read into.
    pub(crate) fn exchange(&mut self, chunk: &mut Vec<u8>) -> io::Result<()> {
        self.near.update(chunk);
        self.taken += 1;
        if self.taken > INLINE_CHUNKS {
            self.start_thread()?;
        }
        match &mut self.far {
            FarSide::Inline(far) => {
                far.update(chunk);
                Ok(())
            }
            FarSide::Thread { full, empty, .. } => {
                let next = empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK));
                full.send(std::mem::replace(chunk, next)).map_err(|_| thread_gone())
            }
            FarSide::Gone => Err(thread_gone()),
        }
    }
}

impl<Near: Stage, Far: Stage + Send + 'static> ChunkSink for Overlapped<'_, Near, Far> {
    fn take(&mut self, chunk: &mut Vec<u8>) -> io::Result<()> {
        let taken = self.exchange(chunk);
        chunk.clear();
        taken
    }
}

fn thread_gone() -> io::Error {
    io::Error::other("the hashing thread has ended")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_nar::NarHasher;

    #[test]
    fn both_sides_see_the_whole_stream() {
        for chunks in [0, 1, INLINE_CHUNKS, INLINE_CHUNKS + 1, 40] {
            let mut near = NarHasher::new();
            let mut sink = Overlapped::new(&mut near, NarHasher::new());
            let mut chunk = Vec::with_capacity(CHUNK);
            for number in 0..chunks {
                chunk.resize(1000 + number, number as u8);
                sink.take(&mut chunk).unwrap();
                assert!(chunk.is_empty() && chunk.capacity() >= 1000);
            }
            let far = sink.finish().unwrap();
            assert_eq!(near.finish(), far.finish());
        }
    }
}
