//! A client of any version, made of the client's side of the protocol.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use kiln_protocol::payload::{NarReader, put_end, put_frame, put_pulled};
use kiln_protocol::worker::handshake::ClientHandshake;
use kiln_protocol::worker::{LogError, LogMessage, Request, RequestPayload, Response};
use kiln_protocol::{Dialect, MessageReader, append};
use kiln_store_path::StoreDir;
use kiln_testing::Daemon;

/// More than any message here has.
const LIMIT: usize = 64 << 20;

/// Bytes in a frame, as real clients make them.
const FRAME: usize = 32 << 10;

/// A connection after its handshake.
pub(super) struct Client {
    stream: UnixStream,
    pub(super) dialect: Dialect,
    /// What has come and was not taken.
    input: Vec<u8>,
}

/// What a request came to.
pub(super) struct Answer {
    /// The reply, or the error that ended the log phase.
    pub(super) result: Result<Response, LogError>,
    /// What the daemon wrote for whoever exports.
    pub(super) exported: Vec<u8>,
    /// The archive after the reply.
    pub(super) nar: Vec<u8>,
    /// Whether the daemon asked for more of the payload when there was nothing left.
    pub(super) asked_too_much: bool,
}

impl Answer {
    pub(super) fn reply(self) -> Response {
        self.result.unwrap_or_else(|error| panic!("{}", error.message.to_str_lossy()))
    }

    /// The message of the failure.
    pub(super) fn error(self) -> String {
        match self.result {
            Ok(reply) => panic!("it went well: {reply:?}"),
            Err(error) => error.message.to_str_lossy().into_owned(),
        }
    }
}

impl Client {
    /// A client of version 1.`minor` of a daemon whose store has its own directory.
    pub(super) fn connect(daemon: &Daemon, minor: u8) -> Self {
        let store_dir = StoreDir::new(daemon.nix().store_dir().to_str().unwrap()).unwrap();
        Self::of_store(daemon, minor, store_dir)
    }

    /// A client of a daemon whose paths begin with something else.
    pub(super) fn of_store(daemon: &Daemon, minor: u8, store_dir: StoreDir) -> Self {
        let stream = UnixStream::connect(daemon.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(300))).unwrap();
        let mut handshake = ClientHandshake::new().offering(minor, Default::default());
        let (mut out, mut dialect) =
            (Vec::new(), Dialect::new(kiln_protocol::Version::worker(minor), store_dir));
        let begun = handshake.step(&mut &[][..], &mut out).unwrap();
        assert!(begun.is_none());
        let mut client = Self { stream, dialect: dialect.clone(), input: Vec::new() };
        let greeting = client.take_answering(|input, out| handshake.step(input, out).unwrap(), out);
        dialect.version = greeting.version;
        client.dialect = dialect;
        let mut messages = MessageReader::new(LIMIT);
        let dialect = client.dialect.clone();
        loop {
            match client.take(|input| messages.read(&dialect, input).unwrap()) {
                LogMessage::Last => return client,
                LogMessage::Error(error) => panic!("{}", error.message.to_str_lossy()),
                _ => {}
            }
        }
    }

    /// Sends a request with what streams after it, and hears all that is answered.
    pub(super) fn ask(&mut self, request: impl Into<Request>, mut payload: &[u8]) -> Answer {
        let request = request.into();
        let dialect = self.dialect.clone();
        let mut out = Vec::new();
        append(&mut out, &request, &dialect).unwrap();
        match request.operation().payload(dialect.version) {
            RequestPayload::Framed => {
                payload.chunks(FRAME).for_each(|chunk| put_frame(&mut out, chunk));
                put_end(&mut out);
            }
            RequestPayload::Nar => out.extend_from_slice(payload),
            RequestPayload::None | RequestPayload::Pulled => {}
        }
        self.stream.write_all(&out).unwrap();
        let (mut exported, mut asked_too_much) = (Vec::new(), false);
        let mut reader = MessageReader::new(LIMIT);
        let result = loop {
            match self.take(|input| reader.read(&dialect, input).unwrap()) {
                LogMessage::Read(length) => {
                    asked_too_much |= payload.is_empty();
                    let (now, later) = payload.split_at(payload.len().min(length as usize));
                    payload = later;
                    let mut answer = Vec::new();
                    put_pulled(&mut answer, now);
                    self.stream.write_all(&answer).unwrap();
                }
                LogMessage::Write(bytes) => exported.extend(bytes),
                LogMessage::Error(error) => break Err(error),
                LogMessage::Last => break Ok(()),
                _ => {}
            }
        };
        let result = result.map(|()| {
            self.take(|input| Response::read(request.operation(), &mut reader, &dialect, input).unwrap())
        });
        let nar =
            if result.is_ok() && request.operation().replies_with_nar() { self.nar() } else { Vec::new() };
        Answer { result, exported, nar, asked_too_much }
    }

    fn nar(&mut self) -> Vec<u8> {
        let (mut reader, mut nar) = (NarReader::new(), Vec::new());
        self.take(|input| {
            while let Some(bytes) = reader.next(input).unwrap() {
                nar.extend_from_slice(bytes);
            }
            reader.is_complete().then_some(())
        });
        nar
    }

    /// Reads until `read` has what it wants.
    fn take<T>(&mut self, mut read: impl FnMut(&mut &[u8]) -> Option<T>) -> T {
        self.take_answering(|input, _| read(input), Vec::new())
    }

    /// The same, and sends what `read` has to say.
    fn take_answering<T>(
        &mut self,
        mut read: impl FnMut(&mut &[u8], &mut Vec<u8>) -> Option<T>,
        mut out: Vec<u8>,
    ) -> T {
        loop {
            let mut rest = self.input.as_slice();
            let taken = read(&mut rest, &mut out);
            let used = self.input.len() - rest.len();
            self.input.drain(..used);
            self.stream.write_all(&out).unwrap();
            out.clear();
            if let Some(taken) = taken {
                return taken;
            }
            let mut chunk = [0; 16 << 10];
            let length = match self.stream.read(&mut chunk) {
                // Reading with a deadline is never taken up again by itself after a signal, nor after a stop.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                length => length.unwrap(),
            };
            assert!(length > 0, "the daemon has closed the connection");
            self.input.extend_from_slice(&chunk[..length]);
        }
    }
}
