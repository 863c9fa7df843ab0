//! Both sides of a session in the worker protocol.

use kiln_nar::export::{self, ExportEvent, ExportReader};
use kiln_protocol::payload::{FrameReader, MultiplePathsEvent, MultiplePathsReader, NarReader, PulledReader};
use kiln_protocol::payload::{put_end, put_frame, put_pulled};
use kiln_protocol::worker::handshake::{ClientHandshake, ServerHandshake};
use kiln_protocol::worker::{LogMessage, Operation, Request, RequestPayload, Response};
use kiln_protocol::{Dialect, Fault, MessageReader, append};
use kiln_store_path::StoreDir;

use crate::sessions::Session;
use crate::source::Source;

pub(crate) fn check(session: &Session, piece: usize) {
    let mut client = Source::new(&session.from_client, piece);
    let mut server = Source::new(&session.from_server, piece);
    let dialect = handshake(session, &mut client, &mut server);
    let mut conversation = Conversation { dialect, client, server };
    assert!(matches!(conversation.log_phase(), LogMessage::Last), "{}: refused", session.name);
    while !conversation.client.is_at_end() && conversation.operation() {}
    assert!(conversation.server.is_at_end(), "{}: something is left", session.name);
}

/// Lets our two sides read what theirs said, and compares what ours would have said.
fn handshake(session: &Session, client: &mut Source<'_>, server: &mut Source<'_>) -> Dialect {
    let announced = |bytes: &[u8]| bytes[8];
    let mut said = Vec::new();
    let mut our_client = ClientHandshake::new().offering(announced(&session.from_client), Default::default());
    let greeting = server.pump(|input| our_client.step(input, &mut said)).expect("a server's handshake");
    assert!(session.from_client.starts_with(&said), "{}: our client differs", session.name);

    let mut said = Vec::new();
    let nix_version = greeting.nix_version.clone().unwrap_or_default();
    let mut our_server = ServerHandshake::new(nix_version, greeting.trust)
        .offering(announced(&session.from_server), Default::default());
    let client_greeting =
        client.pump(|input| our_server.step(input, &mut said)).expect("a client's handshake");
    assert_eq!(said, server.taken_since(0), "{}: our server differs", session.name);
    assert_eq!(client_greeting.version, greeting.version);
    Dialect::new(greeting.version, StoreDir::default())
}

struct Conversation<'a> {
    dialect: Dialect,
    client: Source<'a>,
    server: Source<'a>,
}

