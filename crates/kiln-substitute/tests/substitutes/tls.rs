//! Caches behind TLS.

use crate::bench::{Bench, Making, SIMPLE, data, nar, narinfos, numbered, path};
use kiln_settings::BinaryCacheUrl;
use kiln_substitute::{CacheServer, Contents, HttpCache, Substituter, Surroundings};
use kiln_testing::{TlsAnswer, TlsServer};
use std::path::Path;
use std::time::Duration;

/// A server with the files of a directory.
fn serving(protocols: &[&str], root: &Path) -> TlsServer {
    let root = root.to_path_buf();
    TlsServer::new(protocols, move |path| TlsAnswer {
        body: std::fs::read(root.join(path.trim_start_matches('/'))).ok(),
        location: None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn g6_all_requests_of_a_kind_share_a_connection_of_http2() {
    let mut bench = Bench::new().await;
    let root = bench.directory().join("made");
    let making = Making::new(&root, 0);
    let paths: Vec<_> = (1..=100).map(numbered).collect();
    making.add(&numbered(0), &paths, &nar(b"top"), |_| {});
    for path in &paths {
        making.add(path, &[], &nar(b"x"), |_| {});
    }
    let server = serving(&["h2", "http/1.1"], &root);
    bench.certificates = Some(server.authority().to_vec());
    let substituters = bench.substituters(&[server.url("")]).await;
    bench.obtain_closure(&substituters, &[numbered(0)]).await;
    let requests = server.requests();
    assert!(requests.len() > 200 && requests.iter().all(|request| request.version == "HTTP/2.0"));
    assert!(server.connections() <= 2, "{} connections", server.connections());
}

#[tokio::test(flavor = "multi_thread")]
async fn g6_large_files_over_http2_do_not_hold_up_small_ones() {
    let mut bench = Bench::new().await;
    let root = bench.directory().join("made");
    let making = Making::new(&root, 0);
    let large: Vec<_> = (0..12).map(numbered).collect();
    for path in &large {
        // More than may be on its way.
        making.add(path, &[], &nar(&vec![b'x'; 2 << 20]), |_| {});
    }
    making.add(&path(SIMPLE), &[], &nar(b"small"), |_| {});
    let server = serving(&["h2"], &root);
    bench.certificates = Some(server.authority().to_vec());
    let Surroundings { store_dir, network, known, .. } = bench.surroundings().await;
    let url = server.url("");
    let settings = BinaryCacheUrl::parse(&url).unwrap().unwrap();
    let cache = HttpCache::new(CacheServer::http(&url).unwrap(), settings, store_dir, &network, known);
    cache.properties().await.unwrap();
    let mut offers = Vec::new();
    for path in &large {
        offers.push(cache.path_info(path).await.unwrap().unwrap());
    }
    // All of them come as far as they can, since nobody reads them.
    let mut unread = Vec::new();
    for offer in &offers {
        let Contents { reader, mut feeding } = cache.contents(offer, None, &bench.events).await.unwrap();
        for _ in 0..50 {
            assert!(futures_util::poll!(&mut feeding).is_pending());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        unread.push((reader, feeding));
    }
    assert!(cache.path_info(&path(SIMPLE)).await.unwrap().is_some());
    assert!(server.connections() <= 2, "{} connections", server.connections());
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_not_trusted() {
    let (server, stranger) =
        (serving(&["h2"], &data("cache/2.34-xz")), serving(&["h2"], &data("cache/2.34-xz")));
    let mut bench = Bench::new().await;
    bench.certificates = Some(stranger.authority().to_vec());
    let substituters = bench.substituters(&[server.url("")]).await;
    let error = bench.obtain(&substituters, &path(SIMPLE)).await.unwrap_err();
    assert!(error.contains("': TLS: "), "{error}");
    assert!(server.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_for_the_cache_alone() {
    let other = serving(&["h2"], &data("cache/2.34-xz"));
    let mut bench = Bench::new().await;
    let root = bench.directory().join("made");
    let narinfo = &narinfos(&data("cache/2.34-xz"))[&path(SIMPLE)];
    let url = other.url(&format!("/{}", narinfo.url));
    Making::new(&root, 0);
    let moved = kiln_narinfo::NarInfo { url, ..narinfo.clone() };
    let file = root.join(format!("{}.narinfo", path(SIMPLE).digest()));
    std::fs::write(file, moved.to_text(bench.store.store_dir())).unwrap();
    let server = serving(&["h2"], &root);
    bench.certificates = Some([server.authority(), other.authority()].concat());
    bench.netrc = Some(b"default login me password secret".to_vec());
    let substituters = bench.substituters(&[server.url("")]).await;
    bench.obtain(&substituters, &path(SIMPLE)).await.unwrap();
    let mine = Some("Basic bWU6c2VjcmV0");
    assert!(server.requests().iter().all(|request| request.authorization.as_deref() == mine));
    assert!(
        !other.requests().is_empty()
            && other.requests().iter().all(|request| request.authorization.is_none())
    );
}
