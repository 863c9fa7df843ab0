//! Servers that fail: what is tried again, from where, and what isn't.

use crate::bench::Bench;
use crate::server::{Server, answer, answer_of, drain, header};
use std::io::Write as _;
use std::net::TcpListener;
use std::time::{Duration, Instant};

const OK: &[u8] = b"the whole file, all of it";

fn ok() -> Vec<u8> {
    answer("200 OK", &[], OK)
}

/// The start of an answer that promises more than there is.
fn cut(headers: &[&str], length: usize) -> Vec<u8> {
    let promised = format!("Content-Length: {}", OK.len());
    answer_of("200 OK", &[headers, &[&promised]].concat(), &OK[..length])
}

/// The rest of the file from byte 10.
fn rest(range: &str) -> Vec<u8> {
    answer("206 Partial Content", &[&format!("Content-Range: {range}")], &OK[10..])
}

#[test]
fn b11_what_is_not_there_is_not_asked_for_again() {
    for status in ["404 Not Found", "403 Forbidden", "401 Unauthorized", "410 Gone", "501 Not Implemented"] {
        let server = Server::answering([answer(status, &[], b"<html>no</html>")]);
        let url = server.url("/file");
        let error = Bench::fetchurl(&url).attempts(5).fail();
        let (code, reason) = status.split_once(' ').unwrap();
        assert_eq!(error, format!("unable to download '{url}': HTTP error {code} ({reason})"));
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn b11_servers_with_trouble_are_asked_again() {
    let trouble = ["503 Service Unavailable", "500 Internal Server Error", "408 Request Timeout"];
    for status in trouble {
        let server = Server::answering([answer(status, &[], b"wait"), ok()]);
        let bench = Bench::fetchurl(&server.url("/")).attempts(2);
        let start = Instant::now();
        let log = bench.succeed();
        assert!(start.elapsed() >= Duration::from_millis(250));
        assert_eq!(bench.contents(), OK);
        assert_eq!(server.requests().len(), 2);
        let code = &status[..3];
        assert!(log.contains("warning: unable to download '") && log.contains(code), "{log}");
        assert!(log.contains("; retrying in "), "{log}");
    }
}

#[test]
fn b11_there_are_so_many_attempts_and_no_more() {
    let server = Server::answering([answer("502 Bad Gateway", &[], b"")]);
    let ran = Bench::fetchurl(&server.url("/")).attempts(3).run();
    assert!(ran.result.unwrap_err().ends_with("HTTP error 502 (Bad Gateway)"));
    assert_eq!(server.requests().len(), 3);
    assert_eq!(ran.log.matches("retrying").count(), 2);

    let server = Server::answering([answer("502 Bad Gateway", &[], b"")]);
    Bench::fetchurl(&server.url("/")).attempts(0).fail();
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn b11_servers_say_when_they_want_to_be_asked_again() {
    for status in ["429 Too Many Requests", "503 Service Unavailable"] {
        let server = Server::answering([answer(status, &["Retry-After: 1"], b""), ok()]);
        let bench = Bench::fetchurl(&server.url("/")).attempts(2);
        let start = Instant::now();
        bench.succeed();
        let took = start.elapsed();
        assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(20), "{took:?}");
        assert_eq!(bench.contents(), OK);
    }
}

#[test]
fn b11_nobody_is_there() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ran = Bench::fetchurl(&format!("http://{unused}/")).attempts(2).run();
    let error = ran.result.unwrap_err();
    assert!(
        error.contains("couldn't connect to the server") && error.contains("Connection refused"),
        "{error}"
    );
    assert_eq!(ran.log.matches("retrying").count(), 1);
}

#[test]
fn b11_what_is_not_http_fails() {
    for garbage in [&b"SSH-2.0-OpenSSH\r\n"[..], b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello"]
    {
        let server = Server::answering([garbage]);
        let error = Bench::fetchurl(&server.url("/")).fail();
        assert!(error.contains("the transfer failed: "), "{error}");
    }
}

#[test]
fn b11_a_broken_transfer_goes_on_where_it_ended() {
    let headers = ["Accept-Ranges: bytes", "ETag: \"v1\""];
    let server = Server::answering([cut(&headers, 10), rest("bytes 10-24/25")]);
    let bench = Bench::fetchurl(&server.url("/")).attempts(2);
    let log = bench.succeed();
    assert_eq!(bench.contents(), OK);
    let requests = server.requests();
    assert_eq!(header(&requests[0], "range"), None);
    assert_eq!(header(&requests[1], "range"), Some("bytes=10-"));
    assert_eq!(header(&requests[1], "if-range"), Some("\"v1\""));
    assert!(log.contains("retrying from byte 10 in "), "{log}");
}

#[test]
fn b11_a_transfer_may_break_more_than_once() {
    let middle = [&rest("bytes 10-24/25")[..], b""].concat();
    let middle = &middle[..middle.len() - 5];
    let end = answer("206 Partial Content", &["Content-Range: bytes 20-24/25"], &OK[20..]);
    let server = Server::answering([&cut(&["Accept-Ranges: bytes"], 10)[..], middle, &end]);
    let bench = Bench::fetchurl(&server.url("/")).attempts(3);
    bench.succeed();
    assert_eq!(bench.contents(), OK);
    assert_eq!(header(&server.requests()[2], "range"), Some("bytes=20-"));
}

#[test]
fn b11_without_ranges_a_broken_transfer_starts_again() {
    for headers in [&[][..], &["Accept-Ranges: none"], &["Accept-Ranges: bytes", "Content-Encoding: gzip"]] {
        let server = Server::answering([cut(headers, 10), ok()]);
        let bench = Bench::fetchurl(&server.url("/")).attempts(2);
        bench.succeed();
        assert_eq!(bench.contents(), OK);
        assert_eq!(header(&server.requests()[1], "range"), None);
    }
}

#[test]
fn b11_a_file_that_has_changed_is_taken_from_its_start() {
    let accept = ["Accept-Ranges: bytes"];
    // It has another version now, and sends that whole.
    let server = Server::answering([cut(&accept, 10), answer("200 OK", &[], b"another")]);
    let bench = Bench::fetchurl(&server.url("/")).attempts(2);
    bench.succeed();
    assert_eq!(bench.contents(), b"another");
    // It sends some other part, or nothing.
    for wrong in [
        rest("bytes 9-23/25"),
        rest("bytes 10-24/26"),
        answer("206 Partial Content", &[], &OK[10..]),
        answer("416 Range Not Satisfiable", &["Content-Range: bytes */5"], b""),
    ] {
        let server = Server::answering([cut(&accept, 10), wrong, ok()]);
        let bench = Bench::fetchurl(&server.url("/")).attempts(3);
        bench.succeed();
        assert_eq!(bench.contents(), OK);
        assert_eq!(header(&server.requests()[2], "range"), None);
    }
}

#[test]
fn b11_a_file_that_stays_short_is_an_error() {
    let server = Server::answering([cut(&[], 10)]);
    let error = Bench::fetchurl(&server.url("/")).attempts(2).fail();
    assert!(error.contains("the transfer failed: "), "{error}");
    assert_eq!(server.requests().len(), 2);

    let chunked = answer_of("200 OK", &["Transfer-Encoding: chunked"], b"5\r\nhello\r\n5\r\nwo");
    let server = Server::answering([chunked]);
    assert!(Bench::fetchurl(&server.url("/")).fail().contains("the transfer failed: "));
}

#[test]
fn b11_a_part_that_nobody_asked_for_is_an_error() {
    let server = Server::answering([rest("bytes 10-24/25")]);
    let error = Bench::fetchurl(&server.url("/")).attempts(2).fail();
    assert!(error.ends_with("HTTP error 206 (Partial Content)"), "{error}");
}

#[test]
fn b11_a_stalled_transfer_is_given_up() {
    let limit = Duration::from_secs(1);
    for silent_after in [&b""[..], &cut(&[], 10)] {
        let start_of_answer = silent_after.to_vec();
        let server = Server::new(move |_, _, stream| {
            let _ = stream.write_all(&start_of_answer);
            drain(stream);
        });
        let mut bench = Bench::fetchurl(&server.url("/"));
        bench.inputs.transfers.stalled_download_timeout = limit;
        let start = Instant::now();
        let error = bench.fail();
        assert!(error.ends_with("the transfer stalled: less than a byte a second for 1 s"), "{error}");
        assert!(start.elapsed() >= limit && start.elapsed() < limit * 20, "{:?}", start.elapsed());
    }
}

#[test]
fn b11_a_slow_transfer_is_not_a_stalled_one() {
    let server = Server::new(|_, _, stream| {
        let _ = stream.write_all(&cut(&[], 0));
        for byte in OK.iter().take(8) {
            std::thread::sleep(Duration::from_millis(250));
            let _ = stream.write_all(&[*byte]);
        }
        let _ = stream.write_all(&OK[8..]);
    });
    let mut bench = Bench::fetchurl(&server.url("/"));
    bench.inputs.transfers.stalled_download_timeout = Duration::from_secs(1);
    bench.succeed();
    assert_eq!(bench.contents(), OK);
}

/// No resolver is asked about these names, and hardly one would know this one.
#[test]
fn names_below_localhost_are_this_machine() {
    let server = Server::answering([ok()]);
    let bench = Bench::fetchurl(&server.url("/file").replace("127.0.0.1", "cache.localhost"));
    bench.succeed();
    assert_eq!(bench.contents(), OK);
}

#[test]
fn b11_redirects_are_followed() {
    let target = Server::answering([ok()]);
    let location = format!("Location: {}", target.other_url("/moved"));
    for status in
        ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]
    {
        let server = Server::answering([
            answer(status, &["Location: ../here?x=a b"], b"gone"),
            answer(status, &[&location], b""),
        ]);
        let bench = Bench::fetchurl(&server.url("/dir/sub/file"));
        bench.succeed();
        assert_eq!(bench.contents(), OK);
        assert!(server.requests()[1].starts_with("GET /dir/here?x=a%20b HTTP/1.1\r\n"));
    }
    assert!(target.requests()[0].starts_with("GET /moved HTTP/1.1\r\n"));
}

#[test]
fn b11_redirects_come_to_an_end() {
    let server = Server::answering([answer("302 Found", &["Location: /loop"], b"")]);
    let error = Bench::fetchurl(&server.url("/")).attempts(5).fail();
    assert!(error.ends_with("there were more than 10 redirects"), "{error}");
    assert_eq!(server.requests().len(), 11);

    let mut answers = vec![answer("302 Found", &["Location: /next"], b""); 10];
    answers.push(ok());
    let server = Server::answering(answers);
    Bench::fetchurl(&server.url("/")).succeed();
}

#[test]
fn b11_redirects_lead_to_servers_only() {
    for location in ["file:///etc/passwd", "ftp://127.0.0.1/", "data:text/plain,x", "http://"] {
        let header = format!("Location: {location}");
        let server = Server::answering([answer("302 Found", &[&header], b"")]);
        let bench = Bench::fetchurl(&server.url("/")).attempts(5);
        let error = bench.fail();
        assert!(error.contains(&format!("redirects to '{location}', which can't be followed")), "{error}");
        assert_eq!(server.requests().len(), 1);
    }
    let server = Server::answering([answer("302 Found", &[], b"")]);
    assert!(Bench::fetchurl(&server.url("/")).fail().ends_with("HTTP error 302 (Found)"));
}

#[test]
fn b11_a_redirect_is_followed_anew_when_a_transfer_breaks() {
    let target = Server::answering([cut(&["Accept-Ranges: bytes"], 10), rest("bytes 10-24/25")]);
    let location = format!("Location: {}", target.url("/"));
    let server = Server::answering([answer("302 Found", &[&location], b"")]);
    let bench = Bench::fetchurl(&server.url("/")).attempts(2);
    bench.succeed();
    assert_eq!(bench.contents(), OK);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn b11_an_endless_head_is_not_read_to_its_end() {
    let server = Server::new(|_, _, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        let line = [b"X-Long: ".to_vec(), vec![b'x'; 60_000], b"\r\n".to_vec()].concat();
        for _ in 0..1000 {
            if stream.write_all(&line).is_err() {
                return;
            }
        }
    });
    let error = Bench::fetchurl(&server.url("/")).fail();
    assert!(error.contains("the transfer failed: "), "{error}");
}
