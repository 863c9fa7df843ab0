//! Clients of versions that no program here speaks any more: what they bring in the forms of their time.

use std::collections::BTreeSet;

use kiln_hash::{Algorithm, Sha256};
use kiln_narinfo::PathInfo;
use kiln_protocol::value::{AddressingMethod, BuildMode};
use kiln_protocol::worker::request::{
    AddTextToStore, AddToStore, AddToStoreNar, BuildPaths, ExportPath, ImportPaths, IsValidPath,
    QueryPathInfo,
};
use kiln_protocol::worker::{Request, Response};
use kiln_store_path::{ContentAddressMethod, DerivedPath, OutputsSpec, StorePath, StorePathName};
use kiln_testing::Daemon;

use super::client::Client;
use super::{KILN, daemon};

/// The oldest version and the newest, those with which something of what is brought here changed, and those before them.
const VERSIONS: [u8; 13] = [10, 11, 13, 14, 15, 16, 17, 20, 24, 25, 29, 30, 38];

fn name(name: &str) -> StorePathName {
    StorePathName::new(name).unwrap()
}

/// The archive of one file.
fn archive(contents: &[u8]) -> Vec<u8> {
    let (before, after) = kiln_nar::file_framing(false, contents.len() as u64);
    [before.as_slice(), contents, after.as_slice()].concat()
}

fn unknown() -> StorePath {
    StorePath::from_base_name(format!("{}-x", "0".repeat(32))).unwrap()
}

fn parsed(client: &Client, path: &str) -> StorePath {
    client.dialect.store_dir.parse(path).unwrap()
}

/// What an object is added as, and the path that real Nix says it has.
fn add(client: &mut Client, contents: &str, method: ContentAddressMethod, algorithm: Algorithm) -> String {
    let request = AddToStore {
        name: name("file"),
        method: AddressingMethod { method, algorithm },
        references: BTreeSet::new(),
        repair: false,
    };
    let is_archive = client.dialect.version.minor < 25 || method == ContentAddressMethod::Nar;
    let payload = if is_archive { archive(contents.as_bytes()) } else { contents.as_bytes().to_vec() };
    match client.ask(request, &payload).reply() {
        Response::AddToStore(added) => client.dialect.store_dir.print(added.path()),
        reply => panic!("{reply:?}"),
    }
}

#[test]
fn objects_of_clients_of_every_version_get_the_paths_of_nix() {
    let Some(daemon) = daemon() else { return };
    for minor in VERSIONS {
        let mut client = Client::connect(&daemon, minor);
        assert_eq!(client.dialect.version.minor, minor);
        let contents = format!("of a client of 1.{minor}\n");
        let file = daemon.write("file", &contents);
        let file = file.to_str().unwrap();
        for (method, algorithm, arguments) in [
            (ContentAddressMethod::Nar, Algorithm::Sha256, &["--add"][..]),
            (ContentAddressMethod::Flat, Algorithm::Sha256, &["--add-fixed", "sha256"]),
            (ContentAddressMethod::Flat, Algorithm::Sha1, &["--add-fixed", "sha1"]),
            (ContentAddressMethod::Nar, Algorithm::Sha512, &["--add-fixed", "--recursive", "sha512"]),
        ] {
            let ours = add(&mut client, &contents, method, algorithm);
            let theirs = daemon.nix().run("nix-store", arguments.iter().chain(&[file]));
            assert_eq!(ours, theirs.trim_end(), "1.{minor} {arguments:?}");
            assert_eq!(std::fs::read_to_string(&ours).unwrap(), contents);
        }
        let text = AddTextToStore {
            name: name("text"),
            text: contents.clone().into_bytes(),
            references: BTreeSet::new(),
        };
        let expression = format!("builtins.toFile \"text\" {}", serde_json::Value::from(contents.as_str()));
        let theirs = daemon.nix().run("nix-instantiate", ["--eval", "-E", &expression]);
        match client.ask(text, &[]).reply() {
            Response::AddTextToStore(path) => {
                assert_eq!(client.dialect.store_dir.print(&path), theirs.trim_end().trim_matches('"'));
            }
            reply => panic!("{reply:?}"),
        }
    }
    daemon.nix().run("nix-store", ["--verify", "--check-contents"]);
}

