//! Archives and what is compressed: which member differs, and whether only its header does.

use super::making::{Member, ar, gzip, member, pyc, tar, tar_entry, zip};
use super::{compared, findings};
use kiln_diff::{ByteString, Observation, PartContents};

/// 2024-01-01, and a minute later.
const TIME: u32 = 1_704_067_200;

#[test]
fn only_the_date_of_a_member() {
    let archive =
        |time| ar(&[member("a.o/", "aaaa"), Member { time, ..member("b.o/", "bbb") }, member("c.o/", "c")]);
    let (a, b) = (archive(TIME), archive(TIME + 60));
    assert_eq!(
        findings("libx.a", &a, &b),
        [
            "ar member b.o: modification time 2024-01-01T00:00:00Z in A, 2024-01-01T00:01:00Z in B; same contents"
        ]
    );
    let difference = compared("libx.a", &a, &b);
    let Observation::Part { fields, contents: PartContents::Same, .. } = &difference.findings[0].observation
    else {
        panic!("{difference:?}");
    };
    assert_eq!(fields[0].name, "modification-time");
    assert_eq!(difference.findings[0].path, [ByteString::from("b.o")]);
}

#[test]
fn fields_and_contents_of_members() {
    let a = ar(&[Member { uid: 1000, mode: 0o600, ..member("a.o/", "one") }]);
    let b = ar(&[Member { uid: 30001, ..member("a.o/", "two") }]);
    assert_eq!(
        findings("x", &a, &b),
        [
            "ar member a.o: mode 600 in A, 644 in B; uid 1000 in A, 30001 in B; contents differ from 0 (0x0) on",
            "a.o: line 1 in A: one\n                a.o: line 1 in B: two",
        ]
    );
}

#[test]
fn members_on_one_side_and_in_another_order() {
    let members = ["a/", "b/", "c/"].map(|name| member(name, name));
    let [a, b, c] = members.clone();
    assert_eq!(
        findings("x", &ar(&members), &ar(&[c.clone(), a.clone(), b.clone()])),
        ["the ar members have another order"]
    );
    assert_eq!(
        findings("x", &ar(&[a.clone(), b.clone()]), &ar(&[a.clone(), c.clone()])),
        ["ar member b: only in A", "ar member c: only in B"]
    );
    // A name that is there twice stands for two members.
    assert_eq!(
        findings("x", &ar(&[a.clone(), a.clone()]), &ar(std::slice::from_ref(&a))),
        ["ar member a: only in A"]
    );
    assert_eq!(findings("x", &ar(&[]), &ar(&[c])), ["ar member c: only in B"]);
}

#[test]
fn long_names_of_gnu_and_bsd() {
    let names = member("//", "a-name-of-more-than-16-bytes.o/\nand-another-one-of-these.o/\n");
    let gnu = |time| ar(&[names.clone(), member("/0", "x"), Member { time, ..member("/32", "y") }]);
    assert_eq!(
        findings("x", &gnu(1), &gnu(2)),
        ["ar member and-another-one-of-these.o: modification time 1970-01-01T00:00:01Z in A, \
          1970-01-01T00:00:02Z in B; same contents"]
    );
    let bsd = |contents: &str| ar(&[member("#1/20", format!("a long name.o\0\0\0\0\0\0\0{contents}"))]);
    assert_eq!(
        findings("x", &bsd("\x01\x02"), &bsd("\x01\x03")),
        ["ar member a long name.o: contents differ from 1 (0x1) on"]
    );
}

