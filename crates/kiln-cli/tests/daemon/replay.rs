//! Recorded sessions of real Nix, whose clients ask Kiln's daemon again: it answers what their own daemon answered.
//!
//! The paths in the recordings begin with `/nix/store`, which is what the store's files are called here too, wherever they
//! lie. Sessions find in the store what those before them have left, as they did when they were recorded.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use kiln_protocol::payload::{FrameReader, NarReader, PulledReader};
use kiln_protocol::value::RealisedBuildResult;
use kiln_protocol::worker::handshake::{ClientHandshake, ServerHandshake};
use kiln_protocol::worker::response::AddedPath;
use kiln_protocol::worker::{LogError, LogMessage, Request, RequestPayload, Response};
use kiln_protocol::{Dialect, MessageReader};
use kiln_store_path::StoreDir;
use kiln_testing::Daemon;

use super::KILN;
use super::client::Client;

/// The sessions that make what others ask for, in this order; the others come after them in the order of their names.
const FIRST: [&str; 7] =
    ["instantiate", "build-dry", "build", "build-again", "n-build", "ng-copy", "ng-build"];

/// The sessions that change what others look at, and those that delete, which come last.
const LAST: [&str; 5] = ["n-store-sign", "n-store-mca", "n-store-mca-2", "delete-alive", "delete"];

/// Sessions that found what an earlier run of the same command had left, which was not recorded.
const AGAIN: [&str; 3] = ["build-badfod", "build-check", "build-keepgoing"];

/// Client and daemon of the same release, on a socket.
const USUAL: &[u8] = include_bytes!("../../../kiln-protocol/tests/data/worker.nar");

/// More than any message has.
const LIMIT: usize = 64 << 20;

/// How long roots may be held at most when nobody needs them: a daemon that hangs does so for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// One request of a recording.
struct Step {
    request: Request,
    payload: Vec<u8>,
    /// The reply, without what differs from one run to the next; `None` for an error.
    answer: Option<Response>,
}

/// One direction of a recorded connection.
struct Recorded {
    bytes: Vec<u8>,
    used: usize,
}

impl Recorded {
    fn take<T>(&mut self, read: impl FnOnce(&mut &[u8]) -> Option<T>) -> T {
        let mut rest = &self.bytes[self.used..];
        let taken = read(&mut rest);
        self.used = self.bytes.len() - rest.len();
        taken.unwrap()
    }

    fn is_at_end(&self) -> bool {
        self.used == self.bytes.len()
    }
}

/// All that was asked in a session and can be read, and its version.
fn steps(directory: &Path, name: &str) -> (u8, Vec<Step>) {
    let recorded = |suffix| {
        let bytes = fs::read(directory.join(format!("{name}.{suffix}"))).unwrap();
        Recorded { bytes, used: 0 }
    };
    let (mut client, mut server) = (recorded("c2s"), recorded("s2c"));
    let (mut ours, announced) = (ClientHandshake::new(), client.bytes[8]);
    ours = ours.offering(announced, Default::default());
    let greeting = server.take(|input| ours.step(input, &mut Vec::new()).unwrap());
    let mut ours =
        ServerHandshake::new("", greeting.trust).offering(greeting.version.minor, Default::default());
    client.take(|input| ours.step(input, &mut Vec::new()).unwrap());
    let dialect = Dialect::new(greeting.version, StoreDir::default());
    let mut messages = MessageReader::new(LIMIT);
    while !server.take(|input| messages.read::<LogMessage>(&dialect, input).unwrap()).ends_phase() {}
    let mut steps = Vec::new();
    while !client.is_at_end() {
        let Ok(request) = client.request(&dialect) else { break };
        let mut payload = client.payload(&request, &dialect);
        let answer = loop {
            match server.take(|input| messages.read::<LogMessage>(&dialect, input).unwrap()) {
                LogMessage::Read(length) => payload.extend(client.pulled(length)),
                LogMessage::Error(_) => break None,
                LogMessage::Last => {
                    let operation = request.operation();
                    let read = |input: &mut &[u8]| {
                        Response::read(operation, &mut messages, &dialect, input).unwrap()
                    };
                    break Some(server.take(read));
                }
                _ => {}
            }
        };
        if answer.is_some() && request.operation().replies_with_nar() {
            server.nar();
        }
        steps.push(Step { request, payload, answer: answer.map(essence) });
    }
    (greeting.version.minor, steps)
}

