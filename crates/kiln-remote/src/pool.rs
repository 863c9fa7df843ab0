//! The connections to one daemon: as many at once as its address says, kept for the next operation if they can be used again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kiln_protocol::Protocol;
use kiln_protocol::serve::ServeRequest;
use kiln_protocol::worker::WorkerRequest;
use kiln_protocol::worker::request::SetOptions;
use tokio::io::AsyncRead;
use tokio::sync::mpsc::Sender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::address::DaemonAddress;
use crate::connection::{Connection, Told};
use crate::error::{Error, Fault, Result};

/// The connections to one daemon.
pub(crate) struct Pool {
    pub(crate) address: DaemonAddress,
    options: Option<SetOptions>,
    /// Who gets what builders say beside the protocol.
    output: Option<Sender<Bytes>>,
    slots: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    pub(crate) fn new(
        address: DaemonAddress,
        options: Option<SetOptions>,
        output: Option<Sender<Bytes>>,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(address.max_connections));
        Self { address, options, output, slots, idle: Mutex::default() }
    }

    /// Closes the connections that nobody uses, in good order.
    pub(crate) async fn close_idle(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        for connection in idle {
            connection.close().await;
        }
    }

    /// A connection for one operation, when one is free. `patience` is for questions.
    pub(crate) async fn lease(self: &Arc<Self>, told: Told<'_>, patience: Duration) -> Result<Lease> {
        // It is never closed.
        let permit = Arc::clone(&self.slots).acquire_owned().await.ok();
        let connection = match self.idle_connection() {
            Some(connection) => connection,
            None => self.open(told).await?,
        };
        Ok(Lease { connection: Some(connection), pool: Arc::clone(self), patience, _permit: permit })
    }

    /// A connection that doesn't count, and is nobody else's.
    pub(crate) async fn open(&self, told: Told<'_>) -> Result<Connection> {
        Connection::open(&self.address, self.options.as_ref(), self.output.as_ref(), told).await
    }

    /// One that is still good: a daemon that was started anew has closed them all.
    fn idle_connection(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(mut connection) = idle.pop() {
            if connection.is_usable() {
                return Some(connection);
            }
        }
        None
    }
}

/// A connection that somebody has for one operation.
pub(crate) struct Lease {
    /// There until the end.
    connection: Option<Connection>,
    pool: Arc<Pool>,
    patience: Duration,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Lease {
    /// The connection.
    pub(crate) fn connection(&mut self) -> Result<&mut Connection> {
        let gone = || Error::of(Fault::Nonsense("its connection is gone".to_owned()), "", "nothing");
        self.connection.as_mut().ok_or_else(gone)
    }

    /// A request that takes as long as it takes.
    pub(crate) async fn call<R: WorkerRequest>(
        &mut self,
        request: &R,
        told: Told<'_>,
    ) -> Result<R::Response> {
        let called = self.connection()?.call(request, told).await;
        self.ended(called, R::OPERATION.name()).await
    }

    /// A request whose answer a daemon has at hand.
    pub(crate) async fn ask<R: WorkerRequest>(&mut self, request: &R, told: Told<'_>) -> Result<R::Response> {
        let patience = self.patience;
        let asked = timeout(patience, self.connection()?.call(request, told)).await;
        self.ended(asked.unwrap_or(Err(Fault::Silent(patience))), R::OPERATION.name()).await
    }

    /// Requests whose replies say nothing.
    pub(crate) async fn call_each<R: WorkerRequest>(&mut self, requests: &[R], told: Told<'_>) -> Result<()> {
        let called = self.connection()?.call_each(requests, told).await;
        self.ended(called, R::OPERATION.name()).await
    }

    /// A request with what streams after it.
    pub(crate) async fn call_with<R: WorkerRequest>(
        &mut self,
        request: &R,
        source: &mut (dyn AsyncRead + Send + Unpin),
        told: Told<'_>,
    ) -> Result<R::Response> {
        let called = self.connection()?.call_with(request, source, told).await;
        self.ended(called, R::OPERATION.name()).await
    }

    /// Whether the serve protocol is spoken, which has commands instead of requests.
    pub(crate) fn has_commands(&mut self) -> Result<bool> {
        Ok(self.connection()?.version().protocol == Protocol::Serve)
    }

    /// A command that takes as long as it takes.
    pub(crate) async fn command<R: ServeRequest>(&mut self, request: &R) -> Result<R::Response> {
        let called = self.connection()?.command(request).await;
        self.ended(called, R::COMMAND.name()).await
    }

    /// A command whose reply is at hand there.
    pub(crate) async fn ask_command<R: ServeRequest>(&mut self, request: &R) -> Result<R::Response> {
        let patience = self.patience;
        let asked = timeout(patience, self.connection()?.command(request)).await;
        self.ended(asked.unwrap_or(Err(Fault::Silent(patience))), R::COMMAND.name()).await
    }

    /// A command with the `size` bytes that come after it.
    pub(crate) async fn command_with<R: ServeRequest>(
        &mut self,
        request: &R,
        source: &mut (dyn AsyncRead + Send + Unpin),
        size: u64,
    ) -> Result<R::Response> {
        let called = self.connection()?.command_with(request, source, size).await;
        self.ended(called, R::COMMAND.name()).await
    }

    /// What came of a request, with all that is known of why it failed.
    async fn ended<T>(&mut self, called: Result<T, Fault>, operation: &'static str) -> Result<T> {
        match called {
            Ok(reply) => Ok(reply),
            Err(fault) => Err(self.error(fault, operation).await),
        }
    }

    /// What went wrong, with the daemon's name and what has been said there.
    pub(crate) async fn error(&mut self, fault: Fault, operation: &'static str) -> Error {
        let fault = match &mut self.connection {
            Some(connection) => connection.explain(fault).await,
            None => fault,
        };
        Error::of(fault, &self.pool.address.name, operation)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(mut connection) = self.connection.take()
            && connection.is_usable()
        {
            self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }
}
