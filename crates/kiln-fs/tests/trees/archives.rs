//! Dump, restore, hash, copy.

use crate::scratch::{Scratch, component, mode, skipped};
use kiln_fs::*;
use kiln_hash::Sha256;
use kiln_nar::{Decoder, DigestText, Encoder, Event, NarHasher, ReferenceScanner};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

fn dumped(scratch: &Scratch, name: &Component) -> Vec<u8> {
    let mut archive = Vec::new();
    let size = dump(&scratch.directory, name, &mut archive).unwrap();
    assert_eq!(size, archive.len() as u64);
    archive
}

/// Archives made by real Nix come back byte for byte.
#[test]
fn archives_of_nix_survive() {
    let scratch = Scratch::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kiln-nar/tests/data/good");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "nar") {
            continue;
        }
        let archive = fs::read(&path).unwrap();
        let name = component(path.file_name().unwrap().to_str().unwrap());
        for canonical in [false, true] {
            let options = RestoreOptions { canonical, case_hack: CaseHack::Ordinary };
            let mut source = archive.as_slice();
            let digest = restore(&scratch.directory, &name, &mut source, options, &mut ()).unwrap();
            assert_eq!((digest.hash, digest.size), (Sha256::of(&archive), archive.len() as u64));
            assert_eq!(dumped(&scratch, &name), archive, "{}", path.display());
            assert_eq!(hash_tree(&scratch.directory, &name, &mut ()).unwrap(), digest);
            delete_tree(&scratch.directory, &name).unwrap();
        }
        seen += 1;
    }
    assert_eq!(seen, 19);
}

#[test]
fn dump_is_what_nix_store_dumps() {
    let scratch = Scratch::new();
    let name = scratch.tree("tree");
    let mut command = Command::new("nix-store");
    command.arg("--dump").arg(scratch.path("tree"));
    // It wants a store of its own even for this.
    for (variable, place) in
        [("HOME", "home"), ("NIX_STORE_DIR", "store"), ("NIX_STATE_DIR", "state"), ("NIX_LOG_DIR", "log")]
    {
        fs::create_dir(scratch.path(place)).unwrap();
        command.env(variable, scratch.path(place));
    }
    let Ok(output) = command.env("NIX_REMOTE", "local").output() else {
        return skipped("comparison with nix-store --dump", "there is no nix-store");
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(dumped(&scratch, &name) == output.stdout);
}

/// Directories that are large enough for files to be prepared by a second thread, with something of everything in between.
fn large_directories(scratch: &Scratch) -> Component {
    for directory in ["", "a/", "m/n/", "z/"] {
        fs::create_dir_all(scratch.path(&format!("large/{directory}"))).unwrap();
        for number in 0..300_usize {
            let path = scratch.path(&format!("large/{directory}{number:03}"));
            match number % 50 {
                7 => fs::create_dir(path).unwrap(),
                8 => std::os::unix::fs::symlink("target", path).unwrap(),
                9 => fs::write(path, vec![7; 100_000]).unwrap(),
                10 => fs::hard_link(scratch.path("large/000"), path).unwrap(),
                _ => fs::write(path, number.to_string().repeat(number % 7 * 300)).unwrap(),
            }
        }
    }
    component("large")
}

#[test]
fn large_directories_are_read_in_order() {
    let scratch = Scratch::new();
    let name = large_directories(&scratch);
    let before = dumped(&scratch, &name);
    let mut canonicaliser = Canonicaliser::new(Ownership::of_this_process());
    let facts = scan_output(&scratch.directory, &name, &mut canonicaliser, [], true).unwrap();
    assert_eq!((facts.nar.hash, facts.nar.size), (Sha256::of(&before), before.len() as u64));
    assert_eq!(facts.files.len(), 4 * (300 - 6));
    assert!(dumped(&scratch, &name) == before);
    for directory in ["", "a/", "m/n/", "z/"] {
        for number in 0..300 {
            let path = scratch.path(&format!("large/{directory}{number:03}"));
            let metadata = fs::symlink_metadata(&path).unwrap();
            assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1, 0), "{}", path.display());
            assert!(metadata.is_symlink() || metadata.mode() & 0o222 == 0, "{}", path.display());
        }
    }
    let copy = component("copy");
    copy_tree((&scratch.directory, &name), (&scratch.directory, &copy), true).unwrap();
    assert_eq!(hash_tree(&scratch.directory, &copy, &mut ()).unwrap(), facts.nar);
}

