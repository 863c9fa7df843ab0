//! Caches that real Nix writes, and what it thinks of them itself.

use crate::bench::{Bench, signing_key};
use kiln_store_path::StoreDir;
use kiln_testing::{Fault, NixPeer, ScratchDirectory, WebServer};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A file of some size, a link to it, and one that refers to both.
const EXPRESSION: &str = r#"
    let
      make = name: text: derivation {
        inherit name; system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/bin:/usr/bin";
        args = [ "-c" text ];
      };
      big = make "big" "mkdir $out; i=0; while [ $i -lt 40000 ]; do echo line $i; i=$((i+1)); done > $out/lines; chmod +x $out/lines";
      link = make "link" "ln -s ${big}/lines $out";
    in make "top" "mkdir $out; echo ${big} ${link} $out > $out/all"
"#;

struct Peer {
    nix: NixPeer,
    directory: ScratchDirectory,
    top: String,
}

impl Peer {
    fn new() -> Option<Self> {
        let directory = ScratchDirectory::new();
        let nix = NixPeer::find(&directory.path().join("nix"))?;
        let file = directory.path().join("default.nix");
        fs::write(&file, EXPRESSION).unwrap();
        fs::write(directory.path().join("key"), signing_key().to_secret_text()).unwrap();
        let drv = nix.run("nix-instantiate", [file.as_os_str()]);
        let top = nix.run("nix-store", ["-r", drv.trim()]).trim().to_owned();
        nix.run(
            "nix",
            [
                "store",
                "sign",
                "--recursive",
                "--key-file",
                &directory.path().join("key").display().to_string(),
                &top,
            ],
        );
        Some(Self { nix, directory, top })
    }

    /// Copies the closure into a new cache.
    fn cache(&self, parameters: &str) -> PathBuf {
        let root = self.directory.path().join(format!("cache-{parameters}"));
        let url = format!("file://{}?{parameters}", root.display());
        self.nix.run("nix", ["copy", "--to", &url, &self.top]);
        root
    }

    fn closure(&self) -> BTreeSet<String> {
        self.nix.run("nix-store", ["-qR", &self.top]).lines().map(str::to_owned).collect()
    }

    /// A store of Kiln's with the same store directory as the peer's, its files elsewhere.
    async fn bench(&self) -> Bench {
        let store_dir = StoreDir::new(self.nix.store_dir().to_str().unwrap()).unwrap();
        Bench::with(ScratchDirectory::new(), |config| config.locations.store_dir = store_dir).await
    }

    async fn assert_same(&self, bench: &Bench) {
        for path in self.closure() {
            let path = bench.store.store_dir().parse(&path).unwrap();
            let hash = self.nix.run("nix-store", ["-q", "--hash", &bench.store.print(&path)]);
            let info = bench.store.valid_path_info(&path).await.unwrap();
            assert_eq!(format!("sha256:{}", info.nar_hash.nix32()), hash.trim());
            bench.assert_as_stated(&kiln_narinfo::PathInfo { registration_time: 0, ..(*info).clone() }).await;
        }
    }
}

async fn copied_from(peer: &Peer, url: String) -> Bench {
    let bench = peer.bench().await;
    let top = bench.store.store_dir().parse(&peer.top).unwrap();
    let substituters = bench.substituters(&[url]).await;
    bench.obtain_closure(&substituters, &[top]).await;
    peer.assert_same(&bench).await;
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_caches_that_nix_copies_to_are_read() {
    let Some(peer) = Peer::new() else { return };
    for parameters in
        ["compression=xz", "compression=none", "compression=zstd", "compression=bzip2", "compression=gzip"]
    {
        let root = peer.cache(parameters);
        copied_from(&peer, format!("file://{}", root.display())).await;
        let server = WebServer::serving(&root);
        copied_from(&peer, server.url()).await;
        let server = WebServer::serving(&root);
        server.fault("/nar/", 1, Fault::CloseAfter(2000));
        let bench = copied_from(&peer, server.url()).await;
        assert!(bench.heard().contains("retrying from byte "), "{}", bench.heard());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_nix_and_kiln_take_the_same_from_a_server() {
    let Some(peer) = Peer::new() else { return };
    let root = peer.cache("compression=xz");
    let server = WebServer::serving(&root);
    let theirs = NixPeer::find(&peer.directory.path().join("nix")).unwrap();
    // Real Nix, with another database and other files for the same store directory.
    let other = peer.directory.path().join("other");
    let chroot = format!(
        "local?store={}&real={}&state={}&log={}",
        theirs.store_dir().display(),
        below(&other, "real"),
        below(&other, "state"),
        below(&other, "log")
    );
    let key = signing_key().public_key().to_string();
    theirs.run(
        "nix",
        [
            "copy",
            "--from",
            &server.url(),
            "--to",
            &chroot,
            "--option",
            "trusted-public-keys",
            &key,
            &peer.top,
        ],
    );
    let bench = copied_from(&peer, server.url()).await;
    let text = |root: &Path, name: &str| fs::read(root.join(name)).unwrap();
    let name = format!("{}/all", Path::new(&peer.top).file_name().unwrap().to_str().unwrap());
    assert_eq!(text(&other.join("real"), &name), text(&bench.store.config().locations.real_dir, &name));
}

fn below(root: &Path, name: &str) -> String {
    root.join(name).display().to_string()
}
