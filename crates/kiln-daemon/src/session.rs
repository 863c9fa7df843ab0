//! One connection, from its handshake to its end: read a request, do it, answer.
//!
//! While something is done for a request, its messages are sent as they come, and a client that goes away is noticed: then
//! what was being done is dropped, which cancels it unless somebody else wants it.

mod adding;
mod building;
mod connection;
mod dispatch;
mod exporting;
mod failure;
mod multiple;
mod options;
mod outbox;
mod payload;
mod pulled;
mod queries;
mod read_ahead;
mod roots;
mod serve;
mod upkeep;

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use kiln_build::Engine;
use kiln_events::EventSender;
use kiln_protocol::limits::MAX_REQUEST;
use kiln_protocol::value::Trust as TrustFlag;
use kiln_protocol::worker::handshake::{HandshakeError, ServerHandshake};
use kiln_protocol::worker::{Operation, Request, Response};
use kiln_protocol::{Dialect, Fault, MessageReader, ReadError};
use kiln_settings::Settings;
use kiln_settings::client::Trust;
use kiln_store::{ByteStream, LocalStore};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::daemon::Shared;
use crate::error::Error;
use crate::limits::HANDSHAKE;
use crate::peer::Peer;
use crate::watch::WatchedConnection;

pub(crate) use connection::Connection;
use connection::{HangUp, Input};
use failure::Failure;
use outbox::Outbox;
use payload::Payload;
use read_ahead::ReadAhead;
pub use serve::{ServeWriter, ServedClient};

/// Bytes of a stream that are sent at once.
const CHUNK: usize = 64 << 10;

