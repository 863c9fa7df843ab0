//! From the bytes of an archive to its entries.

use super::TarError;
use super::header::{BLOCK, Block, Header, parse_block};
use super::pax::Extension;
use std::io::{self, Read};

/// Longest extended header, and longest long name, that is read. No path that a system takes is longer than 4 KiB.
const MAX_EXTENSION: u64 = 1 << 20;

/// How many bytes of contents are read at once.
const CHUNK: usize = 64 * 1024;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file, of which [`Entries::contents`] has the contents.
    Regular {
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Symlink(Vec<u8>),
    /// Another name of the entry of this path.
    HardLink(Vec<u8>),
}

/// An entry of an archive.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its path, as the archive has it.
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
}

/// Reads one entry after the other.
pub(super) struct Entries<R> {
    reader: R,
    /// How many bytes have been read.
    offset: u64,
    /// How many bytes of the contents of the last entry haven't been read, and how many fill up its last block.
    contents: u64,
    padding: u64,
    chunk: Vec<u8>,
}

impl<R: Read> Entries<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, offset: 0, contents: 0, padding: 0, chunk: vec![0; CHUNK] }
    }

    /// The next entry. What hasn't been read of the contents of the last one is passed over.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extension = Extension::default();
        loop {
            let start = self.offset;
            let Some(header) = self.header()? else { return Ok(None) };
            match header.type_flag {
                b'x' => {
                    let records = self.read_extension(&header)?;
                    extension.read(&records).map_err(|reason| TarError::Damaged { offset: start, reason })?;
                }
                b'L' => extension.path = Some(self.read_long_name(&header)?),
                b'K' => extension.link = Some(self.read_long_name(&header)?),
                // Attributes for all entries, and the label of a volume: nothing that a store keeps.
                b'g' | b'V' => self.announce(header.size),
                _ => return self.entry(header, extension).map(Some),
            }
        }
    }

    /// The next bytes of the contents of the last entry; none if there are no more.
    pub(super) fn contents(&mut self) -> Result<&[u8], TarError> {
        let length = usize::try_from(self.contents).unwrap_or(CHUNK).min(CHUNK);
        let chunk = self.chunk.get_mut(..length).unwrap_or_default();
        read_exact(&mut self.reader, chunk, &mut self.offset)?;
        self.contents -= length as u64;
        Ok(chunk)
    }

    fn entry(&mut self, header: Header, extension: Extension) -> Result<Entry, TarError> {
        let path = extension.path.unwrap_or(header.path);
        let link = extension.link.unwrap_or(header.link);
        let executable = header.mode & 0o100 != 0;
        let unsupported = |kind| Err(TarError::unsupported(&path, kind));
        let kind = match header.type_flag {
            _ if extension.sparse => return unsupported("a file with holes"),
            // The old format has no directories but files whose names end like that.
            b'0' | 0 if path.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' => Kind::Regular { executable },
            b'1' => Kind::HardLink(link),
            b'2' => Kind::Symlink(link),
            b'3' => return unsupported("a character device"),
            b'4' => return unsupported("a block device"),
            b'5' => Kind::Directory,
            b'6' => return unsupported("a pipe"),
            b'S' => return unsupported("a file with holes"),
            _ => return unsupported("of an unknown type"),
        };
        // Some programs tell the size of a linked file, but only files have contents.
        if matches!(kind, Kind::Regular { .. }) {
            self.announce(extension.size.unwrap_or(header.size));
        }
        Ok(Entry { path, kind })
    }

    fn header(&mut self) -> Result<Option<Header>, TarError> {
        while !self.contents()?.is_empty() {}
        let padding = usize::try_from(std::mem::take(&mut self.padding)).unwrap_or_default();
        read_exact(&mut self.reader, self.chunk.get_mut(..padding).unwrap_or_default(), &mut self.offset)?;

        let start = self.offset;
        let mut block = [0; BLOCK];
        match read_exact(&mut self.reader, &mut block, &mut self.offset) {
            // An archive may lack its last blocks, but it isn't nothing at all.
            Err(TarError::Truncated(end)) if end == start && end > 0 => return Ok(None),
            Err(TarError::Truncated(end)) if end < BLOCK as u64 => return Err(TarError::NotTar),
            result => result?,
        }
        match parse_block(&block) {
            Ok(Block::Header(header)) => Ok(Some(header)),
            Ok(Block::End) => Ok(None),
            Err(_) if start == 0 => Err(TarError::NotTar),
            Err(reason) => Err(TarError::Damaged { offset: start, reason }),
        }
    }

    /// Says that contents of this length come now.
    fn announce(&mut self, size: u64) {
        self.contents = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn read_extension(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        if header.size > MAX_EXTENSION {
            let reason = "an extended header is longer than a mebibyte";
            return Err(TarError::Damaged { offset: self.offset, reason });
        }
        self.announce(header.size);
        let mut extension = Vec::new();
        loop {
            let chunk = self.contents()?;
            if chunk.is_empty() {
                return Ok(extension);
            }
            extension.extend_from_slice(chunk);
        }
    }

    fn read_long_name(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        let mut name = self.read_extension(header)?;
        if let Some(end) = name.iter().position(|&byte| byte == 0) {
            name.truncate(end);
        }
        Ok(name)
    }
}

/// Fills `buffer`, and counts what has been read even if it can't be filled.
fn read_exact(reader: &mut impl Read, mut buffer: &mut [u8], offset: &mut u64) -> Result<(), TarError> {
    while !buffer.is_empty() {
        match reader.read(buffer) {
            Ok(0) => return Err(TarError::Truncated(*offset)),
            Ok(length) => {
                *offset += length as u64;
                buffer = buffer.get_mut(length..).unwrap_or_default();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
