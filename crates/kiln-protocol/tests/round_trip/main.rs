//! Whatever can be said is read as it was said: every message, in every version. What is damaged is refused, or something else,
//! but never a panic.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod samples;

use kiln_protocol::{Dialect, MessageReader, Protocol, Version, Wire, append, from_bytes, serve, worker};
use proptest::prelude::*;
use samples::Samples;

fn dialects(protocol: Protocol) -> impl Iterator<Item = Dialect> {
    (protocol.oldest_minor()..=protocol.newest_minor())
        .map(move |minor| Dialect::new(Version { protocol, minor }, Default::default()))
}

/// What is written is read whole, and from pieces; and is written again as the same. `None` if the version can't say it.
fn check<T: Wire + PartialEq + std::fmt::Debug>(value: &T, dialect: &Dialect) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    append(&mut bytes, value, dialect).ok()?;
    let read: T = from_bytes(&bytes, dialect).unwrap();
    if dialect.version == dialect.version.protocol.newest() {
        assert_eq!(&read, value);
    }
    let mut again = Vec::new();
    append(&mut again, &read, dialect).unwrap();
    assert_eq!(again, bytes, "{value:?}");

    let mut reader = MessageReader::new(bytes.len());
    let whole = bytes.iter().map(std::slice::from_ref).find_map(|byte| {
        let mut input = byte;
        reader.read::<T>(dialect, &mut input).unwrap()
    });
    if !bytes.is_empty() {
        assert_eq!(whole, Some(read));
    }
    Some(bytes)
}

/// All operations that `dialect` can't ask for, although nothing about them is new.
fn is_new_in_itself(request: &worker::Request) -> bool {
    matches!(
        request,
        worker::Request::AddToStore(_)
            | worker::Request::BuildPaths(_)
            | worker::Request::BuildPathsWithResults(_)
            | worker::Request::QueryMissing(_)
    )
}

/// Every beginning of a message wants more; and with one bit wrong, it is another message, or wants more, or is refused.
fn damage<T: Wire + PartialEq + std::fmt::Debug>(
    message: &T,
    dialect: &Dialect,
    at: prop::sample::Index,
    bit: u32,
) {
    let Some(bytes) = check(message, dialect) else { return };
    let read = |mut input: &[u8]| {
        let mut reader = MessageReader::new(1 << 20);
        let message = reader.read::<T>(dialect, &mut input);
        assert!(reader.pending() <= bytes.len());
        assert!(message != Ok(None) || input.is_empty());
        message
    };
    for length in 0..bytes.len() {
        assert_eq!(read(&bytes[..length]), Ok(None));
    }
    let mut damaged = bytes.clone();
    damaged[at.index(bytes.len())] ^= 1 << bit;
    match read(&damaged) {
        Ok(Some(other)) => append(&mut Vec::new(), &other, dialect).unwrap(),
        Ok(None) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn worker_messages(seed in any::<u64>()) {
        let mut samples = Samples::new(seed);
        for &operation in worker::Operation::ALL {
            let request = samples.worker_request(operation);
            let response = samples.worker_response(operation);
            prop_assert_eq!((request.operation(), response.operation()), (operation, operation));
            for dialect in dialects(Protocol::Worker) {
                let said = check(&request, &dialect);
                prop_assert!(said.is_some() || is_new_in_itself(&request), "{:?} {}", request, dialect.version);
                let mut bytes = Vec::new();
                if response.append(&mut bytes, &dialect).is_err() {
                    continue;
                }
                let mut input = bytes.as_slice();
                let mut reader = MessageReader::new(bytes.len());
                let read = worker::Response::read(operation, &mut reader, &dialect, &mut input).unwrap().unwrap();
                prop_assert!(input.is_empty());
                let mut again = Vec::new();
                read.append(&mut again, &dialect).unwrap();
                prop_assert_eq!(bytes, again);
                if dialect.version == Protocol::Worker.newest() {
                    prop_assert_eq!(&read, &response);
                }
            }
        }
    }

    #[test]
    fn log_messages(seed in any::<u64>()) {
        let mut samples = Samples::new(seed);
        for kind in 0..8 {
            let message = samples.log_message(kind);
            for dialect in dialects(Protocol::Worker) {
                prop_assert!(check(&message, &dialect).is_some());
            }
        }
    }

    #[test]
    fn serve_messages(seed in any::<u64>()) {
        let mut samples = Samples::new(seed);
        for &command in serve::Command::ALL {
            let request = samples.serve_request(command);
            prop_assert_eq!(request.command(), command);
            for dialect in dialects(Protocol::Serve) {
                prop_assert!(check(&request, &dialect).is_some(), "{:?}", request);
            }
        }
        let infos = samples.queried_path_infos();
        for dialect in dialects(Protocol::Serve) {
            check(&infos, &dialect).unwrap();
        }
    }

    #[test]
    fn damage_is_noticed_or_harmless(
        seed in any::<u64>(), minor in 10u8..=38, at in any::<prop::sample::Index>(), bit in 0u32..8,
    ) {
        let mut samples = Samples::new(seed);
        let dialect = Dialect::new(Version::worker(minor), Default::default());
        for &operation in worker::Operation::ALL {
            damage(&samples.worker_request(operation), &dialect, at, bit);
        }
        for kind in 0..8 {
            damage(&samples.log_message(kind), &dialect, at, bit);
        }
        let dialect = Dialect::new(Protocol::Serve.newest(), Default::default());
        for &command in serve::Command::ALL {
            damage(&samples.serve_request(command), &dialect, at, bit);
        }
        damage(&samples.queried_path_infos(), &dialect, at, bit);
    }

    #[test]
    fn noise_is_survived(noise in prop::collection::vec(any::<u8>(), 0..400), minor in 10u8..=38) {
        let dialect = Dialect::new(Version::worker(minor), Default::default());
        let _ = MessageReader::new(1 << 20).read::<worker::Request>(&dialect, &mut noise.as_slice());
        let _ = MessageReader::new(1 << 20).read::<worker::LogMessage>(&dialect, &mut noise.as_slice());
        for &operation in worker::Operation::ALL {
            let mut reader = MessageReader::new(1 << 20);
            let _ = worker::Response::read(operation, &mut reader, &dialect, &mut noise.as_slice());
        }
    }
}