impl Conversation<'_> {
    /// Reads one request and all that belongs to it; `false` if it was for an operation that doesn't exist.
    fn operation(&mut self) -> bool {
        let request: Request = match self.client.message(&self.dialect) {
            Ok(request) => request,
            Err(error) => {
                assert!(matches!(error.fault(), Fault::Unknown { number: 99, .. }), "{error}");
                self.refusal();
                return false;
            }
        };
        let operation = request.operation();
        match operation.payload(self.dialect.version) {
            RequestPayload::None | RequestPayload::Pulled => {}
            RequestPayload::Framed => self.frames(operation),
            RequestPayload::Nar => self.nar_from_client(),
        }
        if let LogMessage::Error(_) = self.log_phase() {
            // What is refused before the log phase is refused twice, and the connection ends. (Where a payload follows, real
            // daemons take that for requests, and refuse those too.)
            while self.client.is_at_end() && !self.server.is_at_end() {
                assert!(matches!(self.log_phase(), LogMessage::Error(_)));
            }
        } else {
            self.reply(operation);
        }
        true
    }

    fn refusal(&mut self) {
        assert!(matches!(self.log_phase(), LogMessage::Error(_)));
        assert!(matches!(self.log_phase(), LogMessage::Error(_)));
        assert!(self.server.is_at_end());
    }

    /// Reads log messages, and what the client answers to some, up to the one that ends the phase.
    fn log_phase(&mut self) -> LogMessage {
        let mut exported = Vec::new();
        loop {
            let message: LogMessage = self.server.message(&self.dialect).expect("a log message");
            assert!(message.is_known_in(self.dialect.version));
            match message {
                LogMessage::Read(length) => self.pulled(length),
                LogMessage::Write(bytes) => exported.extend(bytes),
                message if message.ends_phase() => {
                    check_export(&exported);
                    return message;
                }
                LogMessage::StartActivity(start) => {
                    assert_eq!(start.activity().fields(), start.fields);
                }
                LogMessage::Result(result) => {
                    assert_eq!(result.result().expect("fields of the type").fields(), result.fields);
                }
                _ => {}
            }
        }
    }

    fn reply(&mut self, operation: Operation) {
        let start = self.server.position();
        let mut reader = MessageReader::new(1 << 20);
        let dialect = self.dialect.clone();
        let response = self
            .server
            .pump(|input| Response::read(operation, &mut reader, &dialect, input))
            .expect("a reply");
        assert_eq!(response.operation(), operation);
        let mut written = Vec::new();
        response.append(&mut written, &self.dialect).expect("what was said can be said");
        assert_eq!(written, self.server.taken_since(start), "{response:?}");
        if operation.replies_with_nar() {
            let mut nar = NarReader::new();
            pump_nar(&mut self.server, &mut nar);
        }
    }

    fn nar_from_client(&mut self) {
        pump_nar(&mut self.client, &mut NarReader::new());
    }

    fn pulled(&mut self, length: u64) {
        let start = self.client.position();
        let mut reader = PulledReader::new(length);
        let mut bytes = Vec::new();
        self.client
            .pump(|input| {
                while let Some(part) = reader.next(input)? {
                    bytes.extend_from_slice(part);
                }
                Ok::<_, kiln_protocol::PayloadError>(reader.is_complete().then_some(()))
            })
            .expect("an answer");
        let mut written = Vec::new();
        put_pulled(&mut written, &bytes);
        assert_eq!(written, self.client.taken_since(start));
    }

    fn frames(&mut self, operation: Operation) {
        let start = self.client.position();
        let mut reader = FrameReader::new();
        let mut payload = Vec::new();
        let mut multiple = MultiplePathsReader::new();
        let mut paths = Vec::new();
        let dialect = self.dialect.clone();
        self.client
            .pump(|input| {
                while let Some(part) = reader.next(input)? {
                    payload.extend_from_slice(part);
                    let mut part = part;
                    while operation == Operation::AddMultipleToStore
                        && let Some(event) = multiple.next(&dialect, &mut part)?
                    {
                        write_event(&mut paths, &event, &dialect);
                    }
                }
                Ok::<_, kiln_protocol::PayloadError>(reader.is_complete().then_some(()))
            })
            .expect("frames");
        if operation == Operation::AddMultipleToStore {
            multiple.finish().expect("whole paths");
            assert_eq!(paths, payload);
        }
        let taken = self.client.taken_since(start);
        if taken.len() == payload.len() + 16 {
            // It came in one frame.
            let mut written = Vec::new();
            put_frame(&mut written, &payload);
            put_end(&mut written);
            assert_eq!(written, taken);
        }
    }
}

fn write_event(out: &mut Vec<u8>, event: &MultiplePathsEvent<'_>, dialect: &Dialect) {
    match event {
        MultiplePathsEvent::Count(count) => append(out, count, dialect).unwrap(),
        MultiplePathsEvent::Path(info) => append(out, info.as_ref(), dialect).unwrap(),
        MultiplePathsEvent::Nar(bytes) => out.extend_from_slice(bytes),
        MultiplePathsEvent::EndOfNar => {}
    }
}

fn pump_nar(source: &mut Source<'_>, nar: &mut NarReader) {
    source
        .pump(|input| {
            while nar.next(input)?.is_some() {}
            Ok::<_, kiln_protocol::PayloadError>(nar.is_complete().then_some(()))
        })
        .expect("an archive");
}

/// What ExportPath writes is one item of an export stream, without what stands before and after the items.
fn check_export(item: &[u8]) {
    if item.is_empty() {
        return;
    }
    let mut stream = Vec::new();
    export::put_item_start(&mut stream);
    stream.extend_from_slice(item);
    export::put_end(&mut stream);
    let (mut reader, mut input) = (ExportReader::new(), stream.as_slice());
    let mut events = Vec::new();
    while let Some(event) = reader.next(&mut input).expect("an export stream") {
        events.push(event);
    }
    assert!(matches!(events.as_slice(), [ExportEvent::Item, ExportEvent::Info(_), ExportEvent::End]));
}
