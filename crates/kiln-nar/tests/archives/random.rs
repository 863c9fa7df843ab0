//! Random trees: the same bytes as an independent implementation writes, whatever way they are cut; and damage.

use crate::tree::{Tree, decode, trees};
use kiln_hash::{Algorithm, Hash};
use kiln_nar::{DecodeProblem, Decoder, GitHasher};
use nix_archive::git::{Mode, TreeEntry, encode_blob, encode_tree, sort_entries};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// The Git id that Kiln takes from an archive.
fn git_id(archive: &[u8], algorithm: Algorithm) -> Vec<u8> {
    let mut hasher = GitHasher::new(algorithm).unwrap();
    let mut decoder = Decoder::new();
    let mut input = archive;
    while let Some(event) = decoder.next(&mut input).unwrap() {
        hasher.event(event);
    }
    hasher.finish().unwrap().digest().to_vec()
}

proptest! {
    #[test]
    fn same_bytes_as_an_independent_encoder(tree in trees()) {
        let other = tree.with_other(&mut |node| {
            let mut out = Vec::new();
            nix_archive::nar::encode_tree(&mut out, &node).unwrap();
            out
        });
        prop_assert_eq!(tree.encode(), other);
    }

    #[test]
    fn every_cut_decodes_to_the_same_tree(tree in trees(), size in 1..300usize, extra in prop::collection::vec(any::<u8>(), 0..20)) {
        let archive = tree.encode();
        let followed = [&archive[..], &extra].concat();
        let (decoded, taken) = decode(followed.chunks(size)).unwrap();
        prop_assert_eq!(decoded, tree);
        prop_assert_eq!(taken, archive.len() as u64);
    }

    /// One tree, one text: whatever the decoder accepts is what the encoder writes for it.
    #[test]
    fn damage_is_an_error_or_another_tree(tree in trees(), at in any::<prop::sample::Index>(), bit in 0..8u32, size in 1..300usize) {
        let mut archive = tree.encode();
        let at = at.index(archive.len());
        archive[at] ^= 1 << bit;
        if let Ok((decoded, taken)) = decode(archive.chunks(size)) {
            prop_assert_ne!(&decoded, &tree);
            prop_assert_eq!(&decoded.encode()[..], &archive[..taken as usize]);
        }
    }

    #[test]
    fn every_truncation_is_an_error(tree in trees(), at in any::<prop::sample::Index>()) {
        let archive = tree.encode();
        let length = at.index(archive.len());
        let error = decode([&archive[..length]]).unwrap_err();
        let ended = matches!(error.problem, DecodeProblem::UnexpectedEnd { .. });
        prop_assert!(ended, "{}", error);
        prop_assert_eq!(error.offset, length as u64);
    }

    #[test]
    fn git_ids_are_those_of_an_independent_implementation(tree in trees()) {
        if let Some((_, id)) = independent_git_id(&tree) {
            prop_assert_eq!(git_id(&tree.encode(), Algorithm::Sha1), id);
        }
    }
}

/// Mode and Git id as the `nix-archive` crate makes the objects; none if it finds a name that Git wouldn't have.
fn independent_git_id(tree: &Tree) -> Option<(Mode, Vec<u8>)> {
    let mut object = Vec::new();
    let mode = match tree {
        Tree::Regular { executable, contents } => {
            encode_blob(&mut object, contents).unwrap();
            if *executable { Mode::Executable } else { Mode::Regular }
        }
        Tree::Symlink(target) => {
            encode_blob(&mut object, target).unwrap();
            Mode::Symlink
        }
        Tree::Directory(entries) => {
            let ids: Option<Vec<_>> =
                entries.iter().map(|(name, tree)| Some((name, independent_git_id(tree)?))).collect();
            let ids = ids?;
            let mut entries: Vec<_> =
                ids.iter().map(|(name, (mode, hash))| TreeEntry { name, mode: *mode, hash }).collect();
            sort_entries(&mut entries);
            encode_tree(&mut object, &entries).ok()?;
            Mode::Directory
        }
    };
    Some((mode, Hash::of(Algorithm::Sha1, object).digest().to_vec()))
}

fn file(executable: bool, contents: &[u8]) -> Tree {
    Tree::Regular { executable, contents: contents.to_vec() }
}

fn directory<const N: usize>(entries: [(&[u8], Tree); N]) -> Tree {
    Tree::Directory(BTreeMap::from(entries.map(|(name, tree)| (name.to_vec(), tree))))
}

/// The tree of a fixed output that Nix 2.34 addressed by the method `git`.
#[test]
fn git_id_of_a_fixed_output() {
    let tree = directory([
        (b"f", file(true, b"hello\n")),
        (b"w", file(false, b"w\n")),
        (b"l", Tree::Symlink(b"f".to_vec())),
        (b"d", directory([(b"z", file(false, b"z\n"))])),
    ]);
    let id = kiln_hash::encoding::base16(&git_id(&tree.encode(), Algorithm::Sha1));
    assert_eq!(id, "5c8993ce000f878fca3a8b94594b7aadda0d3da2");
}

/// A length is not believed: nothing is allocated for what has not come.
#[test]
fn stated_sizes_cost_nothing() {
    let (mut archive, _) = kiln_nar::file_framing(false, u64::MAX);
    archive.extend_from_slice(b"some contents");
    let error = decode([&archive[..]]).unwrap_err();
    assert!(matches!(error.problem, DecodeProblem::UnexpectedEnd { expected: "contents of a file" }));
}
