//! Archives, exports and registrations as streams, whole and damaged.

use std::fs;

use crate::both::{Both, Whose};

/// The stream that exports these paths, by real Nix.
fn exported(both: &Both, paths: &str) -> Vec<u8> {
    let words: Vec<String> = paths.split(' ').map(|name| both.named(name).to_owned()).collect();
    let output = both.store.nix().output("nix-store", ["--export".to_owned()].iter().chain(&words));
    assert!(output.status.success());
    output.stdout
}

/// A store that lacks what `built` has, and the stream that exports some of it: that can be imported.
fn emptied(paths: &str) -> Option<(Both, Vec<u8>)> {
    let both = Both::built()?;
    let stream = exported(&both, paths);
    both.store.collect();
    Some((both, stream))
}

#[test]
fn what_one_exports_the_other_imports() {
    let Some((both, stream)) = emptied("lowest self dev bin output source lower multi top") else { return };
    assert_eq!(both.kiln("--dump-db"), "");
    let imported = both.same_change("--import", &stream);
    assert!(imported.stdout.lines().count() > 5 && imported.stderr.is_empty(), "{imported:?}");
    // Once more changes nothing; what follows the end does not matter.
    let again = both.same_change("--import", &[&stream, &b"more"[..]].concat());
    assert_eq!(again.stdout, imported.stdout);
    let all = imported.stdout.replace('\n', " ");
    both.same(&format!("--export {all}"));
    both.store.verify();
}

#[test]
fn a_damaged_import_leaves_nothing_of_what_is_damaged() {
    // All of these need `lowest`, which is first therefore wherever the store is.
    let Some((both, stream)) = emptied("lowest self dev bin output") else { return };
    let length = stream.len();
    let replaced = |from: &[u8], to: &[u8]| {
        let at = stream.windows(from.len()).position(|window| window == from).unwrap();
        [&stream[..at], to, &stream[at + from.len()..]].concat()
    };
    let lower = both.named("lowest").to_owned();
    let elsewhere = lower.replace("-lower", "-upper");
    let refused: Vec<Vec<u8>> = vec![
        Vec::new(),
        stream[..7].to_vec(),
        b"no export at all, but long enough".to_vec(),
        replaced(b"\x01\0\0\0\0\0\0\0", b"\x02\0\0\0\0\0\0\0"),
        replaced(b"NIXE", b"NIXF"),
        replaced(b"nix-archive-1", b"nix-archive-2"),
        replaced(lower.as_bytes(), lower.replace("/store/", "/stare/").as_bytes()),
        replaced(lower.as_bytes(), lower.replace("-lower", "-lo/er").as_bytes()),
        // A number of references, and the length of a path, that nobody can mean.
        replaced(b"NIXE\0\0\0\0", &[&b"NIXE\0\0\0\0"[..], &[0xff; 8]].concat()),
        replaced(lower.as_bytes(), &[&[0xff; 64][..], lower.as_bytes()].concat()),
    ];
    for stream in refused {
        both.store.save();
        let outcome = both.run_reading(Whose::Kiln, "--import", &stream);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{}", outcome.stderr);
        assert!(outcome.stderr.starts_with("error: "), "{}", outcome.stderr);
        assert_eq!(both.kiln("--dump-db"), "");
        let left: Vec<_> = fs::read_dir(both.store.nix().store_dir()).unwrap().collect();
        assert!(left.iter().all(|entry| entry.as_ref().unwrap().file_name() == ".links"), "{left:?}");
        both.store.go_back();
    }
    // The first path is there under another name: what refers to it is refused.
    let outcome =
        both.run_reading(Whose::Kiln, "--import", &replaced(lower.as_bytes(), elsewhere.as_bytes()));
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("is not valid"), "{}", outcome.stderr);
    assert_eq!(both.kiln("--check-validity --print-invalid $self $lowest").lines().count(), 2);
    both.store.collect();
    // Cut anywhere, what has come wholly is there, and no more than that.
    for cut in (1..16).map(|part| length * part / 16) {
        let outcome = both.run_reading(Whose::Kiln, "--import", &stream[..cut]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{cut} of {length}");
        both.store.verify();
    }
    let outcome = both.run_reading(Whose::Kiln, "--import", &stream);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
}

#[test]
fn a_derivation_that_lies_is_refused() {
    let Some(both) = Both::built() else { return };
    let stream = exported(&both, "lower");
    both.store.collect();
    let at = stream.windows(10).position(|window| window == b"echo build").unwrap();
    let lying = [&stream[..at], b"evil build", &stream[at + 10..]].concat();
    let outcome = both.run_reading(Whose::Kiln, "--import", &lying);
    assert_eq!(outcome.code, Some(1), "the path does not follow from the text");
    assert!(outcome.stderr.contains("mismatch"), "{}", outcome.stderr);
    assert_eq!(both.kiln("--dump-db"), "");
}

