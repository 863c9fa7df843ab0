//! Tarballs of channels: good ones, damaged ones and evil ones.

use crate::archives::{Tar, bzip2, gzip, header, xz, zstd};
use crate::bench::{Bench, expected};
use std::fs;

fn unpacking(archive: &[u8]) -> Bench {
    let bench = Bench::new("unpack-channel").with("channelName", "channel");
    let src = bench.path().join("src");
    fs::write(&src, archive).unwrap();
    bench.with("src", src.to_str().unwrap())
}

fn good() -> Vec<u8> {
    Tar::new()
        .directory("nixpkgs-1.0/")
        .file("nixpkgs-1.0/default.nix", "{ }")
        .entry(b'0', b"./nixpkgs-1.0//lib/a", b"", &[b'x'; 1000])
        .symlink("nixpkgs-1.0/link", "lib/a")
        .raw(header(b'0', b"nixpkgs-1.0/empty-program", b"", 0, 0o755))
        .hard_link("nixpkgs-1.0/hard", "nixpkgs-1.0/default.nix")
        .end()
}

fn check_good(bench: &Bench) {
    bench.succeed();
    let contents = format!("file {}", "x".repeat(1000));
    let expected = expected(&[
        ("channel", "directory"),
        ("channel/default.nix", "file { }"),
        ("channel/hard", "file { }"),
        ("channel/empty-program", "program "),
        ("channel/lib", "directory"),
        ("channel/lib/a", &contents),
        ("channel/link", "-> lib/a"),
    ]);
    assert_eq!(bench.tree(), expected);
}

#[test]
fn b11_a_channel_gets_its_name() {
    check_good(&unpacking(&good()));
    let named = unpacking(&good()).with("channelName", "nixpkgs-1.0");
    named.succeed();
    assert_eq!(named.tree()["nixpkgs-1.0/default.nix"], "file { }");
}

#[test]
fn b11_channels_are_compressed_in_many_ways() {
    let tar = good();
    let two = [gzip(&tar[..700]), gzip(&tar[700..])].concat();
    for compressed in [gzip(&tar), two, bzip2(&tar), xz(&tar), zstd(&tar)] {
        check_good(&unpacking(&compressed));
        let error = unpacking(&compressed[..compressed.len() / 2]).fail();
        assert!(error.starts_with("cannot unpack '"), "{error}");
    }
}

#[test]
fn b11_there_is_one_thing_in_a_channel() {
    let error = unpacking(&Tar::new().file("a/x", "").file("b/x", "").file("c", "").end()).fail();
    assert!(
        error.starts_with("channel tarball '") && error.ends_with("' contains more than one file"),
        "{error}"
    );
    let error = unpacking(&Tar::new().directory("./").end()).fail();
    assert!(error.ends_with("' contains no file"), "{error}");
    let file = unpacking(&Tar::new().file("only", "a file").end());
    file.succeed();
    assert_eq!(file.tree(), expected(&[("channel", "file a file")]));
}

#[test]
fn b11_attributes_that_make_no_sense() {
    for name in ["", ".", "..", "a/b", "/a"] {
        let error = unpacking(&good()).with("channelName", name).fail();
        assert!(error.starts_with(&format!("attribute 'channelName' is '{name}'")), "{error}");
    }
    for missing in ["src", "channelName", "out"] {
        let error = unpacking(&good()).without(missing).fail();
        assert_eq!(error, format!("attribute '{missing}' missing"));
    }
    let error = unpacking(&good()).with("src", "/absent/file").fail();
    assert!(error.starts_with("cannot open '/absent/file': "), "{error}");
}

