//! A store with a small graph, served by the program.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Stdio};
use std::time::{Duration, Instant};

use kiln_testing::{Kiln, Recipe, signal};

use crate::KILN;

const PATIENCE: Duration = Duration::from_secs(60);

/// A secret key, and the public one, that real Nix has made.
const SECRET: &str = include_str!("../../../kiln-narinfo/tests/data/keys/kiln-test-1.sec");
pub(crate) const PUBLIC: &str = include_str!("../../../kiln-narinfo/tests/data/keys/kiln-test-1.pub");

/// A server of a store. It ends with this value.
pub(crate) struct Serving {
    pub(crate) kiln: Kiln,
    /// What refers to the other.
    pub(crate) top: String,
    pub(crate) lib: String,
    /// The derivation of `top`.
    pub(crate) derivation: String,
    child: Child,
    pub(crate) url: String,
    _stderr: BufReader<ChildStderr>,
}

impl Serving {
    /// A store with two paths and a log, signed when it is served.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let kiln = Kiln::as_used(KILN);
        let key = kiln.write("secret", SECRET);
        let recipe = Recipe::script(
            "echo building top; mkdir -p $out/bin; echo \"${lib}\" > $out/lib; ln -s lib $out/link\n\
             echo '#!/bin/sh' > $out/bin/run; chmod +x $out/bin/run; echo x > \"$out/<b>&\"",
        )
        .derivation("lib", "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done > $out");
        let recipe = format!("default = \"it\"\n{recipe}");
        let top = kiln.build(&recipe, &[]).line().to_owned();
        let lib = kiln.text(&format!("{top}/lib")).trim_end().to_owned();
        let derivation = kiln.info(&top).unwrap()["deriver"].as_str().unwrap().to_owned();
        let key = key.display().to_string();
        let usual = ["serve", "--listen", "127.0.0.1:0", "--secret-key-file", &key];
        let mut command = kiln.command(usual.iter().chain(arguments));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let url = line.trim_end().rsplit(' ').next().unwrap().to_owned();
        assert!(line.starts_with("serving all of '/nix/store' at http://127.0.0.1:"), "{line}");
        Self { kiln, top, lib, derivation, child, url, _stderr: stderr }
    }

    /// The address without the protocol.
    pub(crate) fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends bytes on a new connection; all that comes back.
    pub(crate) fn exchange(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut stream = self.connect();
        // Who sends too much is not listened to any more.
        let _ = stream.write_all(request.as_ref());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap_or(answer.len());
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        Answer { head, body: answer.get(end + 4..).unwrap_or_default().to_vec() }
    }

    /// Asks with a method, and more lines of the head.
    pub(crate) fn ask(&self, method: &str, target: &str, lines: &[&str]) -> Answer {
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        self.exchange(format!(
            "{method} {target} HTTP/1.1\r\nHost: cache\r\nConnection: close\r\n{lines}\r\n"
        ))
    }

    pub(crate) fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, &[])
    }

    /// A field of the narinfo of a path.
    pub(crate) fn narinfo(&self, path: &str, field: &str) -> String {
        let text = self.get(&format!("/{}.narinfo", digest(path))).text();
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(": "));
        value.unwrap_or_else(|| panic!("no {field} in {text}")).to_owned()
    }

    /// The value of a counter.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let text = self.get("/metrics").text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end; the exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(begin.elapsed() < PATIENCE, "the server does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            signal("TERM", self.child.id());
            let begin = Instant::now();
            while begin.elapsed() < PATIENCE && self.child.try_wait().is_ok_and(|status| status.is_none()) {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let _ = fs::remove_file(self.kiln.directory().join("secret"));
    }
}

/// An answer of the server.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(crate) fn text(&self) -> String {
        assert_eq!(self.status(), "200", "{}", self.head);
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The digest of a path.
pub(crate) fn digest(path: &str) -> &str {
    &path["/nix/store/".len()..][..32]
}
