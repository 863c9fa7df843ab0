//! Copying a tree, or making an archive of it, without some of its entries.

use std::io::{self, Write};
use std::path::Path;

use kiln_fs::{CaseHack, Component, Directory, RestoreOptions, Restorer};
use kiln_nar::{Decoder, Encoder, Event};

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
    let (parent, name) = place(source)?;
    let Some(filter) = filter else {
        return Ok(kiln_fs::copy_tree((&parent, &name), to, true)?);
    };
    let options = RestoreOptions { canonical: true, case_hack: CaseHack::Ordinary };
    FilteringSink::new(Restorer::new(to.0, to.1, options), filter).take(&parent, &name).map(drop)
}

/// Writes the archive of the tree at `source` to `out`, as that of a filtered copy would be. Blocks.
///
/// # Errors
/// The tree can't be read, or `out` can't be written to.
pub fn dump_filtered(source: &Path, filter: Option<Filter>, out: &mut dyn Write) -> Result<()> {
    let (parent, name) = place(source)?;
    let Some(filter) = filter else {
        return Ok(kiln_fs::dump(&parent, &name, out).map(drop)?);
    };
    let archiver = Archiver { source, encoder: Encoder::new(), framing: Vec::new(), out };
    let archiver = FilteringSink::new(archiver, filter).take(&parent, &name)?;
    archiver.encoder.finish().map(drop).map_err(io::Error::other).during("dump", source)
}

/// The directory that something is in, and its name there.
fn place(source: &Path) -> Result<(Directory, Component)> {
    let absolute = std::path::absolute(source).during("resolve", source)?;
    let (parent, name) = match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => (parent, name),
        _ => {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "it has no name");
            return Err(error).during("add", source);
        }
    };
    let name = Component::new(name.as_encoded_bytes()).map_err(|error| Error::Files(error.into()))?;
    Ok((Directory::open(parent)?, name))
}

/// What gets the events of an archive that are left.
trait Receiver {
    fn event(&mut self, event: Event<'_>) -> Result<()>;
}

impl Receiver for Restorer<'_> {
    fn event(&mut self, event: Event<'_>) -> Result<()> {
        Ok(Restorer::event(self, event)?)
    }
}

/// Makes an archive of them.
struct Archiver<'a> {
    /// Of what.
    source: &'a Path,
    encoder: Encoder,
    /// What is around contents, on its way to `out`.
    framing: Vec<u8>,
    out: &'a mut dyn Write,
}

impl Receiver for Archiver<'_> {
    fn event(&mut self, event: Event<'_>) -> Result<()> {
        let Self { source, encoder, framing, out } = self;
        let contents = match event {
            Event::Contents(bytes) => bytes,
            _ => &[],
        };
        let encoded = match event {
            Event::Directory => encoder.directory(framing),
            Event::Entry(name) => encoder.entry(framing, name),
            Event::Regular { executable, size, .. } => encoder.regular(framing, executable, size),
            Event::Contents(bytes) => encoder.contents(bytes.len() as u64),
            Event::EndRegular => encoder.end_regular(framing),
            Event::Symlink(target) => encoder.symlink(framing, target),
            Event::EndDirectory => encoder.end_directory(framing),
        };
        let written = encoded
            .map_err(io::Error::other)
            .and_then(|()| out.write_all(framing))
            .and_then(|()| out.write_all(contents));
        framing.clear();
        written.during("dump", source)
    }
}

/// Takes an archive and passes on what the filter leaves of it.
struct FilteringSink<R> {
    decoder: Decoder,
    copy: FilteredCopy<R>,
    failure: Option<Error>,
}

impl<R: Receiver> FilteringSink<R> {
    fn new(receiver: R, filter: Filter) -> Self {
        let copy = FilteredCopy {
            receiver,
            filter,
            path: Vec::new(),
            lengths: Vec::new(),
            entry: None,
            skipping: None,
        };
        Self { decoder: Decoder::new(), copy, failure: None }
    }

    /// Takes the archive of what is there.
    fn take(mut self, parent: &Directory, name: &Component) -> Result<R> {
        match kiln_fs::dump(parent, name, &mut self) {
            // The cause is what the other end says.
            Err(error) => Err(self.failure.unwrap_or(error.into())),
            Ok(_) => Ok(self.copy.receiver),
        }
    }
}

impl<R: Receiver> Write for FilteringSink<R> {
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

struct FilteredCopy<R> {
    receiver: R,
    filter: Filter,
    /// Path of the innermost directory, from the tree's root.
    path: Vec<u8>,
    /// Lengths of the paths of the directories around it.
    lengths: Vec<usize>,
    /// Name of the entry whose node comes next.
    entry: Option<Vec<u8>>,
    /// How many directories deep inside of a node that is left out, 0 for a file; `None` outside of one.
    skipping: Option<usize>,
}

impl<R: Receiver> FilteredCopy<R> {
    fn event(&mut self, event: Event<'_>) -> Result<()> {
        if let Some(depth) = self.skipping {
            self.skipping = match event {
                Event::Directory => Some(depth + 1),
                Event::EndDirectory if depth > 1 => Some(depth - 1),
                Event::EndDirectory => None,
                Event::EndRegular if depth == 0 => None,
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
        self.receiver.event(event)
    }

    /// Asks the filter about the node that comes; if it is wanted, its path becomes the current one.
    fn is_wanted(&mut self, kind: EntryKind) -> Result<bool> {
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
            self.receiver.event(Event::Entry(&name))?;
        }
        self.lengths.push(length);
        Ok(true)
    }

    fn leave(&mut self) {
        let length = self.lengths.pop().unwrap_or(0);
        self.path.truncate(length);
    }
}
