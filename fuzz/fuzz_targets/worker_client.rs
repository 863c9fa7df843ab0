//! What a client reads from a server of the worker protocol, after the handshake and in answer to any operation: no panic, whatever the
//! bytes; nothing depends on how they are cut; and what reads is written so that it reads the same.
//!
//! The first three bytes say how the rest is cut, the version, and the operation.
#![no_main]

use kiln_protocol::payload::NarReader;
use kiln_protocol::worker::handshake::ClientHandshake;
use kiln_protocol::worker::{LogMessage, Operation, Response};
use kiln_protocol::{Dialect, MessageReader, Version, append, from_bytes};
use libfuzzer_sys::fuzz_target;

enum State {
    Log,
    Reply,
    Nar(NarReader),
}

/// Reads one answer after the other; gives what was understood.
fn listen(stream: &[u8], size: usize, dialect: &Dialect, operation: Operation) -> Vec<String> {
    let mut heard = Vec::new();
    let mut state = State::Log;
    let mut reader = MessageReader::new(1 << 20);
    for mut piece in stream.chunks(size.max(1)) {
        loop {
            // An answer without any bytes would be given for ever.
            if piece.is_empty() {
                break;
            }
            let next = match state {
                State::Log => log_message(&mut reader, dialect, &mut piece, &mut heard),
                State::Reply => reply(operation, &mut reader, dialect, &mut piece, &mut heard),
                State::Nar(nar) => archive(nar, &mut piece),
            };
            match next {
                Ok(next) => state = next,
                Err(error) => {
                    heard.push(error);
                    return heard;
                }
            }
        }
    }
    heard
}

fn log_message(
    reader: &mut MessageReader,
    dialect: &Dialect,
    input: &mut &[u8],
    heard: &mut Vec<String>,
) -> Result<State, String> {
    let Some(message) = reader.read::<LogMessage>(dialect, input).map_err(|error| error.to_string())? else {
        return Ok(State::Log);
    };
    let mut bytes = Vec::new();
    append(&mut bytes, &message, dialect).expect("what was said can be said");
    assert_eq!(from_bytes::<LogMessage>(&bytes, dialect).as_ref(), Ok(&message));
    heard.push(format!("{message:?}"));
    let is_last = message == LogMessage::Last;
    if let Some(event) = message.into_event() {
        heard.push(format!("{event:?}"));
    }
    Ok(if is_last { State::Reply } else { State::Log })
}

fn reply(
    operation: Operation,
    reader: &mut MessageReader,
    dialect: &Dialect,
    input: &mut &[u8],
    heard: &mut Vec<String>,
) -> Result<State, String> {
    let Some(response) =
        Response::read(operation, reader, dialect, input).map_err(|error| error.to_string())?
    else {
        return Ok(State::Reply);
    };
    let mut bytes = Vec::new();
    response.append(&mut bytes, dialect).expect("what was said can be said");
    let again = Response::read(operation, &mut MessageReader::new(1 << 21), dialect, &mut bytes.as_slice());
    assert_eq!(again, Ok(Some(response.clone())));
    heard.push(format!("{response:?}"));
    Ok(if operation.replies_with_nar() { State::Nar(NarReader::new()) } else { State::Log })
}

fn archive(mut nar: NarReader, input: &mut &[u8]) -> Result<State, String> {
    while nar.next(input).map_err(|error| error.to_string())?.is_some() {}
    Ok(if nar.is_complete() { State::Log } else { State::Nar(nar) })
}

fuzz_target!(|data: &[u8]| {
    let [size, minor, operation, stream @ ..] = data else { return };
    let dialect = Dialect::new(Version::worker(10 + minor % 29), Default::default());
    let operation = Operation::ALL[usize::from(*operation) % Operation::ALL.len()];
    let whole = listen(stream, stream.len(), &dialect, operation);
    assert_eq!(listen(stream, usize::from(*size), &dialect, operation), whole);
    let _ = ClientHandshake::new().step(&mut &stream[..], &mut Vec::new());
});
