//! Servers that break while a path comes.

use crate::bench::{Bench, Making, SIMPLE, data, nar, narinfos, numbered, path};
use futures_util::StreamExt;
use kiln_store_path::StorePath;
use kiln_testing::{Fault, WebServer};
use std::time::{Duration, Instant};

fn served() -> WebServer {
    WebServer::serving(&data("cache/2.34-xz"))
}

/// Where the file of [`SIMPLE`] is.
fn file() -> String {
    narinfos(&data("cache/2.34-xz"))[&path(SIMPLE)].url.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn g6_a_break_at_any_byte_is_got_over() {
    let mut bench = Bench::new().await;
    bench.connections = 0;
    let root = bench.directory().join("made");
    let making = Making::new(&root, 0);
    let server = WebServer::serving(&root);
    let substituters = bench.substituters(&[server.url()]).await;
    let contents = nar(b"some contents");
    // The head of the answer has less than a hundred bytes.
    let paths: Vec<StorePath> = (0..2 * (contents.len() + 100)).map(numbered).collect();
    for (number, path) in paths.iter().enumerate() {
        making.add(path, &[], &contents, |_| {});
        let at = number / 2;
        let fault = if number % 2 == 0 { Fault::ResetAfter(at) } else { Fault::CloseAfter(at) };
        server.fault(&format!("nar/{}", path.digest()), 1, fault);
    }
    let fetches = paths.iter().map(|path| bench.obtain(&substituters, path));
    let results: Vec<_> = futures_util::stream::iter(fetches).buffer_unordered(40).collect().await;
    for result in results {
        result.unwrap();
    }
    for path in &paths {
        assert_eq!(bench.store.verify_contents(path).await.unwrap(), kiln_store::Verdict::Good);
    }
    // The last of these breaks come after the end of the answer.
    let again = server.count("nar/") - paths.len();
    assert!(again >= 2 * contents.len(), "{again} were tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn g6_downloads_go_on_where_they_ended() {
    let bench = Bench::new().await;
    let root = bench.directory().join("made");
    let contents = nar(&[b'x'; 300_000]);
    Making::new(&root, 0).add(&path(SIMPLE), &[], &contents, |_| {});
    for has_ranges in [true, false] {
        let bench = Bench::new().await;
        let server = WebServer::serving(&root);
        let server = if has_ranges { server } else { server.without_ranges() };
        server.fault("nar/", 1, Fault::CloseAfter(100_000));
        server.fault("nar/", 1, Fault::ResetAfter(150_000));
        let substituters = bench.substituters(&[server.url()]).await;
        let fetched = bench.obtain(&substituters, &path(SIMPLE)).await.unwrap();
        assert_eq!(fetched.downloaded, contents.len() as u64);
        let ranges = server.requests().iter().filter(|request| request.contains(" from ")).count();
        assert_eq!(
            (server.count("nar/"), ranges),
            (3, if has_ranges { 2 } else { 0 }),
            "{:?}",
            server.requests()
        );
        assert!(bench.heard().contains("retrying"), "{}", bench.heard());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g6_a_server_that_stays_broken_is_given_up() {
    let file = file();
    for fault in [
        Fault::Status(500, Vec::new()),
        Fault::Status(503, Vec::new()),
        Fault::ResetAfter(0),
        Fault::CloseAfter(50),
        Fault::Garbage,
        Fault::EndlessHead,
    ] {
        let (bench, server) = (Bench::new().await, served());
        server.fault(&file, usize::MAX, fault.clone());
        let error = bench.refuse(&server.url(), &path(SIMPLE)).await;
        let start = format!("cannot fetch path '/nix/store/{SIMPLE}' from substituter '{}': ", server.url());
        assert!(error.starts_with(&start), "{fault:?}: {error}");
        assert_eq!(server.count(&file), 3, "{fault:?}");
    }
    for (status, times) in [(400, 1), (418, 1), (501, 1), (502, 3)] {
        let (bench, server) = (Bench::new().await, served());
        server.fault(&file, usize::MAX, Fault::Status(status, Vec::new()));
        let error = bench.refuse(&server.url(), &path(SIMPLE)).await;
        assert!(error.contains(&format!("HTTP error {status}")), "{error}");
        assert_eq!(server.count(&file), times);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_what_is_gone_by_now_counts_as_not_offered() {
    for status in [401, 403, 404, 410] {
        let (bench, server) = (Bench::new().await, served());
        server.fault(&file(), usize::MAX, Fault::Status(status, Vec::new()));
        let substituters = bench.substituters(&[server.url()]).await;
        let candidate = substituters.find(&path(SIMPLE)).next().await.unwrap();
        let none = kiln_events::ActivityId::NONE;
        let existing = kiln_substitute::Existing::Stays;
        let fetching = substituters.fetch(
            &candidate,
            &bench.store,
            existing,
            (None, std::future::ready(())),
            (&bench.events, none),
        );
        let error = fetching.await.unwrap_err();
        assert!(error.is_gone(), "{error}");
        assert_eq!(server.count(&file()), 1);
        bench.assert_nothing_left(&path(SIMPLE)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g6_servers_say_when_they_want_to_be_asked_again() {
    let (bench, server) = (Bench::new().await, served());
    server.fault(&file(), 1, Fault::Status(429, vec!["Retry-After: 1".into()]));
    let start = Instant::now();
    let substituters = bench.substituters(&[server.url()]).await;
    bench.obtain(&substituters, &path(SIMPLE)).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn g6_a_server_that_says_nothing_or_too_little_is_given_up() {
    for fault in [Fault::Silence, Fault::Trickle(1, Duration::from_millis(200))] {
        let (mut bench, server) = (Bench::new().await, served());
        bench.transfers.stalled_download_timeout = Duration::from_secs(1);
        bench.transfers.download_attempts = 2;
        server.fault(&file(), usize::MAX, fault.clone());
        let start = Instant::now();
        let error = bench.refuse(&server.url(), &path(SIMPLE)).await;
        assert!(error.contains("stalled: less than 64 bytes a second"), "{fault:?}: {error}");
        assert!(start.elapsed() < Duration::from_secs(20), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s12_a_fetch_that_is_given_up_leaves_nothing() {
    let bench = Bench::new().await;
    let root = bench.directory().join("made");
    Making::new(&root, 0).add(&path(SIMPLE), &[], &nar(&[b'x'; 3_000_000]), |_| {});
    let server = WebServer::serving(&root);
    server.fault("nar/", 1, Fault::Trickle(10_000, Duration::from_millis(50)));
    let substituters = bench.substituters(&[server.url()]).await;
    let wanted = path(SIMPLE);
    let given_up =
        tokio::time::timeout(Duration::from_millis(700), bench.obtain(&substituters, &wanted)).await;
    assert!(given_up.is_err());
    // The thread notices soon, and puts away what it has made.
    let real = bench.store.real_path(&wanted);
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::fs::symlink_metadata(&real).is_ok() {
        assert!(Instant::now() < deadline, "{} is left", real.display());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bench.assert_nothing_left(&wanted).await;
    bench.obtain(&substituters, &wanted).await.unwrap();
}
