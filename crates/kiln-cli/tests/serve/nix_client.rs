//! Real Nix as a client.

use std::path::PathBuf;
use std::process::Output;

use kiln_testing::NixPeer;

use crate::cutting_proxy::CuttingProxy;
use crate::serving::{PUBLIC, Serving};

/// Real Nix with an empty store below a root.
struct Client {
    nix: NixPeer,
    root: PathBuf,
}

impl Client {
    /// In the scratch directory of a server.
    fn of(serving: &Serving, name: &str) -> Option<Self> {
        let nix = NixPeer::find(&serving.kiln.directory().join("nix"))?;
        Some(Self { nix, root: serving.kiln.directory().join(name) })
    }

    /// Fetches a path, trusting these keys.
    fn fetch(&self, url: &str, keys: &str, path: &str) -> Output {
        let mut command = self.nix.command_in_root("nix-store", &self.root);
        for (name, value) in [
            ("substitute", "true"),
            ("substituters", url),
            ("trusted-public-keys", keys),
            ("require-sigs", "true"),
            ("narinfo-cache-negative-ttl", "0"),
        ] {
            command.args(["--option", name, value]);
        }
        command.args(["-r", path]).output().unwrap()
    }

    fn fetched(&self, url: &str, path: &str) {
        let output = self.fetch(url, PUBLIC.trim_end(), path);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let verified =
            self.nix.command_in_root("nix-store", &self.root).args(["--verify", "--check-contents"]).output();
        let verified = verified.unwrap();
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    }

    fn has(&self, path: &str) -> bool {
        let command =
            self.nix.command_in_root("nix-store", &self.root).args(["--check-validity", path]).output();
        command.unwrap().status.success()
    }
}

#[test]
fn nix_fetches_closures_however_they_are_compressed() {
    for compression in ["none", "zstd"] {
        let serving = Serving::with(&["--compression", compression]);
        let Some(client) = Client::of(&serving, "client") else { return };
        client.fetched(&serving.url, &serving.top);
        assert!(client.has(&serving.lib), "{compression}: what it refers to has come too");
        let is_compressed = serving.narinfo(&serving.lib, "URL").ends_with(".nar.zst");
        assert_eq!(is_compressed, compression == "zstd");
        let sent = serving.counter("kiln_serve_response_bytes_total");
        // The lines of `lib` are 200 KiB, and compress well.
        assert_eq!(sent > 200_000, !is_compressed, "{compression}: {sent} bytes were sent");
    }
}

#[test]
fn nix_believes_the_signatures_and_nothing_else() {
    let serving = Serving::with(&[]);
    let Some(client) = Client::of(&serving, "client") else { return };
    let refused =
        client.fetch(&serving.url, "other-1:bGFsYWxhbGFsYWxhbGFsYWxhbGFsYWxhbGFsYWxhbGE=", &serving.top);
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && errors.contains("sign"), "{errors}");
    assert!(!client.has(&serving.top));
    client.fetched(&serving.url, &serving.top);
}

#[test]
fn nix_goes_on_with_a_transfer_that_broke_off() {
    let serving = Serving::with(&[]);
    let Some(client) = Client::of(&serving, "client") else { return };
    let proxy = CuttingProxy::before(serving.address(), 100_000);
    client.fetched(&proxy.url, &serving.lib);
    assert!(proxy.has_cut());
    let partial = serving.counter("kiln_serve_requests_total{kind=\"nar\",status=\"206\"}");
    assert_eq!(partial, 1, "{}", serving.get("/metrics").text());
}

#[test]
fn nix_looks_into_paths_and_logs() {
    let serving = Serving::with(&[]);
    let Some(client) = Client::of(&serving, "client") else { return };
    let nix = |arguments: &[&str]| {
        let mut command = client.nix.command("nix");
        for variable in ["NIX_STORE_DIR", "NIX_STATE_DIR", "NIX_LOG_DIR"] {
            command.env_remove(variable);
        }
        let output = command.args(arguments).args(["--store", &serving.url]).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let listed = nix(&["store", "ls", "--json", "-R", &serving.top]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let own: serde_json::Value = serde_json::from_slice(
        &serving
            .ask("GET", &format!("/{}.ls", crate::serving::digest(&serving.top)), &["Accept: */*"])
            .unchunked(),
    )
    .unwrap();
    assert_eq!(listed, own["root"], "the listing is that which Nix makes of the archive");
    assert_eq!(nix(&["store", "cat", &format!("{}/bin/run", serving.top)]), "#!/bin/sh\n");
    assert_eq!(nix(&["log", &serving.derivation]), "building top\n");
    let info = nix(&["path-info", "--json", &serving.top]);
    assert!(info.contains("kiln-test-1:") && info.contains(&serving.lib), "{info}");
}
