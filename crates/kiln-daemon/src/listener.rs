//! Where clients come in: a socket that is made here, or sockets that systemd has made.

use std::io;
use std::os::unix::net;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::select_all;
use kiln_store::blocking;
use kiln_sys::listening::{Activation, Found, SocketFile};
use tokio::net::{UnixListener, UnixStream};

use crate::error::Error;

/// Anybody may connect; who may stay is decided afterwards.
const SOCKET_MODE: u32 = 0o666;

/// Sockets that clients connect to.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<UnixListener>,
    /// The socket's file, if it was made here.
    file: Option<Arc<SocketFile>>,
}

impl Listener {
    /// Makes a socket at `path`, in place of whatever is there. Its directory is made too. Must be called within the runtime.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn bind(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Socket { path: path.to_owned(), source };
        let (socket, file) = SocketFile::bind(path, SOCKET_MODE).map_err(failed)?;
        let socket = to_tokio(socket).map_err(failed)?;
        Ok(Self { sockets: vec![socket], file: Some(Arc::new(file)) })
    }

    /// Takes the sockets that systemd has made. Must be called within the runtime.
    ///
    /// # Errors
    /// They are not there, or are no listening Unix sockets.
    pub fn activated(activation: Activation) -> Result<Self, Error> {
        let sockets = activation.sockets()?.into_iter();
        let sockets = sockets.map(|socket| to_tokio(net::UnixListener::from(socket)));
        Ok(Self { sockets: sockets.collect::<io::Result<_>>().map_err(Error::Passed)?, file: None })
    }

    /// The next client.
    ///
    /// # Errors
    /// There is no descriptor left, for instance. It is worth trying again a little later.
    pub(crate) async fn accept(&self) -> io::Result<UnixStream> {
        let accepting = self.sockets.iter().map(|socket| Box::pin(socket.accept()));
        let (accepted, _, _) = select_all(accepting).await;
        Ok(accepted?.0)
    }

    /// Looks whether clients still find the socket that was made here, and makes it again if its file is gone; says what was
    /// found. One that somebody else has put there is left alone: it may be another daemon's.
    ///
    /// # Errors
    /// It is gone and cannot be made again.
    pub(crate) async fn look_after(&mut self) -> Result<Found, Error> {
        let Some(file) = self.file.clone() else { return Ok(Found::InPlace) };
        let made = blocking(move || match file.found() {
            Found::Gone => Ok((file.path().to_owned(), SocketFile::bind(file.path(), SOCKET_MODE))),
            found => Err(found),
        });
        let (path, made) = match made.await {
            Ok(made) => made,
            Err(found) => return Ok(found),
        };
        let failed = |source| Error::Socket { path: path.clone(), source };
        let (socket, file) = made.map_err(failed)?;
        (self.sockets, self.file) = (vec![to_tokio(socket).map_err(failed)?], Some(Arc::new(file)));
        Ok(Found::Gone)
    }

    /// Where the socket is that was made here.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Before the sockets are closed: nobody is to meet one that nobody listens on.
        self.file.take();
    }
}

fn to_tokio(socket: net::UnixListener) -> io::Result<UnixListener> {
    socket.set_nonblocking(true)?;
    UnixListener::from_std(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    #[tokio::test]
    async fn a_socket_is_for_everybody_and_goes_with_its_listener() {
        let scratch = tempfile::tempdir().unwrap();
        // Longer than an address may be.
        let directory = scratch.path().join("d".repeat(100)).join("e".repeat(100));
        let path = directory.join("socket");
        let mut first = Listener::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o666);
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o755);
        let mut second = Listener::bind(&path).unwrap();
        assert_eq!(first.look_after().await.unwrap(), Found::Replaced);
        drop(first);
        assert!(path.exists(), "it is the second one's");
        assert_eq!(second.look_after().await.unwrap(), Found::InPlace);
        fs::remove_file(&path).unwrap();
        assert_eq!(second.look_after().await.unwrap(), Found::Gone);
        assert_eq!(second.look_after().await.unwrap(), Found::InPlace);
        drop(second);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    }
}
