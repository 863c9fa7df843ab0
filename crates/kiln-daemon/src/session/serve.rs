//! One client of the serve protocol, at standard input and output: read a command, do it, answer.
//!
//! The client has been let in by whoever has started this, a server of ssh usually, and has that user's rights: what it brings
//! needs no signatures. There is no log phase. Where a command fails, and that is no answer of its own, the session ends, and
//! why goes to standard error, which the client sees.

mod building;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_build::{BuildMode, BuildRequest, Engine, UserId};
use kiln_protocol::limits::MAX_REQUEST;
use kiln_protocol::serve::handshake::Handshake;
use kiln_protocol::serve::request::{AddToStoreNar, QueryValidPaths};
use kiln_protocol::serve::response::{QueriedInfo, QueriedPathInfos};
use kiln_protocol::serve::{Request, Response, ServeRequest, request};
use kiln_protocol::value::Acknowledged;
use kiln_protocol::{Dialect, MessageReader, Version};
use kiln_settings::Settings;
use kiln_store::{ByteStream, CheckSignatures, Follow, LocalStore};
use kiln_store_path::{DerivedPath, StorePath};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::CHUNK;
use super::connection::{Connection, HangUp, Input};
use super::payload::Payload;
use crate::error::ServeError;
use crate::limits::HANDSHAKE;

/// What a client may do besides reading.
pub struct ServeWriter {
    /// What builds and substitutes for it.
    pub engine: Engine,
    /// The settings that its builds begin from.
    pub settings: Settings,
}

/// A store for one client of the serve protocol (`nix-store --serve`).
pub struct ServedClient {
    store: LocalStore,
    writer: Option<ServeWriter>,
}

/// What a command is answered with.
enum Reply {
    Message(Response),
    /// An archive, or an export stream.
    Stream(ByteStream),
}

impl ServedClient {
    /// A store that the client may read, and with a writer (`--write`) do all that it can.
    #[must_use]
    pub fn new(store: LocalStore, writer: Option<ServeWriter>) -> Self {
        Self { store, writer }
    }

    /// Serves the client at standard input and output to its end. Must be called within the runtime.
    ///
    /// # Errors
    /// A command fails that has no answer for that, or the client doesn't end between two commands.
    pub async fn serve_stdio(self) -> Result<(), ServeError> {
        let Connection { mut input, output, hang_up } = Connection::of_stdio()?;
        let mut output = Output(output);
        let greeting = tokio::time::timeout(HANDSHAKE, shake_hands(&mut input, &mut output));
        let Some(version) = greeting.await.map_err(|_| ServeError::SlowHandshake)?? else { return Ok(()) };
        let dialect = Dialect::new(version, self.store.store_dir().clone());
        let input = Arc::new(Mutex::new(input));
        let mut session = Serving { client: self, dialect, input, hang_up };
        let mut reader = MessageReader::new(MAX_REQUEST);
        while let Some(request) = session.next_request(&mut reader).await? {
            match session.answer(request).await? {
                Reply::Message(response) => {
                    let mut out = Vec::new();
                    response.append(&mut out, &session.dialect)?;
                    output.send(&out).await?;
                }
                Reply::Stream(stream) => output.copy(stream).await?,
            }
        }
        Ok(())
    }
}

/// Agrees on a version; `None` if the client goes away before.
async fn shake_hands(input: &mut Input, output: &mut Output) -> Result<Option<Version>, ServeError> {
    let mut handshake = Handshake::server();
    loop {
        let mut out = Vec::new();
        let step = input.offer(|bytes| handshake.step(bytes, &mut out));
        output.send(&out).await?;
        if let Some(version) = step? {
            return Ok(Some(version));
        }
        if !input.fill(false).await? {
            return Ok(None);
        }
    }
}

/// A client that is being served.
struct Serving {
    client: ServedClient,
    dialect: Dialect,
    input: Arc<Mutex<Input>>,
    hang_up: HangUp,
}

impl Serving {
    /// The next request; `None` if the client has ended the connection.
    async fn next_request(&self, reader: &mut MessageReader) -> Result<Option<Request>, ServeError> {
        loop {
            let (request, is_idle) = {
                let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
                let request = input.offer(|bytes| reader.read::<Request>(&self.dialect, bytes))?;
                (request, reader.is_between_messages())
            };
            if request.is_some() {
                return Ok(request);
            }
            let fill = std::future::poll_fn(|context| {
                self.input.lock().unwrap_or_else(PoisonError::into_inner).poll_fill(context, is_idle)
            });
            match fill.await? {
                true => {}
                false if is_idle => return Ok(None),
                false => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
            }
        }
    }

