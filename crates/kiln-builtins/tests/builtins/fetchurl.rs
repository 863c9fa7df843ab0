//! Downloads that go well, and derivations that can't be built.

use crate::bench::Bench;
use crate::server::{Server, answer, answer_of, header};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

fn mode(bench: &Bench) -> u32 {
    fs::metadata(bench.out()).unwrap().permissions().mode() & 0o777
}

#[test]
fn b11_a_file_is_downloaded() {
    let body: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    let server = Server::answering([answer("200 OK", &[], &body)]);
    let bench = Bench::fetchurl(&server.url("/dir/file?query#fragment"));
    let log = bench.succeed();
    assert_eq!(bench.contents(), body);
    assert_eq!(mode(&bench) & 0o111, 0);

    let request = server.requests().concat();
    assert!(request.starts_with("GET /dir/file?query HTTP/1.1\r\n"), "{request}");
    assert_eq!(header(&request, "user-agent"), Some(concat!("kiln/", env!("CARGO_PKG_VERSION"))));
    for absent in ["accept-encoding", "authorization", "range", "cookie", "referer"] {
        assert_eq!(header(&request, absent), None);
    }
    let (first, last) = (log.lines().next().unwrap(), log.lines().last().unwrap());
    assert!(
        first.contains("\"start\"") && first.contains("\"type\":101") && first.contains("/dir/file"),
        "{log}"
    );
    assert!(log.contains("[300000,300000,0,0]"), "{log}");
    assert!(last.contains("\"stop\""), "{log}");
}

#[test]
fn b11_a_program_is_made_executable() {
    let server = Server::answering([answer("200 OK", &[], b"#!/bin/sh\n")]);
    let bench = Bench::fetchurl(&server.url("/")).with("executable", "1");
    bench.succeed();
    assert_eq!(mode(&bench), 0o755);
    let not = Bench::fetchurl(&server.url("/")).with("executable", "");
    not.succeed();
    assert_eq!(mode(&not) & 0o111, 0);
}

#[test]
fn b11_bodies_come_in_all_ways() {
    let chunked = b"5\r\nhello\r\n1;extension\r\n \r\n5\r\nworld\r\n0\r\nTrailer: x\r\n\r\n";
    for (answer, contents) in [
        (answer_of("200 OK", &["Transfer-Encoding: chunked"], chunked), &b"hello world"[..]),
        (answer_of("200 OK", &["Connection: close"], b"until the end"), b"until the end"),
        (answer("200 OK", &[], b""), b""),
        (answer("203 Non-Authoritative Information", &[], b"x"), b"x"),
        // Whoever checks the hash will tell that this isn't the file.
        (answer("200 OK", &["Content-Type: text/html"], b"<h1>Error</h1>"), b"<h1>Error</h1>"),
    ] {
        let server = Server::answering([answer]);
        let bench = Bench::fetchurl(&server.url("/"));
        bench.succeed();
        assert_eq!(bench.contents(), contents);
    }
}

#[test]
fn b11_what_is_encoded_stays_so() {
    let server = Server::answering([answer("200 OK", &["Content-Encoding: gzip"], b"\x1f\x8bwhatever")]);
    let bench = Bench::fetchurl(&server.url("/"));
    bench.succeed();
    assert_eq!(bench.contents(), b"\x1f\x8bwhatever");
}

#[test]
fn b11_the_user_agent_has_the_suffix() {
    let server = Server::answering([answer("200 OK", &[], b"")]);
    let mut bench = Bench::fetchurl(&server.url("/"));
    bench.inputs.transfers.user_agent_suffix = "(of me)".to_owned();
    bench.succeed();
    let agent = concat!("kiln/", env!("CARGO_PKG_VERSION"), " (of me)");
    assert_eq!(header(&server.requests()[0], "user-agent"), Some(agent));
}

#[test]
fn b11_a_file_url_is_what_a_builder_could_read_too() {
    let bench = Bench::new("fetchurl");
    let (file, directory) = (bench.path().join("a file"), bench.path().join("directory"));
    fs::write(&file, "contents").unwrap();
    fs::create_dir(&directory).unwrap();
    let url = format!("file://{}", file.to_str().unwrap().replace(' ', "%20"));
    let bench = bench.with("outputHash", "x").with("url", &url);
    bench.succeed();
    assert_eq!(bench.contents(), b"contents");

    for (url, reason) in [
        (format!("file://{}", directory.display()), "not a regular file"),
        ("file:///dev/zero".to_owned(), "not a regular file"),
        (format!("file://{}/absent", directory.display()), "No such file"),
        ("file://host/etc/passwd".to_owned(), "not absolute"),
    ] {
        let error = Bench::fetchurl(&url).fail();
        assert!(error.contains(reason), "{url}: {error}");
    }
}

#[test]
fn b11_urls_that_are_none() {
    for (url, reason) in [
        ("", "not a valid URL"),
        ("nonsense", "not a valid URL"),
        ("http://", "not a valid URL"),
        ("ftp://127.0.0.1/x", "the scheme 'ftp' is not supported"),
        ("s3://bucket/x", "the scheme 's3' is not supported"),
        ("gopher://127.0.0.1/x\n", "the scheme 'gopher' is not supported"),
    ] {
        let error = Bench::fetchurl(url).attempts(5).fail();
        assert!(error.starts_with("unable to download '") && error.contains(reason), "{url}: {error}");
    }
}

#[test]
fn b11_attributes_that_are_missing() {
    let bench = || Bench::fetchurl("http://127.0.0.1:1/");
    assert_eq!(bench().without("url").fail(), "attribute 'url' missing");
    assert_eq!(bench().without("out").fail(), "attribute 'out' missing");
    let not_fixed = "'builtin:fetchurl' must be a fixed-output or impure derivation";
    assert_eq!(bench().without("outputHash").fail(), not_fixed);
    assert_eq!(bench().with("outputHash", "").fail(), not_fixed);
    assert!(bench().with("out", "/").fail().starts_with("attribute 'out' is '/', which can't be used"));

    let server = Server::answering([answer("200 OK", &[], b"impure")]);
    let impure = Bench::new("fetchurl").with("__impure", "1").with("url", &server.url("/"));
    impure.succeed();
    assert_eq!(impure.contents(), b"impure");
}

#[test]
fn b11_there_are_no_other_builtins() {
    for name in ["", "fetchgit", "Fetchurl", "fetchurl "] {
        let error = Bench::new(name).fail();
        assert_eq!(error, format!("unsupported builtin function '{name}'"));
    }
    for name in kiln_builtins::NAMES {
        assert_ne!(Bench::new(name).fail(), format!("unsupported builtin function '{name}'"));
    }
}