#[test]
fn clients_of_every_version_build_and_ask() {
    let Some(daemon) = daemon() else { return };
    let derivation = daemon.instantiate("a");
    for minor in VERSIONS {
        let mut client = Client::connect(&daemon, minor);
        let all =
            DerivedPath::Built { derivation: parsed(&client, &derivation).into(), outputs: OutputsSpec::All };
        let built = BuildPaths { paths: vec![all], mode: BuildMode::Normal };
        assert!(matches!(client.ask(built, &[]).reply(), Response::BuildPaths(_)), "1.{minor}");
        let path = parsed(&client, &derivation);
        match client.ask(QueryPathInfo { path }, &[]).reply() {
            Response::QueryPathInfo(info) => assert!(info.0.is_some_and(|info| info.nar_size > 100)),
            reply => panic!("{reply:?}"),
        }
        // That nothing is known could not be said otherwise before 1.17.
        let answer = client.ask(QueryPathInfo { path: unknown() }, &[]);
        if minor < 17 {
            assert!(answer.error().contains("is not valid"), "1.{minor}");
        } else {
            assert!(matches!(answer.reply(), Response::QueryPathInfo(info) if info.0.is_none()), "1.{minor}");
        }
    }
}

/// The closure of something that was built, in the order of its references, and its export.
fn exported(daemon: &Daemon) -> (Vec<String>, Vec<u8>) {
    let out = daemon.build(&["b"]).remove(0);
    let closure = daemon.run("nix-store", ["-qR", &out]).stdout;
    let closure: Vec<String> = closure.lines().map(str::to_owned).collect();
    let export = daemon.client("nix-store").arg("--export").args(&closure).output().unwrap();
    assert!(export.status.success());
    delete(daemon, &closure);
    (closure, export.stdout)
}

/// Deletes paths, as soon as no client keeps them any more.
fn delete(daemon: &Daemon, paths: &[String]) {
    daemon.wait_until("that nobody keeps them", || {
        daemon.nix().command("nix-store").arg("--delete").args(paths).output().unwrap().status.success()
    });
}

fn import(client: &mut Client, stream: &[u8]) -> Vec<String> {
    let answer = client.ask(ImportPaths {}, stream);
    assert!(!answer.asked_too_much, "a client fails when it is asked for more than it has");
    match answer.reply() {
        Response::ImportPaths(paths) => {
            paths.iter().map(|path| client.dialect.store_dir.print(path)).collect()
        }
        reply => panic!("{reply:?}"),
    }
}

fn is_valid(client: &mut Client, path: &str) -> bool {
    let path = parsed(client, path);
    matches!(client.ask(IsValidPath { path }, &[]).reply(), Response::IsValidPath(true))
}

#[test]
fn exports_that_old_clients_bring_are_imported() {
    let Some(daemon) = daemon() else { return };
    let (closure, stream) = exported(&daemon);
    for minor in [10, 15, 17, 20, 25, 34, 38] {
        let mut client = Client::connect(&daemon, minor);
        assert!(closure.iter().all(|path| !is_valid(&mut client, path)));
        assert_eq!(import(&mut client, &stream), closure, "1.{minor}");
        // Of what is valid already, too.
        assert_eq!(import(&mut client, &stream), closure, "1.{minor}");
        assert!(closure.iter().all(|path| is_valid(&mut client, path)));
        // One stream after the other at the client's standard input: the second is not for this request.
        assert_eq!(import(&mut client, &[stream.as_slice(), b"and more"].concat()), closure);
        // And out again.
        for path in &closure {
            let request = ExportPath { path: parsed(&client, path), sign: 0 };
            let answer = client.ask(request, &[]);
            let item = [&1_u64.to_le_bytes(), answer.exported.as_slice(), &0_u64.to_le_bytes()].concat();
            assert!(matches!(answer.result, Ok(Response::ExportPath(_))));
            assert_eq!(import(&mut client, &item), std::slice::from_ref(path));
        }
        daemon.nix().run("nix-store", ["--verify", "--check-contents"]);
        drop(client);
        delete(&daemon, &closure);
    }
}

