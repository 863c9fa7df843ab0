//! What is sent along with a request.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// The body of a request.
pub(crate) enum UploadBody {
    Empty,
    Bytes(Bytes),
    /// Bytes that come from elsewhere, `left` in all.
    Stream {
        chunks: mpsc::Receiver<io::Result<Bytes>>,
        left: u64,
        sent: Arc<AtomicU64>,
    },
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream { left: 0, .. } => Poll::Ready(None),
            Self::Stream { chunks, left, sent } => {
                let chunk = match std::task::ready!(chunks.poll_recv(context)) {
                    Some(chunk) => chunk?,
                    None => return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
                };
                let length = chunk.len() as u64;
                *left = left.checked_sub(length).ok_or_else(|| io::Error::other("the file has grown"))?;
                sent.fetch_add(length, Ordering::Relaxed);
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Stream { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Empty => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Stream { left, .. } => *left,
        })
    }
}
