//! Builders that are part of the program, in the builder's world (B11).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

use kiln_testing::Kiln;

fn kiln() -> Kiln {
    // The loopback interface is the machine's.
    Kiln::as_used(env!("CARGO_BIN_EXE_kiln")).option("fod-network", "host")
}

/// A server that gives each request this answer; what it is asked is noted.
struct Server {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(status: &'static str, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = Arc::clone(&heads);
        // It ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                noted.lock().unwrap().push(head.join("\n"));
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
                // Who asked may have gone.
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self { address, heads }
    }

    fn url(&self) -> String {
        format!("http://{}/hello.txt", self.address)
    }
}

/// What `sha256sum` says of the text "hello\n".
const HELLO: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

fn fetch(url: &str, more: &str) -> String {
    format!(
        "[derivation.it]\nsystem = \"builtin\"\nbuilder = \"builtin:fetchurl\"\noutputHash = \"{HELLO}\"\n\
         outputHashAlgo = \"sha256\"\noutputHashMode = \"flat\"\nenv.url = \"{url}\"\n{more}\n"
    )
}

#[test]
fn b11_fetchurl_downloads_a_fixed_output() {
    let server = Server::start("200 OK", "hello\n");
    let kiln = kiln();
    let path = kiln.build(&fetch(&server.url(), ""), &[]).line().to_owned();
    assert_eq!(kiln.text(&path), "hello\n");
    assert!(server.heads.lock().unwrap()[0].starts_with("GET /hello.txt HTTP/1.1"));
}

#[test]
fn b11_what_was_downloaded_must_have_the_hash() {
    let server = Server::start("200 OK", "<html>an error page</html>");
    let ran = kiln().build(&fetch(&server.url(), ""), &[]);
    assert!(ran.failed(102).contains("hash mismatch in fixed-output derivation"), "{}", ran.stderr);
}

#[test]
fn b11_a_failed_download_is_a_failed_build_that_says_why() {
    let server = Server::start("404 Not Found", "nothing here\n");
    let kiln = kiln();
    let recipe = fetch(&server.url(), "");
    let ran = kiln.build(&recipe, &[]);
    ran.failed(1);
    let log = kiln.run(["log", &kiln.instantiate(&recipe)]).stdout;
    let last = log.lines().last().unwrap();
    assert!(last.starts_with("error: ") && last.contains("404") && last.contains(&server.url()), "{log}");
}

#[test]
fn b11_credentials_come_from_the_engine_and_stay_there() {
    let server = Server::start("200 OK", "hello\n");
    let kiln = kiln();
    let netrc = kiln.write("netrc", format!("machine {} login me password secret\n", server.address.ip()));
    let kiln = kiln.option("netrc-file", netrc.to_str().unwrap());
    let recipe = fetch(&server.url(), "");
    kiln.build(&recipe, &[]).line();
    // "me:secret" in base 64.
    let head = server.heads.lock().unwrap()[0].to_lowercase();
    assert!(head.contains("authorization: basic bwu6c2vjcmv0"), "{head}");
    let plan = kiln.run(["derivation", "plan", "--json", &kiln.instantiate(&recipe)]);
    assert!(!plan.stdout.contains("secret") && plan.stdout.contains("builtin:fetchurl"), "{}", plan.stdout);
}

#[test]
fn d19_of_a_builtin_nothing_is_kept() {
    let server = Server::start("500 Internal Server Error", "");
    let kiln = kiln().option("download-attempts", "1");
    let ran = kiln.build(&fetch(&server.url(), ""), &["--keep-failed"]);
    assert!(!ran.failed(1).contains("keeping build directory"), "{}", ran.stderr);
}

#[test]
fn b11_buildenv_makes_a_tree_of_links() {
    let kiln = kiln();
    let recipe = "[derivation.one]\nbuilder = \"/bin/sh\"\nargs = [\"-c\", \"mkdir -p $out/bin; echo > $out/bin/one\"]\n\
                  env.PATH = \"/bin:/usr/bin\"\n\
                  [derivation.two]\nbuilder = \"/bin/sh\"\nargs = [\"-c\", \"mkdir -p $out/bin; echo > $out/bin/two\"]\n\
                  env.PATH = \"/bin:/usr/bin\"\n\
                  [derivation.manifest]\nbuilder = \"/bin/sh\"\nargs = [\"-c\", \"echo '[ ]' > $out\"]\n\
                  [derivation.it]\nsystem = \"builtin\"\nbuilder = \"builtin:buildenv\"\n\
                  env.derivations = \"true 5 1 ${one} true 5 1 ${two}\"\nenv.manifest = \"${manifest}\"\n";
    kiln.write("kiln.toml", recipe);
    let path = kiln.run(["build", "--no-link", ":it"]).line().to_owned();
    let real = kiln.real(&path);
    let link = |name: &str| std::fs::read_link(real.join(name)).unwrap().to_string_lossy().into_owned();
    assert!(link("bin/one").ends_with("-one/bin/one") && link("bin/two").ends_with("-two/bin/two"));
    assert!(link("manifest.nix").ends_with("-manifest"));
    let references = kiln.info(&path).unwrap()["references"].as_array().unwrap().len();
    assert_eq!(references, 3, "what it links to is what it refers to");
}

#[test]
fn b11_an_unknown_builtin_is_refused() {
    let recipe = "[derivation.it]\nsystem = \"builtin\"\nbuilder = \"builtin:nothing\"\n";
    let ran = kiln().build(recipe, &[]);
    assert!(ran.failed(100).contains("unsupported builtin function 'nothing'"), "{}", ran.stderr);
}
