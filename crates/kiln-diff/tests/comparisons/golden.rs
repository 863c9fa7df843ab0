//! The whole report, for people and as JSON.

use super::making::{Machine, Member, ar, member};
use super::scratch::Scratch;

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    let machine = Machine { is_64: true, is_big: false };
    for (tree, time, year) in [("a", 1_704_067_200, "2024"), ("b", 1_704_067_260, "2025")] {
        let path = |name: &str| format!("{tree}/{name}");
        let library = ar(&[member("same.o/", "same"), Member { time, ..member("dated.o/", "same") }]);
        scratch.file(path("lib/libx.a"), library);
        let id = machine.note(b"GNU\0", 3, year.as_bytes());
        let program = machine.elf(&[(".note.gnu.build-id", id), (".text", b"code".to_vec())]);
        scratch.file(path("bin/tool"), program);
        scratch.file(path("share/doc"), format!("Tool 1.0\nBuilt on {year}-02-03\n"));
        scratch.link(&path("lib/libx.so"), format!("libx.so.{year}"));
        scratch.file(path("share/same"), "same");
    }
    scratch.executable("a/bin/script", "#!/bin/sh\n");
    scratch.file("b/bin/script", "#!/bin/sh\n");
    for name in ["x", "y", "z/1"] {
        scratch.file(format!("a/cache/{name}"), "");
    }
    scratch.file("b/etc", "a file");
    scratch.directory("a/etc");
    scratch.file("b/share/new", "new");
    scratch
}

const TEXT: &str = "\
executable    bin/script: in A only
contents      bin/tool: 380 bytes in both; first difference at 83 (0x53); 1 byte differs
                A 00000050  32 30 32 34 63 6f 64 65 00 2e 6e 6f 74 65 2e 67  |2024code..note.g|
                B 00000050  32 30 32 35 63 6f 64 65 00 2e 6e 6f 74 65 2e 67  |2025code..note.g|
                ELF section .note.gnu.build-id: build id 32303234 in A, 32303235 in B; contents differ from 19 (0x13) on
only in A     cache: directory, 4 entries below
type          etc: directory in A, file in B
contents      lib/libx.a: 136 bytes in both; first difference at 96 (0x60); 1 byte differs
                A 00000060  30 30 20 20 30 20 20 20 20 20 30 20 20 20 20 20  |00  0     0     |
                B 00000060  36 30 20 20 30 20 20 20 20 20 30 20 20 20 20 20  |60  0     0     |
                ar member dated.o: modification time 2024-01-01T00:00:00Z in A, 2024-01-01T00:01:00Z in B; same contents
target        lib/libx.so: 'libx.so.2024' in A, 'libx.so.2025' in B
contents      share/doc: 29 bytes in both; first difference at 21 (0x15); 1 byte differs
                line 2 in A: Built on 2024-02-03
                line 2 in B: Built on 2025-02-03
                time '2024-02-03' in A, '2025-02-03' in B
only in B     share/new: file, 3 bytes
8 differences: 1 only in A, 1 only in B, 1 of type, 1 of executable bit, 1 of target, 3 of contents
";

#[test]
fn for_people() {
    assert_eq!(scratch().told(), TEXT);
}

#[test]
fn the_trees_are_named() {
    let scratch = scratch();
    let text = scratch.compare().to_string();
    let named = format!("A is {}\nB is {}\n", scratch.path("a").display(), scratch.path("b").display());
    assert!(text.starts_with(&named), "{text}");
}

#[test]
fn as_json() {
    let scratch = scratch();
    let mut json = serde_json::to_value(scratch.compare()).unwrap();
    assert_eq!(json["roots"]["a"], scratch.path("a").to_str().unwrap());
    assert_eq!(json["roots"]["b"], scratch.path("b").to_str().unwrap());
    json["roots"] = serde_json::json!({"a": "/a", "b": "/b"});
    let expected: serde_json::Value = serde_json::from_str(include_str!("../data/report.json")).unwrap();
    assert_eq!(json, expected, "{json:#}");
}
