//! What is answered to requests that are usual, odd, and hostile.

use crate::serving::{Answer, Serving, digest};

impl Answer {
    /// The body of an answer that came in chunks.
    pub(crate) fn unchunked(&self) -> Vec<u8> {
        assert_eq!(self.header("transfer-encoding"), Some("chunked"), "{}", self.head);
        let (mut rest, mut body) = (self.body.as_slice(), Vec::new());
        loop {
            let end = rest.windows(2).position(|bytes| bytes == b"\r\n").expect("the length of a chunk");
            let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
            if length == 0 {
                return body;
            }
            body.extend_from_slice(&rest[end + 2..][..length]);
            rest = &rest[end + 2 + length + 2..];
        }
    }
}

#[test]
fn archives_come_whole_and_in_parts() {
    let serving = Serving::with(&[]);
    let url = format!("/{}", serving.narinfo(&serving.lib, "URL"));
    let dumped = serving.kiln.command(["store", "dump", &serving.lib]).output().unwrap().stdout;
    let size = dumped.len();
    let whole = serving.get(&url);
    assert_eq!((whole.status(), whole.header("accept-ranges")), ("200", Some("bytes")));
    assert!(whole.body == dumped);
    let tag = whole.header("etag").unwrap().to_owned();
    let part = |lines: &[&str]| serving.ask("GET", &url, lines);
    for (range, start, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=5-", 5, size),
        ("bytes=1000-99999", 1000, 100_000),
        ("bytes=-7", size - 7, size),
    ] {
        let answer = part(&[&format!("Range: {range}")]);
        assert_eq!(answer.status(), "206", "{range}");
        assert_eq!(answer.header("content-range"), Some(&*format!("bytes {start}-{}/{size}", end - 1)));
        assert_eq!(answer.header("content-length"), Some(&*(end - start).to_string()));
        assert!(answer.body == dumped[start..end], "{range}");
    }
    let beyond = part(&[&format!("Range: bytes={size}-")]);
    assert_eq!((beyond.status(), beyond.header("content-range")), ("416", Some(&*format!("bytes */{size}"))));
    let range = "Range: bytes=10-";
    assert_eq!(part(&[range, &format!("If-Range: {tag}")]).status(), "206");
    assert_eq!(part(&[range, "If-Range: \"other\""]).status(), "200");
    assert_eq!(part(&[range, &format!("If-Range: W/{tag}")]).status(), "200");
    for odd in ["bytes=9-5", "bytes=1-2,4-5", "bytes=x", "lines=1-2", "bytes=--"] {
        assert_eq!(part(&[&format!("Range: {odd}")]).status(), "200", "{odd}");
    }
    let same = part(&[&format!("If-None-Match: \"x\", {tag}")]);
    assert_eq!((same.status(), same.body.len()), ("304", 0));
    let head = serving.ask("HEAD", &url, &[]);
    assert_eq!((head.status(), head.body.len()), ("200", 0));
    assert_eq!(head.header("content-length"), Some(&*size.to_string()));
    let encoded = serving.ask("GET", &format!("{url}.zst"), &[]);
    assert_eq!(encoded.header("accept-ranges"), Some("none"));
    assert!(encoded.unchunked().len() < size);
}

#[test]
fn only_what_is_valid_is_there() {
    let serving = Serving::with(&[]);
    let (lib, top) = (digest(&serving.lib), digest(&serving.top));
    let url = serving.narinfo(&serving.lib, "URL");
    let (_, hash) = url.split_once('-').unwrap();
    for target in [
        "/00000000000000000000000000000000.narinfo",
        "/00000000000000000000000000000000.ls",
        "/path/00000000000000000000000000000000",
        "/log/00000000000000000000000000000000-x.drv",
        &format!("/nar/00000000000000000000000000000000-{hash}"),
        // The archive of another path, and the hash with a byte that is wrong.
        &format!("/nar/{top}-{hash}"),
        &format!("/nar/{lib}-0{}", &hash[1..]),
        &format!("/nar/{lib}.nar"),
        &format!("/realisations/sha256:{}!out.doi", "00".repeat(32)),
        "/../../../../etc/passwd",
        "/log/../../../../etc/passwd",
        "/log/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/nar/%00",
        "/nix/store",
        "/favicon.ico",
    ] {
        let answer = serving.get(target);
        assert_eq!(answer.status(), "404", "{target}: {}", answer.head);
        assert_eq!(serving.ask("HEAD", target, &[]).body.len(), 0);
    }
    // A path whose files are there, but that is not valid.
    serving.kiln.forget(&serving.top);
    assert_eq!(serving.get(&format!("/{top}.narinfo")).status(), "404");
}

