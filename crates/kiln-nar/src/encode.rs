//! The encoder: from calls in the order of the tree to the framing bytes of an archive.
//!
//! It appends only the bytes *around* the contents of files. The contents themselves are the caller's: read(2) them
//! into the same buffer right after the framing, or send them by another way, and say with [`Encoder::contents`] how
//! many bytes went past. So nothing is copied, and a file of any size costs no memory here.

use crate::grammar::{MAGIC, MAX_DEPTH, NameError, OpenDirectories, is_valid_target, padding, put_number};
use crate::grammar::{put_padding, put_string};
use thiserror::Error;

/// Why a tree can't be written as an archive.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// A name that no entry may have, or one out of order.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A link's target is empty, too long, or contains a NUL.
    #[error("invalid symlink target '{}'", .0.escape_ascii())]
    InvalidTarget(Vec<u8>),
    /// More than [`MAX_DEPTH`] nodes on a path.
    #[error("directory nesting exceeds the maximum depth of {MAX_DEPTH}")]
    TooDeep,
    /// A file gave more bytes than its stated size.
    #[error("file has more bytes than its size of {size} said")]
    TooLong {
        /// The size given to [`Encoder::regular`].
        size: u64,
    },
    /// A file ended before its stated size.
    #[error("file ended {missing} bytes before its size of {size}")]
    TooShort {
        /// The size given to [`Encoder::regular`].
        size: u64,
        /// How many bytes of it did not come.
        missing: u64,
    },
    /// A call that the grammar has no place for here.
    #[error("archive cannot have {call} here: expected {expected}")]
    Misplaced {
        /// What was asked for.
        call: &'static str,
        /// What could come instead.
        expected: &'static str,
    },
}

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The root node.
    Root,
    /// An entry, or the end of the directory.
    Directory,
    /// The node of the entry whose name has been written.
    EntryNode,
    /// Contents of a file of `size` bytes, of which `missing` have yet to come.
    Contents { size: u64, missing: u64 },
    /// Nothing.
    Complete,
}

impl State {
    fn expected(self) -> &'static str {
        match self {
            Self::Root => "the root node",
            Self::Directory => "an entry or the end of the directory",
            Self::EntryNode => "the node of an entry",
            Self::Contents { .. } => "contents of a file or its end",
            Self::Complete => "nothing more",
        }
    }
}

/// Writes one archive (format `nix-archive-1`).
///
/// ```
/// # use kiln_nar::Encoder;
/// let mut out = Vec::new();
/// let mut encoder = Encoder::new();
/// encoder.directory(&mut out)?;
/// encoder.entry(&mut out, b"greeting")?;
/// encoder.regular(&mut out, false, 6)?;
/// out.extend_from_slice(b"hello\n");
/// encoder.contents(6)?;
/// encoder.end_regular(&mut out)?;
/// encoder.end_directory(&mut out)?;
/// assert_eq!(encoder.finish()?, out.len() as u64);
/// # Ok::<(), kiln_nar::EncodeError>(())
/// ```
///
/// After an error the archive can't be gone on with.
#[derive(Debug, Clone)]
pub struct Encoder {
    state: State,
    directories: OpenDirectories,
    offset: u64,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// An encoder that expects the root node.
    #[must_use]
    pub fn new() -> Self {
        Self { state: State::Root, directories: OpenDirectories::default(), offset: 0 }
    }

    /// Starts a directory. Its entries follow, then [`end_directory`](Self::end_directory).
    ///
    /// # Errors
    /// Where no node may be, or too deep.
    pub fn directory(&mut self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.node(out, "a directory", |out| put_string(out, b"directory"))?;
        self.directories.enter();
        self.state = State::Directory;
        Ok(())
    }

    /// Starts the entry `name` of the innermost directory. One node follows.
    ///
    /// # Errors
    /// If the name is invalid or not greater than the entry before it, or no entry may be here.
    pub fn entry(&mut self, out: &mut Vec<u8>, name: &[u8]) -> Result<(), EncodeError> {
        self.expect(self.state == State::Directory, "an entry")?;
        self.directories.accept(name)?;
        let start = out.len();
        for string in [&b"entry"[..], b"(", b"name", name, b"node"] {
            put_string(out, string);
        }
        self.count(out, start);
        self.state = State::EntryNode;
        Ok(())
    }

