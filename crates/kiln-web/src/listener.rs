//! Where clients come in: addresses, sockets of the file system, or whatever systemd has listened on.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::select_all;
use kiln_sys::listening::{Activation, SocketFile};
use rustix::net::AddressFamily;
use rustix::net::sockopt::socket_domain;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::error::Error;

/// Sockets that clients connect to.
#[derive(Debug, Default)]
pub struct Listener {
    sockets: Vec<Socket>,
    /// Where they are, for people.
    places: Vec<String>,
    /// The files of those that were made here.
    files: Vec<SocketFile>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// One that listens nowhere yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens on an address as well, `HOST:PORT`; with port 0 on any that is free.
    ///
    /// # Errors
    /// It is no address of this machine, or is taken.
    pub async fn add_address(&mut self, address: &str) -> Result<(), Error> {
        let bound = TcpListener::bind(address).await;
        let socket = bound.map_err(|source| Error::Address { address: address.to_owned(), source })?;
        self.add(Socket::Tcp(socket));
        Ok(())
    }

    /// Makes a socket of the file system and listens on it as well; who may connect is decided by `mode`. Must be called
    /// within the runtime.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn add_socket(&mut self, path: &Path, mode: u32) -> Result<(), Error> {
        let failed = |source| Error::Socket { path: path.to_owned(), source };
        let (socket, file) = SocketFile::bind(path, mode).map_err(failed)?;
        self.sockets.push(unix(socket).map_err(failed)?);
        self.places.push(format!("unix:{}", path.display()));
        self.files.push(file);
        Ok(())
    }

    /// Listens on the sockets that systemd has made as well. Must be called within the runtime.
    ///
    /// # Errors
    /// They are not there, or are no listening sockets.
    pub fn add_activated(&mut self, activation: Activation) -> Result<(), Error> {
        for socket in activation.sockets()? {
            self.add(passed(socket).map_err(Error::Passed)?);
        }
        Ok(())
    }

    fn add(&mut self, socket: Socket) {
        self.places.push(socket.to_string());
        self.sockets.push(socket);
    }

    /// Where it listens: URLs, and sockets as `unix:PATH`.
    pub fn places(&self) -> &[String] {
        &self.places
    }

    /// The next client.
    ///
    /// # Errors
    /// There is no descriptor left, for instance. It is worth trying again a little later.
    pub(crate) async fn accept(&self) -> io::Result<Client> {
        if self.sockets.is_empty() {
            return std::future::pending().await;
        }
        let (accepted, _, _) = select_all(self.sockets.iter().map(|socket| Box::pin(socket.accept()))).await;
        accepted
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Before the sockets are closed: nobody is to meet one that nobody listens on.
        self.files.clear();
    }
}

impl Socket {
    async fn accept(&self) -> io::Result<Client> {
        match self {
            Self::Tcp(socket) => {
                let (stream, _) = socket.accept().await?;
                // Heads are small and should go at once; bodies come in large pieces anyway.
                let _ = stream.set_nodelay(true);
                Ok(Client::Tcp(stream))
            }
            Self::Unix(socket) => Ok(Client::Unix(socket.accept().await?.0)),
        }
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(socket) => match socket.local_addr() {
                Ok(address) => write!(f, "http://{address}"),
                Err(_) => f.write_str("an address"),
            },
            Self::Unix(socket) => {
                let address = socket.local_addr().ok();
                match address.as_ref().and_then(|address| address.as_pathname()) {
                    Some(path) => write!(f, "unix:{}", path.display()),
                    None => f.write_str("a Unix socket"),
                }
            }
        }
    }
}

fn unix(socket: net::UnixListener) -> io::Result<Socket> {
    socket.set_nonblocking(true)?;
    UnixListener::from_std(socket).map(Socket::Unix)
}

fn passed(socket: OwnedFd) -> io::Result<Socket> {
    if socket_domain(&socket)? == AddressFamily::UNIX {
        return unix(socket.into());
    }
    let socket = std::net::TcpListener::from(socket);
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket).map(Socket::Tcp)
}

/// The connection of a client.
#[derive(Debug)]
pub(crate) enum Client {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// How a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// By an address: anybody who can reach it.
    Network,
    /// By a socket of the file system: whom its mode lets in.
    Socket,
}

impl Client {
    pub(crate) fn origin(&self) -> Origin {
        match self {
            Self::Tcp(_) => Origin::Network,
            Self::Unix(_) => Origin::Socket,
        }
    }
}

impl AsyncRead for Client {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Client {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
