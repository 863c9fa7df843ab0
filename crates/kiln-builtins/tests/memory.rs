//! Memory does not depend on how much is downloaded. This is measured for the whole process, so nothing else is here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may fail")]

use kiln_builtins::Inputs;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

const CONTENTS: u64 = 192 << 20;

/// How much more memory than before a download may take: a third of what is downloaded.
const MOST: u64 = 64 << 20;

/// The most memory that this process has had, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Answers one request with a body that `write` writes.
fn serve(length: u64, write: impl FnOnce(&mut TcpStream) + Send + 'static) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).unwrap();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").unwrap();
        write(&mut stream);
    });
    (format!("http://{address}/file.xz"), thread)
}

fn fetch(url: &str, unpack: &str) -> u64 {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let mut inputs = Inputs::default();
    for (name, value) in
        [("url", url), ("out", out.to_str().unwrap()), ("unpack", unpack), ("outputHash", "x")]
    {
        inputs.environment.insert(name.into(), value.into());
    }
    kiln_builtins::run("fetchurl", &inputs, &mut Vec::new()).unwrap();
    fs::metadata(out).unwrap().len()
}

/// Zeros, as an archive of one file, compressed: a bomb.
fn bomb() -> Vec<u8> {
    let (head, tail) = kiln_nar::file_framing(false, CONTENTS);
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
    encoder.write_all(&head).unwrap();
    for _ in 0..CONTENTS >> 20 {
        encoder.write_all(&[0; 1 << 20]).unwrap();
    }
    encoder.write_all(&tail).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn b11_memory_does_not_depend_on_the_length_of_a_download() {
    let bomb = bomb();
    assert!((bomb.len() as u64) < CONTENTS / 1000);
    let before = peak();

    let (url, server) = serve(CONTENTS, |stream| {
        for _ in 0..CONTENTS >> 20 {
            stream.write_all(&[b'x'; 1 << 20]).unwrap();
        }
    });
    assert_eq!(fetch(&url, ""), CONTENTS);
    server.join().unwrap();

    let (url, server) = serve(bomb.len() as u64, move |stream| stream.write_all(&bomb).unwrap());
    assert_eq!(fetch(&url, "1"), CONTENTS);
    server.join().unwrap();

    let more = peak() - before;
    assert!(more < MOST, "{more} bytes more than before");
}
