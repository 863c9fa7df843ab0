//! The id that Git would give a tree of files: content addressing by the method `git`.
//!
//! A file is a blob (`blob <length>`, NUL, contents), so is a link (its target); a directory is a tree: `tree <length>`, NUL,
//! and for each entry its mode in octal, a space, its name, NUL and the raw id. Git sorts a directory's name as if it ended
//! in a slash, so entries are put in order again when their directory ends.

use crate::decode::Event;
use kiln_hash::{Algorithm, Hash, Hasher};
use thiserror::Error;

/// Why a tree has no Git id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum GitError {
    /// Git has ids by SHA-1 and SHA-256 only.
    #[error("Git objects cannot be hashed with {0}, only with sha1 or sha256")]
    Algorithm(Algorithm),
    /// The archive's events ended too early.
    #[error("Git id is incomplete: the archive has not ended")]
    Incomplete,
}

/// Mode of an entry, as Git writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Regular,
    Executable,
    Symlink,
    Directory,
}

impl Mode {
    fn octal(self) -> &'static [u8] {
        match self {
            Self::Regular => b"100644",
            Self::Executable => b"100755",
            Self::Symlink => b"120000",
            Self::Directory => b"40000",
        }
    }
}

/// An entry whose node has ended.
#[derive(Clone)]
struct Entry {
    /// The name, with a slash if it is a directory's.
    key: Vec<u8>,
    mode: Mode,
    id: Hash,
}

/// A directory that is open.
#[derive(Clone, Default)]
struct Tree {
    entries: Vec<Entry>,
    /// The entry whose node is coming.
    name: Vec<u8>,
}

/// Takes the Git id of a tree from the events of its archive.
///
/// It holds the entries of the open directories.
#[derive(Clone)]
pub struct GitHasher {
    algorithm: Algorithm,
    open: Vec<Tree>,
    /// The file that is being read.
    blob: Option<(Mode, Hasher)>,
    root: Option<Hash>,
}

impl GitHasher {
    /// A hasher at the start of an archive.
    ///
    /// # Errors
    /// If Git doesn't know the algorithm.
    pub fn new(algorithm: Algorithm) -> Result<Self, GitError> {
        match algorithm {
            Algorithm::Sha1 | Algorithm::Sha256 => {
                Ok(Self { algorithm, open: Vec::new(), blob: None, root: None })
            }
            _ => Err(GitError::Algorithm(algorithm)),
        }
    }

    /// Takes the next event of the archive.
    pub fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Directory => self.open.push(Tree::default()),
            Event::Entry(name) => {
                if let Some(tree) = self.open.last_mut() {
                    tree.name = name.to_vec();
                }
            }
            Event::Regular { executable, size, .. } => {
                let mode = if executable { Mode::Executable } else { Mode::Regular };
                self.blob = Some((mode, self.object("blob", size)));
            }
            Event::Contents(contents) => {
                if let Some((_, hasher)) = &mut self.blob {
                    hasher.update(contents);
                }
            }
            Event::EndRegular => {
                if let Some((mode, hasher)) = self.blob.take() {
                    self.node(mode, hasher.finish());
                }
            }
            Event::Symlink(target) => {
                let mut hasher = self.object("blob", target.len() as u64);
                hasher.update(target);
                self.node(Mode::Symlink, hasher.finish());
            }
            Event::EndDirectory => {
                if let Some(tree) = self.open.pop() {
                    let id = self.tree(tree);
                    self.node(Mode::Directory, id);
                }
            }
        }
    }

    /// The id of the root. That of a file doesn't say whether it is executable.
    ///
    /// # Errors
    /// [`GitError::Incomplete`] if the root node has not ended.
    pub fn finish(self) -> Result<Hash, GitError> {
        self.root.ok_or(GitError::Incomplete)
    }

    /// A hasher that has seen an object's header.
    fn object(&self, kind: &str, length: u64) -> Hasher {
        let mut hasher = Hasher::new(self.algorithm);
        hasher.update(format!("{kind} {length}\0").as_bytes());
        hasher
    }

    fn tree(&self, mut tree: Tree) -> Hash {
        tree.entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let mut body = Vec::new();
        for Entry { key, mode, id } in &tree.entries {
            body.extend_from_slice(mode.octal());
            body.push(b' ');
            body.extend_from_slice(key.strip_suffix(b"/").unwrap_or(key));
            body.push(0);
            body.extend_from_slice(id.digest());
        }
        let mut hasher = self.object("tree", body.len() as u64);
        hasher.update(&body);
        hasher.finish()
    }

    /// A node has ended: it is the root, or belongs to the innermost directory.
    fn node(&mut self, mode: Mode, id: Hash) {
        let Some(tree) = self.open.last_mut() else {
            self.root = Some(id);
            return;
        };
        let mut key = std::mem::take(&mut tree.name);
        if mode == Mode::Directory {
            key.push(b'/');
        }
        tree.entries.push(Entry { key, mode, id });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(algorithm: Algorithm, events: &[Event<'_>]) -> String {
        let mut hasher = GitHasher::new(algorithm).unwrap();
        events.iter().for_each(|&event| hasher.event(event));
        hasher.finish().unwrap().base16()
    }

    #[test]
    fn blobs_and_the_empty_tree_as_git_has_them() {
        let hello = [
            Event::Regular { executable: true, size: 6, offset: 112 },
            Event::Contents(b"hello\n"),
            Event::EndRegular,
        ];
        assert_eq!(id(Algorithm::Sha1, &hello), "ce013625030ba8dba906f756967f9e9ca394464a");
        let empty = [Event::Directory, Event::EndDirectory];
        assert_eq!(id(Algorithm::Sha1, &empty), "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
        assert_eq!(
            id(Algorithm::Sha256, &empty),
            "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321"
        );
    }

    #[test]
    fn other_algorithms_and_unfinished_trees() {
        assert_eq!(GitHasher::new(Algorithm::Md5).err(), Some(GitError::Algorithm(Algorithm::Md5)));
        let mut hasher = GitHasher::new(Algorithm::Sha1).unwrap();
        hasher.event(Event::Directory);
        assert_eq!(hasher.finish(), Err(GitError::Incomplete));
    }
}
