//! From a tree on disk to an archive.
//!
//! Files are read straight into the chunk that the archive's framing is written to; nothing is copied. While a tree
//! of a build is dumped it can be made canonical, each file right before it is read: see [`scan_output`](crate::scan_output).

use crate::canonical::Canonicaliser;
use crate::component::Component;
use crate::directory::Directory;
use crate::entries::Entries;
use crate::error::{During as _, Error, Result};
use crate::pipeline::{CHUNK, ChunkSink, WriteChunks};
use crate::read_ahead::{Prepared, ReadAhead};
use crate::status::Status;
use crate::walk::{Place, Visitor, walk};
use kiln_hash::{Sha256, Sha256Hasher};
use kiln_nar::{EncodeError, Encoder};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

/// The most that a chunk must have room for before something other than contents is appended: the framing and names of an
/// entry, or the target of a link.
const ROOM: usize = 8 << 10;

/// Writes the archive of the tree `name` in `directory` to `out`; returns its size in bytes.
///
/// # Errors
/// If the tree can't be read or archived, changes meanwhile, or `out` fails.
pub fn dump(directory: &Directory, name: &Component, out: &mut dyn io::Write) -> Result<u64> {
    dump_to(directory, name, &mut WriteChunks(out), None, false).map(|dumped| dumped.size)
}

/// The hash by which a file is known in the store's pool of hard links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHash {
    /// Where the file is, from the root of the tree; empty for the root itself.
    pub path: PathBuf,
    /// SHA-256 of the archive that the file alone would make.
    pub hash: Sha256,
    /// Length of the file in bytes.
    pub size: u64,
}

/// What came out of a dump beside the archive.
pub(crate) struct Dumped {
    pub(crate) size: u64,
    pub(crate) files: Vec<FileHash>,
}

pub(crate) fn dump_to(
    directory: &Directory,
    name: &Component,
    sink: &mut dyn ChunkSink,
    canonicaliser: Option<&mut Canonicaliser>,
    hash_files: bool,
) -> Result<Dumped> {
    let directory_path = directory.path().as_os_str().as_bytes();
    let root = Place::new(directory.as_fd(), name.as_c_str(), directory_path);
    let root_path = root.path();
    let rules = canonicaliser.as_ref().map(|canonicaliser| canonicaliser.rules().clone());
    let mut dumper = Dumper {
        read_ahead: ReadAhead::new(rules),
        encoder: Encoder::new(),
        chunk: Vec::with_capacity(CHUNK),
        sink,
        canonicaliser,
        files: hash_files.then(Vec::new),
        root: root_path.clone(),
    };
    walk(&root, &mut dumper)?;
    dumper.flush()?;
    let Dumper { encoder, files, .. } = dumper;
    let size = encoder.finish().map_err(|source| Error::Encode { path: root_path, source })?;
    Ok(Dumped { size, files: files.unwrap_or_default() })
}

struct Dumper<'a> {
    read_ahead: ReadAhead,
    encoder: Encoder,
    chunk: Vec<u8>,
    sink: &'a mut dyn ChunkSink,
    canonicaliser: Option<&'a mut Canonicaliser>,
    files: Option<Vec<FileHash>>,
    root: PathBuf,
}

impl Dumper<'_> {
    /// Sends the chunk on.
    fn flush(&mut self) -> Result<()> {
        self.sink.take(&mut self.chunk).map_err(|source| Error::Sink { path: self.root.clone(), source })
    }

    /// Sends the chunk on if there is little room left in it.
    fn make_room(&mut self) -> Result<()> {
        if self.chunk.capacity() - self.chunk.len() < ROOM { self.flush() } else { Ok(()) }
    }

    /// Puts the contents of an open file into the archive.
    fn contents(&mut self, place: &Place<'_>, file: &OwnedFd, status: &Status) -> Result<()> {
        let executable = status.permissions & 0o100 != 0;
        let mut hasher = self.files.is_some().then(|| FileHasher::new(executable, status.size));
        encoded(place, self.encoder.regular(&mut self.chunk, executable, status.size))?;
        let mut missing = status.size;
        loop {
            // A read that would only take a few bytes isn't worth it, unless it takes all.
            let room = self.chunk.capacity() - self.chunk.len();
            if room < ROOM && room as u64 <= missing {
                self.flush()?;
            }
            let start = self.chunk.len();
            let length = rustix::io::read(file, rustix::buffer::spare_capacity(&mut self.chunk))
                .during("read", || place.path())?;
            if length == 0 {
                break;
            }
            missing = missing.checked_sub(length as u64).ok_or_else(|| Error::Changed(place.path()))?;
            encoded(place, self.encoder.contents(length as u64))?;
            if let Some(hasher) = &mut hasher {
                hasher.update(self.chunk.get(start..).unwrap_or_default());
            }
            // A read that had room for more has come to the end of the file.
            if missing == 0 && self.chunk.len() < self.chunk.capacity() {
                break;
            }
            if self.chunk.len() == self.chunk.capacity() {
                self.flush()?;
            }
        }
        if missing > 0 {
            return Err(Error::Changed(place.path()));
        }
        self.end_file(place, hasher, status.size)
    }

    /// Puts a file into the archive whose contents have been read ahead.
    fn ready_contents(&mut self, place: &Place<'_>, status: &Status, contents: &[u8]) -> Result<()> {
        let executable = status.permissions & 0o100 != 0;
        let mut hasher = self.files.is_some().then(|| FileHasher::new(executable, status.size));
        encoded(place, self.encoder.regular(&mut self.chunk, executable, status.size))?;
        if self.chunk.capacity() - self.chunk.len() < contents.len() + ROOM {
            self.flush()?;
        }
        self.chunk.extend_from_slice(contents);
        encoded(place, self.encoder.contents(contents.len() as u64))?;
        if let Some(hasher) = &mut hasher {
            hasher.update(contents);
        }
        self.end_file(place, hasher, status.size)
    }

    fn end_file(&mut self, place: &Place<'_>, hasher: Option<FileHasher>, size: u64) -> Result<()> {
        encoded(place, self.encoder.end_regular(&mut self.chunk))?;
        if let Some(hasher) = hasher {
            self.file_hash(place, hasher, size);
        }
        Ok(())
    }

    fn file_hash(&mut self, place: &Place<'_>, hasher: FileHasher, size: u64) {
        if let Some(files) = &mut self.files {
            let path = place.path().strip_prefix(&self.root).map(PathBuf::from).unwrap_or_default();
            files.push(FileHash { path, hash: hasher.finish(), size });
        }
    }
}

