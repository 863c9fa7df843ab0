//! Caches that real Nix wrote, in every way in which it compresses.

use crate::bench::{Bench, DEP2, data, narinfos, path};
use kiln_narinfo::{Compression, SignatureSet};
use kiln_store_path::StorePath;
use kiln_testing::WebServer;
use std::collections::BTreeSet;

const CACHES: [&str; 9] = [
    "2.34-br",
    "2.34-bzip2",
    "2.34-ca",
    "2.34-dbg",
    "2.34-gzip",
    "2.34-none",
    "2.34-xz",
    "2.34-zstd",
    "2.8-ca",
];

async fn read_back(cache: &str, url: String, trusted: bool) {
    let narinfos = narinfos(&data("cache").join(cache));
    let bench = Bench::new().await;
    let url = if trusted { format!("{url}?trusted=1") } else { url };
    let substituters = bench.substituters(&[url]).await;
    let paths: Vec<StorePath> = narinfos.keys().cloned().collect();
    let missing = substituters.missing(paths.clone(), &bench.store).await.unwrap();
    assert_eq!(missing.will_substitute, paths.iter().cloned().collect::<BTreeSet<_>>(), "{cache}");
    let sum = |size: fn(&kiln_narinfo::NarInfo) -> u64| narinfos.values().map(size).sum::<u64>();
    assert_eq!(missing.download_size, sum(|narinfo| narinfo.file_size.unwrap()), "{cache}");
    assert_eq!(missing.nar_size, sum(|narinfo| narinfo.info.nar_size), "{cache}");
    bench.obtain_closure(&substituters, &paths).await;
    for narinfo in narinfos.values() {
        bench.assert_as_stated(&narinfo.info).await;
    }
    let nothing = substituters.missing(paths, &bench.store).await.unwrap();
    assert!(nothing.will_substitute.is_empty() && nothing.unknown.is_empty());
}

/// Whether all paths of a cache carry a signature.
fn is_signed(cache: &str) -> bool {
    let unsigned = SignatureSet::new();
    narinfos(&data("cache").join(cache)).values().all(|narinfo| narinfo.info.signatures != unsigned)
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_caches_in_directories_are_read_back() {
    for cache in CACHES {
        read_back(cache, format!("file://{}", data("cache").join(cache).display()), !is_signed(cache)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_caches_at_servers_are_read_back() {
    for cache in CACHES {
        let server = WebServer::serving(&data("cache").join(cache));
        read_back(cache, server.url(), !is_signed(cache)).await;
        for narinfo in narinfos(&data("cache").join(cache)).values() {
            assert_eq!(server.count(&narinfo.url), 1, "{cache}: {}", narinfo.url);
        }
    }
}

#[test]
fn there_are_caches_of_every_kind() {
    let found: BTreeSet<String> = CACHES
        .iter()
        .flat_map(|cache| narinfos(&data("cache").join(cache)).into_values())
        .map(|narinfo| narinfo.compression.to_string())
        .collect();
    let expected = [
        Compression::None,
        Compression::Brotli,
        Compression::Bzip2,
        Compression::Gzip,
        Compression::Xz,
        Compression::Zstd,
    ];
    assert_eq!(found, expected.iter().map(ToString::to_string).collect::<BTreeSet<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_local_store_is_a_substituter() {
    let bench = Bench::new().await;
    let cache = format!("file://{}", data("cache/2.34-none").display());
    bench.obtain_closure(&bench.substituters(&[cache]).await, &[path(DEP2)]).await;
    let root = bench.directory().join("store");
    let other = Bench::new().await;
    let urls = [root.display().to_string(), format!("local?root={}&trusted=1&priority=3", root.display())];
    for url in urls {
        let other_again = Bench::new().await;
        let substituters = other_again.substituters(&[url]).await;
        other_again.obtain_closure(&substituters, &[path(DEP2)]).await;
        for narinfo in narinfos(&data("cache/2.34-none")).values() {
            let is_there = other_again.store.is_valid(&narinfo.info.path).await.unwrap();
            assert_eq!(is_there, bench.store.is_valid(&narinfo.info.path).await.unwrap());
            if is_there {
                other_again.assert_as_stated(&narinfo.info).await;
            }
        }
    }
    // Where there is no store, none is made.
    let nowhere = other.directory().join("nowhere");
    let substituters = other.substituters(&[nowhere.display().to_string()]).await;
    let error = other.obtain(&substituters, &path(DEP2)).await.unwrap_err();
    assert!(error.contains("there is no store") && !nowhere.exists(), "{error}");
}