#[test]
fn an_export_of_damaged_files_is_no_export() {
    let Some(both) = Both::built() else { return };
    fs::remove_file(both.named("lowest")).unwrap();
    fs::write(both.named("lowest"), "other\n").unwrap();
    let by_nix = both.run(Whose::Nix, "--export $lowest");
    let by_kiln = both.run(Whose::Kiln, "--export $lowest");
    assert_eq!((by_kiln.code, by_kiln.stderr), (by_nix.code, by_nix.stderr));
    assert!(!by_kiln.stdout.contains("NIXE"));
    let outcome = both.run(Whose::Kiln, "--export $none");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""));
}

#[test]
fn archives_unpack_to_what_they_were() {
    let Some(both) = Both::built() else { return };
    let archive = both.store.nix().output("nix-store", ["--dump", both.named("output")]).stdout;
    for (whose, name) in [(Whose::Nix, "by-nix"), (Whose::Kiln, "by-kiln")] {
        let line = format!("--restore {name}");
        assert_eq!(both.run_reading(whose, &line, &archive).code, Some(0));
        assert_eq!(both.run_reading(whose, &line, &archive).code, Some(1), "it is there already");
        both.same(&format!("--dump {name}"));
        assert_eq!(both.run_reading(whose, &format!("{line}-cut"), &archive[..100]).code, Some(1));
        assert_eq!(both.run_reading(whose, "--restore no/where", &archive).code, Some(1));
    }
    for line in ["--dump nowhere", "--dump /dev/null/x", "--dump /dev/null"] {
        let outcome = both.run(Whose::Kiln, line);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{line}");
    }
    let read = |name: &str| fs::read(both.work().join(name)).unwrap();
    assert_eq!(read("by-kiln"), read("by-nix"));
}

#[test]
fn databases_as_text() {
    let Some(both) = Both::built() else { return };
    let text = both.kiln("--dump-db");
    // The files stay, and the database is made anew.
    fs::remove_dir_all(both.store.nix().state_dir().join("db")).unwrap();
    let loaded = both.same_change("--load-db", text.as_bytes());
    assert_eq!((loaded.code, loaded.stderr.as_str()), (Some(0), ""));
    assert_eq!(both.kiln("--dump-db"), text);
    both.same_change("--load-db", text.as_bytes());
    for bad in [&text.as_bytes()[..text.len() - 1], b"\n", b"/x\n", b"no path\n0\n", &text.as_bytes()[..200]]
    {
        let outcome = both.run_reading(Whose::Kiln, "--load-db", bad);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{}", outcome.stderr);
        assert_eq!(both.kiln("--dump-db"), text);
    }
    both.store.verify();
}

#[test]
fn registering_what_was_put_in_place() {
    let Some(both) = Both::built() else { return };
    let (none, lowest) = (both.named("none").to_owned(), both.named("lowest").to_owned());
    fs::create_dir(&none).unwrap();
    fs::write(format!("{none}/file"), "text").unwrap();
    let text = |deriver: &str, references: &[&str]| {
        let lines: String = references.iter().map(|reference| format!("{reference}\n")).collect();
        format!("{none}\n{deriver}\n{}\n{lines}", references.len()).into_bytes()
    };
    let hash = both.kiln("-q --hash $lowest").trim_end().trim_start_matches("sha256:").to_owned();
    let lower = both.named("lower").to_owned();
    both.same_change("--register-validity", &text(&lower, &[&lowest, &none]));
    assert_eq!(both.kiln("-q --references $none").lines().count(), 2);
    // A path that is valid stays as it is, unless it is to be registered again.
    both.same_change("--register-validity", &text("", &[]));
    both.same_change("--register-validity --reregister", &text("", &[]));
    let given = format!("{none}\n{hash}\n12\n\n0\n");
    both.same_change("--register-validity --hash-given --reregister", given.as_bytes());
    assert_eq!(both.kiln("-q --size $none"), "12\n");
    let unknown = "/nix/store/00000000000000000000000000000000-x";
    for (line, bad) in [
        ("--register-validity", b"x\n".to_vec()),
        ("--register-validity", format!("{none}1\n\n0\n").into_bytes()),
        ("--register-validity --reregister", text("", &[unknown])),
        ("--register-validity --reregister", text("", &[&format!("{none}1")])),
        ("--register-validity --reregister", text("x", &[])),
        ("--register-validity --hash-given --reregister", format!("{none}\nzz\n3\n\n0\n").into_bytes()),
        ("--register-validity --hash-given --reregister", format!("{none}\n{hash}\n-3\n\n0\n").into_bytes()),
    ] {
        let before = both.kiln("--dump-db");
        let outcome = both.run_reading(Whose::Kiln, line, &bad);
        assert_eq!(outcome.code, Some(1), "{line}: {}", outcome.stderr);
        assert_eq!(both.kiln("--dump-db"), before);
    }
}
