//! Bodies of answers: what is in memory, or a stream that is made while it is sent, at the client's pace.
//!
//! A stream has a task that takes pieces from the thread that makes it and hands them to the connection. When the client
//! takes too long to accept one, the task gives up all that the stream holds (the thread, its place, the temporary root) and
//! has the connection ended. The last piece is followed by a mark: a stream that ends without it has broken off.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use hyper::body::{Frame, SizeHint};
use kiln_store::ByteStream;
use kiln_web::{Activity, Busy};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use crate::metrics::Metrics;

/// Bytes in a piece at most.
const PIECE: usize = 128 << 10;

/// Pieces that wait for the connection.
const WAITING: usize = 1;

/// What comes after the head of an answer.
#[derive(Debug)]
pub(crate) enum Content {
    /// Nothing, but so many bytes would, if they were asked for.
    Nothing(Option<u64>),
    /// This.
    Whole(Bytes),
    /// What is being made.
    Stream(Stream),
}

impl Content {
    /// Bytes of it, as far as they are known.
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Self::Nothing(length) => *length,
            Self::Whole(bytes) => Some(bytes.len() as u64),
            Self::Stream(stream) => stream.left,
        }
    }
}

/// Pieces on their way; an empty one is the mark of the end.
#[derive(Debug)]
pub(crate) struct Stream {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    /// What is still to come, if that is known.
    left: Option<u64>,
}

impl Stream {
    /// Begins to pass on `source`, of which the length is known or not. `kept` lives until the stream is over.
    ///
    /// # Errors
    /// The source fails at once, so that the client can still be told.
    pub(crate) async fn begin(
        mut source: ByteStream,
        length: Option<u64>,
        kept: impl Send + 'static,
        activity: &Arc<Activity>,
        stalled: Duration,
    ) -> io::Result<Self> {
        let first = read(&mut source).await?;
        let (sender, pieces) = mpsc::channel(WAITING);
        let activity = Arc::clone(activity);
        tokio::spawn(async move {
            let mut piece = Ok(first);
            loop {
                let is_last = piece.as_ref().map_or(true, Bytes::is_empty);
                match tokio::time::timeout(stalled, sender.send(piece)).await {
                    Ok(Ok(())) if !is_last => piece = read(&mut source).await,
                    Ok(_) => break,
                    Err(_) => {
                        activity.abort();
                        break;
                    }
                }
            }
            drop((source, kept));
        });
        Ok(Self { pieces, left: length })
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let piece = match ready!(self.pieces.poll_recv(context)) {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
        };
        let Some(left) = self.left else {
            return Poll::Ready((!piece.is_empty()).then_some(Ok(piece)));
        };
        match left.checked_sub(piece.len() as u64) {
            Some(0) if piece.is_empty() => Poll::Ready(None),
            Some(after) if !piece.is_empty() => {
                self.left = Some(after);
                Poll::Ready(Some(Ok(piece)))
            }
            _ => Poll::Ready(Some(Err(io::Error::other("the length is not what it was announced to be")))),
        }
    }
}

async fn read(source: &mut ByteStream) -> io::Result<Bytes> {
    let mut piece = BytesMut::with_capacity(PIECE);
    source.read_buf(&mut piece).await?;
    // What has been made meanwhile goes along. An error is found again by whoever reads the next piece.
    let mut room = piece.capacity() - piece.len();
    while room > 0 && !piece.is_empty() {
        match source.as_mut().take(room as u64).read_buf(&mut piece).now_or_never() {
            Some(Ok(more)) if more > 0 => room -= more,
            _ => break,
        }
    }
    Ok(piece.freeze())
}

/// A body as the connection sends it. While it is there, the connection is busy.
pub(crate) struct Body {
    content: Content,
    metrics: Arc<Metrics>,
    _busy: Busy,
}

