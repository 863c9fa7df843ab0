//! Kiln as a client.

use kiln_testing::Kiln;

use crate::KILN;
use crate::cutting_proxy::CuttingProxy;
use crate::serving::{PUBLIC, Serving};

fn client(url: &str) -> Kiln {
    Kiln::as_used(KILN).option("substituters", url).option("trusted-public-keys", PUBLIC.trim_end())
}

#[test]
fn kiln_fetches_closures_however_they_are_compressed() {
    for compression in ["none", "zstd"] {
        let serving = Serving::with(&["--compression", compression]);
        let client = client(&serving.url);
        client.run(["build", "--no-link", &serving.top]).line();
        assert_eq!(client.run(["store", "verify"]).code, Some(0));
        assert_eq!(
            client.info(&serving.lib).unwrap()["narHash"],
            serving.kiln.info(&serving.lib).unwrap()["narHash"]
        );
        let sent = serving.counter("kiln_serve_response_bytes_total");
        assert_eq!(sent > 200_000, compression == "none", "{compression}: {sent} bytes were sent");
    }
}

#[test]
fn kiln_goes_on_with_a_transfer_that_broke_off() {
    let serving = Serving::with(&[]);
    let proxy = CuttingProxy::before(serving.address(), 100_000);
    client(&proxy.url).run(["build", "--no-link", &serving.lib]).line();
    assert!(proxy.has_cut());
    assert_eq!(serving.counter("kiln_serve_requests_total{kind=\"nar\",status=\"206\"}"), 1);
}

#[test]
fn kiln_believes_the_signatures_and_nothing_else() {
    let serving = Serving::with(&[]);
    let other = client(&serving.url).option("trusted-public-keys", "");
    assert_ne!(other.run(["build", "--no-link", &serving.top]).code, Some(0));
    assert!(other.info(&serving.top).is_none());
}
