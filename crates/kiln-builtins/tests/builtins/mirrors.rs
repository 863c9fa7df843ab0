//! Servers that have files by hash.

use crate::bench::Bench;
use crate::server::{Server, answer};

fn with_mirrors(url: &str, mirrors: &[&Server]) -> Bench {
    let mut bench = Bench::fetchurl(url);
    bench.inputs.hashed_mirrors = mirrors.iter().map(|mirror| mirror.url("/by-hash/")).collect();
    bench
}

#[test]
fn b11_mirrors_are_asked_first() {
    let mirror = Server::answering([answer("200 OK", &[], b"mirrored")]);
    let server = Server::answering([answer("200 OK", &[], b"original")]);
    let bench = with_mirrors(&server.url("/"), &[&mirror]);
    bench.succeed();
    assert_eq!(bench.contents(), b"mirrored");
    assert!(server.requests().is_empty());
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert!(mirror.requests()[0].starts_with(&format!("GET /by-hash/sha256/{hash} HTTP/1.1\r\n")));
}

#[test]
fn b11_what_mirrors_do_not_have_comes_from_its_url() {
    let broken = Server::answering([b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nand no more".as_slice()]);
    let empty = Server::answering([answer("404 Not Found", &[], b"")]);
    let server = Server::answering([answer("200 OK", &[], b"original")]);
    let bench = with_mirrors(&server.url("/"), &[&broken, &empty]);
    let log = bench.succeed();
    assert_eq!(bench.contents(), b"original");
    assert_eq!((broken.requests().len(), empty.requests().len()), (1, 1));
    assert!(log.contains("warning: unable to download '") && log.contains("HTTP error 404"), "{log}");
}

#[test]
fn b11_mirrors_are_not_asked_for_trees() {
    let mirror = Server::answering([answer("200 OK", &[], b"mirrored")]);
    let server = Server::answering([answer("200 OK", &[], b"original")]);
    let bench = with_mirrors(&server.url("/"), &[&mirror]).with("outputHashMode", "recursive");
    bench.succeed();
    assert_eq!(bench.contents(), b"original");
    assert!(mirror.requests().is_empty());
}
