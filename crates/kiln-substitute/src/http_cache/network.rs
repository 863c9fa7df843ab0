//! What all caches at servers share, and how one of them is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::server::CacheServer;
use super::turns::{Permit, Size, Turns};
use kiln_http::{
    Authorities, AwsEnvironment, Client, Download, DownloadError, Netrc, Patience, SmallFile,
    TransferSettings,
};
use kiln_store::blocking;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// How long a server may take for the small files, beyond the time for making a connection: all tries together.
const ANSWER: Duration = Duration::from_secs(10);

/// How long a connection may take, if the setting says any time.
const CONNECTION: Duration = Duration::from_secs(20);

/// Bytes a second that a file has to come with, on the average of `stalled-download-timeout`. Nix is content with a single
/// one, so that a server which sends byte by byte can keep everybody waiting for years.
const SLOWEST: u64 = 64;

/// One in so many requests to a server is left for small files.
const LEFT_FOR_SMALL: usize = 4;

/// Connections to one server that are kept for the next request.
const KEPT: usize = 32;

/// How servers are asked: settings and secrets.
pub struct Network {
    transfers: TransferSettings,
    /// `http-connections`: how many requests there are to one server at once; 0 for any number.
    connections: usize,
    netrc: Netrc,
    certificates: Option<Vec<u8>>,
    authorities: OnceCell<Authorities>,
    aws: AwsEnvironment,
}

impl Network {
    /// With the contents of the `netrc` file and of that with the certificates of authorities (PEM). Those of the system
    /// are read when somebody needs one.
    #[must_use]
    pub fn new(
        transfers: TransferSettings,
        connections: usize,
        netrc: Option<&[u8]>,
        certificates: Option<Vec<u8>>,
    ) -> Arc<Self> {
        Self::with_aws(transfers, connections, netrc, certificates, AwsEnvironment::default())
    }

    /// The same, with what the environment says about credentials for buckets.
    #[must_use]
    pub fn with_aws(
        transfers: TransferSettings,
        connections: usize,
        netrc: Option<&[u8]>,
        certificates: Option<Vec<u8>>,
        aws: AwsEnvironment,
    ) -> Arc<Self> {
        let netrc = netrc.map(Netrc::parse).unwrap_or_default();
        Arc::new(Self { transfers, connections, netrc, certificates, authorities: OnceCell::new(), aws })
    }

    pub(super) fn aws(&self) -> &AwsEnvironment {
        &self.aws
    }

    /// A client for the event loop that this is called in.
    pub async fn client(&self) -> Client {
        let authorities = self.authorities().await;
        Client::new(&self.transfers, self.netrc.clone(), &authorities, KEPT)
    }

    /// What is put up with for files of any size.
    #[must_use]
    pub fn patience(&self) -> Patience {
        Patience { slowest: SLOWEST, ..Patience::of(&self.transfers) }
    }

    /// How many requests there may be to one server at once.
    #[must_use]
    pub fn connections(&self) -> usize {
        if self.connections == 0 { usize::MAX } else { self.connections }
    }

    async fn authorities(&self) -> Authorities {
        let load = || async {
            let certificates = self.certificates.clone();
            blocking(move || Authorities::load(certificates.as_deref())).await
        };
        self.authorities.get_or_init(load).await.clone()
    }

    /// What is put up with for a small file.
    fn small_patience(&self) -> Patience {
        let usual = Patience::of(&self.transfers);
        let connection = if self.transfers.connect_timeout.is_zero() {
            CONNECTION
        } else {
            self.transfers.connect_timeout
        };
        let within = connection.saturating_add(ANSWER);
        let stalled = if usual.stalled.is_zero() { within } else { usual.stalled.min(within) };
        Patience { stalled, within: Some(within), ..usual }
    }
}

/// Requests to one server.
pub(crate) struct Requests {
    network: Arc<Network>,
    server: CacheServer,
    clients: OnceCell<Clients>,
    turns: Arc<Turns>,
    /// Held by the first request to a server with TLS, until it is known what that speaks: with HTTP/2, all requests share
    /// the first one's connection.
    first: Mutex<()>,
    has_answered: AtomicBool,
}

/// Small files have connections of their own, so that they never wait behind large ones.
struct Clients {
    small: Client,
    large: Client,
}

/// Leave for one request to a server.
pub struct Turn<'a> {
    has_answered: &'a AtomicBool,
    permit: Permit,
    first: Option<MutexGuard<'a, ()>>,
}

impl Turn<'_> {
    /// Whether it is for a small file: then it is the answer that takes its time, and whoever waits for that uses nothing of
    /// this machine.
    #[must_use]
    pub fn is_brief(&self) -> bool {
        self.permit.size() == Size::Small
    }

    /// The server has answered, so that others need not wait for the first one.
    pub(crate) fn answered(&mut self) {
        self.has_answered.store(true, Ordering::Relaxed);
        self.first = None;
    }
}

impl Requests {
    pub(crate) fn new(network: &Arc<Network>, server: CacheServer) -> Self {
        let connections = network.connections();
        Self {
            network: Arc::clone(network),
            has_answered: AtomicBool::new(server.base().scheme() != "https"),
            server,
            clients: OnceCell::new(),
            turns: Turns::new(connections, connections.saturating_sub(connections / LEFT_FOR_SMALL).max(1)),
            first: Mutex::new(()),
        }
    }

    pub(crate) fn server(&self) -> &CacheServer {
        &self.server
    }

    /// Waits for leave to ask for a large file.
    pub(super) async fn large_turn(&self) -> Turn<'_> {
        self.turn_of(Size::Large).await
    }

    /// Waits for leave to ask for a small one.
    pub(crate) async fn turn(&self) -> Turn<'_> {
        self.turn_of(Size::Small).await
    }

    async fn turn_of(&self, size: Size) -> Turn<'_> {
        let first = if self.has_answered.load(Ordering::Relaxed) {
            None
        } else {
            let first = self.first.lock().await;
            (!self.has_answered.load(Ordering::Relaxed)).then_some(first)
        };
        Turn { has_answered: &self.has_answered, permit: self.turns.take(size).await, first }
    }

    /// Downloads a file that fits into memory.
    pub(crate) async fn read(&self, url: &str, limit: usize) -> Result<SmallFile, DownloadError> {
        let download = self.clients().await?.small.download(url)?;
        download.with_patience(self.network.small_patience()).read(limit).await
    }

    /// Begins to download a file of any size.
    pub(crate) async fn body(&self, url: &str) -> Result<Download, DownloadError> {
        Ok(self.clients().await?.large.download(url)?.with_patience(self.network.patience()))
    }

    async fn clients(&self) -> Result<&Clients, DownloadError> {
        let make = || async {
            let small = self.network.client_for(&self.server).await?;
            Ok(Clients { small, large: self.network.client_for(&self.server).await? })
        };
        self.clients.get_or_try_init(make).await
    }
}