impl Visitor for Dumper<'_> {
    fn entry(&mut self, place: &Place<'_>) -> Result<()> {
        self.make_room()?;
        encoded(place, self.encoder.entry(&mut self.chunk, place.name.to_bytes()))
    }

    fn enter(&mut self, place: &Place<'_>, directory: BorrowedFd<'_>) -> Result<()> {
        if let Some(canonicaliser) = &mut self.canonicaliser {
            canonicaliser.directory(place, directory)?;
        }
        self.make_room()?;
        encoded(place, self.encoder.directory(&mut self.chunk))
    }

    fn listed(&mut self, directory: &Arc<OwnedFd>, entries: &Arc<Entries>, path: &[u8]) {
        self.read_ahead.enter(directory, entries, path);
    }

    fn leave(&mut self, directory: BorrowedFd<'_>, path: &[u8]) -> Result<()> {
        self.read_ahead.leave();
        self.make_room()?;
        let place = Place::new(directory, c"", path);
        encoded(&place, self.encoder.end_directory(&mut self.chunk))
    }

    fn regular(&mut self, place: &Place<'_>) -> Result<()> {
        let (file, status) = match (self.read_ahead.take(place.index)?, &mut self.canonicaliser) {
            (Some(Prepared::Read(status, contents)), _) => {
                self.make_room()?;
                return self.ready_contents(place, &status, &contents);
            }
            (Some(Prepared::Open(file, status)), _) => (file, status),
            (None, Some(canonicaliser)) => canonicaliser.regular(place)?,
            (None, None) => place.open_file()?,
        };
        self.make_room()?;
        self.contents(place, &file, &status)
    }

    fn symlink(&mut self, place: &Place<'_>) -> Result<()> {
        let target = match &mut self.canonicaliser {
            Some(canonicaliser) => canonicaliser.symlink(place)?,
            None => place.read_link()?,
        };
        self.make_room()?;
        encoded(place, self.encoder.symlink(&mut self.chunk, &target))?;
        if self.files.is_some() {
            self.file_hash(place, FileHasher::of_symlink(&target), target.len() as u64);
        }
        Ok(())
    }

    fn may_grant(&self) -> bool {
        self.canonicaliser.is_some()
    }
}

fn encoded(place: &Place<'_>, result: Result<(), EncodeError>) -> Result<()> {
    result.map_err(|source| match source {
        EncodeError::TooDeep => Error::TooDeep(place.path()),
        source => Error::Encode { path: place.path(), source },
    })
}

/// Hashes one file as the archive that it alone would make.
pub(crate) struct FileHasher {
    hasher: Sha256Hasher,
    after: Vec<u8>,
}

impl FileHasher {
    pub(crate) fn new(executable: bool, size: u64) -> Self {
        let (before, after) = kiln_nar::file_framing(executable, size);
        let mut hasher = Sha256Hasher::new();
        hasher.update(&before);
        Self { hasher, after }
    }

    pub(crate) fn update(&mut self, contents: &[u8]) {
        self.hasher.update(contents);
    }

    pub(crate) fn of_symlink(target: &[u8]) -> Self {
        let mut archive = Vec::new();
        let mut hasher = Sha256Hasher::new();
        // A target that can't be archived has been refused before.
        if Encoder::new().symlink(&mut archive, target).is_ok() {
            hasher.update(&archive);
        }
        Self { hasher, after: Vec::new() }
    }

    pub(crate) fn finish(mut self) -> Sha256 {
        self.hasher.update(&self.after);
        self.hasher.finish()
    }
}
