//! The course of an archive without reading what is in its files: what comes where, and any part of it.
//!
//! The place of everything in an archive follows from names, kinds and sizes alone. So a listing costs one walk, and to go
//! on with a transfer that broke off only the rest of it is read.

use crate::component::Component;
use crate::directory::Directory;
use crate::error::{During as _, Error, Result};
use crate::pipeline::CHUNK;
use crate::status::{Kind, Status};
use crate::walk::{Place, Visitor, walk};
use kiln_nar::{EncodeError, Encoder, Event};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// Tells the events of the archive that the tree `name` in `directory` makes, without [`Event::Contents`]. An error of
/// `each` ends it.
///
/// # Errors
/// If the tree can't be looked through or archived, or `each` fails ([`Error::Sink`]).
pub fn outline(
    directory: &Directory,
    name: &Component,
    each: &mut dyn FnMut(Event<'_>) -> io::Result<()>,
) -> Result<()> {
    go_through(directory, name, &mut Events(each)).map(drop)
}

/// Writes a part of the archive of the tree `name` in `directory` to `out`: the bytes at the offsets `part`. Files that lie
/// before the part are not read, and nothing is looked at that comes after it.
///
/// # Errors
/// If the tree can't be read or archived, changes meanwhile, or ends before the part does, or `out` fails.
pub fn dump_part(
    directory: &Directory,
    name: &Component,
    part: Range<u64>,
    out: &mut dyn io::Write,
) -> Result<()> {
    let mut window = Window { part, position: 0, is_over: false, out, buffer: Vec::new() };
    let went = go_through(directory, name, &mut window);
    if window.is_over {
        return Ok(());
    }
    let size = went?;
    let reason = format!("it ends after {size} bytes, before byte {}", window.part.end);
    let source = io::Error::new(io::ErrorKind::UnexpectedEof, reason);
    Err(Error::Sink { path: directory.path_of(name), source })
}

/// What is done with the pieces of an archive.
trait Pieces {
    /// The next event.
    fn event(&mut self, _: Event<'_>) -> io::Result<()> {
        Ok(())
    }

    /// The next bytes around the contents of files.
    fn framing(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    /// The contents of a file, of so many bytes.
    fn contents(&mut self, _: &Place<'_>, _size: u64) -> Result<()> {
        Ok(())
    }
}

struct Events<'a>(&'a mut dyn FnMut(Event<'_>) -> io::Result<()>);

impl Pieces for Events<'_> {
    fn event(&mut self, event: Event<'_>) -> io::Result<()> {
        (self.0)(event)
    }
}

/// Lets a part of the stream through.
struct Window<'a> {
    part: Range<u64>,
    /// Where in the archive the stream is.
    position: u64,
    /// All of the part has been written.
    is_over: bool,
    out: &'a mut dyn io::Write,
    buffer: Vec<u8>,
}

impl Window<'_> {
    /// Goes on by `length` bytes; which of them are in the part.
    fn advance(&mut self, length: u64) -> Range<u64> {
        let (start, end) = (self.position, self.position.saturating_add(length));
        self.position = end;
        let within = |position: u64| position.clamp(start, end) - start;
        within(self.part.start)..within(self.part.end)
    }

    /// Ends the walk when there is nothing left to do, now that what came up to here has been written.
    fn go_on(&mut self) -> io::Result<()> {
        self.is_over = self.position >= self.part.end;
        if self.is_over { Err(io::Error::other("the part has been written")) } else { Ok(()) }
    }
}

