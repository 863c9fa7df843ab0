//! A real server of S3 for tests: moto, with every signature checked by Amazon's own code.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::requirement::missing;

/// The server; it ends with this value.
pub struct BucketServer {
    process: Child,
    /// The server goes on until this is closed.
    _input: Option<ChildStdin>,
    port: u16,
}

impl BucketServer {
    /// The access key that the server knows, its secret, the token of the session, and the region of the buckets.
    pub const CREDENTIALS: [&str; 4] = ["AKIAKILN", "secret/with+signs", "token=of+session", "eu-west-1"];

    /// Starts a server with the buckets `open`, which anybody may read, `closed`, and `full`, which takes no second part. Without the server's program, the test
    /// is passed over.
    ///
    /// # Panics
    /// The server does not start.
    #[must_use]
    pub fn find() -> Option<Self> {
        let Some(python) = python() else {
            missing("moto (scripts/install-moto)");
            return None;
        };
        let started = Command::new(python)
            .args(["-c", include_str!("bucket_server.py")])
            .args(Self::CREDENTIALS)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut process = started.unwrap_or_else(|error| panic!("python does not start: {error}"));
        let mut line = String::new();
        if let Some(output) = process.stdout.take() {
            // It says its port, or nothing.
            let _ = BufReader::new(output).read_line(&mut line);
        }
        let port =
            line.trim().parse().unwrap_or_else(|_| panic!("the server said '{line}' instead of its port"));
        Some(Self { _input: process.stdin.take(), process, port })
    }

    /// The URL of a bucket as a binary cache.
    #[must_use]
    pub fn url(&self, bucket: &str) -> String {
        let [.., region] = Self::CREDENTIALS;
        format!("s3://{bucket}?endpoint=127.0.0.1:{}&scheme=http&region={region}", self.port)
    }

    /// The URL of a bucket as files at a server of HTTP.
    #[must_use]
    pub fn http_url(&self, bucket: &str) -> String {
        format!("http://127.0.0.1:{}/{bucket}", self.port)
    }
}

/// Uploads in parts, so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uploads {
    /// That have begun.
    pub begun: usize,
    /// Parts that have come.
    pub parts: usize,
    /// Of which the server keeps parts.
    pub kept: usize,
}

impl BucketServer {
    /// What there was of uploads in parts.
    ///
    /// # Panics
    /// The server does not answer.
    #[must_use]
    pub fn uploads(&self) -> Uploads {
        let mut answer = String::new();
        let asked = TcpStream::connect(("127.0.0.1", self.port)).and_then(|mut stream| {
            stream.write_all(b"GET /uploads HTTP/1.0\r\n\r\n")?;
            stream.read_to_string(&mut answer)
        });
        let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
        let numbers: Vec<usize> = body.split(' ').filter_map(|number| number.parse().ok()).collect();
        match (asked, numbers.as_slice()) {
            (Ok(_), &[begun, parts, kept]) => Uploads { begun, parts, kept },
            (asked, _) => panic!("the server said '{answer}' of uploads: {asked:?}"),
        }
    }
}

impl Drop for BucketServer {
    fn drop(&mut self) {
        // One that has ended is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The Python that has moto: that of `KILN_MOTO`, a directory, or else where `scripts/install-moto` puts it.
fn python() -> Option<PathBuf> {
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/moto");
    let directory = std::env::var_os("KILN_MOTO").map_or_else(usual, PathBuf::from);
    Some(directory.join("bin/python")).filter(|python| python.exists())
}
