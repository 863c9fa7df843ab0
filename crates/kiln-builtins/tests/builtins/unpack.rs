//! Downloads that are archives.

use crate::archives::xz;
use crate::bench::{Bench, expected, tree};
use crate::server::{Server, answer, answer_of, header};
use kiln_fs::{Component, Directory};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

/// An archive, and the tree that it is of.
pub(crate) fn archive() -> (Vec<u8>, BTreeMap<String, String>) {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("tree");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::write(root.join("bin/program"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(root.join("bin/program"), fs::Permissions::from_mode(0o755)).unwrap();
    let noise: Vec<u8> = (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(root.join("noise"), noise).unwrap();
    symlink("bin/program", root.join("link")).unwrap();
    let mut archive = Vec::new();
    let directory = Directory::open(scratch.path()).unwrap();
    kiln_fs::dump(&directory, &Component::new("tree").unwrap(), &mut archive).unwrap();
    (archive, tree(&root))
}

fn unpacking(server: &Server, path: &str) -> Bench {
    Bench::fetchurl(&server.url(path)).with("unpack", "1").with("outputHashMode", "recursive")
}

#[test]
fn b11_archives_become_trees() {
    let (archive, tree) = archive();
    let multiple = [xz(&archive[..1000]), xz(&archive[1000..])].concat();
    for (path, body) in [("/a.nar", archive.clone()), ("/a.nar.xz", xz(&archive)), ("/b.xz", multiple)] {
        let server = Server::answering([answer("200 OK", &[], &body)]);
        let bench = unpacking(&server, path);
        bench.succeed();
        assert_eq!(bench.tree(), tree, "{path}");
    }
}

#[test]
fn b11_an_archive_may_be_one_program() {
    let ((head, tail), contents) = (kiln_nar::file_framing(false, 4), b"text");
    let server = Server::answering([answer("200 OK", &[], &[&head[..], contents, &tail].concat())]);
    let bench = unpacking(&server, "/busybox.nar").with("executable", "1");
    bench.succeed();
    assert_eq!(bench.tree(), BTreeMap::from([(String::new(), "program text".to_owned())]));
}

#[test]
fn b11_unpacking_goes_on_where_a_transfer_ended() {
    let (archive, tree) = archive();
    let body = xz(&archive);
    let (length, half) = (body.len(), body.len() / 2);
    let all = format!("Content-Length: {length}");
    let broken = answer_of("200 OK", &["Accept-Ranges: bytes", &all], &body[..half]);
    let range = format!("Content-Range: bytes {half}-{}/{length}", length - 1);
    let rest = answer("206 Partial Content", &[&range], &body[half..]);
    let server = Server::answering([broken, rest]);
    let bench = unpacking(&server, "/a.xz").attempts(2);
    bench.succeed();
    assert_eq!(bench.tree(), tree);
    assert_eq!(header(&server.requests()[1], "range"), Some(format!("bytes={half}-").as_str()));
}

#[test]
fn b11_unpacking_starts_again_where_it_must() {
    let (archive, tree) = archive();
    let broken =
        answer_of("200 OK", &[&format!("Content-Length: {}", archive.len())], &archive[..archive.len() / 2]);
    let server = Server::answering([broken, answer("200 OK", &[], &archive)]);
    let bench = unpacking(&server, "/a").attempts(2);
    bench.succeed();
    assert_eq!(bench.tree(), tree);
}

#[test]
fn b11_damaged_archives_are_not_tried_again() {
    let (archive, _) = archive();
    let compressed = xz(&archive);
    let mut flipped = compressed.clone();
    flipped[compressed.len() / 2] ^= 1;
    for (path, body, reason) in [
        ("/a", b"<html>not here</html>".to_vec(), "cannot unpack the Nix archive: "),
        ("/a", archive[..archive.len() - 8].to_vec(), "cannot unpack the Nix archive: "),
        ("/a", compressed.clone(), "cannot unpack the Nix archive: "),
        ("/a.xz", archive.clone(), "cannot decompress the xz file: "),
        ("/a.xz", flipped, "cannot decompress the xz file: "),
        (
            "/a.xz",
            compressed[..compressed.len() - 20].to_vec(),
            "cannot decompress the xz file: it ends early",
        ),
        ("/a.xz", Vec::new(), "cannot decompress the xz file: it ends early"),
        ("/a.xz", xz(b""), "cannot unpack the Nix archive: "),
    ] {
        let server = Server::answering([answer("200 OK", &[], &body)]);
        let error = unpacking(&server, path).attempts(5).fail();
        assert!(error.starts_with(reason), "{path}: {error}");
        assert_eq!(server.requests().len(), 1);
    }
}

/// A file that asks for a dictionary of 4 GiB is refused before any of it is there.
#[test]
fn b11_xz_files_may_not_take_all_memory() {
    let mut greedy = xz(&archive().0);
    // The header of the first block: its size, flags, and the filter LZMA2 with one byte of properties.
    assert_eq!(greedy[13..16], [0, 0x21, 1]);
    let end = 12 + (usize::from(greedy[12]) + 1) * 4;
    greedy[16] = 40;
    let checksum = crc32(&greedy[12..end - 4]);
    greedy[end - 4..end].copy_from_slice(&checksum.to_le_bytes());
    let server = Server::answering([answer("200 OK", &[], &greedy)]);
    let error = unpacking(&server, "/a.xz").fail();
    assert_eq!(error, "cannot decompress the xz file: it needs more than 256 MiB of memory");
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn b11_archives_write_nothing_beside_the_output() {
    // A directory with an entry named `..`, which no encoder makes.
    let strings = ["nix-archive-1", "(", "type", "directory", "entry", "(", "name", "..", "node", "("];
    let mut archive = Vec::new();
    for string in strings {
        archive.extend_from_slice(&(string.len() as u64).to_le_bytes());
        archive.extend_from_slice(string.as_bytes());
        archive.resize(archive.len().next_multiple_of(8), 0);
    }
    let server = Server::answering([answer("200 OK", &[], &archive)]);
    let bench = unpacking(&server, "/a");
    assert!(bench.fail().starts_with("cannot unpack the Nix archive: "));
    assert_eq!(bench.tree(), expected(&[]));
}
