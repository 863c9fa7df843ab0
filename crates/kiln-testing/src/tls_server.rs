//! A web server with TLS, which speaks HTTP/2 if it may.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// A web server with TLS, on a free port of the loopback interface, whose name is `localhost`.
pub struct TlsServer {
    address: SocketAddr,
    authority: Vec<u8>,
    shared: Arc<Shared>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub struct TlsRequest {
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// The path, or the whole URL.
    pub target: String,
    /// The header `Authorization`.
    pub authorization: Option<String>,
}

/// What the server answers with.
#[derive(Clone, Debug, Default)]
pub struct TlsAnswer {
    /// Where to it redirects, if it does.
    pub location: Option<String>,
    /// The file; without one it is not found.
    pub body: Option<Vec<u8>>,
}

struct Shared {
    answer: Box<dyn Fn(&str) -> TlsAnswer + Send + Sync>,
    requests: Mutex<Vec<TlsRequest>>,
    connections: AtomicUsize,
}

impl TlsServer {
    /// A server that speaks these protocols (`h2`, `http/1.1`), and to requests for a path answers with what `answer` says.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn new(protocols: &[&str], answer: impl Fn(&str) -> TlsAnswer + Send + Sync + 'static) -> Self {
        let (authority, mut config) = identity();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let listener = must(std::net::TcpListener::bind("127.0.0.1:0"));
        must(listener.set_nonblocking(true));
        let address = must(listener.local_addr());
        let shared = Arc::new(Shared {
            answer: Box::new(answer),
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let (end, ended) = oneshot::channel();
        let (acceptor, serving) = (TlsAcceptor::from(Arc::new(config)), Arc::clone(&shared));
        // A runtime of its own: that of a test may be busy.
        let thread = std::thread::spawn(move || {
            let runtime = must(tokio::runtime::Builder::new_current_thread().enable_all().build());
            runtime.block_on(async {
                let listener = must(TcpListener::from_std(listener));
                tokio::select! { _ = ended => {}, () = serve(listener, acceptor, serving) => {} }
            });
        });
        Self { address, authority, shared, end: Some(end), thread: Some(thread) }
    }

    /// The certificate of the authority that vouches for it (PEM).
    pub fn authority(&self) -> &[u8] {
        &self.authority
    }

    /// The URL of a path at it.
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    /// Its address, which is no name that its certificate is for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<TlsRequest> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
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

/// A certificate for `localhost`, and that of the authority that has signed it.
fn identity() -> (Vec<u8>, ServerConfig) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = must(CertifiedIssuer::self_signed(params, must(KeyPair::generate())));
    let key = must(KeyPair::generate());
    let certificate =
        must(must(CertificateParams::new(["localhost".to_owned()])).signed_by(&key, &authority));
    let key = must(PrivateKeyDer::try_from(key.serialize_der()));
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = must(builder.with_safe_default_protocol_versions()).with_no_client_auth();
    let config = must(builder.with_single_cert(vec![certificate.der().clone()], key));
    (authority.pem().into_bytes(), config)
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = hyper::service::service_fn(move |request| {
                let response = shared.respond(&request);
                async move { response }
            });
            let server = auto::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl Shared {
    fn respond(&self, request: &Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::http::Error> {
        let authorization = request.headers().get("authorization");
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(TlsRequest {
            version: format!("{:?}", request.version()),
            target: request.uri().to_string(),
            authorization: authorization.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        });
        let TlsAnswer { location, body } = (self.answer)(request.uri().path());
        let mut response = Response::builder();
        if let Some(location) = location {
            response = response.status(302).header("location", location);
        } else if body.is_none() {
            response = response.status(404);
        }
        response.body(Full::new(Bytes::from(body.unwrap_or_default())))
    }
}

fn must<T, E: Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("cannot start a server with TLS: {error}"))
}
