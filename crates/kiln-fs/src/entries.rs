//! The entries of a directory, in one piece of memory.

use rustix::fs::{FileType, RawDir};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::BorrowedFd;

/// Size of the buffer for what the system says of a directory.
const BUFFER: usize = 32 << 10;

/// The names in a directory, without `.` and `..`, each with what the file system says of its kind ("unknown" where it
/// says nothing).
#[derive(Debug, Default)]
pub(crate) struct Entries {
    /// All names, each with its NUL.
    names: Vec<u8>,
    places: Vec<Place>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    start: usize,
    /// With the NUL.
    length: usize,
    kind: FileType,
}

impl Entries {
    /// Reads a directory that has just been opened, in the file system's order.
    pub(crate) fn read(directory: BorrowedFd<'_>) -> Result<Self, Errno> {
        let mut entries = Self::default();
        for_each_entry(directory, |name, kind| entries.push(name, kind))?;
        Ok(entries)
    }

    pub(crate) fn push(&mut self, name: &CStr, kind: FileType) {
        let name = name.to_bytes_with_nul();
        self.places.push(Place { start: self.names.len(), length: name.len(), kind });
        self.names.extend_from_slice(name);
    }

    /// Sorts as archives do: by the bytes of the names.
    pub(crate) fn sort(&mut self) {
        let names = &self.names;
        let name = |place: &Place| names.get(place.start..place.start + place.length).unwrap_or_default();
        self.places.sort_unstable_by(|a, b| name(a).cmp(name(b)));
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn get(&self, index: usize) -> Option<(&CStr, FileType)> {
        let place = self.places.get(index)?;
        self.name(place).map(|name| (name, place.kind))
    }

    /// Takes off the last entry.
    pub(crate) fn pop(&mut self) -> Option<Box<CStr>> {
        let place = self.places.pop()?;
        let name = self.name(&place)?.into();
        self.names.truncate(place.start);
        Some(name)
    }

    fn name(&self, place: &Place) -> Option<&CStr> {
        let bytes = self.names.get(place.start..place.start + place.length)?;
        CStr::from_bytes_with_nul(bytes).ok()
    }
}

/// Calls `visit` for each entry of an open directory but `.` and `..`, from where its descriptor stands.
pub(crate) fn for_each_entry(
    directory: BorrowedFd<'_>,
    mut visit: impl FnMut(&CStr, FileType),
) -> Result<(), Errno> {
    let mut buffer = Vec::with_capacity(BUFFER);
    let mut raw = RawDir::new(directory, buffer.spare_capacity_mut());
    while let Some(entry) = raw.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            visit(name, entry.file_type());
        }
    }
    Ok(())
}