#[test]
fn members_of_thin_archives_are_elsewhere() {
    let thin = |time: u32| {
        let mut archive = b"!<thin>\n".to_vec();
        for (name, time) in [("a.o/", 0), ("b.o/", time)] {
            archive.extend(
                format!("{name:<16}{time:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 644, 5000).into_bytes(),
            );
        }
        archive
    };
    assert_eq!(
        findings("x", &thin(1), &thin(2)),
        [
            "ar member b.o: modification time 1970-01-01T00:00:01Z in A, 1970-01-01T00:00:02Z in B; same contents"
        ]
    );
}

#[test]
fn times_in_tar() {
    let archive = |time| tar(&[member("a", "x"), Member { time, ..member("b", "y") }]);
    assert_eq!(
        findings("x.tar", &archive(TIME), &archive(TIME + 60)),
        [
            "tar entry b: modification time 2024-01-01T00:00:00Z in A, 2024-01-01T00:01:00Z in B; same contents"
        ]
    );
}

#[test]
fn names_and_times_that_tar_puts_elsewhere() {
    let record = |text: &str| {
        let length =
            (1..).find(|length: &usize| length.to_string().len() + 2 + text.len() == *length).unwrap();
        format!("{length} {text}\n")
    };
    let records = |time: &str| [record("path=a/long/name"), record(&format!("mtime={time}"))].concat();
    let posix = |time| {
        [tar_entry(b'x', "", &member("ignored", records(time))), tar_entry(b'0', "", &member("short", "x"))]
            .concat()
    };
    assert_eq!(
        findings("x", &posix("1704067200.25"), &posix("1704067260")),
        [
            "tar entry a/long/name: modification time 2024-01-01T00:00:00.25Z in A, 2024-01-01T00:01:00Z in B; \
             same contents"
        ]
    );
    let gnu = |data: &str| {
        let long = tar_entry(b'L', "", &member("././@LongLink", "another/long/name\0"));
        [long, tar_entry(b'0', "", &member("another", data))].concat()
    };
    assert_eq!(
        findings("x", &gnu("\x01"), &gnu("\x02")),
        ["tar entry another/long/name: contents differ from 0 (0x0) on"]
    );
    let prefixed = |mode| tar_entry(b'0', "usr/share", &Member { mode, ..member("doc", "x") });
    assert_eq!(
        findings("x", &prefixed(0o644), &prefixed(0o600)),
        ["tar entry usr/share/doc: mode 0000644 in A, 0000600 in B; same contents"]
    );
}

#[test]
fn times_in_zip() {
    let archive = |time| zip(&[member("META-INF/", ""), Member { time, ..member("A.class", "x") }]);
    let (new_year, later) = (0x5821_0000, 0x5821_0001);
    assert_eq!(
        findings("x.jar", &archive(new_year), &archive(later)),
        [
            "zip entry A.class: modification time 2024-01-01T00:00:00 in A, 2024-01-01T00:00:02 in B; same contents"
        ]
    );
    let text = |text: &str| zip(&[member("a.txt", text)]);
    let told = findings("x.zip", &text("built 2024-01-01"), &text("built 2024-02-01"));
    assert!(told[0].starts_with("zip entry a.txt: uncompressed crc 32 "), "{told:?}");
    assert!(told[0].ends_with("; contents differ from 12 (0xc) on"), "{told:?}");
    assert_eq!(told[2], "a.txt: time '2024-01-01' in A, '2024-02-01' in B");
}

#[test]
fn headers_of_gzip() {
    let a = gzip(TIME, Some("x"), b"data", 7);
    assert_eq!(
        findings("x.gz", &a, &gzip(TIME + 60, Some("x"), b"data", 7)),
        ["gzip file: modification time 2024-01-01T00:00:00Z in A, 2024-01-01T00:01:00Z in B; same contents"]
    );
    assert_eq!(
        findings("x.gz", &a, &gzip(0, None, b"data", 7)),
        [
            "gzip file: modification time 2024-01-01T00:00:00Z in A, none in B; name x in A, none in B; same contents"
        ]
    );
    // Compressed in another way: what comes out is the same, as its checksum says.
    assert_eq!(
        findings("x.gz", &a, &gzip(TIME, Some("x"), b"date", 7)),
        ["gzip file: contents differ from 3 (0x3) on"]
    );
    assert_eq!(
        findings("x.gz", &a, &gzip(TIME, Some("x"), b"date", 8)),
        ["gzip file: uncompressed crc 32 00000007 in A, 00000008 in B; contents differ from 3 (0x3) on"]
    );
}

#[test]
fn bytecode_by_time_and_by_hash() {
    assert_eq!(
        findings("m.pyc", &pyc(0, [TIME, 9], b"code"), &pyc(0, [TIME + 60, 9], b"code")),
        [
            "Python bytecode file: source modification time 2024-01-01T00:00:00Z in A, 2024-01-01T00:01:00Z in B; \
          same contents"
        ]
    );
    assert_eq!(
        findings("m.pyc", &pyc(1, [1, 2], b"code"), &pyc(1, [1, 3], b"code")),
        ["Python bytecode file: source hash 0100000002000000 in A, 0100000003000000 in B; same contents"]
    );
    assert_eq!(
        findings("m.pyc", &pyc(0, [1, 2], b"\0\0"), &pyc(0, [1, 2], b"\0\x01")),
        ["Python bytecode file: contents differ from 1 (0x1) on"]
    );
    assert!(findings("m.dat", &pyc(0, [1, 2], b""), &pyc(0, [1, 3], b"")).is_empty(), "not by its name");
}

/// A Debian package has archives of `tar` in one of `ar`.
#[test]
fn archives_in_archives() {
    let package =
        |time| ar(&[member("control.tar/", tar(&[Member { time, ..member("control", "Package: x\n") }]))]);
    let difference = compared("x.deb", &package(TIME), &package(TIME + 1));
    let told: Vec<String> = difference.findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "ar member control.tar: contents differ from 146 (0x92) on",
            "tar entry control.tar > control: modification time 2024-01-01T00:00:00Z in A, 2024-01-01T00:00:01Z in B; \
         same contents"
        ]
    );
    // However deep they are, it ends.
    let mut pair = [b"a".to_vec(), b"b".to_vec()];
    for depth in 1..8 {
        pair = pair.map(|inner| ar(&[member("in/", inner)]));
        let difference = compared("x", &pair[0], &pair[1]);
        let deepest = difference.findings.iter().map(|finding| finding.path.len()).max();
        assert_eq!(deepest, Some(depth.min(4)), "{difference}");
    }
}