/// Why a connection ended before its client ended it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("the handshake took too long")]
    SlowHandshake,
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Connection(#[from] io::Error),
    #[error("the client has gone away")]
    HungUp,
    #[error("{0}")]
    Broken(Failure),
    #[error(transparent)]
    Daemon(#[from] Error),
}

/// What requests are answered with.
pub(crate) struct Session {
    shared: Arc<Shared>,
    peer: Peer,
    dialect: Dialect,
    /// With the settings, the listener and the temporary roots of this client.
    engine: Engine,
    settings: Settings,
    outbox: Arc<Outbox>,
    events: EventSender,
    read_ahead: ReadAhead,
    /// What those see who watch, if anybody does.
    watched: Option<WatchedConnection>,
}

/// What a request is answered with.
pub(crate) enum Reply {
    /// A message.
    Response(Response),
    /// A message, and an archive after it.
    Nar(Response, ByteStream),
}

impl Session {
    /// Serves a client to its end.
    ///
    /// # Errors
    /// The connection does not end between two requests.
    pub(crate) async fn run(
        shared: Arc<Shared>,
        peer: Peer,
        connection: Connection,
    ) -> Result<(), SessionError> {
        let Connection { mut input, mut output, hang_up } = connection;
        let nix_version = shared.settings.reported_nix_version.clone();
        let watched = shared.watch.as_ref().map(|watch| watch.connected(&peer));
        let greeting =
            tokio::time::timeout(HANDSHAKE, shake_hands(&mut input, &mut output, &nix_version, peer.trust));
        let Some(version) = greeting.await.map_err(|_| SessionError::SlowHandshake)?? else { return Ok(()) };
        let mut out = Output { stream: output, pending: Vec::new(), sent: 0, hang_up };
        let mut session = match Self::begin(shared, peer, version, watched).await {
            Ok(session) => session,
            Err(error) => {
                // The client is in its log phase, and is told why it cannot be served.
                let outbox = Outbox::new(Dialect::new(version, Default::default()));
                outbox.fail(Failure::new(&error).into_error());
                out.flush(&outbox).await?;
                return Err(error.into());
            }
        };
        session.outbox.finish_without_reply();
        out.flush(&session.outbox).await?;
        let input = Arc::new(Mutex::new(input));
        let mut reader = MessageReader::new(MAX_REQUEST);
        while session.serve_one(&input, &mut reader, &mut out).await? {}
        Ok(())
    }

    /// Reads a request, does it, and answers; `false` if the client has ended the connection instead.
    async fn serve_one(
        &mut self,
        input: &Arc<Mutex<Input>>,
        reader: &mut MessageReader,
        out: &mut Output,
    ) -> Result<bool, SessionError> {
        let request = match next_request(input, reader, &self.dialect).await {
            Ok(None) => return Ok(false),
            Ok(Some(request)) => Ok(request),
            Err(SessionError::Read(error)) => Err(error),
            Err(error) => return Err(error),
        };
        let outbox = Arc::clone(&self.outbox);
        outbox.begin();
        if let Ok(request) = &request {
            if let Some(watched) = &self.watched {
                watched.begin(request.operation().name());
            }
            if let Some(response) = self.answer_at_once(request) {
                return self.reply(out, &outbox, Ok(Reply::Response(response))).await;
            }
        }
        let payload = match &request {
            Ok(request) => Payload::of(request.operation(), input, self),
            Err(error) => operation_of(error)
                .map_or_else(|| Payload::none(input), |operation| Payload::of(operation, input, self)),
        };
        // Boxed: the future of every operation at once would be in each idle connection.
        let work: BoxFuture<'_, Result<Reply, Failure>> = match request {
            Ok(request) => Box::pin(settled(self.answer(request, payload.clone()), payload)),
            Err(error) if error.leaves_connection_usable() => {
                let failure = Failure::of_request(error);
                Box::pin(settled(async { Err(failure) }, payload))
            }
            Err(error) => {
                let failure = Failure::of_request(error).ending_connection();
                Box::pin(async { Err(failure) })
            }
        };
        let result = out.while_working(&outbox, work).await?;
        self.reply(out, &outbox, result).await
    }

    /// Answers; the connection goes on.
    async fn reply(
        &self,
        out: &mut Output,
        outbox: &Outbox,
        result: Result<Reply, Failure>,
    ) -> Result<bool, SessionError> {
        out.answer(outbox, result).await?;
        if let Some(watched) = &self.watched {
            watched.end();
        }
        Ok(true)
    }

    async fn begin(
        shared: Arc<Shared>,
        peer: Peer,
        version: kiln_protocol::Version,
        watched: Option<WatchedConnection>,
    ) -> Result<Self, Error> {
        let engine = shared.store.engine().await?;
        let dialect = Dialect::new(version, engine.store().store_dir().clone());
        let outbox = Arc::new(Outbox::new(dialect.clone()));
        let events = match &watched {
            Some(connection) => shared.events.with_sink(connection.watched().before(Arc::clone(&outbox))),
            None => shared.events.with_sink(Arc::<Outbox>::clone(&outbox)),
        };
        let settings = (*shared.settings).clone();
        let engine = engine.client(&settings, events.clone(), peer.user)?;
        let read_ahead = ReadAhead::default();
        Ok(Self { shared, peer, dialect, engine, settings, outbox, events, read_ahead, watched })
    }

    fn store(&self) -> &LocalStore {
        self.engine.store()
    }

    fn is_trusted(&self) -> bool {
        self.peer.trust == Trust::Trusted
    }

    /// Fails with the words of Nix if the client is not trusted.
    fn require_trust(&self, refusal: &str) -> Result<(), Failure> {
        if self.is_trusted() { Ok(()) } else { Err(Failure::new(refusal)) }
    }
}

/// The operation, and then what is left of its payload: whatever comes of it, the next request begins after that.
async fn settled(
    operation: impl Future<Output = Result<Reply, Failure>>,
    payload: Payload,
) -> Result<Reply, Failure> {
    let result = operation.await;
    match payload.drain().await {
        Ok(()) => result,
        // Nobody knows where the next request begins. What failed before is the better message.
        Err(error) => Err(match result {
            Ok(_) => Failure::new(error),
            Err(failure) => failure,
        }
        .ending_connection()),
    }
}

/// The operation whose fields cannot be read.
fn operation_of(error: &ReadError) -> Option<Operation> {
    let name = error.path().first()?;
    Operation::ALL.iter().copied().find(|operation| operation.name() == *name)
}

/// Agrees on a version; `None` if the client goes away before.
async fn shake_hands(
    input: &mut Input,
    output: &mut (dyn AsyncWrite + Send + Unpin),
    nix_version: &str,
    trust: Trust,
) -> Result<Option<kiln_protocol::Version>, SessionError> {
    let trust = match trust {
        Trust::Trusted => TrustFlag::Trusted,
        Trust::Untrusted => TrustFlag::NotTrusted,
    };
    let mut handshake = ServerHandshake::new(nix_version, trust);
    loop {
        let mut answer = Vec::new();
        let step = input.offer(|bytes| handshake.step(bytes, &mut answer));
        output.write_all(&answer).await?;
        if let Some(greeting) = step? {
            return Ok(Some(greeting.version));
        }
        output.flush().await?;
        if !input.fill(false).await? {
            return Ok(None);
        }
    }
}

