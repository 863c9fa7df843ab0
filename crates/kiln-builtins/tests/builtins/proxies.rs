//! Connections through proxies.

use crate::bench::Bench;
use crate::server::{Server, answer, header};
use crate::tls::{fetchurl, serving};
use std::io::{Read as _, Write as _, copy};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;

/// `me:secret`.
const MINE: Option<&str> = Some("Basic bWU6c2VjcmV0");

/// Carries bytes both ways until both ends have said everything.
fn relay(client: &mut TcpStream, mut server: TcpStream) {
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let upwards = std::thread::spawn(move || {
        let _ = copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let _ = copy(&mut server, client);
    let _ = client.shutdown(Shutdown::Write);
    upwards.join().unwrap();
}

/// A proxy that connects whoever asks for it.
fn tunnelling() -> Server {
    Server::new(|_, head, client| {
        let server = head.strip_prefix("CONNECT ").and_then(|head| head.split(' ').next()).unwrap();
        // Not every system knows the name.
        let server = TcpStream::connect(server.replace("localhost", "127.0.0.1")).unwrap();
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
        relay(client, server);
    })
}

#[test]
fn b11_http_goes_through_its_proxy() {
    let proxy = Server::answering([answer("200 OK", &[], b"by proxy")]);
    let mut bench = Bench::fetchurl("http://nowhere.invalid/path?query");
    bench.inputs.transfers.proxies.http = proxy.url("/").replace("http://", "http://me:secret@");
    bench.succeed();
    assert_eq!(bench.contents(), b"by proxy");
    let request = &proxy.requests()[0];
    assert!(request.starts_with("GET http://nowhere.invalid/path?query HTTP/1.1\r\n"), "{request}");
    assert_eq!(header(request, "host"), Some("nowhere.invalid"));
    assert_eq!(header(request, "proxy-authorization"), MINE);
    assert_eq!(header(request, "authorization"), None);
}

#[test]
fn b11_https_goes_through_a_tunnel() {
    let server = serving(&["h2"], b"by tunnel");
    let proxy = tunnelling();
    let mut bench = fetchurl(&server, &server.url("/")).netrc("default login you password other");
    bench.inputs.transfers.proxies.https = proxy.url("").replace("http://", "me:secret@");
    bench.succeed();
    assert_eq!(bench.contents(), b"by tunnel");
    let request = &proxy.requests()[0];
    let host = server.url("").replace("https://", "");
    assert!(request.starts_with(&format!("CONNECT {host} HTTP/1.1\r\n")), "{request}");
    assert_eq!(header(request, "proxy-authorization"), MINE);
    assert_eq!(header(request, "authorization"), None);
    assert_eq!(server.requests()[0].authorization.as_deref(), Some("Basic eW91Om90aGVy"));
}

#[test]
fn b11_a_proxy_that_refuses() {
    let proxy = Server::answering([answer("403 Forbidden", &[], b"")]);
    let mut bench = Bench::fetchurl("https://nowhere.invalid/");
    bench.inputs.certificates = Some(serving(&[], b"").authority().to_vec());
    bench.inputs.transfers.proxies.all = proxy.url("");
    let error = bench.fail();
    assert!(error.contains("couldn't connect to the server: "), "{error}");
    assert!(proxy.requests()[0].starts_with("CONNECT nowhere.invalid:443 "));
}

#[test]
fn b11_some_hosts_need_no_proxy() {
    let proxy = Server::answering([answer("200 OK", &[], b"by proxy")]);
    let server = Server::answering([answer("200 OK", &[], b"direct")]);
    for (none, contents) in [("127.0.0.0/8", &b"direct"[..]), ("*", b"direct"), ("localhost", b"by proxy")] {
        let mut bench = Bench::fetchurl(&server.url("/"));
        bench.inputs.transfers.proxies.all = proxy.url("");
        bench.inputs.transfers.proxies.none = none.to_owned();
        bench.succeed();
        assert_eq!(bench.contents(), contents, "{none}");
    }
}

#[test]
fn b11_derivations_do_not_choose_the_proxy() {
    let proxy = Server::answering([answer("200 OK", &[], b"by proxy")]);
    let server = Server::answering([answer("200 OK", &[], b"direct")]);
    let bench = Bench::fetchurl(&server.url("/"))
        .with("http_proxy", &proxy.url(""))
        .with("all_proxy", &proxy.url(""));
    bench.succeed();
    assert!(proxy.requests().is_empty());
}

#[test]
fn b11_a_proxy_may_have_tls() {
    let proxy = serving(&["http/1.1"], b"by proxy");
    let mut bench = fetchurl(&proxy, "http://nowhere.invalid/path");
    bench.inputs.transfers.proxies.http = proxy.url("/");
    bench.succeed();
    assert_eq!(bench.contents(), b"by proxy");
    assert_eq!(proxy.requests()[0].target, "http://nowhere.invalid/path");
}

/// A SOCKS proxy that wants a password, and connects whoever has it to `server`, whatever they ask for. Returns what
/// they asked for.
fn socks(server: SocketAddr) -> (String, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let thread = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let read = |length: usize| {
            let mut bytes = vec![0; length];
            (&client).read_exact(&mut bytes).unwrap();
            bytes
        };
        let methods = read(2)[1];
        assert!(read(methods.into()).contains(&2));
        (&client).write_all(&[5, 2]).unwrap();
        assert_eq!(read(11), b"\x01\x02me\x06secret");
        (&client).write_all(&[1, 0]).unwrap();
        let head = read(5);
        assert_eq!(head[..4], [5, 1, 0, 3]);
        let wanted = read(usize::from(head[4]) + 2);
        (&client).write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 1]).unwrap();
        relay(&mut client, TcpStream::connect(server).unwrap());
        wanted
    });
    (address, thread)
}

#[test]
fn b11_socks_proxies_look_up_names_themselves() {
    let server = Server::answering([answer("200 OK", &[], b"by socks")]);
    let (address, proxy) = socks(server.address());
    let mut bench = Bench::fetchurl("http://nowhere.invalid/path");
    bench.inputs.transfers.proxies.all = format!("socks5h://me:secret@{address}");
    bench.succeed();
    assert_eq!(bench.contents(), b"by socks");
    assert_eq!(proxy.join().unwrap(), b"nowhere.invalid\x00\x50");
    let request = &server.requests()[0];
    assert!(request.starts_with("GET /path HTTP/1.1\r\n"), "{request}");
    assert_eq!(header(request, "proxy-authorization"), None);
}

#[test]
fn b11_other_proxies_are_refused() {
    let mut bench = Bench::fetchurl("http://nowhere.invalid/");
    bench.inputs.transfers.proxies.all = "socks4://127.0.0.1:1".to_owned();
    let error = bench.fail();
    assert!(error.contains("proxies with scheme 'socks4' are not supported"), "{error}");
}
