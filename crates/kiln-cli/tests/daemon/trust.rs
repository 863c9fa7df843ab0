//! What clients may not, whom the daemon does not trust.

use std::fs;

use kiln_narinfo::{PathInfo, Signature};
use kiln_protocol::worker::Response;
use kiln_protocol::worker::request::{AddSignatures, AddTempRoot, AddToStoreNar, NarFromPath, QueryPathInfo};
use kiln_store_path::StorePath;
use kiln_testing::{Daemon, Ran};

use super::client::Client;
use super::{KILN, daemon, is_root};

/// Some number that is nobody's here.
const STRANGER: u32 = 61_999;

fn as_stranger(daemon: &Daemon, program: &str, arguments: &[&str]) -> Ran {
    daemon.client_as(STRANGER, program).args(arguments).output().unwrap().into()
}

#[test]
fn a_stranger_builds_like_anybody() {
    if !is_root("be another user") {
        return;
    }
    let Some(daemon) = daemon() else { return };
    let ran = as_stranger(&daemon, "nix-build", &["-A", "b", "--no-out-link"]);
    assert_eq!(fs::read_to_string(ran.line()).unwrap(), "hi\n");
    assert!(daemon.log().contains(&format!("user {STRANGER}")), "{}", daemon.log());
    assert!(!daemon.log().contains(&format!("user {STRANGER} (trusted)")));
}

