//! Caches that Nix 2.34 has written come out of a copy as they were, byte by byte: file names, narinfos, signatures,
//! listings.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use kiln_cache::{CacheWriter, CopyRequest, Destination, Error, Source, WriteOptions, Written, copy};
use kiln_events::EventSender;
use kiln_http::TransferSettings;
use kiln_narinfo::{NarInfo, SignatureSet};
use kiln_settings::BinaryCacheUrl;
use kiln_store_path::{StoreDir, StorePath};
use kiln_substitute::{LookupCache, Network, Surroundings, TimeToLive, TrustPolicy};

const TOP: &str = "lj3q75s8vxysliflp8z0a7w75mpl98wh-dep2";

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path)
}

async fn surroundings() -> Surroundings {
    Surroundings {
        store_dir: StoreDir::default(),
        network: Network::new(TransferSettings::default(), 1, None, None),
        known: LookupCache::open(None, TimeToLive::default()).await.unwrap(),
        daemon_socket: "/nonexistent/socket".into(),
        ssh_options: None,
        trust: TrustPolicy::default(),
    }
}

async fn writer(directory: &Path, parameters: &str) -> CacheWriter {
    let url = format!("file://{}?{parameters}", directory.display());
    let url = BinaryCacheUrl::parse(&url).unwrap().unwrap();
    let (options, unknown) = WriteOptions::from_url("cache", &url).unwrap();
    assert!(unknown.is_empty());
    let network = surroundings().await.network;
    CacheWriter::open(&url, options, StoreDir::default(), &network).await.unwrap()
}

/// All files below a directory.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                found.insert(path.strip_prefix(directory).unwrap().to_owned(), bytes);
            }
        }
    }
    found
}

async fn copied(sample: &str, parameters: &str) -> (BTreeMap<PathBuf, Vec<u8>>, BTreeMap<PathBuf, Vec<u8>>) {
    let golden = data(&format!("cache/2.34-{sample}"));
    let target = tempfile::tempdir().unwrap();
    let source = Source::open(&format!("file://{}", golden.display()), &surroundings().await).unwrap();
    let destination = Destination::Cache(writer(target.path(), parameters).await);
    let request = CopyRequest {
        paths: vec![StorePath::from_base_name(TOP).unwrap()],
        recursive: true,
        realisations: Vec::new(),
        logs: false,
        contents: BTreeMap::new(),
    };
    let copied = copy(&source, &destination, &request, None, &EventSender::null()).await.unwrap();
    assert_eq!(copied.paths.len(), 6);
    drop(destination);
    (contents(&golden), contents(target.path()))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bytes_where_compression_is_the_same() {
    for sample in ["none", "xz", "bzip2"] {
        let (golden, ours) = copied(sample, &format!("compression={sample}&write-nar-listing=1")).await;
        assert!(golden.keys().eq(ours.keys()), "{sample}: {:?}", ours.keys());
        for (name, bytes) in &golden {
            assert!(*bytes == ours[name], "{sample}: {}", name.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_listings_and_signatures_with_every_compression() {
    for sample in ["none", "xz", "zstd", "bzip2", "br", "gzip"] {
        let (golden, ours) = copied(sample, &format!("compression={sample}&write-nar-listing=1")).await;
        let narinfo = |bytes: &[u8]| NarInfo::parse(&StoreDir::default(), "sample", bytes).unwrap();
        for (name, bytes) in &golden {
            match name.extension().and_then(|extension| extension.to_str()) {
                Some("ls") => assert!(*bytes == ours[name], "{sample}: {}", name.display()),
                Some("narinfo") => assert_eq!(narinfo(bytes).info, narinfo(&ours[name]).info, "{sample}"),
                _ => {}
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_again_gives_the_signature_of_nix() {
    let directory = tempfile::tempdir().unwrap();
    let key = data("kiln-test-1.sec");
    let cache = writer(directory.path(), &format!("compression=none&secret-key={}", key.display())).await;
    let golden = fs::read(data("cache/2.34-none/mz985b11rp8ccbhb4gcc1bpxwpxvbw6d.narinfo")).unwrap();
    let narinfo = NarInfo::parse(&StoreDir::default(), "sample", &golden).unwrap();
    let mut info = narinfo.info.clone();
    info.signatures = SignatureSet::new();
    let nar = fs::File::open(data("cache/2.34-none").join(&narinfo.url)).unwrap();
    assert!(matches!(cache.add(&info, nar).await.unwrap(), Written::New { file_size: 120, unlisted: None }));
    let written = directory.path().join("mz985b11rp8ccbhb4gcc1bpxwpxvbw6d.narinfo");
    assert!(fs::read(written).unwrap() == golden);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_as_announced_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let cache = writer(directory.path(), "compression=zstd&write-nar-listing=1").await;
    let golden = fs::read(data("cache/2.34-none/mz985b11rp8ccbhb4gcc1bpxwpxvbw6d.narinfo")).unwrap();
    let narinfo = NarInfo::parse(&StoreDir::default(), "sample", &golden).unwrap();
    let nar = fs::read(data("cache/2.34-none").join(&narinfo.url)).unwrap();
    let mut other = nar.clone();
    let position = other.windows(5).position(|window| window == b"hello").unwrap_or(100);
    other[position] ^= 1;
    for (bad, expected) in [
        (nar[..nar.len() - 1].to_vec(), "size"),
        ([&nar[..], b"x"].concat(), "size"),
        (Vec::new(), "size"),
        (other, "hash"),
    ] {
        match cache.add(&narinfo.info, std::io::Cursor::new(bad)).await {
            Err(Error::Mismatch { what, .. }) => assert_eq!(what, expected),
            Err(Error::Pack { .. }) => {}
            result => panic!("{result:?}"),
        }
    }
    assert_eq!(contents(directory.path()).into_keys().collect::<Vec<_>>(), [PathBuf::from("nix-cache-info")]);
    assert!(!cache.has(&narinfo.info.path).await.unwrap());
    cache.add(&narinfo.info, std::io::Cursor::new(nar)).await.unwrap();
    assert!(cache.has(&narinfo.info.path).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_of_another_store_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("nix-cache-info"), "StoreDir: /gnu/store\n").unwrap();
    let url = BinaryCacheUrl::parse(&format!("file://{}", directory.path().display())).unwrap().unwrap();
    let network = surroundings().await.network;
    let opened = CacheWriter::open(&url, WriteOptions::default(), StoreDir::default(), &network).await;
    assert!(opened.is_err_and(|error| error.to_string().contains("/gnu/store")));
}