#[test]
fn who_does_not_speak_properly_is_refused_and_nobody_else() {
    let serving = Serving::with(&[]);
    let long = "x".repeat(100_000);
    let many = "X: y\r\n".repeat(1000);
    for (request, statuses) in [
        (format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"), &["414", "431"][..]),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n"), &["431"]),
        (format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n"), &["431"]),
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 6\r\n\r\n".to_owned(), &["400"]),
        ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: x\r\n\r\n".to_owned(), &["400"]),
        ("GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), &["400"]),
        ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), &["400", ""]),
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), &["400", "505", ""]),
    ] {
        let answer = serving.exchange(&request);
        assert!(statuses.contains(&answer.status()), "{:.60}: {:.200}", request, answer.head);
    }
    for method in ["PUT", "POST", "DELETE", "PATCH", "OPTIONS", "BREW"] {
        let answer = serving.ask(method, "/nix-cache-info", &["Content-Length: 0"]);
        assert_eq!((answer.status(), answer.header("allow")), ("405", Some("GET, HEAD")), "{method}");
    }
    let old = serving.exchange("GET /nix-cache-info HTTP/1.0\r\n\r\n");
    assert_eq!(old.status(), "200", "{}", old.head);
    let log = format!("GET /log/{} HTTP/1.0\r\n\r\n", &serving.derivation["/nix/store/".len()..]);
    assert_eq!(serving.exchange(log).status(), "505", "its end could not be told from a broken connection");
    // Several requests at once on one connection.
    let twice = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()
        + "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let both = serving.exchange(twice);
    assert_eq!(String::from_utf8_lossy(&both.body).matches("HTTP/1.1 200 OK").count(), 1);
    assert_eq!(serving.get("/health").text(), "ok\n");
}

#[test]
fn people_see_what_is_in_a_path() {
    let serving = Serving::with(&[]);
    let page = serving.get(&format!("/path/{}", digest(&serving.top)));
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    let text = page.text();
    let derivation = &serving.derivation["/nix/store/".len()..];
    for part in [
        "<code>&lt;b&gt;&amp;</code>",
        "<code>bin/run</code></td>\n<td>executable file</td><td>10</td>",
        "link to <code>lib</code>",
        &format!("<a href=\"/path/{}\">", digest(&serving.lib)),
        &format!("<a href=\"/log/{derivation}\">log of the build</a>"),
        ", 2 paths</dd>",
        "signed when asked for, with kiln-test-1",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("<b>") && !text.contains("<script"), "{text}");
    let log = serving.get(&format!("/log/{derivation}"));
    assert_eq!(log.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(log.unchunked(), b"building top\n");
    let home = serving.ask("GET", "/", &["X: y"]).text();
    assert!(home.contains("extra-substituters = http://cache\n"), "{home}");
    assert!(
        home.contains(&format!("extra-trusted-public-keys = {}", crate::serving::PUBLIC.trim_end())),
        "{home}"
    );
    let evil = serving.exchange("GET / HTTP/1.1\r\nHost: x\"><script>\r\nConnection: close\r\n\r\n");
    assert!(!String::from_utf8_lossy(&evil.body).contains("<script"), "{evil:?}");
    let found = serving.get(&format!("/path?q={}", serving.top.replace('/', "%2F")));
    assert_eq!(
        (found.status(), found.header("location")),
        ("303", Some(&*format!("/path/{}", digest(&serving.top))))
    );
}
