//! The handshakes of both protocols: every pair of versions agrees on the lower one, and what is no handshake is refused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use kiln_protocol::value::Trust;
use kiln_protocol::worker::handshake::{ClientHandshake, HandshakeError, ServerHandshake};
use kiln_protocol::{Version, serve, worker};

fn features(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Lets both sides talk until both are done, handing over a byte at a time.
fn agree(client_minor: u8, server_minor: u8) {
    let mut client = ClientHandshake::new().offering(client_minor, features(&["a", "b"]));
    let mut server =
        ServerHandshake::new("2.34.8", Trust::NotTrusted).offering(server_minor, features(&["b", "c"]));
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    let (mut from_client, mut from_server) = (None, None);
    from_server = from_server.or(client.step(&mut &[][..], &mut to_server).unwrap());
    for _ in 0..8 {
        for byte in std::mem::take(&mut to_server) {
            assert_eq!(from_client, None, "nothing comes after the end");
            from_client = server.step(&mut &[byte][..], &mut to_client).unwrap();
        }
        for byte in std::mem::take(&mut to_client) {
            assert_eq!(from_server, None, "nothing comes after the end");
            from_server = client.step(&mut &[byte][..], &mut to_server).unwrap();
        }
    }
    let (from_client, from_server) = (from_client.unwrap(), from_server.unwrap());
    let minor = client_minor.min(server_minor);
    assert_eq!((from_client.version, from_server.version), (Version::worker(minor), Version::worker(minor)));
    let common = if minor >= 38 { features(&["b"]) } else { BTreeSet::new() };
    assert_eq!((&from_client.features, &from_server.features), (&common, &common));
    assert_eq!(from_server.nix_version.is_some(), minor >= 33);
    assert_eq!(from_server.trust, if minor >= 35 { Trust::NotTrusted } else { Trust::Unknown });
}

#[test]
fn every_pair_of_versions_agrees() {
    for client in 10..=38 {
        for server in 10..=38 {
            agree(client, server);
        }
    }
}

fn numbers(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn serve_client(input: &[u8]) -> Result<Option<Version>, HandshakeError> {
    let mut server = ServerHandshake::new("2.34.8", Trust::Trusted);
    let mut out = Vec::new();
    let greeting = server.step(&mut &input[..], &mut out)?;
    Ok(greeting.map(|greeting| greeting.version))
}

#[test]
fn clients_that_are_none_are_refused() {
    let magic = worker::handshake::CLIENT_MAGIC;
    assert!(matches!(serve_client(b"GET / HTTP/1.1\r\n"), Err(HandshakeError::Magic { .. })));
    for (version, text) in [
        (0x109, "the client's protocol version 1.9 is not supported, expected 1.10 or newer"),
        (0x226, "the client's protocol version 2.38 is not supported, expected 1.10 or newer"),
        (0x1_0000_0126, "the client's protocol version 16777217.38 is not supported, expected 1.10 or newer"),
    ] {
        assert_eq!(serve_client(&numbers(&[magic, version])).unwrap_err().to_string(), text);
    }
    // A number of features that is beyond reason.
    assert!(matches!(serve_client(&numbers(&[magic, 0x126, 1 << 40])), Err(HandshakeError::Read(_))));
}

#[test]
fn newer_clients_and_those_with_an_affinity_are_served() {
    let magic = worker::handshake::CLIENT_MAGIC;
    for version in [0x127, 0x1c8] {
        assert_eq!(serve_client(&numbers(&[magic, version, 0, 0, 0])), Ok(Some(Version::worker(38))));
    }
    assert_eq!(serve_client(&numbers(&[magic, 0x115, 1, 3, 0])), Ok(Some(Version::worker(21))));
    assert_eq!(serve_client(&numbers(&[magic, 0x115, 1, 3])), Ok(None));
}

#[test]
fn the_server_answers_the_magic_alone() {
    let mut server = ServerHandshake::new("2.34.8", Trust::Trusted);
    let mut out = Vec::new();
    let magic = numbers(&[worker::handshake::CLIENT_MAGIC]);
    assert_eq!(server.step(&mut magic.as_slice(), &mut out), Ok(None));
    assert_eq!(out, numbers(&[worker::handshake::SERVER_MAGIC, 0x126]));
}

#[test]
fn text_in_place_of_a_daemon_is_shown() {
    let mut client = ClientHandshake::new();
    let error = client.step(&mut &b"Welcome!\n"[..], &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "protocol mismatch: expected the number 0x6478696f, got 'Welcome!'");
}

#[test]
fn serve_versions_agree() {
    use serve::handshake::Handshake;
    for (client_minor, server_minor) in (1..=7).flat_map(|client| (1..=7).map(move |server| (client, server)))
    {
        let (mut client, mut server) =
            (Handshake::client().offering(client_minor), Handshake::server().offering(server_minor));
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        assert_eq!(client.step(&mut &[][..], &mut to_server), Ok(None));
        let version = Version::serve(client_minor.min(server_minor));
        assert_eq!(server.step(&mut to_server.as_slice(), &mut to_client), Ok(Some(version)));
        assert_eq!(client.step(&mut to_client.as_slice(), &mut Vec::new()), Ok(Some(version)));
    }
    let wrong = numbers(&[serve::handshake::CLIENT_MAGIC, 0x107]);
    assert!(Handshake::server().step(&mut wrong.as_slice(), &mut Vec::new()).is_err());
}
