//! What servers have said is not asked again.

use crate::bench::{Bench, DEP2, Making, SIMPLE, data, nar, numbered, path};
use kiln_testing::{Fault, WebServer};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn g6_what_was_said_is_known_to_the_next_process() {
    let bench = Bench::new().await;
    let server = WebServer::serving(&data("cache/2.34-xz"));
    let wanted = [path(DEP2), numbered(3)];
    let first = bench.substituters(&[server.url()]).await;
    let asked = first.missing(wanted.clone(), &bench.store).await.unwrap();
    let requests = server.requests().len();
    server.fault("", usize::MAX, Fault::Status(500, Vec::new()));
    let second = bench.substituters(&[server.url()]).await;
    let known = second.missing(wanted, &bench.store).await.unwrap();
    assert_eq!((known.will_substitute, known.unknown), (asked.will_substitute, asked.unknown));
    assert_eq!(server.requests().len(), requests);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_there_is_asked_for_again_after_a_while() {
    let mut bench = Bench::new().await;
    let root = bench.directory().join("made");
    let making = Making::new(&root, 0);
    let server = WebServer::serving(&root);
    for (time_to_live, is_found) in [(Duration::from_secs(3600), false), (Duration::ZERO, true)] {
        bench.time_to_live.negative = time_to_live;
        let substituters = bench.substituters(&[server.url()]).await;
        assert_eq!(substituters.find(&path(SIMPLE)).next().await.is_some(), is_found);
        making.add(&path(SIMPLE), &[], &nar(b"x"), |_| {});
        assert_eq!(substituters.find(&path(SIMPLE)).next().await.is_some(), is_found);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_is_not_knowledge() {
    let bench = Bench::new().await;
    let server = WebServer::serving(&data("cache/2.34-xz"));
    for fault in [Fault::Status(500, Vec::new()), Fault::Body(b"<html>".to_vec()), Fault::Body(b"x".to_vec())]
    {
        server.fault(".narinfo", 3, fault);
        let substituters = bench.substituters(&[server.url()]).await;
        assert!(bench.obtain(&substituters, &path(SIMPLE)).await.is_err());
        server.heal();
    }
    let substituters = bench.substituters(&[server.url()]).await;
    bench.obtain(&substituters, &path(SIMPLE)).await.unwrap();
}
