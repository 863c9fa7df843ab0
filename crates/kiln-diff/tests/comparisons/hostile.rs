//! Trees made by foes: nothing is followed, waited for, or held in memory.

use super::making::{Machine, ar, member};
use super::scratch::Scratch;
use super::{compared, compared_within, findings};
use kiln_diff::{Change, Finding, Limits, NodeKind, Observation, Obstacle};
use rustix::fs::{CWD, FileType, Mode};
use std::os::unix::fs::PermissionsExt as _;

fn pipe(scratch: &Scratch, path: &str) {
    rustix::fs::mknodat(CWD, scratch.path(path), FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
}

#[test]
fn pipes_and_sockets_are_not_opened() {
    let scratch = Scratch::new();
    for tree in ["a", "b"] {
        pipe(&scratch, &format!("{tree}/pipe"));
        std::os::unix::net::UnixListener::bind(scratch.path(format!("{tree}/socket"))).unwrap();
    }
    pipe(&scratch, "a/only");
    pipe(&scratch, "a/type");
    scratch.file("b/type", "");
    assert_eq!(
        scratch.told(),
        "only in A     only: pipe\n\
         not compared  pipe: pipe in both\n\
         not compared  socket: socket in both\n\
         type          type: pipe in A, file in B\n\
         4 differences: 1 only in A, 1 of type, 2 not compared\n"
    );
}

#[test]
fn devices_are_not_opened() {
    let scratch = Scratch::new();
    for tree in ["a", "b"] {
        let place = scratch.path(format!("{tree}/zero"));
        let zero = rustix::fs::makedev(1, 5);
        if rustix::fs::mknodat(CWD, &place, FileType::CharacterDevice, Mode::from_raw_mode(0o666), zero)
            .is_err()
        {
            eprintln!("SKIPPED: only root can make devices");
            return;
        }
    }
    let special = Obstacle::SpecialFile { node: NodeKind::CharacterDevice };
    assert_eq!(scratch.compare().differences[0].change, Change::NotCompared { obstacle: special });
}

#[test]
fn links_are_not_followed() {
    let scratch = Scratch::new();
    scratch.file("secret/file", "secret");
    let secret = scratch.path("secret/file");
    for tree in ["a", "b"] {
        scratch.link(&format!("{tree}/file"), &secret);
        scratch.link(&format!("{tree}/directory"), secret.parent().unwrap());
        scratch.link(&format!("{tree}/loop"), "loop");
    }
    scratch.link("a/other", &secret);
    scratch.file("b/other", "public");
    let report = scratch.compare();
    assert_eq!(report.totals.differences, 1);
    assert_eq!(
        report.differences[0].change,
        Change::Type { nodes: kiln_diff::Pair::new(NodeKind::Symlink, NodeKind::File) }
    );
}

#[test]
fn what_cannot_be_read_is_said() {
    let scratch = Scratch::new();
    if rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: root can read everything");
        return;
    }
    for tree in ["a", "b"] {
        let file = scratch.file(format!("{tree}/file"), "x");
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o000)).unwrap();
    }
    // Which of both isn't readable is in the message, so the other way around says something else.
    let (directory, [a, b]) = (scratch.open(), ["a", "b"].map(|name| kiln_fs::Component::new(name).unwrap()));
    let report = kiln_diff::compare_trees((&directory, &a), (&directory, &b), &Default::default()).unwrap();
    let Change::NotCompared { obstacle: Obstacle::Unreadable { message } } = &report.differences[0].change
    else {
        panic!("{report}");
    };
    assert!(message.to_string().contains("ermission denied"), "{message}");
}

#[test]
fn names_and_targets_of_any_bytes() {
    let scratch = Scratch::new();
    scratch.file(b"a/\xff\x1b[2J\n", "");
    scratch.link("a/l", "\u{202e}x");
    scratch.link("b/l", "y");
    assert_eq!(
        scratch.told(),
        "target        l: '\\u{202e}x' in A, 'y' in B\n\
         only in A     \\xff\\x1b[2J\\n: file, 0 bytes\n\
         2 differences: 1 only in A, 1 of target\n"
    );
    let json = serde_json::to_value(scratch.compare()).unwrap();
    assert_eq!(json["differences"][1]["path"]["base64"], "/xtbMkoK");
}