#[test]
fn large_exports_are_pulled_piece_by_piece() {
    let Some(daemon) = daemon() else { return };
    let file = daemon.write("large", vec![7_u8; 9 << 20]);
    let path = daemon.run("nix-store", ["--add", file.to_str().unwrap()]).line().to_owned();
    let export = daemon.client("nix-store").args(["--export", &path]).output().unwrap().stdout;
    delete(&daemon, std::slice::from_ref(&path));
    let mut client = Client::connect(&daemon, 17);
    assert_eq!(import(&mut client, &export), std::slice::from_ref(&path));
    assert_eq!(std::fs::metadata(path).unwrap().len(), 9 << 20);
}

#[test]
fn nothing_vouches_for_an_export() {
    let Some(mut daemon) = Daemon::find(KILN) else { return };
    daemon.start(&[]);
    let (closure, stream) = exported(&daemon);
    assert_eq!(daemon.stop(), Some(0));
    daemon.start(&["--force-untrusted"]);
    let mut client = Client::connect(&daemon, 17);
    let refused = client.ask(ImportPaths {}, &stream).error();
    assert!(refused.contains("lacks a signature by a trusted key"), "{refused}");
    assert!(closure.iter().all(|path| !is_valid(&mut client, path)));
    assert!(closure.iter().all(|path| !std::fs::exists(path).unwrap()));
}

/// Whatever is wrong with it, the next request is answered, and the store is whole.
#[test]
fn damaged_exports_are_refused_and_the_connection_goes_on() {
    let Some(daemon) = daemon() else { return };
    let (_, stream) = exported(&daemon);
    let mut client = Client::connect(&daemon, 17);
    let mut refused = 0;
    for position in (0..stream.len()).step_by(19) {
        let mut damaged = stream.clone();
        damaged[position] ^= 0x41;
        refused += usize::from(client.ask(ImportPaths {}, &damaged).result.is_err());
        let next = client.ask(IsValidPath { path: unknown() }, &[]).reply();
        assert!(matches!(next, Response::IsValidPath(false)));
    }
    assert!(refused > 10, "{refused}");
    for length in [0, 1, 8, 100, stream.len() - 8, stream.len() - 1] {
        let answer = client.ask(ImportPaths {}, &stream[..length]);
        assert!(answer.result.is_err(), "{length} bytes");
    }
    daemon.nix().run("nix-store", ["--verify", "--check-contents"]);
}

/// Before 1.21 the archive just follows; then it is asked for, and then it comes in frames.
#[test]
fn archives_of_every_version_are_added() {
    let Some(daemon) = daemon() else { return };
    for minor in 18..=38 {
        let mut client = Client::connect(&daemon, minor);
        let contents = format!("archive of a client of 1.{minor}\n").repeat(3000);
        let nar = archive(contents.as_bytes());
        let path = StorePath::from_base_name(format!("{minor:0>32}-archive")).unwrap();
        let mut info = PathInfo::new(path.clone(), Sha256::of(&nar), nar.len() as u64);
        info.registration_time = 1;
        let request = AddToStoreNar { info, repair: false, dont_check_signatures: true };
        for _ in 0..2 {
            let answer = client.ask(Request::from(request.clone()), &nar);
            assert!(
                !answer.asked_too_much,
                "1.{minor}: a client fails when it is asked for more than it has"
            );
            assert!(matches!(answer.reply(), Response::AddToStoreNar(())));
        }
        let path = client.dialect.store_dir.print(&path);
        assert_eq!(std::fs::read_to_string(path).unwrap(), contents);
    }
    daemon.nix().run("nix-store", ["--verify", "--check-contents"]);
}
