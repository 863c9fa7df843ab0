//! A daemon that says what a test wants it to say.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use kiln_events::{CollectingSink, EventSender};
use kiln_protocol::payload::{FrameReader, NarReader, PulledReader};
use kiln_protocol::value::Trust;
use kiln_protocol::worker::handshake::ServerHandshake;
use kiln_protocol::worker::request::SetOptions;
use kiln_protocol::worker::{LogMessage, Operation, Request, RequestPayload};
use kiln_protocol::{Dialect, MessageReader, Version, Wire, append};
use kiln_remote::{DaemonAddress, RemoteStore};
use kiln_store_path::{StoreDir, StorePath};
use tempfile::TempDir;

/// One connection, from the daemon's side.
pub(crate) struct Conversation {
    stream: UnixStream,
    buffer: Vec<u8>,
    pub(crate) dialect: Dialect,
}

impl Conversation {
    fn begin(stream: UnixStream, minor: u8) -> Self {
        let dialect = Dialect::new(Version::worker(minor), StoreDir::default());
        let mut conversation = Self { stream, buffer: Vec::new(), dialect };
        let mut handshake = ServerHandshake::new("2.8.0", Trust::Trusted).offering(minor, Default::default());
        loop {
            let mut out = Vec::new();
            let mut input = &conversation.buffer[..];
            let step = handshake.step(&mut input, &mut out).unwrap();
            conversation.buffer = input.to_vec();
            conversation.send(&out);
            match step {
                Some(greeting) => {
                    conversation.dialect.version = greeting.version;
                    conversation.say(&LogMessage::Last);
                    return conversation;
                }
                None => assert!(conversation.fill()),
            }
        }
    }

    fn fill(&mut self) -> bool {
        let mut chunk = [0; 4096];
        let length = self.stream.read(&mut chunk).unwrap_or(0);
        self.buffer.extend_from_slice(&chunk[..length]);
        length > 0
    }

    fn request(&mut self) -> Option<Request> {
        let mut reader = MessageReader::new(1 << 20);
        loop {
            let mut input = &self.buffer[..];
            let request = reader.read::<Request>(&self.dialect, &mut input).unwrap();
            self.buffer = input.to_vec();
            if request.is_some() {
                return request;
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// Sends bytes; that the client has had enough is no failure of the test.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    pub(crate) fn say<T: Wire>(&mut self, message: &T) {
        let mut out = Vec::new();
        append(&mut out, message, &self.dialect).unwrap();
        self.send(&out);
    }

    /// What streams after a request, in the framing of the version.
    pub(crate) fn payload(&mut self, operation: Operation) -> Vec<u8> {
        match operation.payload(self.dialect.version) {
            RequestPayload::None => Vec::new(),
            RequestPayload::Framed => {
                let mut reader = FrameReader::new();
                self.take(move |input, taken| {
                    while let Some(bytes) = reader.next(input).unwrap() {
                        taken.extend_from_slice(bytes);
                    }
                    reader.is_complete()
                })
            }
            RequestPayload::Nar => {
                let mut reader = NarReader::new();
                self.take(move |input, taken| {
                    while let Some(bytes) = reader.next(input).unwrap() {
                        taken.extend_from_slice(bytes);
                    }
                    reader.is_complete()
                })
            }
            RequestPayload::Pulled => {
                let mut all = Vec::new();
                loop {
                    self.say(&LogMessage::Read(100));
                    let mut reader = PulledReader::new(100);
                    let piece = self.take(|input, taken| {
                        while let Some(bytes) = reader.next(input).unwrap() {
                            taken.extend_from_slice(bytes);
                        }
                        reader.is_complete()
                    });
                    if piece.is_empty() {
                        return all;
                    }
                    all.extend(piece);
                }
            }
        }
    }

    fn take(&mut self, mut step: impl FnMut(&mut &[u8], &mut Vec<u8>) -> bool) -> Vec<u8> {
        let mut taken = Vec::new();
        loop {
            let mut input = &self.buffer[..];
            let is_complete = step(&mut input, &mut taken);
            self.buffer = input.to_vec();
            if is_complete {
                return taken;
            }
            assert!(self.fill(), "the payload breaks off");
        }
    }
}

/// A store behind such a daemon.
pub(crate) struct MadeUp {
    pub(crate) store: RemoteStore,
    pub(crate) sink: Arc<CollectingSink>,
    connections: Arc<AtomicUsize>,
    _directory: TempDir,
}

impl MadeUp {
    /// A daemon of this minor version that takes options, and answers all other requests by `answer`; when that says `false`,
    /// it closes the connection.
    pub(crate) fn new(
        minor: u8,
        answer: impl Fn(&mut Conversation, Request) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::accepting(move |stream| {
            let mut conversation = Conversation::begin(stream, minor);
            while let Some(request) = conversation.request() {
                let goes_on = match request {
                    Request::SetOptions(_) => {
                        conversation.say(&LogMessage::Last);
                        true
                    }
                    request => answer(&mut conversation, request),
                };
                if !goes_on {
                    return;
                }
            }
        })
    }

    /// Something that does this with each connection.
    pub(crate) fn accepting(serve: impl Fn(UnixStream) + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket: PathBuf = directory.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let serve = Arc::new(serve);
        // The threads end with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                counted.fetch_add(1, Ordering::Relaxed);
                let serve = Arc::clone(&serve);
                let stream = stream.unwrap();
                thread::spawn(move || serve(stream));
            }
        });
        let address = DaemonAddress::new(&socket, &Default::default(), StoreDir::default()).unwrap();
        let sink = Arc::new(CollectingSink::new());
        let store = RemoteStore::new(address, SetOptions::default(), EventSender::new(sink.clone()));
        Self { store, sink, connections, _directory: directory }
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

pub(crate) fn path(name: &str) -> StorePath {
    StorePath::from_base_name(format!("4gd87ivd2zhmmqkslb944cwpzpz256w1-{name}").as_bytes()).unwrap()
}

/// The archive of a file with these contents.
pub(crate) fn archive(contents: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut put = |string: &[u8]| {
        archive.extend_from_slice(&(string.len() as u64).to_le_bytes());
        archive.extend_from_slice(string);
        archive.resize(archive.len().next_multiple_of(8), 0);
    };
    for string in [&b"nix-archive-1"[..], b"(", b"type", b"regular", b"contents", contents, b")"] {
        put(string);
    }
    archive
}
