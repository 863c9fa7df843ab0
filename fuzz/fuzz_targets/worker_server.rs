//! What a server reads from a client of the worker protocol: no panic, whatever the bytes; nothing depends on how they are cut;
//! and what reads is written so that it reads the same.
#![no_main]

use kiln_protocol::payload::{FrameReader, MultiplePathsReader, NarReader, PulledReader};
use kiln_protocol::value::Trust;
use kiln_protocol::worker::handshake::ServerHandshake;
use kiln_protocol::worker::{Operation, Request, RequestPayload};
use kiln_protocol::{Dialect, MessageReader, append, from_bytes};
use libfuzzer_sys::fuzz_target;

/// How many bytes a server would pull at a time.
const PULLED: u64 = 32768;

enum Payload {
    Frames(FrameReader, Option<Box<MultiplePathsReader>>),
    Nar(NarReader),
    Pulled(PulledReader),
}

/// What is to be read next.
enum State {
    Handshake(Box<ServerHandshake>),
    Request(Dialect),
    Payload(Dialect, Payload),
}

fn payload(operation: Operation, dialect: &Dialect) -> Option<Payload> {
    match operation.payload(dialect.version) {
        RequestPayload::None => None,
        RequestPayload::Framed => {
            let multiple = operation == Operation::AddMultipleToStore;
            Some(Payload::Frames(FrameReader::new(), multiple.then(Box::default)))
        }
        RequestPayload::Nar => Some(Payload::Nar(NarReader::new())),
        RequestPayload::Pulled => Some(Payload::Pulled(PulledReader::new(PULLED))),
    }
}

/// Reads it all; gives what was understood.
fn serve(stream: &[u8], size: usize) -> Vec<String> {
    let mut heard = Vec::new();
    let handshake = ServerHandshake::new("2.34.8", Trust::Trusted);
    let mut state = State::Handshake(Box::new(handshake));
    let mut reader = MessageReader::new(1 << 20);
    for mut piece in stream.chunks(size.max(1)) {
        loop {
            match step(state, &mut reader, &mut piece, &mut heard) {
                Ok((next, true)) => state = next,
                Ok((next, false)) => {
                    assert!(piece.is_empty());
                    state = next;
                    break;
                }
                Err(()) => return heard,
            }
        }
    }
    heard
}

fn step(
    state: State,
    reader: &mut MessageReader,
    input: &mut &[u8],
    heard: &mut Vec<String>,
) -> Result<(State, bool), ()> {
    match state {
        State::Handshake(mut handshake) => match handshake.step(input, &mut Vec::new()) {
            Ok(Some(greeting)) => {
                Ok((State::Request(Dialect::new(greeting.version, Default::default())), true))
            }
            Ok(None) => Ok((State::Handshake(handshake), false)),
            Err(error) => stop(&error, heard),
        },
        State::Request(dialect) => match reader.read::<Request>(&dialect, input) {
            Ok(Some(request)) => {
                check(&request, &dialect);
                heard.push(format!("{request:?}"));
                let next = payload(request.operation(), &dialect);
                Ok((after(dialect, next), true))
            }
            Ok(None) => Ok((State::Request(dialect), false)),
            Err(error) if error.leaves_connection_usable() => {
                heard.push(error.to_string());
                let operation = error.path().first().copied().and_then(Operation::from_name);
                let next = operation.and_then(|operation| payload(operation, &dialect));
                Ok((after(dialect, next), true))
            }
            Err(error) => stop(&error, heard),
        },
        State::Payload(dialect, mut payload) => match take(&mut payload, &dialect, input) {
            Ok(true) => Ok((State::Request(dialect), true)),
            Ok(false) => Ok((State::Payload(dialect, payload), false)),
            Err(error) => stop(&error, heard),
        },
    }
}

fn stop(error: &dyn std::error::Error, heard: &mut Vec<String>) -> Result<(State, bool), ()> {
    heard.push(error.to_string());
    Err(())
}

fn after(dialect: Dialect, payload: Option<Payload>) -> State {
    match payload {
        None => State::Request(dialect),
        Some(payload) => State::Payload(dialect, payload),
    }
}

/// Takes what there is of a payload; `true` at its end.
fn take(
    payload: &mut Payload,
    dialect: &Dialect,
    input: &mut &[u8],
) -> Result<bool, kiln_protocol::PayloadError> {
    match payload {
        Payload::Frames(frames, multiple) => {
            while let Some(mut bytes) = frames.next(input)? {
                // A server takes the rest of the frames after an error too.
                let damaged = multiple.as_mut().is_some_and(|multiple| {
                    loop {
                        match multiple.next(dialect, &mut bytes) {
                            Ok(Some(_)) => {}
                            Ok(None) => return false,
                            Err(_) => return true,
                        }
                    }
                });
                if damaged {
                    *multiple = None;
                }
            }
            Ok(frames.is_complete())
        }
        Payload::Nar(nar) => {
            while nar.next(input)?.is_some() {}
            Ok(nar.is_complete())
        }
        Payload::Pulled(pulled) => {
            while pulled.next(input)?.is_some() {}
            Ok(pulled.is_complete())
        }
    }
}

/// What reads is written so that it reads the same.
fn check(request: &Request, dialect: &Dialect) {
    let mut bytes = Vec::new();
    append(&mut bytes, request, dialect).expect("what was said can be said");
    assert_eq!(from_bytes::<Request>(&bytes, dialect).as_ref(), Ok(request));
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, stream)) = data.split_first() else { return };
    assert_eq!(serve(stream, usize::from(size)), serve(stream, stream.len()));
});