/// The next request; `None` if the client has ended the connection.
async fn next_request(
    input: &Mutex<Input>,
    reader: &mut MessageReader,
    dialect: &Dialect,
) -> Result<Option<Request>, SessionError> {
    loop {
        let (request, is_idle) = {
            let mut input = input.lock().unwrap_or_else(PoisonError::into_inner);
            let request = input.offer(|bytes| reader.read::<Request>(dialect, bytes))?;
            (request, reader.is_between_messages())
        };
        if request.is_some() {
            return Ok(request);
        }
        let fill = std::future::poll_fn(|context| {
            input.lock().unwrap_or_else(PoisonError::into_inner).poll_fill(context, is_idle)
        });
        match fill.await {
            Ok(true) => {}
            Ok(false) if is_idle => return Ok(None),
            Ok(false) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Err(error) if is_idle && error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// What goes to the client.
struct Output {
    stream: Box<dyn AsyncWrite + Send + Unpin>,
    pending: Vec<u8>,
    sent: usize,
    hang_up: HangUp,
}

impl Output {
    /// Waits for `work` while sending what is said meanwhile.
    async fn while_working<T>(
        &mut self,
        outbox: &Outbox,
        work: impl Future<Output = T>,
    ) -> Result<T, SessionError> {
        let mut work = pin!(work);
        // Most is done at once.
        if let std::task::Poll::Ready(result) = futures_util::poll!(work.as_mut()) {
            return Ok(result);
        }
        let Self { stream, pending, sent, hang_up } = self;
        let mut hang_up = pin!(hang_up.wait());
        loop {
            if *sent == pending.len() {
                pending.clear();
                *sent = 0;
                outbox.take(pending);
            }
            tokio::select! {
                biased;
                result = &mut work => return Ok(result),
                () = &mut hang_up => return Err(SessionError::HungUp),
                written = stream.write(pending.get(*sent..).unwrap_or_default()), if !pending.is_empty() => {
                    *sent += some(written?)?;
                }
                () = outbox.changed(), if pending.is_empty() => {}
            }
        }
    }

    /// Ends the log phase, and sends what comes after it.
    async fn answer(&mut self, outbox: &Outbox, result: Result<Reply, Failure>) -> Result<(), SessionError> {
        let (response, nar) = match result {
            Ok(Reply::Response(response)) => (response, None),
            Ok(Reply::Nar(response, nar)) => (response, Some(nar)),
            Err(failure) => {
                outbox.fail(failure.clone().into_error());
                self.flush(outbox).await?;
                return if failure.ends_connection() { Err(SessionError::Broken(failure)) } else { Ok(()) };
            }
        };
        if let Err(error) = outbox.finish(&response) {
            outbox.fail(Failure::new(error).into_error());
            return self.flush(outbox).await;
        }
        self.flush(outbox).await?;
        match nar {
            Some(nar) => self.copy(nar).await,
            None => Ok(()),
        }
    }

    /// Sends all that waits.
    async fn flush(&mut self, outbox: &Outbox) -> Result<(), SessionError> {
        self.write_pending().await?;
        outbox.take(&mut self.pending);
        self.write_pending().await?;
        self.stream.flush().await?;
        if self.pending.capacity() > CHUNK {
            self.pending = Vec::new();
        }
        Ok(())
    }

    async fn write_pending(&mut self) -> Result<(), SessionError> {
        while self.sent < self.pending.len() {
            let rest = self.pending.get(self.sent..).unwrap_or_default();
            self.sent += some(self.stream.write(rest).await?)?;
        }
        self.pending.clear();
        self.sent = 0;
        Ok(())
    }

    /// Sends a stream.
    async fn copy(&mut self, mut stream: ByteStream) -> Result<(), SessionError> {
        let mut chunk = Vec::with_capacity(CHUNK);
        while stream.read_buf(&mut chunk).await? > 0 {
            self.stream.write_all(&chunk).await?;
            chunk.clear();
        }
        self.stream.flush().await?;
        Ok(())
    }
}

/// Bytes that were written: none are none for ever.
fn some(written: usize) -> io::Result<usize> {
    if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) }
}

impl Failure {
    /// That of a request that cannot be read.
    fn of_request(error: ReadError) -> Self {
        match error.fault() {
            Fault::Unknown { what: "operation", number } => Self::new(format!("invalid operation {number}")),
            _ => Self::new(error),
        }
    }
}