    /// Starts a regular file of `size` bytes. Its contents follow, then [`end_regular`](Self::end_regular).
    ///
    /// # Errors
    /// Where no node may be, or too deep.
    pub fn regular(&mut self, out: &mut Vec<u8>, executable: bool, size: u64) -> Result<(), EncodeError> {
        self.node(out, "a regular file", |out| {
            put_string(out, b"regular");
            if executable {
                put_string(out, b"executable");
                put_string(out, b"");
            }
            put_string(out, b"contents");
            put_number(out, size);
        })?;
        self.state = State::Contents { size, missing: size };
        Ok(())
    }

    /// Accounts for `length` bytes of the file's contents, which the caller has put into the archive.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`] if these are more than the file has.
    pub fn contents(&mut self, length: u64) -> Result<(), EncodeError> {
        let State::Contents { size, missing } = self.state else {
            return Err(self.misplaced("contents"));
        };
        let missing = missing.checked_sub(length).ok_or(EncodeError::TooLong { size })?;
        self.offset = self.offset.saturating_add(length);
        self.state = State::Contents { size, missing };
        Ok(())
    }

    /// Ends the regular file.
    ///
    /// # Errors
    /// [`EncodeError::TooShort`] if not all of its contents have come.
    pub fn end_regular(&mut self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self.state {
            State::Contents { size, missing: 0 } => {
                let start = out.len();
                put_padding(out, size);
                put_string(out, b")");
                self.count(out, start);
                self.end_node(out);
                Ok(())
            }
            State::Contents { size, missing } => Err(EncodeError::TooShort { size, missing }),
            _ => Err(self.misplaced("the end of a regular file")),
        }
    }

    /// Writes a symbolic link.
    ///
    /// # Errors
    /// If the target is invalid, or no node may be here, or too deep.
    pub fn symlink(&mut self, out: &mut Vec<u8>, target: &[u8]) -> Result<(), EncodeError> {
        if !is_valid_target(target) {
            return Err(EncodeError::InvalidTarget(target.to_vec()));
        }
        self.node(out, "a symlink", |out| {
            for string in [&b"symlink"[..], b"target", target, b")"] {
                put_string(out, string);
            }
        })?;
        self.end_node(out);
        Ok(())
    }

    /// Ends the innermost directory.
    ///
    /// # Errors
    /// If no directory is open, or an entry lacks its node.
    pub fn end_directory(&mut self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.expect(self.state == State::Directory, "the end of a directory")?;
        let start = out.len();
        put_string(out, b")");
        self.count(out, start);
        self.directories.leave();
        self.end_node(out);
        Ok(())
    }

    /// How many bytes of the archive have been written, contents included.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the root node has ended.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Says that this was all, and gives the size of the archive in bytes.
    ///
    /// # Errors
    /// If the root node has not ended.
    pub fn finish(self) -> Result<u64, EncodeError> {
        self.expect(self.is_complete(), "its end")?;
        Ok(self.offset)
    }

    /// Opens a node: magic if it is the root, parenthesis and type; the rest is written by `body`.
    fn node(
        &mut self,
        out: &mut Vec<u8>,
        call: &'static str,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), EncodeError> {
        self.expect(matches!(self.state, State::Root | State::EntryNode), call)?;
        if !self.directories.has_room() {
            return Err(EncodeError::TooDeep);
        }
        let start = out.len();
        if self.state == State::Root {
            put_string(out, MAGIC);
        }
        put_string(out, b"(");
        put_string(out, b"type");
        body(out);
        self.count(out, start);
        Ok(())
    }

    /// After the end of a node: closes the entry that it was in, if any.
    fn end_node(&mut self, out: &mut Vec<u8>) {
        if self.directories.is_empty() {
            self.state = State::Complete;
        } else {
            let start = out.len();
            put_string(out, b")");
            self.count(out, start);
            self.state = State::Directory;
        }
    }

    fn count(&mut self, out: &[u8], start: usize) {
        self.offset = self.offset.saturating_add(out.len().saturating_sub(start) as u64);
    }

