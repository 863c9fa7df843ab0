//! Copying a tree without some of its entries.

use std::io::{self, Write};
use std::path::Path;

use kiln_fs::{CaseHack, Component, Directory, RestoreOptions, Restorer};
use kiln_nar::{Decoder, Event};

use crate::error::{During, Error, Result};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    Regular,
    /// A directory; if it is left out, so is all in it.
    Directory,
    /// A symbolic link.
    Symlink,
}

/// Says of an entry, by its path relative to the tree and its kind, whether it is copied. The tree itself always is.
pub type Filter = Box<dyn FnMut(&[u8], EntryKind) -> bool + Send>;

/// Copies the tree at `source` to a place where nothing is, in canonical form.
pub(crate) fn copy_filtered(
    source: &Path,
    to: (&Directory, &Component),
    filter: Option<Filter>,
) -> Result<()> {
    let absolute = std::path::absolute(source).during("resolve", source)?;
    let (parent, name) = match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => (parent, name),
        _ => {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "it has no name");
            return Err(error).during("add", source);
        }
    };
    let name = Component::new(name.as_encoded_bytes()).map_err(|error| Error::Files(error.into()))?;
    let parent = Directory::open(parent)?;
    let Some(filter) = filter else {
        return Ok(kiln_fs::copy_tree((&parent, &name), to, true)?);
    };
    let options = RestoreOptions { canonical: true, case_hack: CaseHack::Ordinary };
    let mut sink = FilteringSink {
        decoder: Decoder::new(),
        copy: FilteredCopy {
            restorer: Restorer::new(to.0, to.1, options),
            filter,
            path: Vec::new(),
            lengths: Vec::new(),
            entry: None,
            skipping: None,
        },
        failure: None,
    };
    match kiln_fs::dump(&parent, &name, &mut sink) {
        // The cause is what the other end says.
        Err(error) => Err(sink.failure.unwrap_or(error).into()),
        Ok(_) => Ok(()),
    }
}

/// Takes an archive and restores it without what the filter leaves out.
struct FilteringSink<'a> {
    decoder: Decoder,
    copy: FilteredCopy<'a>,
    failure: Option<kiln_fs::Error>,
}

impl Write for FilteringSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut input = bytes;
        while let Some(event) = self.decoder.next(&mut input).map_err(io::Error::other)? {
            if let Err(error) = self.copy.event(event) {
                self.failure = Some(error);
                return Err(io::Error::other("the copy failed"));
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct FilteredCopy<'a> {
    restorer: Restorer<'a>,
    filter: Filter,
    /// Path of the innermost directory, from the tree's root.
    path: Vec<u8>,
    /// Lengths of the paths of the directories around it.
    lengths: Vec<usize>,
    /// Name of the entry whose node comes next.
    entry: Option<Vec<u8>>,
    /// How many directories deep inside of a node that is left out; `None` outside of one.
    skipping: Option<usize>,
}

impl FilteredCopy<'_> {
    fn event(&mut self, event: Event<'_>) -> kiln_fs::Result<()> {
        if let Some(depth) = self.skipping {
            self.skipping = match event {
                Event::Directory => Some(depth + 1),
                Event::EndDirectory if depth > 1 => Some(depth - 1),
                // The end of the node that is left out: of a directory, or of a file.
                Event::EndDirectory | Event::EndRegular if depth <= 1 => None,
                _ => Some(depth),
            };
            return Ok(());
        }
        match event {
            Event::Entry(name) => {
                self.entry = Some(name.to_vec());
                return Ok(());
            }
            Event::Directory => {
                if !self.is_wanted(EntryKind::Directory)? {
                    self.skipping = Some(1);
                    return Ok(());
                }
            }
            Event::Regular { .. } => {
                if !self.is_wanted(EntryKind::Regular)? {
                    self.skipping = Some(0);
                    return Ok(());
                }
                self.leave();
            }
            Event::Symlink(_) => {
                if !self.is_wanted(EntryKind::Symlink)? {
                    return Ok(());
                }
                self.leave();
            }
            Event::EndDirectory => self.leave(),
            Event::Contents(_) | Event::EndRegular => {}
        }
        self.restorer.event(event)
    }

    /// Asks the filter about the node that comes; if it is wanted, its path becomes the current one.
    fn is_wanted(&mut self, kind: EntryKind) -> kiln_fs::Result<bool> {
        let length = self.path.len();
        if let Some(name) = self.entry.take() {
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&name);
            if !(self.filter)(&self.path, kind) {
                self.path.truncate(length);
                return Ok(false);
            }
            self.restorer.event(Event::Entry(&name))?;
        }
        self.lengths.push(length);
        Ok(true)
    }

    fn leave(&mut self) {
        let length = self.lengths.pop().unwrap_or(0);
        self.path.truncate(length);
    }
}
