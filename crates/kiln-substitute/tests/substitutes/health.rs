//! A server that is gone makes nobody wait again.

use crate::bench::{Bench, Making, nar, numbered};
use kiln_substitute::{Condition, Substituters};
use kiln_testing::{Fault, WebServer};
use std::net::TcpListener;
use std::time::{Duration, Instant};

fn condition(substituters: &Substituters) -> Condition {
    substituters.health()[0].1.condition
}

/// A server that refuses connections: its port was free a moment ago.
fn gone() -> String {
    format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn g6_a_dead_cache_is_asked_once_and_then_left_alone() {
    let bench = Bench::new().await;
    let root = bench.directory().join("whole");
    let making = Making::new(&root, 50);
    for number in 0..200 {
        making.add(&numbered(number), &[], &nar(b"x"), |_| {});
    }
    let urls = [gone(), format!("file://{}", root.display())];
    let substituters = bench.substituters(&urls).await;
    let start = Instant::now();
    for number in 0..200 {
        bench.obtain(&substituters, &numbered(number)).await.unwrap();
    }
    let took = start.elapsed();
    // One path has waited for the head start of the dead one, or for its failure; 200 would take 100 s.
    assert!(took < Duration::from_secs(40), "{took:?}");
    assert!(matches!(condition(&substituters), Condition::Resting(_)));
    let report = &substituters.health()[0].1;
    assert!(report.failures < 10, "{report:?}");
    assert!(report.last_failure.as_ref().unwrap().contains("couldn't connect to the server"), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g6_who_is_left_alone_says_why_and_comes_back() {
    let bench = Bench::new().await;
    let root = bench.directory().join("whole");
    let making = Making::new(&root, 0);
    for number in 0..10 {
        making.add(&numbered(number), &[], &nar(b"x"), |_| {});
    }
    let server = WebServer::serving(&root);
    let substituters = bench.substituters(&[server.url()]).await;
    bench.obtain(&substituters, &numbered(0)).await.unwrap();
    assert_eq!(condition(&substituters), Condition::Well);

    server.fault("", usize::MAX, Fault::Status(500, Vec::new()));
    for number in 1..5 {
        let error = bench.obtain(&substituters, &numbered(number)).await.unwrap_err();
        assert!(error.contains("HTTP error 500"), "{error}");
    }
    let asked = server.requests().len();
    let error = bench.obtain(&substituters, &numbered(5)).await.unwrap_err();
    assert!(
        error.contains("it has failed before and is asked again in ") && error.contains("HTTP error 500"),
        "{error}"
    );
    assert_eq!(server.requests().len(), asked, "nobody asked");
    // What it has said before still counts.
    assert!(substituters.find(&numbered(0)).next().await.is_some());

    server.heal();
    substituters.reset_health();
    bench.obtain(&substituters, &numbered(5)).await.unwrap();
    assert_eq!(condition(&substituters), Condition::Well);
}

#[tokio::test(flavor = "multi_thread")]
async fn g6_a_path_that_one_server_can_not_tell_about_harms_no_others() {
    let bench = Bench::new().await;
    let root = bench.directory().join("whole");
    let making = Making::new(&root, 0);
    for number in 0..40 {
        making.add(&numbered(number), &[], &nar(b"x"), |_| {});
    }
    let server = WebServer::serving(&root);
    server.fault(numbered(7).digest(), usize::MAX, Fault::Status(500, Vec::new()));
    let substituters = bench.substituters(&[server.url()]).await;
    for number in 0..40 {
        assert_eq!(bench.obtain(&substituters, &numbered(number)).await.is_ok(), number != 7, "{number}");
    }
    assert_eq!(condition(&substituters), Condition::Well);
}

#[tokio::test(flavor = "multi_thread")]
async fn g6_a_server_is_asked_again_when_its_record_is_reset() {
    let bench = Bench::new().await;
    let root = bench.directory().join("whole");
    let making = Making::new(&root, 0);
    for number in 0..10 {
        making.add(&numbered(number), &[], &nar(b"x"), |_| {});
    }
    let server = WebServer::serving(&root);
    let url = server.url();
    let substituters = bench.substituters(std::slice::from_ref(&url)).await;
    bench.obtain(&substituters, &numbered(0)).await.unwrap();
    // The record that another program reads.
    let record = bench.surroundings().await.known;
    let well = record.status().await[&url].clone();
    assert!(well.answered.is_some() && well.latency.is_some() && well.failed.is_none(), "{well:?}");
    assert_eq!((well.present, well.absent, well.rest()), (1, 0, None));

    server.fault("", usize::MAX, Fault::Status(500, Vec::new()));
    for number in 1..5 {
        bench.obtain(&substituters, &numbered(number)).await.unwrap_err();
    }
    let resting = record.status().await[&url].clone();
    assert!(resting.rest().unwrap() > 30, "{resting:?}");
    assert!(resting.failure.as_ref().unwrap().contains("HTTP error 500"), "{resting:?}");
    server.heal();
    let error = bench.obtain(&substituters, &numbered(5)).await.unwrap_err();
    assert!(error.contains("is asked again in"), "{error}");
    record.reset_health(vec!["http://other".to_owned()]).await;
    bench.obtain(&substituters, &numbered(5)).await.unwrap_err();
    record.reset_health(vec![url.clone()]).await;
    bench.obtain(&substituters, &numbered(5)).await.unwrap();
    let again = record.status().await[&url].clone();
    assert!(again.rest().is_none() && again.failure.is_none() && again.answered.is_some(), "{again:?}");
}