impl Recorded {
    fn request(&mut self, dialect: &Dialect) -> Result<Request, kiln_protocol::ReadError> {
        let mut rest = &self.bytes[self.used..];
        let request = MessageReader::new(LIMIT).read(dialect, &mut rest)?;
        self.used = self.bytes.len() - rest.len();
        Ok(request.unwrap())
    }

    fn payload(&mut self, request: &Request, dialect: &Dialect) -> Vec<u8> {
        match request.operation().payload(dialect.version) {
            RequestPayload::None | RequestPayload::Pulled => Vec::new(),
            RequestPayload::Nar => self.nar(),
            RequestPayload::Framed => {
                let (mut reader, mut payload) = (FrameReader::new(), Vec::new());
                self.take(|input| {
                    while let Some(part) = reader.next(input).unwrap() {
                        payload.extend_from_slice(part);
                    }
                    reader.is_complete().then_some(payload)
                })
            }
        }
    }

    fn nar(&mut self) -> Vec<u8> {
        let (mut reader, mut nar) = (NarReader::new(), Vec::new());
        self.take(|input| {
            while let Some(part) = reader.next(input).unwrap() {
                nar.extend_from_slice(part);
            }
            reader.is_complete().then_some(nar)
        })
    }

    fn pulled(&mut self, length: u64) -> Vec<u8> {
        let (mut reader, mut answer) = (PulledReader::new(length), Vec::new());
        self.take(|input| {
            while let Some(part) = reader.next(input).unwrap() {
                answer.extend_from_slice(part);
            }
            reader.is_complete().then_some(answer)
        })
    }
}

/// A reply without times, sizes on the disk, words of errors and links of roots, and with lists in order.
fn essence(mut response: Response) -> Response {
    let calm = |result: &mut RealisedBuildResult| {
        (result.start_time, result.stop_time, result.cpu_user, result.cpu_system) = (0, 0, None, None);
        result.times_built = 0;
        result.error_message = "".into();
    };
    match &mut response {
        Response::AddToStore(AddedPath::Info(info)) => info.registration_time = 0,
        Response::QueryPathInfo(info) => {
            if let Some(info) = &mut info.0 {
                info.registration_time = 0;
            }
        }
        Response::BuildPathsWithResults(results) => {
            results.iter_mut().for_each(|keyed| calm(&mut keyed.result))
        }
        Response::BuildDerivation(result) => calm(result),
        Response::CollectGarbage(collected) => {
            collected.bytes_freed = 0;
            collected.paths.sort();
        }
        Response::FindRoots(roots) => {
            roots.iter_mut().for_each(|root| root.0.clear());
            roots.sort();
            roots.dedup();
        }
        _ => {}
    }
    response
}

/// The names of the sessions in a directory, in the order in which they have to be asked.
fn names(directory: &Path) -> Vec<String> {
    let files =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        files.filter_map(|name| name.strip_suffix(".c2s").map(str::to_owned)).collect();
    let rank = |name: &String| {
        let among = |names: &[&str]| names.iter().position(|listed| listed == name);
        match (among(&FIRST), among(&LAST)) {
            (Some(at), _) => (0, at),
            (None, None) => (1, 0),
            (None, Some(at)) => (2, at),
        }
    };
    names.sort_by_key(|name| (rank(name), name.clone()));
    names
}

/// Unpacks recordings, and says where.
fn unpack(daemon: &Daemon, name: &str, archive: &[u8]) -> PathBuf {
    let file = daemon.write(&format!("{name}.nar"), archive);
    let directory = daemon.path(name);
    let mut restore = daemon.nix().command("nix-store");
    restore.arg("--restore").arg(&directory).stdin(fs::File::open(file).unwrap());
    assert!(restore.status().unwrap().success());
    directory
}

/// Asks all of a session, and hands each request, what it was answered and what it is answered now to `compare`.
fn ask(
    daemon: &Daemon,
    directory: &Path,
    name: &str,
    mut compare: impl FnMut(&Step, Result<Response, LogError>),
) {
    let (minor, steps) = steps(directory, name);
    let mut client = Client::of_store(daemon, minor, StoreDir::default());
    for step in steps {
        let answer = client.ask(step.request.clone(), &step.payload);
        compare(&step, answer.result.map(essence));
    }
    drop(client);
    wait_for_the_end_of_roots(daemon);
}

