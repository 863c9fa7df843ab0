//! What whole closures need.

use crate::bench::{Bench, DEP2, Making, data, nar, numbered, path};
use kiln_store_path::StorePath;
use kiln_testing::{Fault, WebServer};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn r1_what_is_here_is_not_missing() {
    let bench = Bench::new().await;
    let server = WebServer::serving(&data("cache/2.34-zstd"));
    let substituters = bench.substituters(&[server.url()]).await;
    let unknown = numbered(1);
    let wanted = [path(DEP2), unknown.clone()];
    let missing = substituters.missing(wanted.clone(), &bench.store).await.unwrap();
    assert!(missing.unknown.len() == 1 && missing.unknown.contains(&unknown));
    assert!(missing.will_substitute.contains(&path(DEP2)));
    assert!(missing.will_substitute.len() > 3 && missing.nar_size > 0 && missing.download_size > 0);
    bench.obtain_closure(&substituters, &[path(DEP2)]).await;
    let missing = substituters.missing(wanted, &bench.store).await.unwrap();
    assert!(missing.will_substitute.is_empty() && missing.unknown.len() == 1);
    assert_eq!((missing.download_size, missing.nar_size), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn g6_no_path_waits_for_others_of_its_level() {
    let bench = Bench::new().await;
    let root = bench.directory().join("made");
    let making = Making::new(&root, 0);
    // A path with a slow sibling, and below the other one a long chain: what the sibling is, is told when the end of the chain
    // has been asked for.
    let (slow, length) = (numbered(1), 60);
    let chain: Vec<StorePath> = (10..10 + length).map(numbered).collect();
    making.add(&numbered(0), &[slow.clone(), chain[0].clone()], &nar(b"top"), |_| {});
    making.add(&slow, &[], &nar(b"slow"), |_| {});
    for (at, link) in chain.iter().enumerate() {
        let below: Vec<StorePath> = chain.get(at + 1).cloned().into_iter().collect();
        making.add(link, &below, &nar(b"link"), |_| {});
    }
    let server = WebServer::serving(&root);
    server.fault(slow.digest(), 1, Fault::After(chain[length - 1].digest().to_owned()));
    let substituters = bench.substituters(&[server.url()]).await;
    let missing = substituters.missing([numbered(0)], &bench.store).await.unwrap();
    assert_eq!(missing.will_substitute.len(), length + 2);
    let asked = server.requests();
    let when = |path: &StorePath| asked.iter().position(|request| request.contains(path.digest()));
    assert!(when(&slow) < when(&chain[length - 1]), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g6_many_are_asked_for_at_once_over_few_connections() {
    let mut bench = Bench::new().await;
    bench.connections = 10;
    let root = bench.directory().join("made");
    let making = Making::new(&root, 0);
    let paths: Vec<StorePath> = (1..=300).map(numbered).collect();
    making.add(&numbered(0), &paths, &nar(b"top"), |_| {});
    for path in &paths {
        making.add(path, &[], &nar(b"x"), |_| {});
    }
    let server = WebServer::serving(&root);
    server.fault(".narinfo", usize::MAX, Fault::Delay(Duration::from_millis(50)));
    let substituters = bench.substituters(&[server.url()]).await;
    let missing = substituters.missing([numbered(0)], &bench.store).await.unwrap();
    assert_eq!(missing.will_substitute.len(), 301);
    let (at_once, connections) = (server.most_at_once(), server.connections());
    assert!(at_once > 5 && at_once <= 10, "{at_once} at once");
    assert!(connections <= 20, "{connections} connections for 301 requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_believed_is_not_promised() {
    let bench = Bench::new().await;
    let root = bench.directory().join("made");
    let making = Making::new(&root, 0);
    making.add(&numbered(0), &[], &nar(b"x"), |narinfo| {
        narinfo.info.signatures = kiln_narinfo::SignatureSet::new();
    });
    let substituters = bench.substituters(&[format!("file://{}", root.display())]).await;
    let missing = substituters.missing([numbered(0)], &bench.store).await.unwrap();
    assert!(missing.will_substitute.is_empty() && missing.unknown.len() == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn g6_a_cache_that_fails_is_one_trouble() {
    let mut bench = Bench::new().await;
    bench.transfers.download_attempts = 1;
    let server = WebServer::serving(&data("cache/2.34-zstd"));
    server.fault(".narinfo", usize::MAX, Fault::Status(500, Vec::new()));
    let substituters = bench.substituters(&[server.url()]).await;
    let missing = substituters.missing((0..200).map(numbered), &bench.store).await.unwrap();
    assert_eq!((missing.unknown.len(), missing.troubles.len()), (200, 1));
    // Those that were let in before the first failures have asked, and nobody after them.
    assert!(server.count(".narinfo") < 60, "{}", server.count(".narinfo"));
}
