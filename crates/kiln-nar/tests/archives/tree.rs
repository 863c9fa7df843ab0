//! Trees in memory: made at random, written by Kiln's encoder, read by its decoder.

use kiln_nar::{DecodeError, Decoder, Encoder, Event};
use nix_archive::nar::{NamedNode, Node};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tree {
    Regular { executable: bool, contents: Vec<u8> },
    Symlink(Vec<u8>),
    Directory(Entries),
}

pub(crate) fn trees() -> impl Strategy<Value = Tree> {
    let byte = any::<u8>().prop_map(|byte| if matches!(byte, 0 | b'/') { b'x' } else { byte });
    let name = prop::collection::vec(byte, 1..12).prop_filter("dots", |name| name != b"." && name != b"..");
    let leaf = prop_oneof![
        (any::<bool>(), prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(executable, contents)| Tree::Regular { executable, contents }),
        prop::collection::vec(1..=255u8, 1..30).prop_map(Tree::Symlink),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop::collection::btree_map(name.clone(), inner, 0..6).prop_map(Tree::Directory)
    })
}

impl Tree {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = Encoder::new();
        self.encode_node(&mut encoder, &mut out);
        assert_eq!(encoder.finish().unwrap(), out.len() as u64);
        out
    }

    fn encode_node(&self, encoder: &mut Encoder, out: &mut Vec<u8>) {
        match self {
            Self::Regular { executable, contents } => {
                encoder.regular(out, *executable, contents.len() as u64).unwrap();
                out.extend_from_slice(contents);
                encoder.contents(contents.len() as u64).unwrap();
                encoder.end_regular(out).unwrap();
            }
            Self::Symlink(target) => encoder.symlink(out, target).unwrap(),
            Self::Directory(entries) => {
                encoder.directory(out).unwrap();
                for (name, node) in entries {
                    encoder.entry(out, name).unwrap();
                    node.encode_node(encoder, out);
                }
                encoder.end_directory(out).unwrap();
            }
        }
    }

    /// Calls `visit` with the tree in the form that the `nix-archive` crate knows.
    pub(crate) fn with_other<R>(&self, visit: &mut dyn FnMut(Node<'_>) -> R) -> R {
        match self {
            Self::Regular { executable, contents } => {
                visit(Node::Regular { executable: *executable, contents })
            }
            Self::Symlink(target) => visit(Node::Symlink { target }),
            Self::Directory(entries) => {
                fn gather<'a, R>(
                    rest: &mut dyn Iterator<Item = (&'a Vec<u8>, &'a Tree)>,
                    done: &mut Vec<NamedNode<'_>>,
                    visit: &mut dyn FnMut(Node<'_>) -> R,
                ) -> R {
                    match rest.next() {
                        None => visit(Node::Directory(done)),
                        Some((name, tree)) => tree.with_other(&mut |node| {
                            let mut more = done.clone();
                            more.push(NamedNode { name, node });
                            gather(&mut *rest, &mut more, visit)
                        }),
                    }
                }
                gather(&mut entries.iter(), &mut Vec::new(), visit)
            }
        }
    }
}

/// Reads an archive that comes in `pieces`; returns the tree and how many bytes it took.
pub(crate) fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(Tree, u64), DecodeError> {
    let mut decoder = Decoder::new();
    let mut builder = Builder::default();
    for mut piece in pieces {
        let before = (decoder.offset(), piece.len());
        while let Some(event) = decoder.next(&mut piece)? {
            builder.event(event);
        }
        assert_eq!(decoder.offset() - before.0, (before.1 - piece.len()) as u64);
        assert!(piece.is_empty() || decoder.is_complete());
    }
    decoder.finish()?;
    Ok((builder.root.unwrap(), decoder.offset()))
}

type Entries = BTreeMap<Vec<u8>, Tree>;

#[derive(Default)]
struct Builder {
    open: Vec<(Entries, Vec<u8>)>,
    file: Option<(bool, Vec<u8>, u64)>,
    root: Option<Tree>,
}

impl Builder {
    fn event(&mut self, event: Event<'_>) {
        assert!(self.root.is_none());
        match event {
            Event::Directory => self.open.push(Default::default()),
            Event::Entry(name) => self.open.last_mut().unwrap().1 = name.to_vec(),
            Event::Regular { executable, size, .. } => self.file = Some((executable, Vec::new(), size)),
            Event::Contents(contents) => {
                assert!(!contents.is_empty());
                self.file.as_mut().unwrap().1.extend_from_slice(contents);
            }
            Event::EndRegular => {
                let (executable, contents, size) = self.file.take().unwrap();
                assert_eq!(contents.len() as u64, size);
                self.node(Tree::Regular { executable, contents });
            }
            Event::Symlink(target) => self.node(Tree::Symlink(target.to_vec())),
            Event::EndDirectory => {
                let (entries, _) = self.open.pop().unwrap();
                self.node(Tree::Directory(entries));
            }
        }
    }

    fn node(&mut self, tree: Tree) {
        match self.open.last_mut() {
            None => self.root = Some(tree),
            Some((entries, name)) => assert!(entries.insert(std::mem::take(name), tree).is_none()),
        }
    }
}
