//! What a daemon lets its clients do with its store.

mod adding;
mod building;
mod queries;
mod roots;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kiln_events::{ActivityId, EventSender};
use kiln_protocol::value::Trust;
use kiln_protocol::worker::WorkerRequest;
use kiln_protocol::worker::request::SetOptions;
use kiln_protocol::{Protocol, Version};
use kiln_settings::SshProtocol;
use kiln_store_path::{StoreDir, StorePath};
use tokio::sync::Mutex;
use tokio::sync::mpsc::Sender;

use crate::address::{DaemonAddress, DaemonPlace};
use crate::connection::{Connection, Told};
use crate::error::{Error, Result};
use crate::limits::QUESTION;
use crate::pool::{Lease, Pool};

pub use adding::NewObject;
pub use building::Built;

/// What a daemon says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonGreeting {
    /// The version of the worker protocol that is spoken with it.
    pub version: Version,
    /// Its Nix version. From 1.33 on.
    pub nix_version: Option<String>,
    /// Whether it trusts this client. From 1.35 on.
    pub trust: Trust,
}

/// A store behind a daemon. Cheap to clone.
#[derive(Clone)]
pub struct RemoteStore {
    pool: Arc<Pool>,
    /// A connection that holds temporary roots for as long as this value lives.
    roots: Arc<Mutex<Option<Connection>>>,
    events: EventSender,
    parent: ActivityId,
    patience: Duration,
}

impl RemoteStore {
    /// The store of a daemon, which is connected to when something is wanted of it. `options` are what this client wishes, for all
    /// that it has done; `events` get what the daemon tells.
    #[must_use]
    pub fn new(address: DaemonAddress, options: SetOptions, events: EventSender) -> Self {
        Self::of_pool(Pool::new(address, Some(options), None), events)
    }

    /// The store of another machine, which does as that machine's settings say. `output` gets what builders say there that is
    /// no part of the protocol, as with `ssh://`. They wait while it is full.
    #[must_use]
    pub fn with_output(address: DaemonAddress, events: EventSender, output: Sender<Bytes>) -> Self {
        Self::of_pool(Pool::new(address, None, Some(output)), events)
    }

    fn of_pool(pool: Pool, events: EventSender) -> Self {
        let pool = Arc::new(pool);
        Self { pool, roots: Arc::default(), events, parent: ActivityId::NONE, patience: QUESTION }
    }

    /// The same store with somebody else who is told what the daemon tells, as a part of `parent`.
    #[must_use]
    pub fn telling(&self, events: EventSender, parent: ActivityId) -> Self {
        Self { events, parent, ..self.clone() }
    }

    /// The same store with another limit for how long a question may take.
    #[must_use]
    pub fn with_patience(&self, patience: Duration) -> Self {
        Self { patience, ..self.clone() }
    }

    /// Where the daemon is, and what its URL says.
    #[must_use]
    pub fn address(&self) -> &DaemonAddress {
        &self.pool.address
    }

    /// The daemon's URL, for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.pool.address.name
    }

    /// What paths of the store begin with.
    #[must_use]
    pub fn store_dir(&self) -> &StoreDir {
        &self.pool.address.store_dir
    }

    /// A full path as text.
    #[must_use]
    pub fn print(&self, path: &StorePath) -> String {
        self.store_dir().print(path)
    }

    /// What the daemon says of itself.
    ///
    /// # Errors
    /// It is not there, or can't be talked to.
    pub async fn greeting(&self) -> Result<DaemonGreeting> {
        let mut lease = self.lease().await?;
        let greeting = lease.connection()?.greeting();
        let nix_version =
            greeting.nix_version.as_ref().map(|version| kiln_events::quoted(version.as_bytes()));
        Ok(DaemonGreeting { version: greeting.version, nix_version, trust: greeting.trust })
    }

    /// Whether it is reached by the serve protocol.
    fn is_served(&self) -> bool {
        matches!(&self.pool.address.place, DaemonPlace::Ssh { machine, .. } if machine.protocol == SshProtocol::Serve)
    }

    /// Closes its connections in good order, and waits until all has come that was said there; what is under way is left alone.
    pub async fn close(&self) {
        if let Some(connection) = self.roots.lock().await.take() {
            connection.close().await;
        }
        self.pool.close_idle().await;
    }

    fn told(&self) -> Told<'_> {
        Told { events: &self.events, parent: self.parent }
    }

    async fn lease(&self) -> Result<Lease> {
        self.pool.lease(self.told(), self.patience).await
    }

    /// Asks for what the daemon has at hand.
    async fn ask<R: WorkerRequest>(&self, request: &R) -> Result<R::Response> {
        self.lease().await?.ask(request, self.told()).await
    }

    /// Asks for something that may take any time.
    async fn call<R: WorkerRequest>(&self, request: &R) -> Result<R::Response> {
        self.lease().await?.call(request, self.told()).await
    }

    /// A connection, if the daemon's version has what is wanted.
    async fn lease_since(&self, minor: u8, what: &str) -> Result<Lease> {
        let mut lease = self.lease().await?;
        self.expect_since(&mut lease, minor, what)?;
        Ok(lease)
    }

    fn expect_since(&self, lease: &mut Lease, minor: u8, what: &str) -> Result<()> {
        let version = lease.connection()?.version();
        let reason = match version.protocol {
            Protocol::Worker if version.minor >= minor => return Ok(()),
            Protocol::Worker => format!(
                "it speaks version {version} of the worker protocol, and {what} needs 1.{minor} or newer"
            ),
            Protocol::Serve => {
                format!("the protocol of 'ssh://' has no way of {what}; that of 'ssh-ng://' has")
            }
        };
        Err(Error::TooOld { daemon: self.name().to_owned(), reason })
    }

    /// An answer that makes no sense.
    fn nonsense(&self, operation: &'static str, reason: String) -> Error {
        Error::Nonsense { daemon: self.name().to_owned(), operation, reason }
    }
}
