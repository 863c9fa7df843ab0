//! What a comparison found.

pub(crate) mod content;
mod text;

use crate::byte_string::ByteString;
use crate::pair::{Pair, Side};
use content::ContentDifference;
use serde::Serialize;

/// Where two trees differ.
///
/// # JSON
///
/// All keys and names are in kebab-case. [`ByteString`]s are strings where they are UTF-8, else `{"base64": "…"}`;
/// [`Pair`]s are `{"a": …, "b": …}`. Keys that are there always stay; others may come with later versions.
///
/// ```text
/// {
///   "roots": {"a": "/nix/store/…", "b": "/nix/store/….check"},
///   "differences": [
///     {"path": "bin",     "kind": "only-in", "side": "a", "node": "directory", "size": null, "below": 3, "more": false},
///     {"path": "etc",     "kind": "type", "nodes": {"a": "directory", "b": "symlink"}},
///     {"path": "lib/x",   "kind": "executable", "executable": {"a": true, "b": false}},
///     {"path": "lib/y",   "kind": "target", "targets": {"a": "y.1", "b": "y.2"}},
///     {"path": "lib/z.a", "kind": "contents", "sizes": …, "first-difference": 24, …, "findings": […]},
///     {"path": "run",     "kind": "not-compared", "obstacle": "special-file", "node": "pipe"}
///   ],
///   "totals": {"differences": 6, "listed": 6, "only-in-a": 1, …}
/// }
/// ```
///
/// The root has the empty path. For the whole of `contents` see [`ContentDifference`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// The paths of the trees.
    pub roots: Pair<ByteString>,
    /// Where they differ, in the order of archives: what is in a directory comes after it, sorted by the bytes of names.
    pub differences: Vec<Difference>,
    /// How often they differ.
    pub totals: Totals,
}

/// How often trees differ, with what isn't listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Totals {
    /// All together.
    pub differences: u64,
    /// How many of them are listed.
    pub listed: u64,
    /// What is in the first tree only. A subtree counts once, here and in the next.
    pub only_in_a: u64,
    /// What is in the second tree only.
    pub only_in_b: u64,
    /// Nodes of different types.
    pub types: u64,
    /// Files that are executable in one tree only.
    pub executable: u64,
    /// Symbolic links to different targets.
    pub targets: u64,
    /// Files of different contents.
    pub contents: u64,
    /// What couldn't be compared, and so may differ or not.
    pub not_compared: u64,
    /// Nodes that are in both trees and were compared.
    pub compared: u64,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Difference {
    /// Where: from the root of the tree; empty for the root.
    pub path: ByteString,
    /// What.
    #[serde(flatten)]
    pub change: Change,
}

/// What differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Change {
    /// Something is in one tree only. What is below it isn't listed.
    OnlyIn {
        /// In which.
        side: Side,
        /// What it is.
        node: NodeKind,
        /// Length in bytes, of a regular file.
        size: Option<u64>,
        /// How many entries are below it, of a directory.
        below: u64,
        /// Whether there are more, which a limit or an error kept from being counted.
        more: bool,
    },
    /// The types differ.
    Type {
        /// What it is.
        nodes: Pair<NodeKind>,
    },
    /// A file is executable in one tree only.
    Executable {
        /// In which.
        executable: Pair<bool>,
    },
    /// Symbolic links have different targets.
    Target {
        /// The targets.
        targets: Pair<ByteString>,
    },
    /// The contents of a file differ.
    Contents(Box<ContentDifference>),
    /// Something is in both trees and can't be compared.
    NotCompared {
        /// Why not.
        #[serde(flatten)]
        obstacle: Obstacle,
    },
}

/// Why something can't be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "obstacle", rename_all = "kebab-case")]
pub enum Obstacle {
    /// It is neither file nor directory nor link in either tree.
    SpecialFile {
        /// What it is.
        node: NodeKind,
    },
    /// It is in more directories than [`Limits::depth`](crate::Limits::depth) allows.
    TooDeep,
    /// It has more entries than [`Limits::entries`](crate::Limits::entries) allows.
    TooManyEntries,
    /// It changed or went away while it was being compared.
    Changed,
    /// It can't be read.
    Unreadable {
        /// What the system says.
        message: ByteString,
    },
}

/// What a node of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Pipe,
    /// A socket.
    Socket,
    /// A device of characters.
    CharacterDevice,
    /// A device of blocks.
    BlockDevice,
    /// Something that this system has no name for.
    Unknown,
}

impl From<kiln_fs::Kind> for NodeKind {
    fn from(kind: kiln_fs::Kind) -> Self {
        match kind {
            kiln_fs::Kind::Regular => Self::File,
            kiln_fs::Kind::Directory => Self::Directory,
            kiln_fs::Kind::Symlink => Self::Symlink,
            kiln_fs::Kind::Other("pipe") => Self::Pipe,
            kiln_fs::Kind::Other("socket") => Self::Socket,
            kiln_fs::Kind::Other("character device") => Self::CharacterDevice,
            kiln_fs::Kind::Other("block device") => Self::BlockDevice,
            kiln_fs::Kind::Other(_) => Self::Unknown,
        }
    }
}

impl Report {
    pub(crate) fn new(roots: Pair<ByteString>) -> Self {
        Self { roots, differences: Vec::new(), totals: Totals::default() }
    }

    /// Whether the trees are the same, in all that an archive would tell of them, as far as they could be compared. What
    /// couldn't counts as a difference.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.totals.differences == 0
    }

    /// How many differences aren't listed.
    #[must_use]
    pub fn omitted(&self) -> u64 {
        self.totals.differences - self.totals.listed
    }

    /// Counts a difference that isn't listed.
    pub(crate) fn count(&mut self, change: &Change) {
        let totals = &mut self.totals;
        totals.differences += 1;
        *match change {
            Change::OnlyIn { side: Side::A, .. } => &mut totals.only_in_a,
            Change::OnlyIn { side: Side::B, .. } => &mut totals.only_in_b,
            Change::Type { .. } => &mut totals.types,
            Change::Executable { .. } => &mut totals.executable,
            Change::Target { .. } => &mut totals.targets,
            Change::Contents(_) => &mut totals.contents,
            Change::NotCompared { .. } => &mut totals.not_compared,
        } += 1;
    }
}
