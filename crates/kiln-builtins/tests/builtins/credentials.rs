//! Passwords: who gets them, and who doesn't.

use crate::bench::Bench;
use crate::server::{Server, answer, header};

/// `me:secret`.
const MINE: Option<&str> = Some("Basic bWU6c2VjcmV0");

fn ok() -> Vec<u8> {
    answer("200 OK", &[], b"ok")
}

fn authorization(server: &Server) -> Option<String> {
    header(&server.requests()[0], "authorization").map(str::to_owned)
}

#[test]
fn b11_netrc_is_for_the_machine_it_names() {
    let server = Server::answering([ok()]);
    Bench::fetchurl(&server.url("/")).netrc("machine 127.0.0.1 login me password secret").succeed();
    assert_eq!(authorization(&server).as_deref(), MINE);

    let server = Server::answering([ok()]);
    Bench::fetchurl(&server.url("/")).netrc("machine localhost login me password secret").succeed();
    assert_eq!(authorization(&server), None);

    let server = Server::answering([ok()]);
    Bench::fetchurl(&server.url("/")).netrc("default login me password secret").succeed();
    assert_eq!(authorization(&server).as_deref(), MINE);
}

#[test]
fn b11_a_url_may_bring_its_own() {
    let server = Server::answering([ok()]);
    let url = format!("http://me:secret@{}/", server.address());
    Bench::fetchurl(&url).netrc("default login other password other").succeed();
    let request = &server.requests()[0];
    assert_eq!(header(request, "authorization"), MINE);
    assert_eq!(header(request, "host"), Some(server.address().to_string().as_str()));
}

#[test]
fn b11_redirects_do_not_carry_passwords_to_other_hosts() {
    let target = Server::answering([ok()]);
    let location = format!("Location: {}", target.other_url("/"));
    let server = Server::answering([answer("302 Found", &[&location], b"")]);
    Bench::fetchurl(&server.url("/"))
        .netrc("machine 127.0.0.1 login me password secret default login any password body")
        .succeed();
    assert_eq!(authorization(&server).as_deref(), MINE);
    assert_eq!(authorization(&target), None);
}

#[test]
fn b11_redirects_to_a_machine_that_netrc_names_get_that_password() {
    let target = Server::answering([ok()]);
    let location = format!("Location: {}", target.other_url("/"));
    let server = Server::answering([answer("302 Found", &[&location], b"")]);
    Bench::fetchurl(&server.url("/")).netrc("machine localhost login me password secret").succeed();
    assert_eq!(authorization(&server), None);
    assert_eq!(authorization(&target).as_deref(), MINE);
}

#[test]
fn b11_redirects_on_the_same_host_keep_the_password_of_the_url() {
    let server = Server::answering([answer("302 Found", &["Location: /b"], b""), ok()]);
    Bench::fetchurl(&format!("http://me:secret@{}/a", server.address())).succeed();
    let requests = server.requests();
    assert_eq!(header(&requests[1], "authorization"), MINE);
}

#[test]
fn b11_passwords_are_told_to_nobody() {
    let server = Server::answering([answer("503 Service Unavailable", &[], b"")]);
    let url = format!("http://me:secret@{}/", server.address());
    let ran = Bench::fetchurl(&url).attempts(2).run();
    let error = ran.result.unwrap_err();
    assert!(error.contains("http://me@127.0.0.1"), "{error}");
    assert!(!error.contains("secret") && !ran.log.contains("secret"), "{error} {}", ran.log);
}

#[test]
fn b11_a_wrong_password_is_not_tried_again() {
    let server = Server::answering([answer("401 Unauthorized", &["WWW-Authenticate: Basic"], b"")]);
    let error = Bench::fetchurl(&server.url("/")).attempts(5).netrc("default login a password b").fail();
    assert!(error.ends_with("HTTP error 401 (Unauthorized)"), "{error}");
    assert_eq!(server.requests().len(), 1);
}
