//! Servers that break when they are asked who they are and what they have.

use crate::bench::{Bench, SIMPLE, data, path};
use kiln_testing::{Fault, WebServer};
use std::io::Write as _;
use std::time::{Duration, Instant};

fn served() -> WebServer {
    WebServer::serving(&data("cache/2.34-xz"))
}

async fn trouble(bench: &Bench, url: &str) -> String {
    let substituters = bench.substituters(&[url.to_owned()]).await;
    bench.obtain(&substituters, &path(SIMPLE)).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_what_is_not_there_is_no_trouble() {
    for status in [401, 403, 404, 407, 410] {
        let (bench, server) = (Bench::new().await, served());
        server.fault(".narinfo", usize::MAX, Fault::Status(status, Vec::new()));
        let said = trouble(&bench, &server.url()).await;
        assert_eq!(said, "", "{status}");
        assert_eq!(server.count(".narinfo"), 1, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g6_servers_with_trouble_are_asked_again() {
    for status in [408, 500, 502, 503] {
        let (bench, server) = (Bench::new().await, served());
        server.fault(".narinfo", 2, Fault::Status(status, Vec::new()));
        let substituters = bench.substituters(&[server.url()]).await;
        bench.obtain(&substituters, &path(SIMPLE)).await.unwrap();
        assert_eq!(server.count(".narinfo"), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g6_what_stays_broken_is_told_once() {
    for (fault, times, text) in [
        (Fault::Status(500, Vec::new()), 3, "HTTP error 500"),
        (Fault::Status(503, Vec::new()), 3, "HTTP error 503"),
        (Fault::Status(400, Vec::new()), 1, "HTTP error 400"),
        (Fault::Status(501, Vec::new()), 1, "HTTP error 501"),
        // It would want a minute of rest, for which nobody waits.
        (Fault::Status(429, Vec::new()), 1, "HTTP error 429"),
        (
            Fault::Status(302, vec!["Location: file:///etc/passwd".into()]),
            1,
            "redirects to 'file:///etc/passwd'",
        ),
        (Fault::Status(302, vec!["Location: /x.narinfo".into()]), 11, "more than 10 redirects"),
        (Fault::ResetAfter(30), 3, "the transfer failed"),
        (Fault::CloseAfter(150), 3, "the transfer failed"),
        (Fault::Garbage, 3, "the transfer failed"),
        (Fault::EndlessHead, 3, "the transfer failed"),
        (Fault::Endless, 1, "there are more than 2097152 bytes"),
        (
            Fault::Body(b"<!DOCTYPE html><html>welcome to our hotel</html>".to_vec()),
            1,
            "answers with a web page",
        ),
        (Fault::Body(b"StorePath: x".to_vec()), 1, "is corrupt"),
        (Fault::Body(Vec::new()), 1, "StorePath missing"),
        (
            Fault::BodyWith(vec!["Content-Encoding: snappy".into()], b"x".to_vec()),
            1,
            "unknown Content-Encoding 'snappy'",
        ),
        (Fault::BodyWith(vec!["Content-Encoding: gzip".into()], b"x".to_vec()), 1, ""),
    ] {
        let (bench, server) = (Bench::new().await, served());
        server.fault(".narinfo", usize::MAX, fault.clone());
        let error = trouble(&bench, &server.url()).await;
        let start = format!("cannot ask substituter '{}' about path '/nix/store/{SIMPLE}': ", server.url());
        assert!(error.starts_with(&start) && error.contains(text), "{fault:?}: {error}");
        assert_eq!(server.count(".narinfo"), times, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g6_no_answer_takes_for_ever() {
    for fault in [Fault::Silence, Fault::Trickle(1, Duration::from_millis(500))] {
        let (mut bench, server) = (Bench::new().await, served());
        bench.transfers.connect_timeout = Duration::from_millis(100);
        bench.transfers.stalled_download_timeout = Duration::from_secs(300);
        server.fault(".narinfo", usize::MAX, fault.clone());
        let start = Instant::now();
        let error = trouble(&bench, &server.url()).await;
        assert!(
            error.contains("there was no whole answer within 10.1 s") || error.contains("stalled"),
            "{error}"
        );
        assert!(start.elapsed() < Duration::from_secs(20), "{fault:?}: {:?}", start.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn narinfos_may_come_compressed() {
    let name = path(SIMPLE).digest().to_owned() + ".narinfo";
    let text = std::fs::read(data("cache/2.34-xz").join(&name)).unwrap();
    let xz = {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(&text).unwrap();
        encoder.finish().unwrap()
    };
    for (coding, body) in [("xz", xz), ("zstd", zstd::encode_all(text.as_slice(), 1).unwrap())] {
        let (bench, server) = (Bench::new().await, served());
        let fault = Fault::BodyWith(vec![format!("Content-Encoding: {coding}")], body);
        server.fault(".narinfo", 1, fault);
        let substituters = bench.substituters(&[server.url()]).await;
        bench.obtain(&substituters, &path(SIMPLE)).await.unwrap();
    }
    // A bomb is none for long.
    let (bench, server) = (Bench::new().await, served());
    let bomb = zstd::encode_all(vec![b'x'; 16 << 20].as_slice(), 1).unwrap();
    server.fault(".narinfo", 1, Fault::BodyWith(vec!["Content-Encoding: zstd".into()], bomb));
    let error = trouble(&bench, &server.url()).await;
    assert!(error.contains("there are more than 2097152 bytes"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_cache_is_told() {
    for (fault, text) in [
        (
            Fault::Status(404, Vec::new()),
            "it does not appear to be a binary cache: it has no 'nix-cache-info'",
        ),
        (
            Fault::Body(b"<html>".to_vec()),
            "it does not appear to be a binary cache: it answers with a web page",
        ),
        (
            Fault::Body(b"StoreDir: /gnu/store\n".to_vec()),
            "is for Nix stores with prefix '/gnu/store', not '/nix/store'",
        ),
        (Fault::Body(b"Priority: high\n".to_vec()), "Priority \"high\" is not a number"),
        (Fault::Status(403, Vec::new()), "HTTP error 403"),
        (Fault::Endless, "there are more than 65536 bytes"),
    ] {
        let (bench, server) = (Bench::new().await, served());
        server.fault("nix-cache-info", usize::MAX, fault.clone());
        let error = trouble(&bench, &server.url()).await;
        let start = format!("cannot use substituter '{}': ", server.url());
        assert!(error.starts_with(&start) && error.contains(text), "{fault:?}: {error}");
        assert_eq!(server.count(".narinfo"), 0, "{fault:?}");
    }
    let bench = Bench::new().await;
    let error = trouble(&bench, "file:///nowhere/at/all").await;
    assert!(error.contains("there is no such directory"), "{error}");
    let (_, errors) = bench.open(&["ftp://machine".into(), "local".into()]).await;
    assert!(
        errors.len() == 2 && errors[0].to_string().contains("'ftp://machine' can't be a substituter"),
        "{errors:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_not_told() {
    let (bench, server) = (Bench::new().await, served());
    server.fault(".narinfo", usize::MAX, Fault::Status(500, Vec::new()));
    let error = trouble(&bench, &server.url().replace("http://", "http://me:secret@")).await;
    assert!(error.contains("http://me@127") && !error.contains("secret"), "{error}");
}
