//! A copy of a tree in which digests of store paths are replaced by others.
//!
//! A build that can't use the real path of an output, since there is something valid already, is given another path of the
//! same length; afterwards what it wrote must look as if it had been given the real one. So digests are replaced wherever
//! a build can have written them: in contents, in targets of links, and in names.
//!
//! The tree is copied, not changed in place: until the copy is complete the original is whole, and one rename puts the copy
//! where it belongs. Contents stream through one buffer, so memory doesn't depend on the size of files; holes stay holes.

use crate::component::Component;
use crate::directory::{Directory, OPEN_DIRECTORY, create_file_at, join};
use crate::error::{During as _, Error, Result};
use crate::pipeline::CHUNK;
use crate::status::Status;
use crate::walk::{Place, Visitor, walk};
use kiln_nar::{DIGEST_LENGTH, DigestText, HashRewriter};
use rustix::fs::{Mode, SeekFrom};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// How many digests were replaced in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rewritten {
    /// In the contents of files; a file with several names in the tree counts once for each.
    pub contents: u64,
    /// In the targets of symbolic links.
    pub targets: u64,
    /// In names.
    pub names: u64,
}

impl Rewritten {
    /// Whether the copy differs from the original.
    #[must_use]
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// Makes the tree `to`, which must not exist, from the tree `from`, with the first digest of each of `pairs` replaced by the
/// second. All are replaced at once, from left to right: what replaces a digest isn't searched again. The names `from` and
/// `to` themselves are the caller's.
///
/// The copy consists of fresh inodes that only this process's user can read, and keeps the executable bit; the caller makes
/// it canonical.
///
/// The original is read with the rights of this process, hard links and all. If a build may have made it, it must have been
/// made canonical before, and [`Canonicaliser::finish`](crate::Canonicaliser::finish) must have said that no file in it is
/// someone else's: else the copy could publish whatever the build found to link to.
///
/// # Errors
/// If the original can't be read or changes meanwhile, the copy can't be made, or two names in a directory become the same.
/// What there is of the copy then stays, for the caller to delete.
pub fn rewrite_tree(
    from: (&Directory, &Component),
    to: (&Directory, &Component),
    pairs: impl IntoIterator<Item = (DigestText, DigestText)>,
) -> Result<Rewritten> {
    let pairs = pairs.into_iter().map(|(old, new)| (old, *new.as_bytes()));
    let mut copier = Copier {
        rewriter: HashRewriter::new(pairs),
        seen: 0,
        facts: Rewritten::default(),
        target: to.0.as_fd(),
        name: to.1.as_c_str().to_owned(),
        path: to.0.path().as_os_str().as_bytes().to_vec(),
        levels: Vec::new(),
        input: Vec::with_capacity(CHUNK),
        output: Vec::with_capacity(CHUNK + DIGEST_LENGTH),
    };
    let directory_path = from.0.path().as_os_str().as_bytes();
    walk(&Place::new(from.0.as_fd(), from.1.as_c_str(), directory_path), &mut copier)?;
    Ok(copier.facts)
}

/// A directory of the copy.
struct Level {
    fd: OwnedFd,
    /// Length of the path of the directory that this one is in.
    parent_path: usize,
}

struct Copier<'a> {
    rewriter: HashRewriter,
    /// Digests that the rewriter had replaced before what it sees now.
    seen: u64,
    facts: Rewritten,
    /// Where the copy is made.
    target: BorrowedFd<'a>,
    /// Name of the copy of the node that comes next.
    name: CString,
    /// Path of the innermost directory of the copy, for messages.
    path: Vec<u8>,
    levels: Vec<Level>,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Copier<'_> {
    fn parent(&self) -> BorrowedFd<'_> {
        self.levels.last().map_or(self.target, |level| level.fd.as_fd())
    }

    fn copy_path(&self) -> PathBuf {
        join(&self.path, self.name.as_bytes())
    }

    /// Ends the stream that the rewriter has seen, whose rest it appends to the output; returns how many digests there were.
    fn end_stream(&mut self) -> u64 {
        let occurrences = self.rewriter.finish(&mut self.output);
        let found = occurrences - self.seen;
        self.seen = occurrences;
        found
    }

    /// Rewrites a name or a target.
    fn text(&mut self, text: &[u8]) -> (Vec<u8>, u64) {
        self.output.clear();
        self.rewriter.update(text, &mut self.output);
        let found = self.end_stream();
        (self.output.clone(), found)
    }

    /// Copies the contents of an open file. What is a hole is neither read nor written: no digest is in it or reaches into it.
    fn contents(&mut self, place: &Place<'_>, from: &OwnedFd, size: u64, copy: &OwnedFd) -> Result<()> {
        let mut copied = 0;
        while copied < size {
            let data = start_of_data(from, copied, size).during("read", || place.path())?;
            if data > copied {
                // The zeros of a hole end any digest.
                self.flush(copy)?;
                rustix::fs::seek(copy, SeekFrom::Start(data)).during("write to", || self.copy_path())?;
            }
            let end = end_of_data(from, data, size).during("read", || place.path())?;
            self.segment(place, from, data..end, copy)?;
            copied = end;
        }
        self.flush(copy)?;
        rustix::fs::ftruncate(copy, size).during("write to", || self.copy_path())
    }

    fn segment(
        &mut self,
        place: &Place<'_>,
        from: &OwnedFd,
        segment: std::ops::Range<u64>,
        copy: &OwnedFd,
    ) -> Result<()> {
        let mut offset = segment.start;
        while offset < segment.end {
            self.input.clear();
            let length = rustix::io::pread(from, rustix::buffer::spare_capacity(&mut self.input), offset)
                .during("read", || place.path())?;
            if length == 0 {
                return Err(Error::Changed(place.path()));
            }
            // A read may go beyond the segment, into a hole or a part that has been added.
            let wanted = usize::try_from(segment.end - offset).unwrap_or(usize::MAX);
            self.input.truncate(wanted);
            self.rewriter.update(&self.input, &mut self.output);
            self.write(copy)?;
            offset += self.input.len() as u64;
        }
        Ok(())
    }

    /// Writes what the rewriter has held back.
    fn flush(&mut self, copy: &OwnedFd) -> Result<()> {
        self.facts.contents += self.end_stream();
        self.write(copy)
    }

    fn write(&mut self, copy: &OwnedFd) -> Result<()> {
        let mut rest = self.output.as_slice();
        while !rest.is_empty() {
            match rustix::io::write(copy, rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).during("write to", || self.copy_path()),
            }
        }
        self.output.clear();
        Ok(())
    }
}

