//! Clients that are no clients.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::wire::{connect, numbers, read_until_last, say, string};
use super::{daemon, memory, peak_memory};

#[test]
fn nonsense_is_answered_or_cut_off() {
    let Some(daemon) = daemon() else { return };
    let path = |name: &str| string(format!("{}/{name}", daemon.nix().store_dir().display()).as_bytes());
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("no operation", numbers(&[999]), "invalid operation 999"),
        ("no operation at all", numbers(&[u64::MAX]), "invalid operation"),
        ("a path of two GiB", numbers(&[1, 1 << 31]), "too long"),
        ("a path of all bytes", numbers(&[1, u64::MAX]), "too long"),
        ("a list of all numbers", numbers(&[31, u64::MAX]), "too long"),
        ("an empty path", [numbers(&[1]), string(b"")].concat(), "path"),
        ("a path elsewhere", [numbers(&[26]), string(b"/etc/passwd")].concat(), "/etc/passwd"),
        ("a path upward", [numbers(&[26]), path("../x")].concat(), "path"),
        ("padding that is not zero", [numbers(&[1, 1]), b"axxxxxxx".to_vec()].concat(), "padding"),
        ("a build mode", [numbers(&[9, 0, 77])].concat(), "build mode"),
        ("half a request", numbers(&[1]), ""),
        ("half a number", vec![1, 0, 0], ""),
    ];
    for (what, bytes, expected) in cases {
        let answer = say(&daemon, 34, &bytes);
        assert!(answer.contains(expected), "{what}: {answer:?}");
    }
    // The connection goes on after what could be read wholly.
    let both = [numbers(&[26]), string(b"/etc/passwd"), numbers(&[23])].concat();
    let answer = say(&daemon, 34, &both);
    assert!(answer.contains("/etc/passwd") && answer.contains("stla"), "{answer:?}");
    assert_eq!(daemon.build(&["a"]).len(), 1);
    assert!(memory(&daemon) < 200, "{} MiB", memory(&daemon));
}

#[test]
fn whoever_does_not_begin_as_a_client_is_cut_off() {
    let Some(daemon) = daemon() else { return };
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &numbers(&[0x6e69_7863, 2 << 8]),
        &numbers(&[0x6e69_7863, 1 << 8 | 9]),
    ] {
        let mut stream = UnixStream::connect(daemon.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() <= 16, "{answer:?}");
    }
}

/// NARs that lie about their hash, their size and their end, and requests whose fields are wrong, after which the payload has
/// to be passed over.
#[test]
fn payloads_that_lie_are_refused_and_the_connection_goes_on() {
    let Some(daemon) = daemon() else { return };
    let frames =
        |payload: &[u8]| [numbers(&[payload.len() as u64]), payload.to_vec(), numbers(&[0])].concat();
    let add = |name: &[u8], method: &[u8], payload: &[u8]| {
        [numbers(&[7]), string(name), string(method), numbers(&[0, 0]), frames(payload)].concat()
    };
    let question = numbers(&[23]);
    for (request, expected) in [
        (add(b"x", b"fixed:r:sha256", b"this is no archive"), "archive"),
        (add(b"x/../y", b"fixed:sha256", b"contents"), "name"),
        (add(b"x", b"nonsense", b"contents"), "method"),
    ] {
        let answer = say(&daemon, 34, &[request, question.clone()].concat());
        assert!(answer.contains(expected) && answer.contains("stla"), "{expected}: {answer:?}");
    }
    // A frame that never ends.
    let cut = [numbers(&[7]), string(b"x"), string(b"fixed:sha256"), numbers(&[0, 0, 1 << 40])].concat();
    say(&daemon, 34, &cut);
    let left: Vec<_> = fs::read_dir(daemon.nix().store_dir())
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| name != ".links")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn idle_connections_cost_little() {
    let Some(daemon) = daemon() else { return };
    let before = memory(&daemon);
    let idle: Vec<UnixStream> = (0..400).map(|_| connect(&daemon, 38 - 1)).collect();
    let silent: Vec<UnixStream> = (0..200).map(|_| UnixStream::connect(daemon.socket()).unwrap()).collect();
    let cost = memory(&daemon).saturating_sub(before);
    assert!(cost < 60, "{cost} MiB for 600 connections");
    assert_eq!(daemon.build(&["a"]).len(), 1);
    drop((idle, silent));
}

/// A client that has a loud build and reads nothing: the build goes on, and the daemon does not grow.
#[test]
#[expect(clippy::print_stderr, reason = "what was measured has to be said")]
fn a_client_that_does_not_read_holds_up_nobody() {
    let Some(daemon) = daemon() else { return };
    let processors = std::thread::available_parallelism().unwrap().get() as u64;
    let bound = 80 + 15 * processors.min(16);
    let derivation = daemon.instantiate("loud");
    let mut stream = connect(&daemon, 34);
    let request = [numbers(&[9, 1]), string(format!("{derivation}!*").as_bytes()), numbers(&[0])].concat();
    stream.write_all(&request).unwrap();
    // Somebody who reads waits for the same build, however long it takes.
    daemon.wait_until("a builder", || !daemon.builders().is_empty());
    let reader = daemon.run("nix-store", ["-r", &derivation]);
    assert_eq!(reader.lines().len(), 1, "{} bytes", reader.stderr.len());
    // Compressing the log takes some of it, which is bounded by the number of processors.
    eprintln!("memory: at most {} MiB", peak_memory(&daemon));
    assert!(peak_memory(&daemon) < bound, "{} MiB of {bound}", peak_memory(&daemon));
    // What it has missed is said, when it reads at last.
    let told = read_until_last(&mut stream);
    assert!(String::from_utf8_lossy(&told).contains("messages were dropped"), "{} bytes", told.len());
}
