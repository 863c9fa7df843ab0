//! Beginning and end, and garbage meanwhile.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kiln_testing::{Kiln, signal};

use crate::KILN;
use crate::serving::{Serving, digest};

#[test]
fn what_is_being_sent_is_not_collected() {
    let serving = Serving::with(&[]);
    // More than sockets have room for, and no root.
    let source = serving.kiln.write("large", vec![b'x'; 24 << 20]);
    let path = serving.kiln.run(["store", "add", &source.display().to_string()]).line().to_owned();
    // Of what other tests build under the same name too, processes of theirs may know.
    let garbage = serving.kiln.write("garbage", "what nobody else has");
    let garbage = serving.kiln.run(["store", "add", &garbage.display().to_string()]).line().to_owned();
    let url = serving.narinfo(&path, "URL");
    let mut stream = serving.connect();
    write!(stream, "GET /{url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 12]).unwrap();
    let collected = serving.kiln.run(["gc"]);
    assert_eq!(collected.code, Some(0), "{}", collected.stderr);
    assert!(serving.kiln.info(&path).is_some(), "it is being sent");
    assert!(serving.kiln.info(&garbage).is_none(), "what is not was collected");
    assert_eq!(serving.get(&format!("/{}.narinfo", digest(&garbage))).status(), "404");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > 24 << 20, "all of it has come");
    let begin = Instant::now();
    while serving.kiln.info(&path).is_some() {
        assert!(begin.elapsed() < Duration::from_secs(60), "it is still kept");
        assert_eq!(serving.kiln.run(["gc"]).code, Some(0));
    }
    assert_eq!(serving.get(&format!("/{url}")).status(), "404");
}

#[test]
fn it_ends_in_good_order() {
    let mut serving = Serving::with(&[]);
    // A connection with nothing to say, and one that is kept for the next request.
    let _silent = serving.connect();
    let mut kept = serving.connect();
    kept.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    kept.read_exact(&mut [0; 15]).unwrap();
    signal("TERM", serving.pid());
    assert_eq!(serving.wait(), Some(0));
}

#[test]
fn a_socket_is_made_and_removed() {
    let kiln = Kiln::as_used(KILN);
    let socket = kiln.directory().join("run/socket");
    let mut command = kiln.command(["serve", "--socket", &socket.display().to_string()]);
    let mut server = command.stderr(Stdio::null()).spawn().unwrap();
    meets_a_cache(&socket);
    signal("TERM", server.id());
    assert_eq!(server.wait().unwrap().code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn systemd_may_have_made_the_socket() {
    let kiln = Kiln::as_used(KILN);
    let socket = kiln.directory().join("socket");
    let script = "import os, socket, sys\n\
        s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(5)\n\
        os.dup2(s.fileno(), 3); os.set_inheritable(3, True); os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n\
        os.execv(sys.argv[2], sys.argv[2:])\n";
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(&socket).arg(kiln.program()).args(["serve", "--store"]).arg(kiln.root());
    let mut server = python.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    meets_a_cache(&socket);
    signal("TERM", server.id());
    assert_eq!(server.wait().unwrap().code(), Some(0));
    assert!(socket.exists(), "it is systemd's");
}

fn meets_a_cache(socket: &std::path::Path) {
    let begin = Instant::now();
    let mut stream = loop {
        match UnixStream::connect(socket) {
            Ok(stream) => break stream,
            Err(error) => assert!(begin.elapsed() < Duration::from_secs(60), "{error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    stream.write_all(b"GET /nix-cache-info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 30\n"), "{answer}");
}

#[test]
fn what_cannot_be_served_is_said() {
    let kiln = Kiln::as_used(KILN);
    let serving = Serving::with(&[]);
    let taken = kiln.run(["serve", "--listen", serving.address()]);
    assert!(taken.failed(1).contains(&format!("cannot listen on the address '{}'", serving.address())));
    let key = kiln.write("key", "no key\n");
    let refused = kiln.run(["serve", "--secret-key-file", &key.display().to_string()]);
    assert!(refused.failed(1).contains("reading the secret key in '"), "{}", refused.stderr);
    fs::remove_file(key).unwrap();
}
