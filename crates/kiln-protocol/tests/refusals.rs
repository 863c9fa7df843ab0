//! What is refused, how it is told, and what it costs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use kiln_protocol::limits::{MAX_ELEMENTS, MAX_PATH, MAX_REQUEST};
use kiln_protocol::value::{AddressingMethod, BuildMode};
use kiln_protocol::worker::request::{AddToStore, BuildPaths, IsValidPath, QueryValidPaths};
use kiln_protocol::worker::{LogMessage, Operation, Request, WorkerRequest};
use kiln_protocol::{Dialect, Fault, MessageReader, ReadError, Version, append, from_bytes};
use kiln_store_path::{ContentAddressMethod, DerivedPath, StoreDir};

const PATH: &str = "/nix/store/4gd87ivd2zhmmqkslb944cwpzpz256w1-simple";
const DRV: &str = "/nix/store/4gd87ivd2zhmmqkslb944cwpzpz256w1-simple.drv";

fn worker(minor: u8) -> Dialect {
    Dialect::new(Version::worker(minor), StoreDir::default())
}

/// Numbers and strings as they are sent.
enum Part<'a> {
    N(u64),
    S(&'a str),
}
use Part::{N, S};

fn bytes(parts: &[Part<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        match part {
            N(number) => append(&mut bytes, number, &worker(38)).unwrap(),
            S(string) => append(&mut bytes, &(*string).to_owned(), &worker(38)).unwrap(),
        }
    }
    bytes
}

fn read(minor: u8, message: &[u8]) -> Result<Option<Request>, ReadError> {
    MessageReader::new(MAX_REQUEST).read(&worker(minor), &mut &message[..])
}