/// Whichever thread meets it, the first thing wrong in the archive's order is the one that is told.
#[test]
fn errors_in_large_directories_are_told_in_order() {
    let scratch = Scratch::new();
    let name = large_directories(&scratch);
    for number in (0..300).rev().step_by(13) {
        let path = scratch.path(&format!("large/{number:03}"));
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            fs::remove_dir(&path).unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        match hash_tree(&scratch.directory, &name, &mut ()) {
            Err(Error::UnsupportedKind { path: found, .. }) => assert_eq!(found, path),
            other => panic!("{other:?}"),
        }
    }
}

#[derive(Debug, Clone)]
enum Tree {
    File(bool, Vec<u8>),
    Link(Vec<u8>),
    Directory(BTreeMap<Vec<u8>, Tree>),
}

impl Tree {
    fn encode(&self, encoder: &mut Encoder, out: &mut Vec<u8>) {
        match self {
            Self::File(executable, contents) => {
                encoder.regular(out, *executable, contents.len() as u64).unwrap();
                out.extend_from_slice(contents);
                encoder.contents(contents.len() as u64).unwrap();
                encoder.end_regular(out).unwrap();
            }
            Self::Link(target) => encoder.symlink(out, target).unwrap(),
            Self::Directory(entries) => {
                encoder.directory(out).unwrap();
                for (name, tree) in entries {
                    encoder.entry(out, name).unwrap();
                    tree.encode(encoder, out);
                }
                encoder.end_directory(out).unwrap();
            }
        }
    }
}

