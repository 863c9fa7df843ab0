//! The two directions of a connection: what has come and is not used yet, and what is sent.

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use kiln_protocol::{Dialect, MessageReader, Received, Wire};
use rustix::fs::{Mode, OFlags};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use crate::error::Fault;
use crate::limits::{CHUNK, SENDING, SILENCE};

/// The longest path that fits the address of a socket, without the byte at its end.
const LONGEST_ADDRESS: usize = 107;

/// What an idle connection keeps of its buffer.
const KEPT: usize = 1 << 10;

/// Connects to the socket at `path`, however long that is.
pub(crate) async fn connect(path: &Path) -> io::Result<UnixStream> {
    if path.as_os_str().len() <= LONGEST_ADDRESS {
        return UnixStream::connect(path).await;
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(parent, flags, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    UnixStream::connect(short).await
}

/// What comes from the daemon.
pub(crate) struct Input {
    stream: OwnedReadHalf,
    received: Received,
}

impl Input {
    pub(crate) fn new(stream: OwnedReadHalf) -> Self {
        Self { stream, received: Received::default() }
    }

    /// Lets `take` use bytes from the front of what is there.
    pub(crate) fn offer<T>(&mut self, take: impl FnOnce(&mut &[u8]) -> T) -> T {
        self.received.offer(take)
    }

    /// Waits for more. `patience` is how long, if not for ever.
    pub(crate) async fn fill(&mut self, patience: Option<Duration>) -> Result<(), Fault> {
        let unused = self.received.unused();
        unused.reserve(CHUNK);
        let reading = self.stream.read_buf(unused);
        let read = match patience {
            Some(patience) => timeout(patience, reading).await.map_err(|_| Fault::Silent(patience))?,
            None => reading.await,
        }?;
        if read == 0 { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) } else { Ok(()) }
    }

    /// The next message. Until it begins, nobody knows how long that takes; in the midst of it, nothing takes long.
    pub(crate) async fn message<T: Wire>(&mut self, limit: usize, dialect: &Dialect) -> Result<T, Fault> {
        let mut reader = MessageReader::new(limit);
        loop {
            if let Some(message) = self.offer(|bytes| reader.read::<T>(dialect, bytes))? {
                return Ok(message);
            }
            let patience = (!reader.is_between_messages()).then_some(SILENCE);
            self.fill(patience).await?;
        }
    }

    /// Whether nothing has come since the last message, and the other end is still there.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let unused = self.received.unused();
        unused.shrink_to(KEPT);
        let nothing = self.stream.try_read(&mut [0]);
        unused.is_empty() && nothing.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// What goes to the daemon.
pub(crate) struct Output {
    stream: OwnedWriteHalf,
}

impl Output {
    pub(crate) fn new(stream: OwnedWriteHalf) -> Self {
        Self { stream }
    }

    /// Sends all of `bytes`.
    pub(crate) async fn send(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            let sending = timeout(SENDING, self.stream.write(bytes));
            let sent = sending.await.map_err(|_| Fault::Silent(SENDING))??;
            if sent == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            bytes = bytes.get(sent..).unwrap_or_default();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_with_a_long_name_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("d".repeat(100));
        std::fs::create_dir(&deep).unwrap();
        let handle = std::fs::File::open(&deep).unwrap();
        let short = format!("/proc/self/fd/{}/socket", handle.as_raw_fd());
        let _listener = tokio::net::UnixListener::bind(short).unwrap();
        connect(&deep.join("socket")).await.unwrap();
        assert_eq!(connect(&deep.join("none")).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn an_end_and_stray_bytes_are_noticed() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut input = Input::new(ours.into_split().0);
        assert!(input.is_quiet());
        theirs.write_all(b"stray").await.unwrap();
        input.fill(None).await.unwrap();
        assert!(!input.is_quiet());
        input.offer(|bytes| *bytes = &[]);
        assert!(input.is_quiet());
        drop(theirs);
        assert!(matches!(input.fill(None).await, Err(Fault::Io(_))));
        assert!(!input.is_quiet());
    }
}
