//! Beginning and ending of the daemon, and the ways of getting to it.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::{Command, Stdio};
use std::time::Duration;

use kiln_testing::{Daemon, Ran};

use super::{KILN, daemon};

#[test]
fn the_socket_is_there_at_once_and_goes_in_the_end() {
    let Some(mut daemon) = Daemon::find(KILN) else { return };
    let took = daemon.start(&[]);
    assert!(took < Duration::from_secs(10), "{took:?}");
    let socket = daemon.socket();
    assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o666);
    assert_eq!(fs::metadata(socket.parent().unwrap()).unwrap().mode() & 0o777, 0o755);
    daemon.build(&["a"]);
    assert_eq!(daemon.stop(), Some(0), "{}", daemon.log());
    assert!(!socket.exists());
    let roots = fs::read_dir(daemon.nix().state_dir().join("temproots")).unwrap();
    assert_eq!(roots.count(), 0);
    daemon.start(&[]);
    assert_eq!(daemon.build(&["a"]).len(), 1);
}

#[test]
fn a_socket_that_was_deleted_is_made_again() {
    let Some(mut daemon) = daemon() else { return };
    fs::remove_dir_all(daemon.socket().parent().unwrap()).unwrap();
    daemon.wait_until("a socket", || daemon.socket().exists());
    assert_eq!(daemon.build(&["a"]).len(), 1);
    assert!(daemon.log().contains("somebody has deleted the socket"), "{}", daemon.log());
    // Another daemon's is not touched.
    fs::remove_file(daemon.socket()).unwrap();
    let other = std::os::unix::net::UnixListener::bind(daemon.socket()).unwrap();
    daemon.wait_until("a warning", || daemon.log().contains("somebody has put another socket"));
    assert_eq!(daemon.stop(), Some(0));
    assert!(daemon.socket().exists());
    drop(other);
}

#[test]
fn a_daemon_that_is_asked_to_end_ends_builds() {
    let Some(mut daemon) = daemon() else { return };
    let mut client = daemon.client("nix-build").args(["-A", "silent"]).spawn().unwrap();
    daemon.wait_until("a builder", || !daemon.builders().is_empty());
    assert_eq!(daemon.stop(), Some(0));
    assert!(daemon.builders().is_empty());
    assert!(!client.wait().unwrap().success());
    let builds = fs::read_dir(daemon.nix().state_dir().join("builds")).into_iter().flatten().count();
    assert_eq!(builds, 0, "nothing is left");
}

#[test]
fn a_daemon_that_was_killed_leaves_a_store_that_works() {
    let Some(mut daemon) = daemon() else { return };
    let mut client = daemon.client("nix-build").args(["-A", "silent"]).spawn().unwrap();
    daemon.wait_until("a builder", || !daemon.builders().is_empty());
    daemon.kill();
    client.wait().unwrap();
    daemon.wait_until("no builder", || daemon.builders().is_empty());
    daemon.start(&[]);
    assert_eq!(daemon.build(&["b"]).len(), 1);
    daemon.nix().run("nix-store", ["--verify", "--check-contents"]);
}

#[test]
fn a_store_that_was_made_anew_is_noticed() {
    let Some(daemon) = daemon() else { return };
    let out = daemon.build(&["a"]).remove(0);
    let gone = Command::new("sh")
        .args(["-ec", "chmod -R u+w \"$1\"; rm -rf \"$1\" \"$2\"", "sh"])
        .args([daemon.nix().store_dir(), daemon.nix().state_dir().join("db")])
        .status();
    assert!(gone.unwrap().success());
    let valid = daemon.run("nix-store", ["--check-validity", &out]);
    assert!(valid.failed(1).contains("is not valid"), "{}", valid.stderr);
    assert_eq!(daemon.build(&["a"]), std::slice::from_ref(&out));
    assert_eq!(fs::read_to_string(out).unwrap(), "hi\n");
}

/// `ssh-ng://` starts this on the other machine.
#[test]
fn standard_input_is_served() {
    let Some(daemon) = Daemon::find(KILN) else { return };
    let command = daemon.daemon_command();
    let mut server = Command::new(command.get_program());
    server
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .args(["daemon", "--stdio"]);
    let mut server =
        server.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let session = greeting();
    use std::io::Write;
    server.stdin.take().unwrap().write_all(&session).unwrap();
    let ran = server.wait_with_output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(ran.stdout.starts_with(b"oixd") || ran.stdout.starts_with(&0x6478_696f_u64.to_le_bytes()));
    assert!(ran.stdout.len() > 40, "{:?}", ran.stdout);
}

/// The beginning of a session of version 1.34, and the question for all paths.
fn greeting() -> Vec<u8> {
    [0x6e69_7863_u64, 1 << 8 | 34, 0, 0, 23].iter().flat_map(|number| number.to_le_bytes()).collect()
}

#[test]
fn by_the_names_of_nix_it_is_the_daemon() {
    let Some(daemon) = Daemon::find(KILN) else { return };
    let program = daemon.daemon_command().get_program().to_owned();
    let names = daemon.path("bin");
    fs::create_dir(&names).unwrap();
    for name in ["nix-daemon", "nix"] {
        symlink(&program, names.join(name)).unwrap();
    }
    let version = |name: &str, arguments: &[&str]| {
        let command = daemon.daemon_command();
        let mut run = Command::new(names.join(name));
        run.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Ran::from(run.args(arguments).output().unwrap()).line().to_owned()
    };
    assert_eq!(version("nix-daemon", &["--version"]), "nix-daemon (Nix) 2.34.8");
    assert_eq!(version("nix", &["--version"]), "nix (Nix) 2.34.8");
    daemon.configure("reported-nix-version = 2.8.0\n");
    assert_eq!(version("nix", &["daemon", "--version"]), "nix (Nix) 2.8.0");
}

/// As systemd does it: the socket is made before, and stays afterwards.
#[test]
fn sockets_are_taken_from_systemd() {
    let Some(daemon) = Daemon::find(KILN) else { return };
    let socket = daemon.socket();
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let script = "import os, socket, sys\n\
        s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(5)\n\
        os.dup2(s.fileno(), 3); os.set_inheritable(3, True); os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n\
        os.execv(sys.argv[2], sys.argv[2:])\n";
    let command = daemon.daemon_command();
    let mut python = Command::new("python3");
    python.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    python.args(["-c", script]).arg(&socket).arg(command.get_program()).args(["daemon", "-v"]);
    let mut server = python.stdin(Stdio::null()).spawn().unwrap();
    daemon.wait_until("the socket", || socket.exists());
    assert_eq!(daemon.build(&["a"]).len(), 1);
    kiln_testing::signal("TERM", server.id());
    assert_eq!(server.wait().unwrap().code(), Some(0));
    assert!(socket.exists(), "it is systemd's");
}