fn trees() -> impl Strategy<Value = Tree> {
    let byte = any::<u8>().prop_map(|byte| if matches!(byte, 0 | b'/') { b'x' } else { byte });
    let name = prop::collection::vec(byte, 1..9).prop_filter("dots", |name| name != b"." && name != b"..");
    // Around the size of a chunk too.
    let size = prop_oneof![0..100usize, 262_000..262_300usize];
    let leaf = prop_oneof![
        (any::<bool>(), size, any::<u8>()).prop_map(|(bit, size, byte)| Tree::File(bit, vec![byte; size])),
        prop::collection::vec(1..=255u8, 1..30).prop_map(Tree::Link),
    ];
    leaf.prop_recursive(4, 20, 5, move |inner| {
        prop::collection::btree_map(name.clone(), inner, 0..5).prop_map(Tree::Directory)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_is_restored_dumped_copied_and_hashed(tree in trees()) {
        let scratch = Scratch::new();
        let (mut archive, mut encoder) = (Vec::new(), Encoder::new());
        tree.encode(&mut encoder, &mut archive);
        let (first, second) = (component("first"), component("second"));
        let mut seen = NarHasher::new();
        let options = RestoreOptions { canonical: true, case_hack: CaseHack::Ordinary };
        let digest = restore(&scratch.directory, &first, &mut archive.as_slice(), options, &mut seen).unwrap();
        prop_assert_eq!(digest.hash, Sha256::of(&archive));
        prop_assert_eq!(seen.finish(), digest);
        prop_assert!(dumped(&scratch, &first) == archive);
        copy_tree((&scratch.directory, &first), (&scratch.directory, &second), true).unwrap();
        prop_assert_eq!(hash_tree(&scratch.directory, &second, &mut ()).unwrap(), digest);
        let mut canonicaliser = Canonicaliser::new(Ownership::of_this_process());
        let facts = scan_output(&scratch.directory, &second, &mut canonicaliser, [], true).unwrap();
        prop_assert_eq!(facts.nar, digest);
        for file in facts.files {
            let mut nar = archive.clone();
            if file.path != Path::new("") {
                let path = scratch.path("second").join(&file.path);
                let name = Component::new(path.file_name().unwrap().as_encoded_bytes()).unwrap();
                nar.clear();
                dump(&Directory::open(path.parent().unwrap()).unwrap(), &name, &mut nar).unwrap();
            }
            prop_assert_eq!(file.hash, Sha256::of(&nar));
        }
    }
}

/// A copy shares no inode with what it was made from.
#[test]
fn copies_are_fresh() {
    let scratch = Scratch::new();
    let name = scratch.tree("tree");
    copy_tree((&scratch.directory, &name), (&scratch.directory, &component("copy")), false).unwrap();
    assert_eq!(dumped(&scratch, &name), dumped(&scratch, &component("copy")));
    for file in ["", "bin", "bin/run", "dangling"] {
        let inode = |tree: &str| fs::symlink_metadata(scratch.path(tree).join(file)).unwrap().ino();
        assert_ne!(inode("tree"), inode("copy"), "{file}");
    }
    let error =
        copy_tree((&scratch.directory, &name), (&scratch.directory, &component("copy")), false).unwrap_err();
    assert!(error.already_exists(), "{error}");
}

/// References are found wherever they are: names, targets, contents, and across the borders of chunks.
#[test]
fn references_are_found_everywhere() {
    let scratch = Scratch::new();
    let digests: Vec<_> =
        (0..5_u8).map(|seed| DigestText::new(&Sha256::of([seed]).nix32()[..32]).unwrap()).collect();
    let root = scratch.path("out");
    fs::create_dir(&root).unwrap();
    fs::write(root.join(format!("{}-name", digests[0])), "").unwrap();
    std::os::unix::fs::symlink(format!("/nix/store/{}-target", digests[1]), root.join("link")).unwrap();
    // Over the border of the 256 KiB chunk, and far behind the place where the second thread starts.
    let mut contents = vec![b'.'; 3 << 20];
    for (at, digest) in [((256 << 10) - 200, digests[2]), ((2 << 20) + 5, digests[3])] {
        for copy in 0..12 {
            contents[at + copy * 33..at + copy * 33 + 32].copy_from_slice(digest.as_bytes());
        }
    }
    fs::write(root.join("big"), &contents).unwrap();
    let mut canonicaliser = Canonicaliser::new(Ownership::of_this_process());
    let name = component("out");
    let facts = scan_output(&scratch.directory, &name, &mut canonicaliser, digests.clone(), false).unwrap();
    assert_eq!(facts.references, digests[..4].iter().copied().collect::<BTreeSet<_>>());
    let archive = dumped(&scratch, &name);
    assert_eq!((facts.nar.hash, facts.nar.size), (Sha256::of(&archive), archive.len() as u64));
    let mut scanner = ReferenceScanner::new(digests);
    assert_eq!(hash_tree(&scratch.directory, &name, &mut scanner).unwrap(), facts.nar);
    assert_eq!(scanner.finish(), facts.references);
}

/// Changes a file as soon as the first part of its archive arrives.
struct Meddler<'a>(&'a Path, u64);

impl Write for Meddler<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        fs::OpenOptions::new().write(true).open(self.0)?.set_len(self.1)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn files_that_grow_or_shrink_are_errors() {
    let scratch = Scratch::new();
    let path = scratch.path("file");
    for (before, after) in [(1 << 20, (1 << 20) + 1), (1 << 20, 1 << 19), (1 << 20, 2 << 20)] {
        fs::write(&path, vec![b'x'; before]).unwrap();
        let result = dump(&scratch.directory, &component("file"), &mut Meddler(&path, after));
        assert!(matches!(result, Err(Error::Changed(_))), "{result:?}");
    }
}

/// A terabyte of nothing is no problem but time, so only a little of it is asked for.
#[test]
fn sparse_files_are_read_as_zeros() {
    let scratch = Scratch::new();
    fs::File::create(scratch.path("sparse")).unwrap().set_len(5 << 20).unwrap();
    let archive = dumped(&scratch, &component("sparse"));
    assert_eq!(archive.len(), (5 << 20) + 112);
}

#[test]
fn failures_of_source_and_sink_are_told() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(28))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let scratch = Scratch::new();
    let name = scratch.tree("tree");
    let error = dump(&scratch.directory, &name, &mut Full).unwrap_err();
    assert_eq!(error.os_error(), Some(28));
    let archive = dumped(&scratch, &name);
    for length in [0, 10, 100, archive.len() - 1] {
        let target = component("target");
        let result =
            restore(&scratch.directory, &target, &mut &archive[..length], RestoreOptions::default(), &mut ());
        assert!(matches!(result, Err(Error::Decode { .. })), "{length}: {result:?}");
        delete_tree(&scratch.directory, &target).unwrap();
    }
}

