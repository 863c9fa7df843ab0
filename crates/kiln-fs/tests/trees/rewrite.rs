//! Replacing digests in trees, beside an implementation that holds everything in memory.

use crate::scratch::{Scratch, component, skipped};
use kiln_fs::{Component, Error, Result, Rewritten, hash_tree, rewrite_tree};
use kiln_nar::DigestText;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

const A: &str = "mz985b11rp8ccbhb4gcc1bpxwpxvbw6d";
const B: &str = "fkcy6m3kx766j9lmy6dy4c5i4k2x23s6";
const C: &str = "00000000000000000000000000000000";

/// A and B change places, C becomes A.
fn pairs() -> [(DigestText, DigestText); 3] {
    [(A, B), (B, A), (C, A)].map(|(old, new)| (DigestText::new(old).unwrap(), DigestText::new(new).unwrap()))
}

fn rewrite(scratch: &Scratch, from: &str, to: &str) -> Result<Rewritten> {
    rewrite_tree((&scratch.directory, &component(from)), (&scratch.directory, &component(to)), pairs())
}

/// The same in memory.
fn rewritten(text: &[u8]) -> (Vec<u8>, u64) {
    let (mut out, mut found) = (Vec::new(), 0);
    let pairs = pairs();
    while out.len() < text.len() {
        let rest = &text[out.len()..];
        match pairs.iter().find(|(old, _)| rest.starts_with(old.as_bytes())) {
            Some((_, new)) => {
                out.extend_from_slice(new.as_bytes());
                found += 1;
            }
            None => out.push(rest[0]),
        }
    }
    (out, found)
}

#[derive(Debug, Clone)]
enum Tree {
    File(bool, Vec<u8>),
    Link(Vec<u8>),
    Directory(BTreeMap<Vec<u8>, Tree>),
}

impl Tree {
    fn create(&self, path: &Path) {
        match self {
            Self::File(executable, contents) => {
                fs::write(path, contents).unwrap();
                let mode = if *executable { 0o555 } else { 0o444 };
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            }
            Self::Link(target) => std::os::unix::fs::symlink(OsStr::from_bytes(target), path).unwrap(),
            Self::Directory(entries) => {
                fs::create_dir(path).unwrap();
                for (name, tree) in entries {
                    tree.create(&path.join(OsStr::from_bytes(name)));
                }
            }
        }
    }

    /// The tree that is to come out; nothing if two names become the same.
    fn rewritten(&self, facts: &mut Rewritten) -> Option<Self> {
        Some(match self {
            Self::File(executable, contents) => {
                let (contents, found) = rewritten(contents);
                facts.contents += found;
                Self::File(*executable, contents)
            }
            Self::Link(target) => {
                let (target, found) = rewritten(target);
                facts.targets += found;
                Self::Link(target)
            }
            Self::Directory(entries) => {
                let mut renamed = BTreeMap::new();
                for (name, tree) in entries {
                    let (name, found) = rewritten(name);
                    facts.names += found;
                    if renamed.insert(name, tree.rewritten(facts)?).is_some() {
                        return None;
                    }
                }
                Self::Directory(renamed)
            }
        })
    }
}

/// Bytes with whole and broken digests in them; those for names and targets have no NUL and no slash.
fn text(longest: usize, plain: bool) -> impl Strategy<Value = Vec<u8>> {
    let digest = prop::sample::select(&[A, B, C][..]);
    let piece = prop_oneof![
        3 => digest.clone().prop_map(|digest| digest.as_bytes().to_vec()),
        1 => (digest, 0..32_usize).prop_map(|(digest, cut)| digest.as_bytes()[..cut].to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..5).prop_map(move |mut bytes| {
            bytes.iter_mut().filter(|byte| plain && matches!(byte, 0 | b'/' | b'.')).for_each(|byte| *byte = b'x');
            bytes
        }),
    ];
    prop::collection::vec(piece, 1..longest).prop_map(|pieces| [b"-", &pieces.concat()[..]].concat())
}