impl Pieces for Window<'_> {
    fn framing(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Range { start, end } = self.advance(bytes.len() as u64);
        // A range of a slice's length fits.
        let (start, end) = (usize::try_from(start).unwrap_or(0), usize::try_from(end).unwrap_or(0));
        self.out.write_all(bytes.get(start..end).unwrap_or_default())?;
        self.go_on()
    }

    fn contents(&mut self, place: &Place<'_>, size: u64) -> Result<()> {
        let Range { mut start, end } = self.advance(size);
        if start < end {
            let (file, status) = place.open_file()?;
            if status.size != size {
                return Err(Error::Changed(place.path()));
            }
            self.buffer.resize(CHUNK, 0);
            while start < end {
                let wanted = usize::try_from(end - start).unwrap_or(CHUNK).min(CHUNK);
                let piece = self.buffer.get_mut(..wanted).unwrap_or_default();
                let length = rustix::io::pread(&file, &mut *piece, start).during("read", || place.path())?;
                if length == 0 {
                    return Err(Error::Changed(place.path()));
                }
                let piece = piece.get(..length).unwrap_or_default();
                let sink = |source| Error::Sink { path: place.path(), source };
                self.out.write_all(piece).map_err(sink)?;
                start += length as u64;
            }
        }
        self.go_on().map_err(|source| Error::Sink { path: place.path(), source })
    }
}

/// Returns the size of the archive.
fn go_through(directory: &Directory, name: &Component, pieces: &mut dyn Pieces) -> Result<u64> {
    let root = Place::new(directory.as_fd(), name.as_c_str(), directory.path().as_os_str().as_bytes());
    let path = root.path();
    let mut outliner = Outliner { encoder: Encoder::new(), framing: Vec::new(), pieces, root: path.clone() };
    walk(&root, &mut outliner)?;
    let Outliner { encoder, .. } = outliner;
    encoder.finish().map_err(|source| Error::Encode { path, source })
}

struct Outliner<'a> {
    encoder: Encoder,
    framing: Vec<u8>,
    pieces: &'a mut dyn Pieces,
    root: PathBuf,
}