fn refused(minor: u8, parts: &[Part<'_>]) -> (String, bool) {
    let error = read(minor, &bytes(parts)).unwrap_err();
    (error.to_string(), error.leaves_connection_usable())
}

#[test]
fn bad_values_name_operation_and_field_and_spoil_nothing_else() {
    let bad = "/nix/store/short";
    for (parts, message) in [
        (&[N(1), S(bad)][..], "IsValidPath, field 'path': 'short' is too short to be a valid store path"),
        (
            &[N(9), N(1), S(bad), N(0)],
            "BuildPaths, field 'paths': 'short' is too short to be a valid store path",
        ),
        (
            &[N(46), N(0), N(7)],
            "BuildPathsWithResults, field 'mode': invalid build mode 7, expected 0, 1 or 2",
        ),
        (
            &[N(7), S("x"), S("text:sha1"), N(0), N(0)],
            "AddToStore, field 'method': texts are hashed with sha256, not with sha1",
        ),
        (
            &[N(7), S("x"), S("sha256"), N(0), N(0)],
            "AddToStore, field 'method': content address method 'sha256' must start with 'text:' or 'fixed:'",
        ),
        (
            &[N(20), N(4), N(0), N(0), N(0), N(0), N(0), N(0)],
            "CollectGarbage, field 'action': invalid action 4, expected 0 to 3",
        ),
    ] {
        let mut message_and_next = bytes(parts);
        assert_eq!(refused(38, parts), (message.to_owned(), true));
        // The next request is read by the same reader.
        message_and_next.extend(bytes(&[N(1), S(PATH)]));
        let mut reader = MessageReader::new(MAX_REQUEST);
        let mut input = message_and_next.as_slice();
        let error = reader.read::<Request>(&worker(38), &mut input).unwrap_err();
        assert!(Operation::from_name(error.path()[0]).is_some());
        let next = reader.read::<Request>(&worker(38), &mut input).unwrap();
        assert!(matches!(next, Some(Request::IsValidPath(_))), "{message}");
    }
}

#[test]
fn what_has_no_known_end_ends_the_conversation() {
    for (parts, message) in [
        (&[N(99)][..], "invalid operation 99".to_owned()),
        (&[N(2)], "invalid operation 2".into()),
        (&[N(24)], "invalid operation 24".into()),
        (&[N(u64::MAX)], format!("invalid operation {}", u64::MAX)),
        (
            &[N(1), N(MAX_PATH as u64 + 1)],
            format!(
                "IsValidPath, field 'path': string of {} bytes is too long, the limit is {MAX_PATH}",
                MAX_PATH + 1
            ),
        ),
        (
            &[N(31), N(MAX_ELEMENTS + 1)],
            format!(
                "QueryValidPaths, field 'paths': list of {} elements is too long, the limit is {MAX_ELEMENTS}",
                MAX_ELEMENTS + 1
            ),
        ),
        (
            &[N(39), S(PATH), S(""), S("x"), N(1), N(u64::MAX)],
            format!(
                "AddToStoreNar, field 'info.unkeyed.references': string of {} bytes is too long, the limit is {MAX_PATH}",
                u64::MAX
            ),
        ),
    ] {
        assert_eq!(refused(38, parts), (message, false));
    }
    let mut padded = bytes(&[N(1), S("abc")]);
    *padded.last_mut().unwrap() = 1;
    let error = read(38, &padded).unwrap_err();
    assert_eq!((error.fault(), error.leaves_connection_usable()), (&Fault::NonZeroPadding, false));
}

#[test]
fn a_whole_message_has_a_limit() {
    let mut reader = MessageReader::new(64);
    let message = bytes(&[N(8), S("name"), N(1000)]);
    let error = reader.read::<Request>(&worker(24), &mut message.as_slice()).unwrap_err();
    assert_eq!(error.fault(), &Fault::MessageTooLong { length: 8 + 16 + 8 + 1000, limit: 64 });
    // Nothing was kept for what has not come.
    assert!(reader.pending() <= message.len());
}

#[test]
fn many_small_pieces_cost_no_more_than_one() {
    // Fifty thousand strings, byte by byte: minutes, if each piece looked at all that came before.
    let dialect = worker(38);
    let count = 50_000;
    let mut message = Vec::new();
    append(&mut message, &vec![Vec::<u8>::new(); count], &dialect).unwrap();
    let mut reader = MessageReader::new(message.len());
    let read = message.iter().map(std::slice::from_ref).find_map(|byte| {
        let mut input = byte;
        reader.read::<Vec<Vec<u8>>>(&dialect, &mut input).unwrap()
    });
    assert_eq!(read.unwrap().len(), count);
    assert!(reader.is_between_messages());
}

#[test]
fn a_derivation_alone_changed_its_meaning_with_1_30() {
    let asked = |minor, text: &str| match read(minor, &bytes(&[N(9), N(1), S(text), N(0)])).unwrap() {
        Some(Request::BuildPaths(mut request)) => request.paths.remove(0),
        other => panic!("{other:?}"),
    };
    let store_dir = StoreDir::default();
    let all = DerivedPath::parse(&store_dir, &format!("{DRV}^*")).unwrap();
    let itself = DerivedPath::Opaque(store_dir.parse(DRV).unwrap());
    assert_eq!((asked(29, DRV), asked(30, DRV)), (all.clone(), itself.clone()));
    assert_eq!(asked(30, &format!("{DRV}!*")), all);
    let dynamic = DerivedPath::parse(&store_dir, &format!("{DRV}^out^bin")).unwrap();
    assert_eq!(asked(38, &format!("{DRV}!out!bin")), dynamic);
    for unsayable in [itself, dynamic] {
        let error = append(&mut Vec::new(), &unsayable, &worker(29)).unwrap_err();
        assert!(error.to_string().contains("too old"), "{error}");
    }
    let long = format!("{DRV}{}", "!out".repeat(1000));
    let (message, usable) = refused(38, &[N(9), N(1), S(&long), N(0)]);
    assert_eq!(
        (message.as_str(), usable),
        ("BuildPaths, field 'paths': more than 64 outputs of outputs", true)
    );
}

#[test]
fn what_an_old_peer_would_not_do_is_not_asked_of_it() {
    let store_dir = StoreDir::default();
    let repair = BuildPaths { paths: Vec::new(), mode: BuildMode::Repair };
    let mut out = b"before".to_vec();
    let error = repair.append(&mut out, &worker(14)).unwrap_err();
    assert_eq!(error.to_string(), "the other end is too old for BuildPaths with 'mode'");
    assert_eq!(out, b"before", "nothing is left of what can't be said");
    assert!(repair.append(&mut out, &worker(15)).is_ok());

    let path = store_dir.parse(PATH).unwrap();
    let text = AddToStore {
        name: "x".parse().unwrap(),
        method: AddressingMethod {
            method: ContentAddressMethod::Text,
            algorithm: kiln_hash::Algorithm::Sha256,
        },
        references: [path.clone()].into(),
        repair: false,
    };
    assert!(text.append(&mut Vec::new(), &worker(24)).is_err());
    assert!(text.append(&mut Vec::new(), &worker(25)).is_ok());

    // What is only a wish is left out.
    let mut out = Vec::new();
    QueryValidPaths { paths: [path].into(), substitute: true }.append(&mut out, &worker(26)).unwrap();
    assert!(matches!(read(26, &out), Ok(Some(Request::QueryValidPaths(request))) if !request.substitute));
}

#[test]
fn messages_are_told_apart_from_what_follows() {
    let dialect = worker(38);
    let message = bytes(&[S(PATH), N(1)]);
    let error = from_bytes::<IsValidPath>(&message, &dialect).unwrap_err();
    assert_eq!(error.fault(), &Fault::Trailing(8));
    let mut input = message.as_slice();
    let read = MessageReader::new(1 << 10).read::<IsValidPath>(&dialect, &mut input);
    assert!(matches!(read, Ok(Some(_))));
    assert_eq!(input.len(), 8);
}

#[test]
fn unknown_log_messages_are_refused() {
    let read = |parts: &[Part<'_>]| {
        MessageReader::new(1 << 20).read::<LogMessage>(&worker(38), &mut bytes(parts).as_slice())
    };
    assert_eq!(read(&[N(5)]).unwrap_err().to_string(), "invalid kind of log message 5");
    let field = read(&[N(0x5253_4c54), N(1), N(101), N(1), N(2)]);
    assert_eq!(field.unwrap_err().fault(), &Fault::Unknown { what: "kind of field", number: 2 });
    let position = read(&[N(0x6378_7470), S("Error"), N(0), S("Error"), S("no"), N(1), N(0)]);
    assert!(position.unwrap_err().leaves_connection_usable());
}
