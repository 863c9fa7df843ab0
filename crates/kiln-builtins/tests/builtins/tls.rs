//! Servers with TLS: who is trusted, and what is spoken.

use crate::bench::Bench;
use crate::server::{Server, answer, drain, header};
use kiln_testing::{TlsAnswer, TlsServer};
use std::time::Duration;

/// A server that answers all requests with this body.
pub(crate) fn serving(protocols: &[&str], body: &'static [u8]) -> TlsServer {
    TlsServer::new(protocols, move |_| TlsAnswer { body: Some(body.to_vec()), ..TlsAnswer::default() })
}

/// A download from a server, with its authority among those that are trusted.
pub(crate) fn fetchurl(server: &TlsServer, url: &str) -> Bench {
    let mut bench = Bench::fetchurl(url);
    let garbage = b"# a comment\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    bench.inputs.certificates = Some([garbage, server.authority()].concat());
    bench
}

static BODY: [u8; 300_000] = [b'x'; 300_000];

#[test]
fn b11_https_speaks_what_the_server_does() {
    for (protocols, version) in
        [(&["h2", "http/1.1"][..], "HTTP/2.0"), (&["http/1.1"], "HTTP/1.1"), (&[], "HTTP/1.1")]
    {
        let server = serving(protocols, &BODY);
        let bench = fetchurl(&server, &server.url("/path"));
        bench.succeed();
        assert_eq!(bench.contents(), BODY);
        let seen = &server.requests()[0];
        assert_eq!(seen.version, version);
        assert!(seen.target.ends_with("/path"), "{}", seen.target);
    }
}

#[test]
fn b11_http2_can_be_turned_off() {
    let server = serving(&["h2", "http/1.1"], b"body");
    let mut bench = fetchurl(&server, &server.url("/"));
    bench.inputs.transfers.http2 = false;
    bench.succeed();
    assert_eq!(server.requests()[0].version, "HTTP/1.1");
}

#[test]
fn b11_strangers_are_not_trusted() {
    let server = serving(&[], b"body");
    let stranger = serving(&[], b"body");
    // By the authorities of somebody else, by the system's, by none at all, under another name.
    let mut others =
        fetchurl(&stranger, &server.url("/")).attempts(3).netrc("default login me password secret");
    others.inputs.transfers.http2 = false;
    let by_system = Bench::fetchurl(&server.url("/")).attempts(3);
    let mut by_nobody = Bench::fetchurl(&server.url("/")).attempts(3);
    by_nobody.inputs.certificates = Some(Vec::new());
    let misnamed = fetchurl(&server, &format!("https://{}/", server.address())).attempts(3);
    for bench in [others, by_system, by_nobody, misnamed] {
        let ran = bench.run();
        let error = ran.result.unwrap_err();
        assert!(error.contains("': TLS: "), "{error}");
        assert!(!ran.log.contains("retrying"), "{}", ran.log);
    }
    assert!(server.requests().is_empty());
}

#[test]
fn b11_no_password_is_sent_from_https_to_http() {
    let netrc = "machine localhost login me password secret";
    let target = Server::answering([answer("200 OK", &[], b"ok")]);
    let server = {
        let location = target.other_url("/");
        TlsServer::new(&["h2"], move |_| TlsAnswer { location: Some(location.clone()), body: None })
    };
    fetchurl(&server, &server.url("/")).netrc(netrc).succeed();
    assert_eq!(server.requests()[0].authorization.as_deref(), Some("Basic bWU6c2VjcmV0"));
    assert_eq!(header(&target.requests()[0], "authorization"), None);
}

#[test]
fn b11_a_handshake_may_not_take_forever() {
    let server = Server::new(|_, _, stream| drain(stream));
    let mut bench = Bench::fetchurl(&server.url("/").replace("http:", "https:"));
    bench.inputs.transfers.connect_timeout = Duration::from_millis(300);
    bench.inputs.certificates = Some(serving(&[], b"").authority().to_vec());
    let error = bench.fail();
    assert!(error.ends_with("couldn't connect to the server: no connection within 0.3 s"), "{error}");
}
