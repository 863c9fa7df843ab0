//! What clients may cost, seen from outside: servers with tight limits, and clients that do not behave, over real sockets;
//! and several requests at once on one connection of HTTP/2.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod cache;
mod http2;

use std::net::Shutdown;
use std::time::{Duration, Instant};

use cache::{Cache, read_to_end};
use kiln_serve::Limits;
use std::io::{Read, Write};

const MOMENT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(600);

/// Limits that nobody meets.
fn wide() -> Limits {
    Limits {
        connections: 100,
        streams: 10,
        wait_for_stream: LONG,
        head: LONG,
        idle: LONG,
        stalled: LONG,
        closing: LONG,
    }
}

#[test]
fn who_sends_no_whole_head_in_time_is_cut_off() {
    let cache = Cache::with(Limits { head: MOMENT, ..wide() });
    for start in ["GET /nix-cache-info HTTP/1.1\r\nHost: x\r\n", "G"] {
        let mut stream = cache.connect();
        stream.write_all(start.as_bytes()).unwrap();
        let begin = Instant::now();
        let answer = read_to_end(&mut stream);
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    }
    assert!(cache.get("/nix-cache-info").starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn who_asks_nothing_for_long_is_cut_off() {
    let cache = Cache::with(Limits { idle: MOMENT, ..wide() });
    // Nothing at all; the beginning of HTTP/2, whose version nobody can tell yet; HTTP/2 with no request; and a request
    // after which there is none.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".as_slice();
    for start in [b"".as_slice(), b"PRI * HT", preface, b"GET /nix-cache-info HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let mut stream = cache.connect();
        stream.write_all(start).unwrap();
        let begin = Instant::now();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(begin.elapsed() < Duration::from_secs(30), "{:?} after {start:?}", begin.elapsed());
    }
}

#[test]
fn who_does_not_read_is_cut_off_and_gives_back_its_place() {
    let cache = Cache::with(Limits { streams: 1, stalled: MOMENT, ..wide() });
    let mut slow = cache.connect();
    slow.write_all(format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", cache.archive()).as_bytes()).unwrap();
    let mut first = [0; 12];
    slow.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    // Waits for the only place, without a limit.
    let whole = cache.get(&cache.archive());
    assert!(whole.len() as u64 > cache.size(), "it is all there");
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    assert!((rest.len() as u64) < cache.size(), "it broke off");
    let metrics = cache.get("/metrics");
    assert!(metrics.contains("kiln_serve_open_connections 1\n"), "{metrics}");
}

#[test]
fn who_finds_no_place_is_told_to_come_back() {
    let cache = Cache::with(Limits { streams: 1, wait_for_stream: MOMENT, ..wide() });
    let mut slow = cache.connect();
    slow.write_all(format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", cache.archive()).as_bytes()).unwrap();
    let mut first = [0; 12];
    slow.read_exact(&mut first).unwrap();
    let answer = cache.get(&cache.archive());
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1"), "{answer}");
    // What is in memory needs no place.
    assert!(cache.get("/nix-cache-info").starts_with("HTTP/1.1 200 OK\r\n"));
    drop(slow);
    cache.wait_until("the place is free again", || cache.get(&cache.archive()).starts_with("HTTP/1.1 200 "));
}

#[test]
fn more_connections_wait_to_be_accepted() {
    let cache = Cache::with(Limits { connections: 1, ..wide() });
    let mut first = cache.connect();
    first.write_all(b"GET /nix-cache-info HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    first.read_exact(&mut [0; 12]).unwrap();
    let mut second = cache.connect();
    second.write_all(b"GET /nix-cache-info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    second.set_read_timeout(Some(MOMENT)).unwrap();
    assert!(second.read(&mut [0; 1]).is_err(), "there is no answer yet");
    drop(first);
    second.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert!(read_to_end(&mut second).starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn what_is_being_sent_is_sent_before_the_end_but_not_for_ever() {
    for (closing, is_whole) in [(LONG, true), (MOMENT, false)] {
        let mut cache = Cache::with(Limits { closing, ..wide() });
        let mut slow = cache.connect();
        slow.write_all(format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", cache.archive()).as_bytes()).unwrap();
        slow.read_exact(&mut [0; 12]).unwrap();
        // Has nothing to say, and keeps nobody waiting.
        let _idle = cache.connect();
        cache.ask_to_end();
        if !is_whole {
            cache.wait_for_end();
        }
        let mut rest = Vec::new();
        let _ = slow.read_to_end(&mut rest);
        assert_eq!(rest.len() as u64 > cache.size(), is_whole, "{} of {}", rest.len(), cache.size());
        cache.wait_for_end();
    }
}

#[test]
fn who_has_said_all_still_gets_an_answer() {
    let cache = Cache::with(wide());
    let mut stream = cache.connect();
    stream.write_all(b"GET /nix-cache-info HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(read_to_end(&mut stream).ends_with("Priority: 0\n"));
}

#[test]
fn what_changes_while_it_is_sent_is_never_taken_for_whole() {
    let cache = Cache::with(wide());
    let target = cache.archive();
    cache.damage();
    for request in [format!("GET {target} HTTP/1.1"), format!("GET {target}.zst HTTP/1.1")] {
        let mut stream = cache.connect();
        stream.write_all(format!("{request}\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        let head = text.find("\r\n\r\n").unwrap() + 4;
        if text.contains("transfer-encoding: chunked") {
            assert!(!answer.ends_with(b"0\r\n\r\n"), "the last chunk has come");
        } else {
            assert!(((answer.len() - head) as u64) < cache.size(), "all of it has come");
        }
    }
    let metrics = cache.get("/metrics");
    assert!(metrics.contains("kiln_serve_responses_broken_total 2\n"), "{metrics}");
    assert!(cache.log().iter().all(|line| !line.contains("bug")), "{:?}", cache.log());
}