impl Outliner<'_> {
    /// Has the encoder write framing, and passes it on.
    fn encode(
        &mut self,
        place: &Place<'_>,
        call: impl FnOnce(&mut Encoder, &mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<()> {
        self.framing.clear();
        call(&mut self.encoder, &mut self.framing).map_err(|source| match source {
            EncodeError::TooDeep => Error::TooDeep(place.path()),
            source => Error::Encode { path: place.path(), source },
        })?;
        self.pieces.framing(&self.framing).map_err(|source| Error::Sink { path: self.root.clone(), source })
    }

    fn tell(&mut self, event: Event<'_>) -> Result<()> {
        self.pieces.event(event).map_err(|source| Error::Sink { path: self.root.clone(), source })
    }
}

impl Visitor for Outliner<'_> {
    fn entry(&mut self, place: &Place<'_>) -> Result<()> {
        self.tell(Event::Entry(place.name.to_bytes()))?;
        self.encode(place, |encoder, out| encoder.entry(out, place.name.to_bytes()))
    }

    fn enter(&mut self, place: &Place<'_>, _: BorrowedFd<'_>) -> Result<()> {
        self.tell(Event::Directory)?;
        self.encode(place, Encoder::directory)
    }

    fn leave(&mut self, directory: BorrowedFd<'_>, path: &[u8]) -> Result<()> {
        self.tell(Event::EndDirectory)?;
        self.encode(&Place::new(directory, c"", path), Encoder::end_directory)
    }

    fn regular(&mut self, place: &Place<'_>) -> Result<()> {
        let status = Status::at(place.directory, place.name).during("look at", || place.path())?;
        if status.kind != Kind::Regular {
            return Err(Error::Changed(place.path()));
        }
        let (executable, size) = (status.permissions & 0o100 != 0, status.size);
        self.encode(place, |encoder, out| encoder.regular(out, executable, size))?;
        self.tell(Event::Regular { executable, size, offset: self.encoder.offset() })?;
        self.pieces.contents(place, size)?;
        self.tell(Event::EndRegular)?;
        self.encode(place, |encoder, out| {
            encoder.contents(size)?;
            encoder.end_regular(out)
        })
    }

    fn symlink(&mut self, place: &Place<'_>) -> Result<()> {
        let target = rustix::fs::readlinkat(place.directory, place.name, Vec::new())
            .during("read symlink", || place.path())?
            .into_bytes();
        self.tell(Event::Symlink(&target))?;
        self.encode(place, |encoder, out| encoder.symlink(out, &target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn tree() -> (tempfile::TempDir, Directory, Component) {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("tree");
        fs::create_dir_all(root.join("a/empty")).unwrap();
        fs::write(root.join("a/file"), "hello\n").unwrap();
        fs::write(root.join("big"), vec![7; CHUNK * 2 + 5]).unwrap();
        fs::write(root.join("none"), "").unwrap();
        fs::set_permissions(root.join("none"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("a/file", root.join("zlink")).unwrap();
        let directory = Directory::open(scratch.path()).unwrap();
        (scratch, directory, Component::new("tree").unwrap())
    }

    #[test]
    fn every_part_is_what_the_whole_has_there() {
        let (_scratch, directory, name) = tree();
        let mut whole = Vec::new();
        dump(&directory, &name, &mut whole).unwrap();
        let size = whole.len() as u64;
        let part = |range: Range<u64>| {
            let mut out = Vec::new();
            dump_part(&directory, &name, range, &mut out).map(|()| out)
        };
        assert_eq!(part(0..size).unwrap(), whole);
        for start in (0..800).step_by(41).chain((0..size).step_by(50_021)).chain([1, size - 1, size]) {
            for length in [0, 1, 8, 1000, CHUNK as u64, size] {
                let end = (start + length).min(size);
                let expected = &whole[start as usize..end as usize];
                assert!(part(start..end).unwrap() == expected, "{start}..{end}");
            }
        }
        assert!(matches!(part(0..size + 1), Err(Error::Sink { .. })), "there is no more than all");
        for room in [0, 10, 5000, whole.len() - 1] {
            let mut out = vec![0; room];
            let written = dump_part(&directory, &name, 0..size, &mut out.as_mut_slice());
            assert!(matches!(written, Err(Error::Sink { .. })), "a part of the part is not all: {room}");
        }
    }

    #[test]
    fn what_is_before_a_part_is_not_read() {
        let (scratch, directory, name) = tree();
        let mut whole = Vec::new();
        dump(&directory, &name, &mut whole).unwrap();
        // A hole has a size, and any other contents would show up in the part.
        let file = fs::File::options().write(true).open(scratch.path().join("tree/big")).unwrap();
        file.set_len(0).unwrap();
        file.set_len(CHUNK as u64 * 2 + 5).unwrap();
        let size = whole.len() as u64;
        let (mut end, mut start) = (Vec::new(), Vec::new());
        dump_part(&directory, &name, size - 400..size, &mut end).unwrap();
        assert_eq!(end, &whole[whole.len() - 400..]);
        fs::remove_file(scratch.path().join("tree/zlink")).unwrap();
        dump_part(&directory, &name, 0..400, &mut start).unwrap();
        assert_eq!(start, &whole[..400], "what comes after is not missed");
    }

    #[test]
    fn events_are_those_of_the_archive() {
        let (_scratch, directory, name) = tree();
        let (mut whole, mut told, mut decoded) = (Vec::new(), Vec::new(), Vec::new());
        dump(&directory, &name, &mut whole).unwrap();
        let (mut decoder, mut input) = (kiln_nar::Decoder::new(), whole.as_slice());
        while let Some(event) = decoder.next(&mut input).unwrap() {
            if !matches!(event, Event::Contents(_)) {
                decoded.push(format!("{event:?}"));
            }
        }
        outline(&directory, &name, &mut |event| {
            told.push(format!("{event:?}"));
            Ok(())
        })
        .unwrap();
        assert_eq!(told, decoded);
        let stopped = outline(&directory, &name, &mut |_| Err(io::Error::other("enough")));
        assert!(stopped.unwrap_err().to_string().ends_with("enough"));
    }
}
