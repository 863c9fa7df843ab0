//! The worker protocol spoken by hand, for what no client says.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use kiln_testing::Daemon;

/// Numbers of the protocol.
pub(super) fn numbers(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// A string of the protocol.
pub(super) fn string(text: &[u8]) -> Vec<u8> {
    let mut bytes = numbers(&[text.len() as u64]);
    bytes.extend_from_slice(text);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

/// A connection of version 1.`minor` after its handshake.
pub(super) fn connect(daemon: &Daemon, minor: u64) -> UnixStream {
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(300))).unwrap();
    stream.write_all(&numbers(&[0x6e69_7863, 1 << 8 | minor, 0, 0])).unwrap();
    read_until_last(&mut stream);
    stream
}

/// Reads up to the end of a log phase.
pub(super) fn read_until_last(stream: &mut UnixStream) -> Vec<u8> {
    let mut read = Vec::new();
    let mut word = [0; 8];
    while word != 0x616c_7473_u64.to_le_bytes() {
        stream.read_exact(&mut word).unwrap();
        read.extend_from_slice(&word);
    }
    read
}

/// Says something, and hears the daemon out until it closes the connection.
pub(super) fn say(daemon: &Daemon, minor: u64, bytes: &[u8]) -> String {
    String::from_utf8_lossy(&answer(daemon, minor, bytes)).into_owned()
}

/// What the daemon answers until it closes the connection.
pub(super) fn answer(daemon: &Daemon, minor: u64, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(daemon, minor);
    // It may close the connection before it has read all.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}
