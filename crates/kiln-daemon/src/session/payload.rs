//! What streams from the client after a request, in whichever framing its version has.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use kiln_protocol::PayloadError;
use kiln_protocol::payload::{ExportStreamReader, FrameReader, NarReader, SizedReader};
use kiln_protocol::serve::{Command, CommandPayload};
use kiln_protocol::worker::{Operation, RequestPayload};
use kiln_store::ByteStream;
use tokio::io::{AsyncRead, ReadBuf};

use super::Session;
use super::connection::Input;
use super::pulled::PulledPayload;

/// The payload of one request. Clones read on where others have stopped.
#[derive(Clone)]
pub(super) struct Payload {
    input: Arc<Mutex<Input>>,
    framing: Arc<Mutex<Framing>>,
}

enum Framing {
    None,
    Framed(FrameReader),
    Nar(Box<NarReader>),
    Sized(SizedReader),
    Export(Box<ExportStreamReader>),
    Pulled(PulledPayload),
}

impl Payload {
    /// What follows a request for this operation.
    pub(super) fn of(operation: Operation, input: &Arc<Mutex<Input>>, session: &Session) -> Self {
        let framing = match operation.payload(session.dialect.version) {
            RequestPayload::None => Framing::None,
            RequestPayload::Framed => Framing::Framed(FrameReader::new()),
            RequestPayload::Nar => Framing::Nar(Box::default()),
            RequestPayload::Pulled => Framing::Pulled(PulledPayload::new(operation, &session.outbox)),
        };
        Self { input: Arc::clone(input), framing: Arc::new(Mutex::new(framing)) }
    }

    /// What follows a request of the serve protocol; `size` is that of the archive, if it is one.
    pub(super) fn of_command(command: Command, size: u64, input: &Arc<Mutex<Input>>) -> Self {
        let framing = match command.payload() {
            CommandPayload::SizedNar => Framing::Sized(SizedReader::new(size)),
            CommandPayload::Import => Framing::Export(Box::default()),
            CommandPayload::None | CommandPayload::NarReply | CommandPayload::ExportReply => Framing::None,
        };
        Self { input: Arc::clone(input), framing: Arc::new(Mutex::new(framing)) }
    }

    /// Nothing.
    pub(super) fn none(input: &Arc<Mutex<Input>>) -> Self {
        Self { input: Arc::clone(input), framing: Arc::new(Mutex::new(Framing::None)) }
    }

    /// The payload as a stream.
    pub(super) fn stream(&self) -> ByteStream {
        Box::pin(PayloadStream { payload: self.clone(), rest: Vec::new(), used: 0, failure: None })
    }

    /// Passes over what is left, as far as the client sends it without being asked for more.
    pub(super) async fn drain(&self) -> io::Result<()> {
        while std::future::poll_fn(|context| self.poll_next(context, Asks::No, |_| ())).await?.is_some() {}
        Ok(())
    }

    /// Reads some bytes and gives them to `take`; `None` at the end.
    pub(super) fn poll_next<T>(
        &self,
        context: &mut Context<'_>,
        asks: Asks,
        mut take: impl FnMut(&[u8]) -> T,
    ) -> Poll<io::Result<Option<T>>> {
        let (mut input, mut framing) = (lock(&self.input), lock(&self.framing));
        loop {
            if asks == Asks::Yes {
                framing.ask();
            }
            let taken = input.offer(|bytes| framing.next(bytes, &mut take));
            if let Some(taken) = taken.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
                return Poll::Ready(Ok(Some(taken)));
            }
            if framing.is_complete(asks) {
                return Poll::Ready(Ok(None));
            }
            if !framing.has_all_of_an_answer() && !ready!(input.poll_fill(context, false))? {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

/// Whether a client that has to be asked is asked for more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    Yes,
    No,
}

struct PayloadStream {
    payload: Payload,
    /// What did not fit when it was read.
    rest: Vec<u8>,
    used: usize,
    /// What failed after something had been read.
    failure: Option<io::Error>,
}

impl AsyncRead for PayloadStream {
    /// Reads all that there is, however small the frames are.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { payload, rest, used, failure } = &mut *self;
        if let Some(failure) = failure.take() {
            return Poll::Ready(Err(failure));
        }
        let before = buffer.filled().len();
        let left = rest.get(*used..).unwrap_or_default();
        let now = left.get(..buffer.remaining()).unwrap_or(left);
        buffer.put_slice(now);
        *used += now.len();
        while buffer.remaining() > 0 {
            rest.clear();
            *used = 0;
            let read = payload.poll_next(context, Asks::Yes, |bytes| {
                let (now, later) = bytes.split_at(bytes.len().min(buffer.remaining()));
                buffer.put_slice(now);
                rest.extend_from_slice(later);
            });
            let has_some = buffer.filled().len() > before;
            return match read {
                Poll::Ready(Ok(Some(()))) => continue,
                Poll::Ready(Ok(None)) => Poll::Ready(Ok(())),
                Poll::Pending if has_some => Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) if has_some => {
                    *failure = Some(error);
                    Poll::Ready(Ok(()))
                }
                Poll::Pending => Poll::Pending,
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            };
        }
        Poll::Ready(Ok(()))
    }
}

impl Framing {
    /// Whether nothing more is to be read; unless more is asked for, that is so between two answers.
    fn is_complete(&mut self, asks: Asks) -> bool {
        match self {
            Self::None => true,
            Self::Framed(frames) => frames.is_complete(),
            Self::Nar(nar) => nar.is_complete(),
            Self::Sized(sized) => sized.is_complete(),
            Self::Export(export) => export.is_complete(),
            Self::Pulled(pulled) if asks == Asks::No => pulled.is_between_answers(),
            Self::Pulled(pulled) => pulled.is_complete(),
        }
    }

    /// Asks for more, where that has to be done and has not been.
    fn ask(&mut self) {
        if let Self::Pulled(pulled) = self {
            pulled.ask();
        }
    }

    /// Whether an answer has just been read wholly.
    fn has_all_of_an_answer(&mut self) -> bool {
        match self {
            Self::Pulled(pulled) => pulled.has_all_of_an_answer(),
            _ => false,
        }
    }

    /// Hands some bytes of the payload to `take`; `None` if more input is needed.
    fn next<T>(
        &mut self,
        bytes: &mut &[u8],
        take: &mut impl FnMut(&[u8]) -> T,
    ) -> Result<Option<T>, PayloadError> {
        let taken = match self {
            Self::None => None,
            Self::Framed(frames) => frames.next(bytes)?,
            Self::Nar(nar) => nar.next(bytes)?,
            Self::Sized(sized) => sized.next(bytes),
            Self::Export(export) => export.next(bytes)?,
            Self::Pulled(pulled) => pulled.next(bytes)?,
        };
        Ok(taken.map(take))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A reader that has failed fails again.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
