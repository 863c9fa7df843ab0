//! The names in a directory, sorted as in archives, in one piece of memory.

use kiln_fs::{Component, Directory};
use rustix::fs::RawDir;
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;

/// Size of the buffer for what the system says of a directory.
const BUFFER: usize = 32 << 10;

/// The names in a directory, without `.` and `..`.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    bytes: Vec<u8>,
    /// Where in them each name starts and how long it is.
    names: Vec<(usize, u8)>,
}

impl Listing {
    /// Reads a directory that has just been opened; nothing if it has more than `most` entries.
    pub(crate) fn read(directory: &Directory, most: usize) -> Result<Option<Self>, Errno> {
        let mut buffer = [const { MaybeUninit::uninit() }; BUFFER];
        let mut entries = RawDir::new(directory.as_fd(), &mut buffer);
        let mut listing = Self::default();
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            if listing.names.len() >= most {
                return Ok(None);
            }
            // What no directory should contain, and no archive can.
            kiln_nar::check_name(name).map_err(|_| Errno::ILSEQ)?;
            let length = u8::try_from(name.len()).map_err(|_| Errno::NAMETOOLONG)?;
            listing.names.push((listing.bytes.len(), length));
            listing.bytes.extend_from_slice(name);
        }
        let bytes = &listing.bytes;
        listing.names.sort_unstable_by_key(|place| name_at(bytes, *place));
        Ok(Some(listing))
    }

    /// How many names there are.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// The name at `index`, if there are so many.
    pub(crate) fn get(&self, index: usize) -> Option<&[u8]> {
        self.names.get(index).map(|place| name_at(&self.bytes, *place))
    }

    /// As [`Listing::get`], to reach the entry by.
    pub(crate) fn component(&self, index: usize) -> Option<Component> {
        self.get(index).and_then(|name| Component::new(name).ok())
    }
}

fn name_at(bytes: &[u8], (start, length): (usize, u8)) -> &[u8] {
    bytes.get(start..start + usize::from(length)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    #[test]
    fn sorted_by_bytes_and_bounded() {
        let scratch = tempfile::tempdir().unwrap();
        let names = [&b"B"[..], b"a", b"a-", b"a.b", b"ab", b"\xff"];
        for name in names.iter().rev() {
            std::fs::write(scratch.path().join(OsStr::from_bytes(name)), "").unwrap();
        }
        let open = || Directory::open(scratch.path()).unwrap();
        let listing = Listing::read(&open(), 6).unwrap().unwrap();
        assert_eq!((0..listing.len()).map(|index| listing.get(index).unwrap()).collect::<Vec<_>>(), names);
        assert_eq!(listing.component(5).unwrap().as_bytes(), b"\xff");
        assert!(listing.component(6).is_none());
        assert!(Listing::read(&open(), 5).unwrap().is_none());
    }
}