#[test]
fn a_stranger_may_sign_but_not_repair_or_bring_what_is_unsigned() {
    if !is_root("be another user") {
        return;
    }
    let Some(daemon) = daemon() else { return };
    let out = daemon.build(&["a"]).remove(0);
    let ran = as_stranger(&daemon, "nix-build", &["-A", "a", "--repair", "--no-out-link"]);
    assert!(
        ran.failed(1).contains("repairing is not allowed because you are not in 'trusted-users'"),
        "{}",
        ran.stderr
    );
    let key = daemon.path("key");
    daemon.run(
        "nix-store",
        [
            "--generate-binary-cache-key".as_ref(),
            "test-1".as_ref(),
            key.as_os_str(),
            daemon.path("key.pub").as_os_str(),
        ],
    );
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let ran = as_stranger(&daemon, "nix", &["store", "sign", "-k", key.to_str().unwrap(), &out]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let signed = daemon.run("nix", ["path-info", "--sigs", &out]);
    assert!(signed.stdout.contains("test-1:"), "{}", signed.stdout);
    // An input-addressed path without a signature, also when the client says that it needs none.
    let export = daemon.client("nix-store").args(["--export", &out]).output().unwrap().stdout;
    let file = daemon.write("export", export);
    daemon.nix().run("nix-store", ["--delete", &out]);
    let imported: Ran = daemon
        .client_as(STRANGER, "nix-store")
        .arg("--import")
        .stdin(fs::File::open(file).unwrap())
        .output()
        .unwrap()
        .into();
    assert!(imported.failed(1).contains("lacks a signature by a trusted key"), "{}", imported.stderr);
    assert!(!fs::exists(&out).unwrap());
    // What tells by its content what it is may come from anybody.
    let ran = as_stranger(&daemon, "nix-store", &["--add", "default.nix"]);
    assert!(fs::exists(ran.line()).unwrap());
}

/// What a client says of itself is not believed: that the store has built what it brings.
#[test]
fn what_strangers_bring_was_not_built_here() {
    let Some(mut daemon) = Daemon::find(KILN) else { return };
    let file = daemon.write("file", "contents\n");
    let path = daemon.nix().run("nix-store", ["--add", file.to_str().unwrap()]);
    let stays = [("--force-untrusted", false), ("--force-trusted", true)];
    for (trust, is_kept) in stays {
        daemon.start(&[trust]);
        for minor in [18, 22, 34, 38] {
            let mut client = Client::connect(&daemon, minor);
            let full = path.trim_end();
            let path = client.dialect.store_dir.parse(full).unwrap();
            let known = known(&mut client, &path);
            let nar = client.ask(NarFromPath { path: path.clone() }, &[]).nar;
            drop(client);
            daemon.wait_until("that nobody keeps it", || {
                let deleted = daemon.nix().command("nix-store").args(["--delete", full]).output();
                deleted.unwrap().status.success()
            });
            let mut client = Client::connect(&daemon, minor);
            let info = PathInfo { ultimate: true, ..known };
            let request = AddToStoreNar { info, repair: false, dont_check_signatures: true };
            client.ask(request, &nar).reply();
            assert_eq!(self::known(&mut client, &path).ultimate, is_kept, "{trust} 1.{minor}");
        }
        assert_eq!(daemon.stop(), Some(0));
    }
}

/// A signature proves itself, whoever brings it; but no stranger makes the database grow without bounds.
#[test]
fn strangers_add_a_bounded_number_of_signatures() {
    let Some(mut daemon) = Daemon::find(KILN) else { return };
    let file = daemon.write("file", "contents\n");
    let path = daemon.nix().run("nix-store", ["--add", file.to_str().unwrap()]);
    let signature = |name: &str| -> Signature { format!("{name}:{}==", "A".repeat(86)).parse().unwrap() };
    let add = |client: &mut Client, signatures: Vec<Signature>| {
        let path = client.dialect.store_dir.parse(path.trim_end()).unwrap();
        let request = AddSignatures { path: path.clone(), signatures: signatures.into_iter().collect() };
        let refused = client.ask(request, &[]).result.is_err();
        (refused, known(client, &path).signatures.len())
    };
    daemon.start(&["--force-untrusted"]);
    let mut client = Client::connect(&daemon, 38);
    let some: Vec<Signature> = (0..32).map(|number| signature(&format!("key-{number}"))).collect();
    assert_eq!(add(&mut client, some.clone()), (false, 32));
    assert_eq!(add(&mut client, some), (false, 32), "nothing is added");
    assert_eq!(add(&mut client, vec![signature("key-32")]), (true, 32));
    daemon.stop();
    daemon.start(&["--force-trusted"]);
    let mut client = Client::connect(&daemon, 38);
    assert_eq!(add(&mut client, vec![signature("key-32")]), (false, 33));
    assert_eq!(add(&mut client, vec![signature(&"k".repeat(1000))]), (false, 34));
    daemon.stop();
    let another = daemon.write("another", "contents too\n");
    let path = daemon.nix().run("nix-store", ["--add", another.to_str().unwrap()]);
    daemon.start(&["--force-untrusted"]);
    let mut client = Client::connect(&daemon, 38);
    let path = client.dialect.store_dir.parse(path.trim_end()).unwrap();
    let long = [signature(&"k".repeat(1000))].into();
    assert!(client.ask(AddSignatures { path: path.clone(), signatures: long }, &[]).result.is_err());
    assert_eq!(known(&mut client, &path).signatures.len(), 0);
    assert_eq!(daemon.stop(), Some(0));
}

/// Which processes use what is nobody's business but theirs and the owner's.
#[test]
fn strangers_do_not_learn_who_uses_a_path() {
    let Some(mut daemon) = Daemon::find(KILN) else { return };
    let file = daemon.write("file", "contents\n");
    let path = daemon.nix().run("nix-store", ["--add", file.to_str().unwrap()]);
    for (trust, is_told) in [("--force-untrusted", false), ("--force-trusted", true)] {
        daemon.start(&[trust]);
        let mut client = Client::connect(&daemon, 38);
        let kept = client.dialect.store_dir.parse(path.trim_end()).unwrap();
        client.ask(AddTempRoot { path: kept }, &[]).reply();
        let ran: Ran =
            daemon.client("nix-store").args(["--delete", path.trim_end()]).output().unwrap().into();
        let said = ran.failed(1);
        assert!(said.contains("still alive"), "{said}");
        assert_eq!(said.contains("{temp:"), is_told, "{said}");
        let roots: Ran = daemon.client("nix-store").args(["--gc", "--print-roots"]).output().unwrap().into();
        assert_eq!(roots.stdout.contains("{temp:"), is_told, "{roots:?}");
        assert_eq!(daemon.stop(), Some(0));
    }
}

fn known(client: &mut Client, path: &StorePath) -> PathInfo {
    match client.ask(QueryPathInfo { path: path.clone() }, &[]).reply() {
        Response::QueryPathInfo(info) => info.0.unwrap().with_path(path.clone()),
        reply => panic!("{reply:?}"),
    }
}

#[test]
fn settings_of_strangers_are_refused_with_a_word() {
    if !is_root("be another user") {
        return;
    }
    let Some(daemon) = daemon() else { return };
    let arguments = [
        "-A",
        "a",
        "--no-out-link",
        "--option",
        "sandbox",
        "false",
        "--option",
        "post-build-hook",
        "/bin/true",
    ];
    let ran = as_stranger(&daemon, "nix-build", &arguments);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for name in ["sandbox", "post-build-hook"] {
        let warning = format!(
            "ignoring the client-specified setting '{name}', because it is a restricted setting and you are not a trusted user"
        );
        assert!(ran.stderr.contains(&warning), "{}", ran.stderr);
    }
    // Nothing of it stays for the next client.
    let ran = daemon.run("nix-build", ["-A", "b", "--no-out-link"]);
    assert!(!ran.stderr.contains("ignoring"), "{}", ran.stderr);
}

#[test]
fn who_is_not_allowed_gets_not_a_byte() {
    if !is_root("be another user") {
        return;
    }
    let Some(mut daemon) = Daemon::find(KILN) else { return };
    daemon.configure("allowed-users = root\n");
    daemon.start(&[]);
    let ran = as_stranger(&daemon, "nix", &["store", "ping"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    daemon.wait_until("a word in the log", || {
        daemon.log().contains(&format!("user '{STRANGER}' is not allowed to connect to the Nix daemon"))
    });
    assert_eq!(daemon.build(&["a"]).len(), 1);
}

#[test]
fn trust_can_be_forced() {
    let Some(mut daemon) = Daemon::find(KILN) else { return };
    daemon.start(&["--force-untrusted"]);
    let ran = daemon.run("nix-build", ["-A", "a", "--no-out-link", "--option", "sandbox", "false"]);
    assert!(ran.stderr.contains("ignoring the client-specified setting 'sandbox'"), "{}", ran.stderr);
}