impl Body {
    pub(crate) fn new(content: Content, metrics: Arc<Metrics>, busy: Busy) -> Self {
        Self { content, metrics, _busy: busy }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let body = self.get_mut();
        let piece = match &mut body.content {
            Content::Nothing(_) => None,
            Content::Whole(bytes) => Some(Ok(std::mem::take(bytes)))
                .filter(|bytes| !matches!(bytes, Ok(bytes) if bytes.is_empty())),
            Content::Stream(stream) => ready!(stream.poll_piece(context)),
        };
        match &piece {
            Some(Ok(piece)) => body.metrics.sent(piece.len()),
            Some(Err(_)) => body.metrics.broke_off(),
            None => {}
        }
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Nothing(_) => true,
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Nothing(_) => SizeHint::with_exact(0),
            content => content.length().map(SizeHint::with_exact).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::poll_fn;
    use hyper::body::Body as _;
    use kiln_web::Origin;

    const SHORT: Duration = Duration::from_millis(50);

    /// The sizes of the frames of a stream, and whether it came to its end.
    async fn frames(source: ByteStream, length: Option<u64>) -> (Vec<usize>, bool) {
        let activity = Activity::new(Origin::Network);
        let stream = Stream::begin(source, length, (), &activity, Duration::from_secs(60)).await.unwrap();
        let busy = activity.begin();
        let mut body = Body::new(Content::Stream(stream), Arc::default(), busy);
        let mut sizes = Vec::new();
        loop {
            match poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
                Some(Ok(frame)) => sizes.push(frame.into_data().unwrap().len()),
                Some(Err(_)) => return (sizes, false),
                None => return (sizes, true),
            }
        }
    }

    fn bytes(length: usize) -> ByteStream {
        Box::pin(io::Cursor::new(vec![1; length]))
    }

    #[tokio::test]
    async fn only_what_is_as_long_as_announced_comes_to_an_end() {
        let length = PIECE + 10;
        assert_eq!(frames(bytes(length), Some(length as u64)).await, (vec![PIECE, 10], true));
        assert_eq!(frames(bytes(length), None).await, (vec![PIECE, 10], true));
        assert_eq!(frames(bytes(0), Some(0)).await, (vec![], true));
        assert_eq!(frames(bytes(length), Some(length as u64 + 1)).await, (vec![PIECE, 10], false));
        assert_eq!(frames(bytes(length), Some(length as u64 - 1)).await, (vec![PIECE], false));
    }

    #[tokio::test]
    async fn what_breaks_off_never_comes_to_an_end() {
        let failing = || {
            kiln_store::written_by(|out| {
                out.write_all(&[0; 3 * PIECE])?;
                Err(io::Error::other("gone"))
            })
        };
        for length in [None, Some(3 * PIECE as u64), Some(4 * PIECE as u64)] {
            let (sizes, is_whole) = frames(failing(), length).await;
            assert!(!is_whole && !sizes.is_empty(), "{length:?}: {sizes:?}");
        }
        let panicking = kiln_store::written_by(|out| {
            out.write_all(&[0; 3 * PIECE])?;
            panic!("on purpose");
        });
        assert!(!frames(panicking, None).await.1);
        let at_once = kiln_store::written_by(|_| Err(io::Error::other("gone")));
        let begun = Stream::begin(at_once, None, (), &Activity::new(Origin::Network), SHORT).await;
        assert_eq!(begun.unwrap_err().to_string(), "gone");
    }

    #[tokio::test]
    async fn who_does_not_read_is_cut_off_and_gives_everything_back() {
        let activity = Activity::new(Origin::Network);
        let (alive, mut gone) = mpsc::channel::<()>(1);
        let endless = kiln_store::written_by(|out| {
            loop {
                out.write_all(&[0; PIECE])?;
            }
        });
        let _stream = Stream::begin(endless, None, alive, &activity, SHORT).await.unwrap();
        activity.aborted().await;
        assert_eq!(gone.recv().await, None);
    }
}
