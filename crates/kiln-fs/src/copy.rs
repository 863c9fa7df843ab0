//! A copy of a tree that has nothing in common with it.

use crate::component::Component;
use crate::directory::Directory;
use crate::dump::dump;
use crate::error::{Error, Result};
use crate::restore::{CaseHack, RestoreOptions, Restorer};
use kiln_nar::Decoder;
use std::io;

/// Copies the tree `from` to `to`, which must not exist, through its archive: contents, names and the executable bit, into
/// fresh inodes. Whoever still has something of the old tree open has nothing of the new one.
///
/// # Errors
/// If the tree can't be archived, or the copy not be made. What there is of the copy then stays.
pub fn copy_tree(
    from: (&Directory, &Component),
    to: (&Directory, &Component),
    canonical: bool,
) -> Result<()> {
    let options = RestoreOptions { canonical, case_hack: CaseHack::Ordinary };
    let mut copier =
        Copier { decoder: Decoder::new(), restorer: Restorer::new(to.0, to.1, options), failure: None };
    match dump(from.0, from.1, &mut copier) {
        // The cause is what the other end says.
        Err(error) => Err(copier.failure.unwrap_or(error)),
        Ok(_) => copier.decoder.finish().map_err(|source| Error::Decode { path: to.0.path_of(to.1), source }),
    }
}

/// Restores what is written to it.
struct Copier<'a> {
    decoder: Decoder,
    restorer: Restorer<'a>,
    failure: Option<Error>,
}

impl io::Write for Copier<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut input = bytes;
        while let Some(event) = self.decoder.next(&mut input).map_err(io::Error::other)? {
            if let Err(error) = self.restorer.event(event) {
                self.failure = Some(error);
                return Err(io::Error::other("the copy failed"));
            }
        }
        Ok(bytes.len() - input.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