    fn expect(&self, fits: bool, call: &'static str) -> Result<(), EncodeError> {
        if fits { Ok(()) } else { Err(self.misplaced(call)) }
    }

    fn misplaced(&self, call: &'static str) -> EncodeError {
        EncodeError::Misplaced { call, expected: self.state.expected() }
    }
}

/// The framing of a regular file that is the whole archive: what comes before its contents, and what after.
///
/// The hash of these around a file's bytes names it in the store's pool of hard links.
#[must_use]
pub fn file_framing(executable: bool, size: u64) -> (Vec<u8>, Vec<u8>) {
    let mut before = Vec::with_capacity(128);
    for string in [MAGIC, &b"("[..], b"type", b"regular"] {
        put_string(&mut before, string);
    }
    if executable {
        put_string(&mut before, b"executable");
        put_string(&mut before, b"");
    }
    put_string(&mut before, b"contents");
    put_number(&mut before, size);
    let mut after = vec![0; padding(size)];
    put_string(&mut after, b")");
    (before, after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = Encoder::new();
        encoder.regular(&mut out, false, 6).unwrap();
        out.extend_from_slice(b"hello\n");
        encoder.contents(6).unwrap();
        encoder.end_regular(&mut out).unwrap();
        assert_eq!(encoder.finish().unwrap(), 120);
        out
    }

    #[test]
    fn framing_of_one_file_is_what_the_encoder_writes() {
        let (before, after) = file_framing(false, 6);
        assert_eq!([&before[..], b"hello\n", &after].concat(), hello());
    }

    #[test]
    fn size_must_be_kept() {
        let mut out = Vec::new();
        let mut encoder = Encoder::new();
        encoder.regular(&mut out, true, 6).unwrap();
        encoder.contents(2).unwrap();
        assert_eq!(encoder.end_regular(&mut out), Err(EncodeError::TooShort { size: 6, missing: 4 }));
        assert_eq!(encoder.contents(5), Err(EncodeError::TooLong { size: 6 }));
        assert!(!encoder.is_complete());
    }

    #[test]
    fn calls_out_of_place_are_refused() {
        let mut out = Vec::new();
        let mut encoder = Encoder::new();
        assert!(matches!(encoder.entry(&mut out, b"a"), Err(EncodeError::Misplaced { .. })));
        assert!(matches!(encoder.contents(1), Err(EncodeError::Misplaced { .. })));
        encoder.directory(&mut out).unwrap();
        assert!(matches!(encoder.symlink(&mut out, b"x"), Err(EncodeError::Misplaced { .. })));
        encoder.entry(&mut out, b"b").unwrap();
        assert!(matches!(encoder.end_directory(&mut out), Err(EncodeError::Misplaced { .. })));
        assert_eq!(encoder.symlink(&mut out, b""), Err(EncodeError::InvalidTarget(vec![])));
        encoder.symlink(&mut out, b"x").unwrap();
        assert!(matches!(encoder.entry(&mut out, b"a"), Err(EncodeError::Name(NameError::NotSorted { .. }))));
        assert!(matches!(encoder.clone().finish(), Err(EncodeError::Misplaced { .. })));
        encoder.end_directory(&mut out).unwrap();
        assert!(matches!(encoder.directory(&mut out), Err(EncodeError::Misplaced { .. })));
        assert_eq!(encoder.finish().unwrap(), out.len() as u64);
    }

    #[test]
    fn depth_is_bounded() {
        let mut out = Vec::new();
        let mut encoder = Encoder::new();
        for _ in 1..MAX_DEPTH {
            encoder.directory(&mut out).unwrap();
            encoder.entry(&mut out, b"d").unwrap();
        }
        encoder.clone().directory(&mut out).unwrap();
        encoder.clone().symlink(&mut out, b"t").unwrap();
        encoder.directory(&mut out).unwrap();
        encoder.entry(&mut out, b"d").unwrap();
        assert_eq!(encoder.symlink(&mut out, b"t"), Err(EncodeError::TooDeep));
        assert_eq!(encoder.regular(&mut out, false, 0), Err(EncodeError::TooDeep));
        assert_eq!(encoder.directory(&mut out), Err(EncodeError::TooDeep));
    }
}
