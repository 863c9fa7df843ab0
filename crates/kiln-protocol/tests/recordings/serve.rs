//! Both sides of a session in the serve protocol.

use kiln_nar::export::{ExportEvent, ExportReader};
use kiln_protocol::payload::{NarReader, SizedReader};
use kiln_protocol::serve::handshake::Handshake;
use kiln_protocol::serve::{Command, CommandPayload, Request, Response};
use kiln_protocol::{Dialect, MessageReader};
use kiln_store_path::StoreDir;

use crate::sessions::Session;
use crate::source::Source;

pub(crate) fn check(session: &Session, piece: usize) {
    let mut client = Source::new(&session.from_client, piece);
    let mut server = Source::new(&session.from_server, piece);
    let dialect = handshake(session, &mut client, &mut server);
    while !client.is_at_end() {
        let request: Request = client.message(&dialect).expect("a request");
        let command = request.command();
        match (command.payload(), &request) {
            (CommandPayload::SizedNar, Request::AddToStoreNar(add)) => nar(&mut client, add.info.nar_size),
            (CommandPayload::SizedNar, _) => panic!("only AddToStoreNar has one"),
            (CommandPayload::Import, _) => export(&mut client),
            _ => {}
        }
        reply(&mut server, command, &dialect);
        match command.payload() {
            CommandPayload::NarReply => dump(&mut server),
            CommandPayload::ExportReply => export(&mut server),
            _ => {}
        }
    }
    assert!(server.is_at_end(), "{}: something is left", session.name);
}

fn handshake(session: &Session, client: &mut Source<'_>, server: &mut Source<'_>) -> Dialect {
    let mut said = Vec::new();
    let mut ours = Handshake::client();
    let version = server.pump(|input| ours.step(input, &mut said)).expect("a server's handshake");
    let expected = &session.from_client[..said.len()];
    assert_eq!(said, expected, "{}: our client differs", session.name);
    let mut said = Vec::new();
    let mut ours = Handshake::server();
    assert_eq!(client.pump(|input| ours.step(input, &mut said)), Ok(version));
    assert_eq!(said, server.taken_since(0), "{}: our server differs", session.name);
    Dialect::new(version, StoreDir::default())
}

fn reply(server: &mut Source<'_>, command: Command, dialect: &Dialect) {
    let start = server.position();
    let mut reader = MessageReader::new(1 << 20);
    let response =
        server.pump(|input| Response::read(command, &mut reader, dialect, input)).expect("a reply");
    let mut written = Vec::new();
    response.append(&mut written, dialect).expect("what was said can be said");
    assert_eq!(written, server.taken_since(start), "{response:?}");
}

/// The length that was announced is that of one whole archive.
fn nar(client: &mut Source<'_>, size: u64) {
    let mut bytes = Vec::new();
    let mut reader = SizedReader::new(size);
    client
        .pump(|input| {
            while let Some(part) = reader.next(input) {
                bytes.extend_from_slice(part);
            }
            Ok::<_, ()>(reader.is_complete().then_some(()))
        })
        .unwrap();
    let mut archive = Source::new(&bytes, usize::MAX);
    dump(&mut archive);
    assert!(archive.is_at_end());
}

fn dump(source: &mut Source<'_>) {
    let mut nar = NarReader::new();
    source
        .pump(|input| {
            while nar.next(input)?.is_some() {}
            Ok::<_, kiln_protocol::PayloadError>(nar.is_complete().then_some(()))
        })
        .expect("an archive");
}

fn export(source: &mut Source<'_>) {
    let mut reader = ExportReader::new();
    source
        .pump(|input| {
            Ok::<_, kiln_nar::export::ExportError>(
                matches!(reader.next(input)?, Some(ExportEvent::End)).then_some(()),
            )
        })
        .expect("an export stream");
}
