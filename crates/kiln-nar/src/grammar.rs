//! What encoder and decoder must agree on: wire primitives, bounds, and the order of names in a directory.
//!
//! A `u64` is eight bytes, little-endian. A `str` is the length as `u64`, the bytes, and zero bytes up to a multiple of
//! eight. Everything in an archive is made of `str`s; the contents of a file are one, of any length.

use thiserror::Error;

/// The first string of every archive.
pub const MAGIC: &[u8] = b"nix-archive-1";

/// Longest name of a directory entry, in bytes.
pub const MAX_NAME: usize = 255;

/// Longest target of a symbolic link, in bytes.
pub const MAX_TARGET: usize = 4095;

/// Most nodes on a path from the root of an archive to a leaf, both included. The bound of Nix since 2.34.7.
pub const MAX_DEPTH: usize = 64;

/// Longest tag that a reader looks at.
pub(crate) const MAX_TAG: usize = 32;

/// Marks the names that Nix's `use-case-hack` makes on file systems that ignore case.
pub const CASE_HACK_SUFFIX: &[u8] = b"~nix~case~hack~";

/// A name that may not be that of a directory entry, or not at this place.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Empty, `.`, `..`, longer than [`MAX_NAME`], or with a slash or a NUL in it.
    #[error("invalid file name '{}'", .0.escape_ascii())]
    Invalid(Vec<u8>),
    /// Not greater, byte by byte, than the entry before it in the same directory.
    #[error("directory is not sorted: entry '{}' comes after '{}'", .name.escape_ascii(), .previous.escape_ascii())]
    NotSorted {
        /// The entry that comes too late.
        name: Vec<u8>,
        /// The entry before it.
        previous: Vec<u8>,
    },
}

/// Checks that `name` can be the name of a directory entry.
///
/// # Errors
/// [`NameError::Invalid`] otherwise.
pub fn check_name(name: &[u8]) -> Result<(), NameError> {
    let valid = !name.is_empty()
        && name.len() <= MAX_NAME
        && name != b"."
        && name != b".."
        && !name.iter().any(|&byte| byte == b'/' || byte == 0);
    if valid { Ok(()) } else { Err(NameError::Invalid(name.to_vec())) }
}

/// Whether `target` can be the target of a symbolic link: 1 to [`MAX_TARGET`] bytes, none of them NUL.
#[must_use]
pub fn is_valid_target(target: &[u8]) -> bool {
    !target.is_empty() && target.len() <= MAX_TARGET && !target.contains(&0)
}

/// Bytes of padding after a string of `length` bytes.
#[must_use]
pub const fn padding(length: u64) -> usize {
    ((8 - length % 8) % 8) as usize
}

/// Appends `bytes` as a `str`.
pub(crate) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = bytes.len() as u64;
    put_number(out, length);
    out.extend_from_slice(bytes);
    put_padding(out, length);
}

/// Appends a `u64`.
pub(crate) fn put_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

/// Appends the padding of a string of `length` bytes.
pub(crate) fn put_padding(out: &mut Vec<u8>, length: u64) {
    out.resize(out.len() + padding(length), 0);
}

/// The directories between the root and the present place, each with the last name seen in it.
///
/// Leaving a directory keeps its buffer, so that a long archive doesn't allocate for each directory.
#[derive(Debug, Clone, Default)]
pub(crate) struct OpenDirectories {
    last_names: Vec<Vec<u8>>,
    open: usize,
}

impl OpenDirectories {
    /// Whether one more node fits below the open directories.
    pub(crate) fn has_room(&self) -> bool {
        self.open < MAX_DEPTH
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open == 0
    }

    pub(crate) fn enter(&mut self) {
        match self.last_names.get_mut(self.open) {
            Some(name) => name.clear(),
            None => self.last_names.push(Vec::new()),
        }
        self.open += 1;
    }

    pub(crate) fn leave(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// Accepts `name` as the next entry of the innermost directory. The empty name, which no entry has, stands for
    /// "none yet".
    pub(crate) fn accept(&mut self, name: &[u8]) -> Result<(), NameError> {
        check_name(name)?;
        let Some(previous) = self.open.checked_sub(1).and_then(|index| self.last_names.get_mut(index)) else {
            return Ok(());
        };
        if name <= previous.as_slice() {
            return Err(NameError::NotSorted { name: name.to_vec(), previous: previous.clone() });
        }
        previous.clear();
        previous.extend_from_slice(name);
        Ok(())
    }

    /// The last name accepted in the innermost directory.
    pub(crate) fn last_name(&self) -> &[u8] {
        self.open.checked_sub(1).and_then(|index| self.last_names.get(index)).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in [&b"a"[..], b"...", b"\xff", b".a", b"a b\n", &[b'x'; 255]] {
            assert_eq!(check_name(good), Ok(()));
        }
        for bad in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0", &[b'x'; 256]] {
            assert!(check_name(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn padding_reaches_a_multiple_of_eight() {
        for length in [0, 1, 7, 8, 9, u64::MAX, u64::MAX - 7] {
            assert_eq!((length % 8 + padding(length) as u64) % 8, 0);
            assert!(padding(length) < 8);
        }
    }

    #[test]
    fn order_is_by_unsigned_bytes_and_starts_anew_in_each_directory() {
        let mut open = OpenDirectories::default();
        open.enter();
        open.accept(b"b").unwrap();
        open.enter();
        open.accept(b"a").unwrap();
        open.leave();
        assert!(matches!(open.accept(b"b"), Err(NameError::NotSorted { .. })));
        open.accept(b"\xff").unwrap();
        open.enter();
        open.accept(b"a").unwrap();
    }
}
