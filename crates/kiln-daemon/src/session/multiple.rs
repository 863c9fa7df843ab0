//! The payload of AddMultipleToStore: path infos and archives, one after the other in the same frames.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use kiln_narinfo::PathInfo;
use kiln_protocol::payload::{MultiplePathsEvent, MultiplePathsReader};
use kiln_protocol::{Dialect, PayloadError};
use kiln_store::ByteStream;
use tokio::io::{AsyncRead, ReadBuf};

use super::payload::{Asks, Payload};

/// Takes such a payload apart. Its paths and their archives are to be read in turns.
#[derive(Clone)]
pub(super) struct MultiplePaths(Arc<Mutex<State>>);

struct State {
    payload: Payload,
    dialect: Dialect,
    reader: MultiplePathsReader,
    /// What has been unframed, and how much of it has been used.
    buffer: Vec<u8>,
    used: usize,
    /// Whether an archive has begun and not ended.
    in_nar: bool,
}

enum Event {
    Path(Box<PathInfo>),
    /// Some of an archive, or of what is told in advance.
    Bytes,
    EndOfNar,
}

impl MultiplePaths {
    pub(super) fn new(payload: Payload, dialect: Dialect) -> Self {
        let reader = MultiplePathsReader::new();
        Self(Arc::new(Mutex::new(State {
            payload,
            dialect,
            reader,
            buffer: Vec::new(),
            used: 0,
            in_nar: false,
        })))
    }

    /// The next path, whose archive can be read then; what is left of the one before is passed over. `None` at the end.
    pub(super) async fn next_path(&self) -> io::Result<Option<PathInfo>> {
        loop {
            let event =
                std::future::poll_fn(|context| self.lock().poll_event(context, usize::MAX, |_| ())).await?;
            match event {
                Some(Event::Path(info)) => return Ok(Some(*info)),
                Some(Event::Bytes | Event::EndOfNar) => {}
                None => return Ok(None),
            }
        }
    }

    /// The archive of the path that was read last.
    pub(super) fn nar(&self) -> ByteStream {
        Box::pin(NarStream(self.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A reader that has failed fails again.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What comes next: up to `limit` bytes of an archive go to `take`.
    fn poll_event(
        &mut self,
        context: &mut Context<'_>,
        limit: usize,
        mut take: impl FnMut(&[u8]),
    ) -> Poll<io::Result<Option<Event>>> {
        loop {
            let rest = self.buffer.get(self.used..).unwrap_or_default();
            let offered = rest.get(..limit).unwrap_or(rest);
            let mut left = offered;
            let event = match self.reader.next(&self.dialect, &mut left).map_err(invalid)? {
                None => None,
                Some(MultiplePathsEvent::Count(_)) => Some(Event::Bytes),
                Some(MultiplePathsEvent::Path(info)) => Some(Event::Path(info)),
                Some(MultiplePathsEvent::Nar(bytes)) => {
                    take(bytes);
                    Some(Event::Bytes)
                }
                Some(MultiplePathsEvent::EndOfNar) => Some(Event::EndOfNar),
            };
            let used = offered.len() - left.len();
            self.used += used;
            match event {
                Some(event) => {
                    match event {
                        Event::Path(_) => self.in_nar = true,
                        Event::EndOfNar => self.in_nar = false,
                        Event::Bytes => {}
                    }
                    return Poll::Ready(Ok(Some(event)));
                }
                // It wants more than it was offered, and there is more.
                None if self.used < self.buffer.len() && used > 0 => continue,
                None => {}
            }
            self.buffer.drain(..self.used);
            self.used = 0;
            let buffer = &mut self.buffer;
            let more = self.payload.poll_next(context, Asks::Yes, |bytes| buffer.extend_from_slice(bytes));
            if ready!(more)?.is_none() {
                self.reader.finish().map_err(invalid)?;
                return Poll::Ready(Ok(None));
            }
        }
    }
}

fn invalid(error: PayloadError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// One archive.
struct NarStream(MultiplePaths);

impl AsyncRead for NarStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        while state.in_nar && buffer.remaining() > 0 {
            let before = buffer.filled().len();
            let event = state.poll_event(context, buffer.remaining(), |bytes| buffer.put_slice(bytes));
            if ready!(event)?.is_none() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            if buffer.filled().len() > before {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}