/// What follows an archive in the same stream isn't hashed.
#[test]
fn restore_stops_at_the_end_of_the_archive() {
    let scratch = Scratch::new();
    let name = scratch.tree("tree");
    let archive = dumped(&scratch, &name);
    let followed = [&archive[..], b"something else"].concat();
    let copy = component("copy");
    let digest =
        restore(&scratch.directory, &copy, &mut &followed[..], RestoreOptions::default(), &mut ()).unwrap();
    assert_eq!((digest.hash, digest.size), (Sha256::of(&archive), archive.len() as u64));
}

#[test]
fn restored_canonically() {
    let scratch = Scratch::new();
    let name = scratch.tree("tree");
    let archive = dumped(&scratch, &name);
    let options = RestoreOptions { canonical: true, ..RestoreOptions::default() };
    restore(&scratch.directory, &component("copy"), &mut &archive[..], options, &mut ()).unwrap();
    let root = scratch.path("copy");
    for (path, expected) in [("", 0o555), ("bin", 0o555), ("bin/run", 0o555), ("nothing", 0o444)] {
        assert_eq!(mode(&root.join(path)), expected, "{path}");
    }
    for path in ["", "bin", "bin/run", "nothing", "dangling"] {
        let metadata = fs::symlink_metadata(root.join(path)).unwrap();
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1, 0), "{path}");
    }
}

fn restored(scratch: &Scratch, case_hack: CaseHack, names: &[&str]) -> Result<Vec<String>> {
    let (mut archive, mut encoder) = (Vec::new(), Encoder::new());
    encoder.directory(&mut archive).unwrap();
    for name in names {
        encoder.entry(&mut archive, name.as_bytes()).unwrap();
        encoder.symlink(&mut archive, b"x").unwrap();
    }
    encoder.end_directory(&mut archive).unwrap();
    let name = component("case");
    delete_tree(&scratch.directory, &name)?;
    let options = RestoreOptions { canonical: false, case_hack };
    restore(&scratch.directory, &name, &mut &archive[..], options, &mut ())?;
    let mut names: Vec<_> = fs::read_dir(scratch.path("case"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    Ok(names)
}

#[test]
fn case_hack() {
    let scratch = Scratch::new();
    let names = ["A", "a", "b", "b~nix~case~hack~1"];
    assert_eq!(restored(&scratch, CaseHack::Ordinary, &names).unwrap(), names);
    assert!(matches!(restored(&scratch, CaseHack::Refuse, &names), Err(Error::CaseCollision(_))));
    assert_eq!(restored(&scratch, CaseHack::Refuse, &["A", "a"]).unwrap(), ["A", "a"]);
    let applied = restored(&scratch, CaseHack::Apply, &["FOO", "Foo", "bar", "foo"]).unwrap();
    assert_eq!(applied, ["FOO", "Foo~nix~case~hack~1", "bar", "foo~nix~case~hack~2"]);
    let collision = restored(&scratch, CaseHack::Apply, &["A", "A~nix~case~hack~1", "a"]);
    assert!(matches!(collision, Err(Error::CaseCollision(_))), "{collision:?}");
}

/// Events may also come from elsewhere than a whole archive.
#[test]
fn restorer_knows_its_end() {
    let scratch = Scratch::new();
    let name = component("x");
    let mut restorer = Restorer::new(&scratch.directory, &name, RestoreOptions::default());
    for event in [Event::Directory, Event::Entry(b"a"), Event::Symlink(b"t")] {
        restorer.event(event).unwrap();
        assert!(!restorer.is_complete());
    }
    restorer.event(Event::EndDirectory).unwrap();
    assert!(restorer.is_complete());
    let mut decoder = Decoder::new();
    let archive = dumped(&scratch, &name);
    let mut input = &archive[..];
    while decoder.next(&mut input).unwrap().is_some() {}
    decoder.finish().unwrap();
}