    async fn answer(&mut self, request: Request) -> Result<Reply, ServeError> {
        use Response as A;
        Ok(Reply::Message(match request {
            Request::QueryValidPaths(asked) => A::QueryValidPaths(self.valid_paths(asked).await?),
            Request::QueryPathInfos(asked) => A::QueryPathInfos(self.path_infos(asked.paths).await?),
            Request::QueryClosure(asked) => {
                let follow = Follow { outputs: asked.include_outputs, ..Follow::REFERENCES };
                let start = asked.paths.into_iter().collect();
                A::QueryClosure(self.client.store.closure(start, follow).await?)
            }
            Request::DumpStorePath(asked) => {
                return Ok(Reply::Stream(self.client.store.read_nar(&asked.path).await?));
            }
            Request::ExportPaths(asked) => {
                return Ok(Reply::Stream(self.client.store.export(asked.paths).await?));
            }
            Request::AddToStoreNar(added) => {
                self.add_nar(added).await?;
                A::AddToStoreNar(Acknowledged)
            }
            Request::ImportPaths(_) => {
                self.writer("importing paths is not allowed")?;
                let stream = Payload::of_command(request::ImportPaths::COMMAND, 0, &self.input);
                let store = &self.client.store;
                store.import_stream(stream.stream(), CheckSignatures::No).await?;
                stream.drain().await?;
                A::ImportPaths(Acknowledged)
            }
            Request::BuildPaths(asked) => A::BuildPaths(self.build_paths(asked).await?),
            Request::BuildDerivation(asked) => A::BuildDerivation(self.build_derivation(asked).await?),
        }))
    }

    /// What changes the store, if this client may do that.
    fn writer(&self, refusal: &'static str) -> Result<&ServeWriter, ServeError> {
        self.client.writer.as_ref().ok_or(ServeError::NotAllowed(refusal))
    }

    /// Those that are valid; with `--write` they are kept as long as the client is here, and what is missing may be substituted
    /// first.
    async fn valid_paths(&self, asked: QueryValidPaths) -> Result<BTreeSet<StorePath>, ServeError> {
        let store = &self.client.store;
        let paths: Vec<StorePath> = asked.paths.into_iter().collect();
        let Some(writer) = &self.client.writer else { return Ok(store.valid_among(paths).await?) };
        if asked.lock {
            store.add_temp_roots(paths.clone()).await?;
        }
        let valid = store.valid_among(paths.clone()).await?;
        if !asked.substitute || valid.len() == paths.len() {
            return Ok(valid);
        }
        let missing = paths.iter().filter(|path| !valid.contains(*path)).cloned();
        let targets = missing.map(DerivedPath::Opaque).collect();
        // That something cannot be had is no failure here.
        writer.engine.build(BuildRequest { targets, mode: BuildMode::Normal, keep_going: true }).await;
        Ok(store.valid_among(paths).await?)
    }

    /// What is known of those that are valid.
    async fn path_infos(&self, paths: BTreeSet<StorePath>) -> Result<QueriedPathInfos, ServeError> {
        let mut infos = self.client.store.path_infos(paths.iter().cloned().collect()).await?;
        let known = paths.into_iter().filter_map(|path| {
            let info = infos.remove(&path)?;
            Some((path, QueriedInfo::from((*info).clone())))
        });
        Ok(QueriedPathInfos(known.collect()))
    }

    async fn add_nar(&self, request: AddToStoreNar) -> Result<(), ServeError> {
        self.writer("importing paths is not allowed")?;
        let info = request.info;
        if info.nar_size == 0 {
            return Err(ServeError::NoSize);
        }
        let payload = Payload::of_command(request::AddToStoreNar::COMMAND, info.nar_size, &self.input);
        self.client.store.add_nar(info, payload.stream(), CheckSignatures::No).await?;
        // Also if it was there already.
        Ok(payload.drain().await?)
    }
}

/// What goes to the client.
struct Output(Box<dyn AsyncWrite + Send + Unpin>);

impl Output {
    async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes).await?;
        self.0.flush().await
    }

    async fn copy(&mut self, mut stream: ByteStream) -> std::io::Result<()> {
        let mut chunk = Vec::with_capacity(CHUNK);
        while stream.read_buf(&mut chunk).await? > 0 {
            self.0.write_all(&chunk).await?;
            chunk.clear();
        }
        self.0.flush().await
    }
}

/// Whose builds those of a client are: this process's.
fn user() -> UserId {
    UserId(rustix::process::getuid().as_raw().into())
}
