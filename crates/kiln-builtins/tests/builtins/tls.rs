//! Servers with TLS: who is trusted, and what is spoken.

use crate::bench::Bench;
use crate::server::{Server, answer, drain, header};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// A web server with TLS, on a free port of the loopback interface, whose name is `localhost`.
pub(crate) struct TlsServer {
    address: SocketAddr,
    /// The certificate of the authority that vouches for it (PEM).
    pub(crate) authority: Vec<u8>,
    seen: Arc<Mutex<Vec<Seen>>>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) version: Version,
    pub(crate) target: String,
    pub(crate) authorization: Option<String>,
}

impl TlsServer {
    /// A server that answers all requests with this body, or redirects them to `location`.
    pub(crate) fn new(protocols: &[&str], location: Option<String>, body: &'static [u8]) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)
                .unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();

        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (end, ended) = oneshot::channel();
        let requests = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let serving = serve(listener, TlsAcceptor::from(Arc::new(config)), requests, location, body);
                tokio::select! { _ = ended => {}, () = serving => {} }
            });
        });
        let authority = authority.pem().into_bytes();
        Self { address, authority, seen, end: Some(end), thread: Some(thread) }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// A download from it, with its authority among those that are trusted.
    pub(crate) fn fetchurl(&self, url: &str) -> Bench {
        let mut bench = Bench::fetchurl(url);
        let garbage = b"# a comment\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        bench.inputs.certificates = Some([garbage, self.authority.as_slice()].concat());
        bench
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    seen: Arc<Mutex<Vec<Seen>>>,
    location: Option<String>,
    body: &'static [u8],
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, seen, location) = (acceptor.clone(), Arc::clone(&seen), location.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = hyper::service::service_fn(move |request: Request<_>| {
                let authorization = request.headers().get("authorization");
                seen.lock().unwrap().push(Seen {
                    version: request.version(),
                    target: request.uri().to_string(),
                    authorization: authorization.map(|value| value.to_str().unwrap().to_owned()),
                });
                let _: &hyper::body::Incoming = request.body();
                let mut response = Response::builder();
                if let Some(location) = &location {
                    response = response.status(302).header("location", location);
                }
                let response = response.body(Full::new(Bytes::from_static(body)));
                async move { response }
            });
            let server = auto::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

static BODY: [u8; 300_000] = [b'x'; 300_000];

#[test]
fn b11_https_speaks_what_the_server_does() {
    for (protocols, version) in [
        (&["h2", "http/1.1"][..], Version::HTTP_2),
        (&["http/1.1"], Version::HTTP_11),
        (&[], Version::HTTP_11),
    ] {
        let server = TlsServer::new(protocols, None, &BODY);
        let bench = server.fetchurl(&server.url("/path"));
        bench.succeed();
        assert_eq!(bench.contents(), BODY);
        let seen = &server.seen()[0];
        assert_eq!(seen.version, version);
        assert!(seen.target.ends_with("/path"), "{}", seen.target);
    }
}

#[test]
fn b11_http2_can_be_turned_off() {
    let server = TlsServer::new(&["h2", "http/1.1"], None, b"body");
    let mut bench = server.fetchurl(&server.url("/"));
    bench.inputs.transfers.http2 = false;
    bench.succeed();
    assert_eq!(server.seen()[0].version, Version::HTTP_11);
}

#[test]
fn b11_strangers_are_not_trusted() {
    let server = TlsServer::new(&[], None, b"body");
    let stranger = TlsServer::new(&[], None, b"body");
    // By the authorities of somebody else, by the system's, by none at all, under another name.
    let mut others =
        stranger.fetchurl(&server.url("/")).attempts(3).netrc("default login me password secret");
    others.inputs.transfers.http2 = false;
    let by_system = Bench::fetchurl(&server.url("/")).attempts(3);
    let mut by_nobody = Bench::fetchurl(&server.url("/")).attempts(3);
    by_nobody.inputs.certificates = Some(Vec::new());
    let misnamed = server.fetchurl(&format!("https://{}/", server.address())).attempts(3);
    for bench in [others, by_system, by_nobody, misnamed] {
        let ran = bench.run();
        let error = ran.result.unwrap_err();
        assert!(error.contains("': TLS: "), "{error}");
        assert!(!ran.log.contains("retrying"), "{}", ran.log);
    }
    assert!(server.seen().is_empty());
}

#[test]
fn b11_no_password_is_sent_from_https_to_http() {
    let netrc = "machine localhost login me password secret";
    let target = Server::answering([answer("200 OK", &[], b"ok")]);
    let server = TlsServer::new(&["h2"], Some(target.other_url("/")), b"");
    server.fetchurl(&server.url("/")).netrc(netrc).succeed();
    assert_eq!(server.seen()[0].authorization.as_deref(), Some("Basic bWU6c2VjcmV0"));
    assert_eq!(header(&target.requests()[0], "authorization"), None);
}

#[test]
fn b11_a_handshake_may_not_take_forever() {
    let server = Server::new(|_, _, stream| drain(stream));
    let mut bench = Bench::fetchurl(&server.url("/").replace("http:", "https:"));
    bench.inputs.transfers.connect_timeout = Duration::from_millis(300);
    bench.inputs.certificates = Some(TlsServer::new(&[], None, b"").authority.clone());
    let error = bench.fail();
    assert!(error.ends_with("couldn't connect to the server: no connection within 0.3 s"), "{error}");
}
