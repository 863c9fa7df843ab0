//! Programs and objects: which sections differ, and what some of them say.

use super::findings;
use super::making::{Machine, Member, ar, member};

const ALL: [Machine; 4] = [
    Machine { is_64: true, is_big: false },
    Machine { is_64: true, is_big: true },
    Machine { is_64: false, is_big: false },
    Machine { is_64: false, is_big: true },
];

#[test]
fn build_ids() {
    for machine in ALL {
        let program = |id: [u8; 4]| {
            let note = machine.note(b"GNU\0", 3, &id);
            machine.elf(&[
                (".text", b"code".to_vec()),
                (".note.gnu.build-id", note),
                (".data", b"data".to_vec()),
            ])
        };
        assert_eq!(
            findings("x", &program([1, 2, 3, 4]), &program([1, 2, 3, 5])),
            [
                "ELF section .note.gnu.build-id: build id 01020304 in A, 01020305 in B; contents differ from 19 (0x13) on"
            ],
            "{machine:?}"
        );
    }
}

#[test]
fn what_sections_say() {
    let machine = ALL[0];
    let one = |name: &str, a: &[u8], b: &[u8]| {
        findings("x", &machine.elf(&[(name, a.to_vec())]), &machine.elf(&[(name, b.to_vec())]))
    };
    let told = one(".comment", b"GCC: 12.2\0", b"GCC: 13.1\0clang\0");
    assert!(
        told[0].starts_with("ELF section .comment: comment GCC: 12.2 in A, GCC: 13.1; clang in B; "),
        "{told:?}"
    );
    let told = one(".gnu_debuglink", b"x.debug\0\x01\0\0\0", b"y.debug\0\x02\0\0\0");
    assert_eq!(
        told[0],
        "ELF section .gnu_debuglink: debug file x.debug in A, y.debug in B; debug file crc 32 00000001 in A, \
         00000002 in B; contents differ from 0 (0x0) on"
    );
    let note = |id: &[u8]| machine.note(b"Go\0\0", 4, id);
    let told = one(".note.go.buildid", &note(b"abcd"), &note(b"efgh"));
    assert!(told[0].starts_with("ELF section .note.go.buildid: build id abcd in A, efgh in B; "), "{told:?}");
}

#[test]
fn times_and_paths_in_sections() {
    let program = |text: &[u8]| {
        let debug = [b"\x01\0/build/source\0".as_slice(), b"\x02\0"].concat();
        ALL[0].elf(&[(".debug_str", debug), (".rodata", [b"\0\x01v1 ", text, b"\0\x02"].concat())])
    };
    assert_eq!(
        findings("x", &program(b"Jan  1 2024"), &program(b"Feb 13 2024")),
        [
            "ELF section .rodata: contents differ from 5 (0x5) on",
            ".rodata: time 'Jan  1 2024' in A, 'Feb 13 2024' in B",
        ]
    );
    assert_eq!(
        findings("x", &program(b"/build/a-1/x.c"), &program(b"/build/b-2/x.c")),
        [
            "ELF section .rodata: contents differ from 12 (0xc) on",
            ".rodata: build path '/build/a-1/x.c' in A, '/build/b-2/x.c' in B",
        ]
    );
}

#[test]
fn sections_that_move_or_are_missing() {
    let machine = ALL[0];
    let a = machine.elf(&[(".text", b"code".to_vec()), (".data", b"data".to_vec())]);
    let b = machine.elf(&[
        (".text", b"longer code".to_vec()),
        (".data", b"data".to_vec()),
        (".x", b"x".to_vec()),
    ]);
    let told = findings("x", &a, &b);
    assert_eq!(told[0], "ELF section .text: contents differ from 0 (0x0) on");
    assert!(told.contains(&"ELF section .x: only in B".to_owned()), "{told:?}");
    assert!(!told.iter().any(|told| told.contains(".data")), "it only moved: {told:?}");
}

/// The object in a static library.
#[test]
fn sections_in_members() {
    let library = |time, code: &[u8]| {
        ar(&[Member { time, ..member("x.o/", ALL[0].elf(&[(".debug_line", code.to_vec())])) }])
    };
    assert_eq!(
        findings("x.a", &library(0, b"\0/tmp/cc1.s\0"), &library(0, b"\0/tmp/cc2.s\0")),
        [
            "ar member x.o: contents differ from 72 (0x48) on",
            "ELF section x.o > .debug_line: contents differ from 8 (0x8) on",
            "x.o > .debug_line: build path '/tmp/cc1.s' in A, '/tmp/cc2.s' in B",
        ]
    );
}