fn trees() -> impl Strategy<Value = Tree> {
    // Up to where the second chunk of a file begins.
    let before = prop_oneof![19 => 0..100_usize, 1 => 261_900..262_200_usize];
    let contents = (before, any::<u8>(), text(8, false));
    let file = contents.prop_map(|(size, byte, text)| [vec![byte; size], text].concat());
    let leaf = prop_oneof![
        (any::<bool>(), file).prop_map(|(executable, contents)| Tree::File(executable, contents)),
        text(5, true).prop_map(Tree::Link),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop::collection::btree_map(text(4, true), inner, 0..5).prop_map(Tree::Directory)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn b13_any_tree_is_rewritten_as_in_memory(tree in trees()) {
        let scratch = Scratch::in_memory();
        tree.create(&scratch.path("from"));
        let mut facts = Rewritten::default();
        let Some(expected) = tree.rewritten(&mut facts) else {
            let error = rewrite(&scratch, "from", "to").unwrap_err();
            prop_assert!(error.already_exists(), "{}", error);
            return Ok(());
        };
        expected.create(&scratch.path("expected"));
        prop_assert_eq!(rewrite(&scratch, "from", "to").unwrap(), facts);
        let hash = |name| hash_tree(&scratch.directory, &component(name), &mut ()).unwrap();
        prop_assert_eq!(hash("to"), hash("expected"));
    }
}

#[test]
fn b13_digests_across_chunk_borders_are_found() {
    let scratch = Scratch::in_memory();
    for at in (256 << 10) - 33..=(256 << 10) + 1 {
        let mut contents = vec![b'.'; 600_000];
        contents[at..at + 32].copy_from_slice(A.as_bytes());
        contents[599_968..].copy_from_slice(B.as_bytes());
        fs::write(scratch.path("from"), &contents).unwrap();
        assert_eq!(rewrite(&scratch, "from", "to").unwrap().contents, 2, "{at}");
        contents[at..at + 32].copy_from_slice(B.as_bytes());
        contents[599_968..].copy_from_slice(A.as_bytes());
        assert!(fs::read(scratch.path("to")).unwrap() == contents, "{at}");
        fs::remove_file(scratch.path("to")).unwrap();
    }
}

#[test]
fn b13_what_has_no_digest_is_copied_as_it_is() {
    let scratch = Scratch::new();
    let name = scratch.tree("from");
    let facts = rewrite(&scratch, "from", "to").unwrap();
    assert_eq!((facts, facts.any()), (Rewritten::default(), false));
    let hash = |name: &Component| hash_tree(&scratch.directory, name, &mut ()).unwrap();
    assert_eq!(hash(&component("to")), hash(&name));
    for file in ["", "bin", "bin/run", "nothing", "dangling"] {
        let inode = |tree: &str| fs::symlink_metadata(scratch.path(tree).join(file)).unwrap().ino();
        assert_ne!(inode("from"), inode("to"), "{file}");
    }
    let mode = |file: &str| fs::metadata(scratch.path("to").join(file)).unwrap().mode() & 0o7777;
    assert_eq!([mode(""), mode("bin/run"), mode("nothing")], [0o700, 0o700, 0o600]);
}

#[test]
fn b13_one_digest_anywhere_is_told() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("from")).unwrap();
    fs::write(scratch.path("from").join(A), "").unwrap();
    let facts = rewrite(&scratch, "from", "to").unwrap();
    assert_eq!((facts, facts.any()), (Rewritten { names: 1, ..Rewritten::default() }, true));
    assert!(scratch.path("to").join(B).exists());
}

/// Data and holes keep their places, however large the file is; a digest may begin or end where a hole does.
#[test]
fn b13_holes_stay_holes() {
    const SIZE: u64 = 3 << 30;
    let scratch = Scratch::in_memory();
    let mut from = fs::File::create(scratch.path("from")).unwrap();
    from.set_len(SIZE).unwrap();
    let places = [0, (64 << 20) - 32, 1 << 30, (2 << 30) + 100, SIZE - (1 << 20) - 16];
    for at in places {
        from.seek(SeekFrom::Start(at)).unwrap();
        from.write_all(A.as_bytes()).unwrap();
    }
    if from.metadata().unwrap().blocks() * 512 > 1 << 20 {
        skipped("holes", "the file system has none");
        return;
    }
    assert_eq!(rewrite(&scratch, "from", "to").unwrap().contents, places.len() as u64);
    let mut to = fs::File::open(scratch.path("to")).unwrap();
    let metadata = to.metadata().unwrap();
    assert_eq!(metadata.len(), SIZE);
    assert!(metadata.blocks() * 512 <= 1 << 20, "{} blocks", metadata.blocks());
    for at in places {
        let start = at.saturating_sub(64);
        to.seek(SeekFrom::Start(start)).unwrap();
        let mut around = vec![1; usize::try_from(at - start).unwrap() + 96];
        to.read_exact(&mut around).unwrap();
        let mut expected = vec![0; around.len()];
        expected[(at - start) as usize..][..32].copy_from_slice(B.as_bytes());
        assert_eq!(around, expected, "{at}");
    }
}

#[test]
fn b13_nothing_is_written_over() {
    let scratch = Scratch::new();
    scratch.tree("from");
    fs::write(scratch.path("elsewhere"), "keep").unwrap();
    for link in [false, true] {
        match link {
            false => fs::create_dir(scratch.path("to")).unwrap(),
            true => std::os::unix::fs::symlink("elsewhere", scratch.path("to")).unwrap(),
        }
        let error = rewrite(&scratch, "from", "to").unwrap_err();
        assert!(error.already_exists(), "{error}");
        let error = rewrite(&scratch, "elsewhere", "to").unwrap_err();
        assert!(error.already_exists(), "{error}");
        kiln_fs::delete_tree(&scratch.directory, &component("to")).unwrap();
    }
    assert_eq!(fs::read(scratch.path("elsewhere")).unwrap(), b"keep");
}

#[test]
fn b13_what_no_store_has_is_refused() {
    let scratch = Scratch::new();
    scratch.tree("from");
    let pipe = scratch.path("from/pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    match rewrite(&scratch, "from", "to") {
        Err(Error::UnsupportedKind { path, .. }) => assert_eq!(path, pipe),
        other => panic!("{other:?}"),
    }
}