impl Visitor for Copier<'_> {
    fn entry(&mut self, place: &Place<'_>) -> Result<()> {
        let (name, found) = self.text(place.name.to_bytes());
        self.facts.names += found;
        self.name = Component::new(name)?.as_c_str().to_owned();
        Ok(())
    }

    fn enter(&mut self, _: &Place<'_>, _: BorrowedFd<'_>) -> Result<()> {
        let parent = self.parent();
        let fd = rustix::fs::mkdirat(parent, &self.name, Mode::RWXU)
            .and_then(|()| rustix::fs::openat(parent, &self.name, OPEN_DIRECTORY, Mode::empty()))
            .during("create directory", || self.copy_path())?;
        let parent_path = self.path.len();
        self.path.push(b'/');
        self.path.extend_from_slice(self.name.as_bytes());
        self.levels.push(Level { fd, parent_path });
        Ok(())
    }

    fn leave(&mut self, _: BorrowedFd<'_>, _: &[u8]) -> Result<()> {
        if let Some(level) = self.levels.pop() {
            self.path.truncate(level.parent_path);
        }
        Ok(())
    }

    fn regular(&mut self, place: &Place<'_>) -> Result<()> {
        let (from, before) = place.open_file()?;
        let mode = 0o600 | before.permissions & 0o100;
        let copy =
            create_file_at(self.parent(), &self.name, mode).during("create file", || self.copy_path())?;
        self.output.clear();
        self.contents(place, &from, before.size, &copy)?;
        let after = Status::of(from.as_fd()).during("look at", || place.path())?;
        if (after.size, after.modified) != (before.size, before.modified) {
            return Err(Error::Changed(place.path()));
        }
        Ok(())
    }

    fn symlink(&mut self, place: &Place<'_>) -> Result<()> {
        let target = rustix::fs::readlinkat(place.directory, place.name, Vec::new())
            .during("read symlink", || place.path())?;
        let (target, found) = self.text(target.as_bytes());
        self.facts.targets += found;
        rustix::fs::symlinkat(target.as_slice(), self.parent(), &self.name)
            .during("create symlink", || self.copy_path())
    }
}

/// Where at or after `offset` the first data is, at most `size`. Of a file system that doesn't know holes all is data.
fn start_of_data(file: &OwnedFd, offset: u64, size: u64) -> Result<u64, Errno> {
    match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(data) => Ok(data.clamp(offset, size)),
        Err(Errno::NXIO) => Ok(size),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(offset),
        Err(error) => Err(error),
    }
}

/// Where after `offset`, at which there is data, the next hole is, at most `size`.
fn end_of_data(file: &OwnedFd, offset: u64, size: u64) -> Result<u64, Errno> {
    match rustix::fs::seek(file, SeekFrom::Hole(offset)) {
        // A hole that has just been made there is read as the zeros that it is.
        Ok(hole) if hole > offset => Ok(hole.min(size)),
        Ok(_) | Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => Ok(size),
        Err(error) => Err(error),
    }
}