#[test]
fn b11_long_names_of_both_kinds() {
    let long = format!("a/{}", ["d".repeat(60), "e".repeat(60), "f".repeat(60)].join("/"));
    let target = "t".repeat(300);
    let gnu = Tar::new()
        .entry(b'L', b"././@LongLink", b"", format!("{long}\0").as_bytes())
        .file("a/short", "long")
        .entry(b'K', b"././@LongLink", b"", target.as_bytes())
        .symlink("a/link", "short");
    let pax = Tar::new()
        .entry(b'g', b"pax_global_header", b"", b"52 comment=0123456789012345678901234567890123456789\n")
        .pax("path", &long)
        .file("a/short", "long")
        .pax("linkpath", &target)
        .symlink("a/link", "short");
    for archive in [gnu, pax] {
        let bench = unpacking(&archive.end());
        bench.succeed();
        let tree = bench.tree();
        assert_eq!(tree[&long.replacen('a', "channel", 1)], "file long");
        assert_eq!(tree["channel/link"], format!("-> {target}"));
    }
    // POSIX's older way: the start of the path in a field of its own.
    let mut split = header(b'0', b"name", b"", 0, 0o644);
    split[345..350].copy_from_slice(b"a/pre");
    split[148..156].fill(b' ');
    let sum: u32 = split.iter().map(|&byte| u32::from(byte)).sum();
    split[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let bench = unpacking(&Tar::new().raw(split).end());
    bench.succeed();
    assert_eq!(bench.tree()["channel/pre/name"], "file ");
}

#[test]
fn b11_later_entries_replace_earlier_ones() {
    let archive = Tar::new()
        .file("a/x", "first")
        .file("a/x", "second")
        .symlink("a/x", "elsewhere")
        .file("a/x", "last")
        .directory("a/d")
        .directory("a/d")
        .file("a/y", "linked")
        .hard_link("a/y", "a/y")
        .hard_link("a/x", "a/y");
    let bench = unpacking(&archive.end());
    bench.succeed();
    let entries = [
        ("channel", "directory"),
        ("channel/d", "directory"),
        ("channel/x", "file linked"),
        ("channel/y", "file linked"),
    ];
    assert_eq!(bench.tree(), expected(&entries));
}

#[test]
fn b11_archives_write_nothing_elsewhere() {
    let deep = "d/".repeat(100);
    for (archive, reason) in [
        (Tar::new().file("../evil", "x"), "it leads out of the archive"),
        (Tar::new().file("a/../../evil", "x"), "it leads out of the archive"),
        (Tar::new().file("a/..", "x"), "it leads out of the archive"),
        (Tar::new().file("/evil", "x"), "it is absolute"),
        (Tar::new().pax("path", "/evil").file("a", "x"), "it is absolute"),
        (Tar::new().pax("path", "a\0b").file("a", "x"), "no file can have it"),
        (Tar::new().pax("path", &"n".repeat(256)).file("a", "x"), "no file can have it"),
        (Tar::new().pax("path", &deep).file("a", "x"), "it is nested too deeply"),
        (Tar::new().file(".", "x"), "it is the archive itself"),
        (Tar::new().hard_link("a/b", "../evil"), "it leads out of the archive"),
        (Tar::new().hard_link("a/b", "/evil"), "it is absolute"),
        (Tar::new().hard_link("a/b", "a/none"), "hard link to what is no file"),
        (Tar::new().hard_link("a/b", "a"), "hard link to what is no file"),
        (Tar::new().symlink("a/l", "/etc/passwd").hard_link("a/b", "a/l"), "hard link to what is no file"),
        (Tar::new().symlink("a/l", "..").file("a/l/evil", "x"), "cannot open directory"),
        (Tar::new().symlink("a/l", "..").directory("a/l"), "cannot open directory"),
        (Tar::new().symlink("a/l", "/").hard_link("a/b", "a/l/etc/passwd"), "cannot open directory"),
        (Tar::new().symlink("a", "/tmp").file("a/evil", "x"), "cannot open directory"),
        (Tar::new().file("a/f", "x").file("a/f/g", "x"), "cannot open directory"),
        (Tar::new().file("a/d/f", "x").file("a/d", "x"), "cannot remove"),
    ] {
        let bench = unpacking(&archive.end());
        let error = bench.fail();
        assert!(error.contains(reason), "{reason}: {error}");
        let beside: Vec<_> =
            fs::read_dir(bench.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(beside.len(), 2, "{reason}: {beside:?}");
    }
}

#[test]
fn b11_links_may_point_anywhere_but_are_not_followed() {
    let bench = unpacking(&Tar::new().symlink("a/l", "/outside").file("a/l", "in place of the link").end());
    bench.succeed();
    assert_eq!(bench.tree()["channel/l"], "file in place of the link");
}

#[test]
fn b11_what_a_store_has_no_place_for() {
    for (type_flag, kind) in [
        (b'3', "a character device"),
        (b'4', "a block device"),
        (b'6', "a pipe"),
        (b'S', "a file with holes"),
        (b'D', "of an unknown type"),
    ] {
        let error = unpacking(&Tar::new().entry(type_flag, b"a/x", b"", b"").end()).fail();
        assert!(error.ends_with(&format!("'a/x' is {kind}, which is not supported")), "{error}");
    }
    let sparse = Tar::new().pax("GNU.sparse.major", "1").file("a/x", "");
    assert!(unpacking(&sparse.end()).fail().contains("a file with holes"));
}

#[test]
fn b11_damaged_archives() {
    for not_tar in [&b""[..], b"short", &[b'x'; 2000], b"PK\x03\x04"] {
        let error = unpacking(not_tar).fail();
        assert!(error.ends_with("it is not a tar archive"), "{error}");
    }
    let huge = |flag| Tar::new().raw(header(flag, b"a/x", b"", 0o77_777_777_777, 0o644)).end();
    for (archive, reason) in [
        (huge(b'0'), "the archive ends early"),
        (huge(b'L'), "an extended header is longer than a mebibyte"),
        (huge(b'x'), "an extended header is longer than a mebibyte"),
        (huge(b'g'), "the archive ends early"),
        (Tar::new().pax("size", "18446744073709551615").file("a/x", "").end(), "the archive ends early"),
        (Tar::new().entry(b'x', b"a", b"", b"nonsense").file("a/x", "").end(), "malformed record"),
        (Tar::new().file("a/x", "").raw([b'x'; 512]).end(), "the checksum of a header is wrong"),
    ] {
        let error = unpacking(&archive).fail();
        assert!(error.contains(reason), "{reason}: {error}");
    }
    // The blocks at the end are often missing.
    unpacking(&Tar::new().file("a/x", "x").cut()).succeed();
}

#[test]
fn b11_every_truncation_and_every_flipped_byte_ends_well() {
    let archive =
        Tar::new().directory("a").pax("path", "a/long").file("a/x", "contents").symlink("a/l", "x").end();
    let bench = unpacking(&archive);
    let src = bench.path().join("src");
    let clean = || {
        if bench.out().exists() {
            fs::remove_dir_all(bench.out()).unwrap();
        }
    };
    for length in (0..archive.len() - 1024).step_by(61) {
        fs::write(&src, &archive[..length]).unwrap();
        let result = bench.run().result;
        assert!(result.is_err() || length % 512 == 0, "{length}");
        clean();
    }
    for position in (0..archive.len()).step_by(7) {
        let mut flipped = archive.clone();
        flipped[position] ^= 1 << (position % 8);
        fs::write(&src, &flipped).unwrap();
        let _ = bench.run();
        clean();
    }
}