/// What a client held is let go of when its connection has ended, which the next one must not be too early for.
fn wait_for_the_end_of_roots(daemon: &Daemon) {
    let directory = daemon.nix().state_dir().join("temproots");
    let are_held = || {
        let mut files = fs::read_dir(&directory).into_iter().flatten();
        files.any(|file| file.unwrap().metadata().unwrap().len() > 0)
    };
    let begin = Instant::now();
    while are_held() {
        assert!(begin.elapsed() < PATIENCE, "temporary roots are held for nobody");
        sleep(Duration::from_millis(2));
    }
}

/// Asks all of some recordings again, those of each release of a store of its own where `before` was asked before. The answers
/// are the same, but for those listed: session and operation.
fn replay(archive: &[u8], arguments: &[&str], before: &[&str], listed: &[(&str, &str)]) {
    let Some(unpacked) = Daemon::find(KILN) else { return };
    let (usual, recordings) = (unpack(&unpacked, "usual", USUAL), unpack(&unpacked, "recordings", archive));
    let usual = usual.join("2.8.0");
    let mut differences: BTreeMap<(String, &str), String> = BTreeMap::new();
    let mut compared = 0;
    for release in fs::read_dir(&recordings).unwrap() {
        let release = release.unwrap().path();
        let daemon = serving_nix_store(arguments);
        before.iter().for_each(|name| ask(&daemon, &usual, name, |_, _| ()));
        for name in names(&release) {
            if AGAIN.contains(&name.as_str()) {
                ask(&daemon, &usual, &name, |_, _| ());
            }
            ask(&daemon, &release, &name, |step, answer| {
                compared += 1;
                if answer.as_ref().ok() != step.answer.as_ref() {
                    let difference = format!(
                        "# {} {name}\n{:?}\n{:?}\n{answer:?}",
                        release.display(),
                        step.request,
                        step.answer
                    );
                    differences.insert((name.clone(), step.request.operation().name()), difference);
                }
            });
        }
    }
    for (name, operation) in listed {
        let removed = differences.remove(&((*name).to_owned(), *operation));
        assert!(removed.is_some(), "{name} {operation} does not differ");
    }
    let left: Vec<String> = differences.into_values().collect();
    assert!(left.is_empty(), "{} of {compared} answers differ:\n{}", left.len(), left.join("\n"));
    assert!(compared > 10);
}

/// A daemon whose store's paths begin with `/nix/store`.
fn serving_nix_store(arguments: &[&str]) -> Daemon {
    let mut daemon = Daemon::find(KILN).unwrap();
    let nix = daemon.nix();
    let store = format!(
        "local?store=/nix/store&real={}&state={}&log={}",
        nix.store_dir().display(),
        nix.state_dir().display(),
        nix.log_dir().display()
    );
    daemon.start(&[&["--store", &store], arguments].concat());
    daemon
}

/// Which paths are dead follows from all that was ever done with a store, also what was not recorded.
const DEAD: (&str, &str) = ("gc-dead", "CollectGarbage");

#[test]
fn recorded_clients_get_the_answers_of_their_own_daemon() {
    // They found more or less than what other sessions have left.
    let left = [("build-check", "QueryMissing"), ("build-keepgoing", "IsValidPath")];
    replay(USUAL, &[], &[], &[DEAD, left[0], left[1]]);
}

#[test]
fn recorded_clients_of_other_releases_than_their_daemon() {
    replay(include_bytes!("../../../kiln-protocol/tests/data/worker-cross.nar"), &[], &[], &[DEAD]);
}

#[test]
fn recorded_clients_of_old_versions() {
    replay(include_bytes!("../../../kiln-protocol/tests/data/worker-old.nar"), &[], &[], &[]);
}

/// What they look at had been copied into their store, and is built here.
#[test]
fn recorded_clients_at_standard_input() {
    replay(
        include_bytes!("../../../kiln-protocol/tests/data/worker-stdio.nar"),
        &[],
        &["build"],
        &[("ng-copy-from", "QueryPathInfo"), ("ng-ls", "QueryPathInfo")],
    );
}

/// Nix before 2.17 lets nobody of them add signatures.
#[test]
fn recorded_clients_that_are_not_trusted() {
    replay(
        include_bytes!("../../../kiln-protocol/tests/data/worker-untrusted.nar"),
        &["--force-untrusted"],
        &["instantiate"],
        &[("n-store-sign", "AddSignatures")],
    );
}
