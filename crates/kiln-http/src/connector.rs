//! Connections to servers: directly or through a proxy, with or without TLS.

use crate::resolver::Resolver;
use crate::settings::TransferSettings;
use crate::tls::NoTls;
use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower_service::Service;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Whatever bytes go through.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

type BoxSocket = TokioIo<Box<dyn Socket>>;

/// A server with its port, where only the scheme tells that: SOCKS takes 443 for all that have none.
fn with_port(server: &Uri) -> Result<Uri, BoxError> {
    if server.port().is_some() || server.scheme_str() != Some("http") {
        return Ok(server.clone());
    }
    let authority = format!("{}:80", server.host().unwrap_or_default());
    Ok(Uri::builder().scheme("http").authority(authority).path_and_query("/").build()?)
}

/// A TCP connection that is written to from one buffer at a time. A write of several ones at once to a connection that the
/// other end has closed raises SIGPIPE, which ends a process that does not ignore it, and builders don't.
struct Unscattered(TcpStream);

impl AsyncRead for Unscattered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Unscattered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// Makes connections for the client.
#[derive(Clone)]
pub(crate) struct Connector {
    tcp: HttpConnector<Resolver>,
    /// Or why there is no TLS.
    tls: Result<Arc<ClientConfig>, NoTls>,
    http2: bool,
    proxies: Arc<Matcher>,
    timeout: Duration,
}

impl Connector {
    pub(crate) fn new(
        settings: &TransferSettings,
        tls: Result<Arc<ClientConfig>, NoTls>,
        proxies: Arc<Matcher>,
    ) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Resolver::new());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        Self { tcp, tls, http2: settings.http2, proxies, timeout: settings.connect_timeout }
    }

    async fn connect(self, server: Uri) -> Result<Established, BoxError> {
        let is_tls = server.scheme_str() == Some("https");
        let Some(proxy) = self.proxies.intercept(&server) else {
            let socket = self.dial(&server).await?;
            return self.finish(socket, &server).await;
        };
        let proxy_dial = ProxyDial(self.clone());
        match proxy.uri().scheme_str().unwrap_or_default() {
            "http" | "https" => {}
            scheme @ ("socks5" | "socks5h") => {
                let is_local = scheme == "socks5";
                let mut socks = SocksV5::new(proxy.uri().clone(), proxy_dial).local_dns(is_local);
                if let Some((user, password)) = proxy.raw_auth() {
                    socks = socks.with_auth(user.to_owned(), password.to_owned());
                }
                let socket = socks.call(with_port(&server)?).await?;
                return self.finish(socket, &server).await;
            }
            scheme => return Err(format!("proxies with scheme '{scheme}' are not supported").into()),
        }
        if is_tls {
            let mut tunnel = Tunnel::new(proxy.uri().clone(), proxy_dial);
            if let Some(authorization) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(authorization.clone());
            }
            let socket = tunnel.call(server.clone()).await?;
            self.finish(socket, &server).await
        } else {
            Ok(Established::plain(proxy_dial.dial(proxy.uri().clone()).await?, true))
        }
    }

    /// A connection without anything on it.
    async fn dial(&self, host: &Uri) -> Result<BoxSocket, BoxError> {
        let stream = self.tcp.clone().call(host.clone()).await?;
        Ok(TokioIo::new(Box::new(Unscattered(stream.into_inner()))))
    }

    /// Makes a way to the server ready for requests.
    async fn finish(&self, socket: BoxSocket, server: &Uri) -> Result<Established, BoxError> {
        if server.scheme_str() == Some("https") {
            self.start_tls(socket, server).await
        } else {
            Ok(Established::plain(socket, false))
        }
    }

    async fn start_tls(&self, socket: BoxSocket, server: &Uri) -> Result<Established, BoxError> {
        let protocols: &[&[u8]] = if self.http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        let stream = self.handshake(socket, server, protocols).await?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Established { socket: TokioIo::new(Box::new(stream)), through_proxy: false, http2 })
    }

    async fn handshake(
        &self,
        socket: BoxSocket,
        server: &Uri,
        protocols: &[&[u8]],
    ) -> Result<tokio_rustls::client::TlsStream<Box<dyn Socket>>, BoxError> {
        let mut config = ClientConfig::clone(self.tls.as_ref().map_err(Clone::clone)?);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let host = server.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host)?.to_owned();
        Ok(TlsConnector::from(Arc::new(config)).connect(name, socket.into_inner()).await?)
    }
}

impl Service<Uri> for Connector {
    type Response = Established;
    type Error = BoxError;
    type Future = BoxFuture<Established>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        let limit = self.timeout;
        let connecting = self.clone().connect(server);
        Box::pin(async move {
            if limit.is_zero() {
                return connecting.await;
            }
            let late = |_| format!("no connection within {} s", limit.as_secs_f32());
            tokio::time::timeout(limit, connecting).await.map_err(late)?
        })
    }
}

/// Makes connections to proxies.
#[derive(Clone)]
struct ProxyDial(Connector);

impl ProxyDial {
    async fn dial(self, proxy: Uri) -> Result<BoxSocket, BoxError> {
        let socket = self.0.dial(&proxy).await?;
        if proxy.scheme_str() != Some("https") {
            return Ok(socket);
        }
        let stream = self.0.handshake(socket, &proxy, &[b"http/1.1"]).await?;
        Ok(TokioIo::new(Box::new(stream)))
    }
}

impl Service<Uri> for ProxyDial {
    type Response = BoxSocket;
    type Error = BoxError;
    type Future = BoxFuture<BoxSocket>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, proxy: Uri) -> Self::Future {
        Box::pin(self.clone().dial(proxy))
    }
}

/// A connection, ready for requests.
pub(crate) struct Established {
    socket: BoxSocket,
    /// Whether requests go to a proxy that has to be told the server's name.
    through_proxy: bool,
    http2: bool,
}

impl Established {
    fn plain(socket: BoxSocket, through_proxy: bool) -> Self {
        Self { socket, through_proxy, http2: false }
    }
}

impl Connection for Established {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.through_proxy);
        if self.http2 { connected.negotiated_h2() } else { connected }
    }
}

impl Read for Established {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl Write for Established {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
