//! The two directions of a connection, and knowing that the other end is gone.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use kiln_protocol::Received;
use rustix::fs::FileType;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::{Instant, Sleep};

use crate::limits::INACTIVITY;

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// What an idle connection keeps of its buffer.
const KEPT: usize = 1 << 10;

/// A client's connection.
pub(crate) struct Connection {
    pub(super) input: Input,
    pub(super) output: Box<dyn AsyncWrite + Send + Unpin>,
    pub(super) hang_up: HangUp,
}

impl Connection {
    /// That of a client of a socket.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub(crate) fn of_socket(stream: UnixStream) -> io::Result<Self> {
        let descriptor = stream.as_fd().try_clone_to_owned()?;
        let (input, output) = stream.into_split();
        Ok(Self { input: Input::new(input), output: Box::new(output), hang_up: HangUp::new(descriptor) })
    }

    /// Standard input and output.
    ///
    /// # Errors
    /// They are closed.
    pub(crate) fn of_stdio() -> io::Result<Self> {
        // That the client says no more closes the one pipe, that it is gone the other.
        let descriptor = rustix::stdio::stdout().try_clone_to_owned()?;
        let input = Input::new(tokio::io::stdin());
        Ok(Self { input, output: Box::new(tokio::io::stdout()), hang_up: HangUp::new(descriptor) })
    }
}

/// What comes from the client, as far as it has been read and not been used.
pub(crate) struct Input {
    stream: Box<dyn AsyncRead + Send + Unpin>,
    received: Received,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Input {
    fn new(stream: impl AsyncRead + Send + Unpin + 'static) -> Self {
        Self { stream: Box::new(stream), received: Received::default(), deadline: None }
    }

    /// Lets `take` use bytes from the front of what is there.
    pub(super) fn offer<T>(&mut self, take: impl FnOnce(&mut &[u8]) -> T) -> T {
        self.received.offer(take)
    }

    /// Reads more; `false` at the end. `is_idle` if the client may be silent for ever.
    pub(super) fn poll_fill(&mut self, context: &mut Context<'_>, is_idle: bool) -> Poll<io::Result<bool>> {
        let unused = self.received.unused();
        if unused.is_empty() && is_idle {
            unused.shrink_to(KEPT);
        }
        // An idle connection costs next to nothing: the large buffer is there only while something comes.
        let mut chunk = [std::mem::MaybeUninit::uninit(); KEPT];
        let length = unused.len();
        let polled = if is_idle {
            let mut small = ReadBuf::uninit(&mut chunk);
            let polled = Pin::new(&mut self.stream).poll_read(context, &mut small);
            unused.extend_from_slice(small.filled());
            polled
        } else {
            unused.reserve(CHUNK);
            pin!(self.stream.read_buf(unused)).poll(context).map_ok(|_| ())
        };
        match polled {
            Poll::Ready(result) => {
                self.deadline = None;
                Poll::Ready(result.map(|()| unused.len() > length))
            }
            Poll::Pending if is_idle => Poll::Pending,
            Poll::Pending => {
                let sleep = || Box::pin(tokio::time::sleep_until(Instant::now() + INACTIVITY));
                ready!(self.deadline.get_or_insert_with(sleep).as_mut().poll(context));
                Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the client has been silent for too long",
                )))
            }
        }
    }

    /// Reads more; `false` at the end.
    pub(super) async fn fill(&mut self, is_idle: bool) -> io::Result<bool> {
        std::future::poll_fn(|context| self.poll_fill(context, is_idle)).await
    }
}

/// Waits until both directions of a connection are closed, without reading from it. That the client says no more
/// (half-closed) is no hang-up.
pub(super) struct HangUp {
    descriptor: Option<OwnedFd>,
    watched: Option<AsyncFd<OwnedFd>>,
    interest: Interest,
}

impl HangUp {
    fn new(descriptor: OwnedFd) -> Self {
        // A socket that is closed is a hang-up, which is always told of; a pipe whose other end is closed is an error. To ask
        // for errors of a socket would also bring half-closed ones.
        let is_socket = rustix::fs::fstat(&descriptor)
            .is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Socket);
        let interest = if is_socket { Interest::PRIORITY } else { Interest::ERROR };
        Self { descriptor: Some(descriptor), watched: None, interest }
    }

    /// Waits for it; for ever, if it cannot be watched, as a file cannot.
    pub(super) async fn wait(&mut self) {
        // Most clients never have anything done for them that takes long enough.
        if let Some(descriptor) = self.descriptor.take() {
            self.watched = watch(descriptor, self.interest).ok();
        }
        let Some(watched) = &self.watched else { return std::future::pending().await };
        loop {
            match watched.ready(self.interest).await {
                Ok(guard) if guard.ready().is_read_closed() || guard.ready().is_error() => return,
                // Urgent data, which nobody sends.
                Ok(mut guard) => guard.clear_ready(),
                Err(_) => return std::future::pending().await,
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "its replacement is unsafe; an OwnedFd is what it requires, since its number never changes"
)]
fn watch(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, interest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn a_hang_up_is_not_a_half_closed_connection() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut connection = Connection::of_socket(server).unwrap();
        client.write_all(b"still here").await.unwrap();
        client.shutdown().await.unwrap();
        let soon = tokio::time::timeout(Duration::from_millis(50), connection.hang_up.wait()).await;
        assert!(soon.is_err());
        drop(client);
        tokio::time::timeout(Duration::from_secs(10), connection.hang_up.wait()).await.unwrap();
    }

    #[tokio::test]
    async fn what_was_not_used_stays() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut input = Connection::of_socket(server).unwrap().input;
        client.write_all(b"one two").await.unwrap();
        drop(client);
        assert!(input.fill(true).await.unwrap());
        input.offer(|bytes| *bytes = &bytes[4..]);
        assert!(!input.fill(false).await.unwrap());
        assert_eq!(input.offer(|bytes| bytes.to_vec()), b"two");
    }
}
