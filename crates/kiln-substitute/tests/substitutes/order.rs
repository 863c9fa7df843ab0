//! Who is asked, and in which order.

use crate::bench::{Bench, Making, SIMPLE, nar, path};
use kiln_testing::{Fault, WebServer};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A cache with one path and a priority.
fn made(bench: &Bench, name: &str, priority: i64) -> PathBuf {
    let root = bench.directory().join(name);
    Making::new(&root, priority).add(&path(SIMPLE), &[], &nar(b"x"), |_| {});
    root
}

async fn order(bench: &Bench, urls: &[String]) -> Vec<String> {
    let substituters = bench.substituters(urls).await;
    let mut search = substituters.find(&path(SIMPLE));
    let mut found = Vec::new();
    while let Some(candidate) = search.next().await {
        found.push(candidate.substituter().to_owned());
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_the_lowest_priority_comes_first() {
    let bench = Bench::new().await;
    let (late, early) = (made(&bench, "late", 50), made(&bench, "early", 10));
    let server = WebServer::serving(&made(&bench, "middle", 30));
    let (late, early) = (format!("file://{}", late.display()), format!("file://{}", early.display()));
    let urls = [late.clone(), server.url(), early.clone()];
    assert_eq!(order(&bench, &urls).await, [early.clone(), server.url(), late.clone()]);
    // The URL counts more than the cache, and the place in the list decides between equals.
    let urls = [format!("{late}?priority=30"), server.url(), format!("{early}?priority=30")];
    assert_eq!(order(&bench, &urls).await, [late.clone(), server.url(), early.clone()]);
    assert_eq!(order(&bench, &[late.clone(), late.clone()]).await, [late], "twice is once");
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_one_without_the_path_or_for_another_store_is_passed_over() {
    let bench = Bench::new().await;
    let (empty, foreign) = (bench.directory().join("empty"), made(&bench, "foreign", 0));
    Making::new(&empty, 0);
    std::fs::write(foreign.join("nix-cache-info"), "StoreDir: /gnu/store\n").unwrap();
    let last = made(&bench, "last", 9);
    let urls = [empty, foreign, last].map(|root| format!("file://{}", root.display()));
    let substituters = bench.substituters(&urls).await;
    let mut search = substituters.find(&path(SIMPLE));
    assert_eq!(search.next().await.unwrap().substituter(), urls[2]);
    assert!(search.next().await.is_none());
    assert_eq!(search.troubles().len(), 1, "{:?}", search.troubles());
    let (_, errors) = bench.open(&["file:///x?store=/gnu/store".to_owned()]).await;
    assert_eq!(
        errors[0].to_string(),
        "cannot use substituter 'file:///x': it is for stores at '/gnu/store', not '/nix/store'"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_the_next_one_is_asked_when_a_fetch_fails() {
    let bench = Bench::new().await;
    let (broken, whole) = (made(&bench, "broken", 0), made(&bench, "whole", 1));
    std::fs::write(broken.join(format!("nar/{}.nar", path(SIMPLE).digest())), b"garbage").unwrap();
    let urls = [broken, whole].map(|root| format!("file://{}", root.display()));
    let substituters = bench.substituters(&urls).await;
    bench.obtain(&substituters, &path(SIMPLE)).await.unwrap();
    assert!(bench.store.is_valid(&path(SIMPLE)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn g6_a_slow_substituter_is_not_waited_for() {
    let bench = Bench::new().await;
    let server = WebServer::serving(&made(&bench, "slow", 0));
    let fast = format!("file://{}", made(&bench, "fast", 10).display());
    server.fault("", usize::MAX, Fault::Silence);
    let substituters = bench.substituters(&[server.url(), fast.clone()]).await;
    let start = Instant::now();
    let mut search = substituters.find(&path(SIMPLE));
    assert_eq!(search.next().await.unwrap().substituter(), fast);
    // Its failure would take three tries of two seconds.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(start.elapsed() > Duration::from_millis(400), "the preferred one has a head start");
}

#[tokio::test(flavor = "multi_thread")]
async fn g6_the_preferred_one_may_take_a_moment() {
    let bench = Bench::new().await;
    let server = WebServer::serving(&made(&bench, "slow", 0));
    let fast = format!("file://{}", made(&bench, "fast", 10).display());
    server.fault(".narinfo", 1, Fault::Delay(Duration::from_millis(60)));
    assert_eq!(order(&bench, &[fast.clone(), server.url()]).await, [server.url(), fast]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_want_the_same_ask_once() {
    let bench = Bench::new().await;
    let server = WebServer::serving(&made(&bench, "slow", 0));
    server.fault(".narinfo", 1, Fault::Delay(Duration::from_millis(150)));
    let substituters = bench.substituters(&[server.url()]).await;
    let wanted = path(SIMPLE);
    let (mut first, mut second) = (substituters.find(&wanted), substituters.find(&wanted));
    let (first, second) = tokio::join!(first.next(), second.next());
    assert!(first.is_some() && second.is_some());
    assert_eq!(server.count(".narinfo"), 1);
}