/// Deeper than an archive can be, and than a process may have descriptors, in both trees and in one.
#[test]
fn nesting_without_end() {
    let scratch = Scratch::new();
    for tree in ["a", "b", "a/only"] {
        let mut path = scratch.path(format!("{tree}/x"));
        for _ in 0..1000 {
            path.push("d");
        }
        std::fs::create_dir_all(&path).unwrap();
    }
    let report = scratch.compare();
    assert_eq!(report.totals.differences, 2, "{report}");
    assert_eq!(report.differences[1].change, Change::NotCompared { obstacle: Obstacle::TooDeep });
    assert!(matches!(report.differences[0].change, Change::OnlyIn { below: 64, more: true, .. }), "{report}");
    // Too deep for what usually removes scratch directories, in one step, on some systems.
    std::fs::remove_dir_all(scratch.path("a")).unwrap();
    std::fs::remove_dir_all(scratch.path("b")).unwrap();
}

/// Files with holes are as long as anybody likes. What is before the difference is read, not held.
#[test]
fn long_files() {
    let scratch = Scratch::new();
    let length = 64 << 20;
    for tree in ["a", "b"] {
        let file = std::fs::File::create(scratch.path(format!("{tree}/x"))).unwrap();
        file.set_len(length).unwrap();
        std::os::unix::fs::FileExt::write_at(&file, tree.as_bytes(), length / 2).unwrap();
    }
    let report = scratch.compare();
    let Change::Contents(contents) = &report.differences[0].change else { panic!("{report}") };
    assert_eq!((contents.first_difference, contents.differing_bytes), (length / 2, 1));
    assert_eq!(contents.compared, length);
}

/// A program all of whose sections are the same bytes, which differ and are an archive of programs itself.
#[test]
fn sections_that_are_all_the_same_bytes() {
    let machine = Machine { is_64: true, is_big: false };
    let program = |last: u8| {
        let inner = ar(&vec![member("x/", machine.elf(&[(".text", vec![0; 600])])); 200]);
        let mut file = machine.elf(&[("s", [inner, vec![last; 4]].concat())]);
        // 10000 copies of the header of the section, at the end.
        let at = u64::from_le_bytes(file[40..48].try_into().unwrap()) as usize;
        let section = file[at + 64..at + 128].to_vec();
        file.extend(section.repeat(10_000));
        file[60..62].copy_from_slice(&10_003_u16.to_le_bytes());
        file
    };
    let limits = Limits { findings: 20_000, ..Limits::default() };
    let difference = compared_within("x", &program(1), &program(2), &limits);
    let count =
        |is_wanted: fn(&Finding) -> bool| difference.findings.iter().filter(|found| is_wanted(found)).count();
    // Each costs as much as its bytes, until a few times those of the file have been read.
    let compared =
        count(|found| found.path.len() == 1 && matches!(found.observation, Observation::Part { .. }));
    assert!((10..100).contains(&compared), "{compared}");
    assert!(count(|found| found.path.is_empty() && found.observation == Observation::NotExamined) == 1);
}

/// Numbers that are as large as they can be, where a format has numbers.
#[test]
fn numbers_out_of_bounds() {
    let machine = Machine { is_64: true, is_big: false };
    let original =
        machine.elf(&[(".note.gnu.build-id", machine.note(b"GNU\0", 3, b"idid")), (".x", vec![1; 50])]);
    for at in 0..original.len() - 8 {
        let mut damaged = original.clone();
        damaged[at..at + 8].fill(0xff);
        compared("x", &original, &damaged);
        let mut other = damaged.clone();
        *other.last_mut().unwrap() ^= 1;
        compared("x", &damaged, &other);
    }
    let archive =
        String::from_utf8(ar(&[member("#1/9999999999", "x"), member("/99999999999", "y")])).unwrap();
    let told = findings("x.a", archive.as_bytes(), archive.replace('y', "z").as_bytes());
    assert_eq!(told[0], "ar member /99999999999: contents differ from 0 (0x0) on");
}
