//! Zip archives: a directory at the end says what entries there are and where. Those beyond 4 GiB (Zip64) aren't read.

use super::layout::{Layout, Part};
use crate::byte_string::ByteString;
use crate::calendar;
use crate::contents::{Contents as _, Extract};
use crate::integers::{Endian::Little, hex};
use crate::report::content::Format;
use std::io;

pub(super) const MAGIC: &[u8] = b"PK\x03\x04";
/// Begins the end of the directory, and so an archive without entries.
pub(super) const END_MAGIC: &[u8] = b"PK\x05\x06";
const DIRECTORY_MAGIC: &[u8] = b"PK\x01\x02";

/// The end of the directory without its comment, which has at most 65535 bytes.
const END: usize = 22;
const MAX_END: usize = END + 0xffff;
/// What precedes the name, in the directory and before an entry's contents.
const DIRECTORY_HEADER: u64 = 46;
const LOCAL_HEADER: u64 = 30;

/// The most bytes of extra fields that are read.
const MAX_EXTRA: usize = 1024;

/// The extra field with a time in seconds since 1970.
const EXTRA_TIME: u16 = 0x5455;

pub(super) fn layout(contents: &Extract<'_>, most: usize) -> io::Result<Layout> {
    let mut layout = Layout::new(Format::Zip);
    let Some((entries, mut offset)) = find_directory(contents)? else { return Ok(layout) };
    for _ in 0..entries {
        let header = contents.bytes(offset, DIRECTORY_HEADER as usize)?;
        let Some(entry) = Entry::read(&header) else { return Ok(layout) };
        let name = contents.bytes(offset + DIRECTORY_HEADER, entry.name)?;
        let extra =
            contents.bytes(offset + DIRECTORY_HEADER + entry.name as u64, entry.extra.min(MAX_EXTRA))?;
        let Some(local) = Local::read(contents, entry.offset)? else { return Ok(layout) };
        let mut part = Part::named(ByteString(name));
        part.start = local.contents;
        part.length = entry.compressed;
        part.opaque = entry.is_compressed;
        entry.fields(&header, &mut part);
        for (name, time) in
            [("modification-time-utc", times(&extra).0), ("access-time-utc", times(&local.extra).1)]
        {
            part.field(name, time.map(|time| calendar::utc(time.into())));
        }
        if !layout.add(part, most) {
            return Ok(layout);
        }
        offset = offset.saturating_add(DIRECTORY_HEADER + (entry.name + entry.extra + entry.comment) as u64);
    }
    layout.complete = true;
    Ok(layout)
}

/// How many entries there are, and where the directory begins.
fn find_directory(contents: &Extract<'_>) -> io::Result<Option<(u16, u64)>> {
    let tail = contents.bytes(contents.length().saturating_sub(MAX_END as u64), MAX_END)?;
    let last = tail.len().saturating_sub(END);
    let end = memchr::memmem::rfind(tail.get(..last + END_MAGIC.len()).unwrap_or_default(), END_MAGIC)
        .and_then(|at| tail.get(at..));
    Ok(end.and_then(|end| Some((Little.u16(end, 10)?, u64::from(Little.u32(end, 16)?)))))
}

/// An entry in the directory.
struct Entry {
    compressed: u64,
    name: usize,
    extra: usize,
    comment: usize,
    offset: u64,
    is_compressed: bool,
}

impl Entry {
    fn read(header: &[u8]) -> Option<Self> {
        header.starts_with(DIRECTORY_MAGIC).then_some(())?;
        let (compressed, offset) = (Little.u32(header, 20)?, Little.u32(header, 42)?);
        // What stands for a number in an extra field of Zip64.
        if compressed == u32::MAX || offset == u32::MAX {
            return None;
        }
        Some(Self {
            compressed: compressed.into(),
            name: Little.u16(header, 28)?.into(),
            extra: Little.u16(header, 30)?.into(),
            comment: Little.u16(header, 32)?.into(),
            offset: offset.into(),
            is_compressed: Little.u16(header, 10)? != 0,
        })
    }

    fn fields(&self, header: &[u8], part: &mut Part) {
        let local_time = Little.u16(header, 14).zip(Little.u16(header, 12));
        part.field("modification-time", local_time.map(|(date, time)| calendar::ms_dos(date, time)));
        part.field("made-by", Little.u16(header, 4).map(|version| version.to_string()));
        part.field("flags", Little.u16(header, 8).map(|flags| flags.to_string()));
        part.field("method", Little.u16(header, 10).map(|method| method.to_string()));
        part.field("uncompressed-crc-32", Little.u32(header, 16).map(|checksum| format!("{checksum:08x}")));
        part.field("uncompressed-size", Little.u32(header, 24).map(|size| size.to_string()));
        let attributes = Little.u32(header, 38).map(|attributes| hex(&attributes.to_be_bytes()));
        part.field("attributes", attributes);
    }
}

/// The times of modification and of access, in seconds since 1970, that extra fields tell.
fn times(mut extra: &[u8]) -> (Option<u32>, Option<u32>) {
    while let (Some(id), Some(length)) = (Little.u16(extra, 0), Little.u16(extra, 2)) {
        let end = 4 + usize::from(length);
        if let (EXTRA_TIME, Some(field)) = (id, extra.get(4..end)) {
            let modified = field.first().is_some_and(|flags| flags & 1 != 0);
            let accessed = field.first().is_some_and(|flags| flags & 2 != 0);
            let after = if modified { 5 } else { 1 };
            let time = |wanted: bool, at| wanted.then(|| Little.u32(field, at)).flatten();
            return (time(modified, 1), time(accessed, after));
        }
        extra = extra.get(end..).unwrap_or_default();
    }
    (None, None)
}

/// What is before an entry's contents: a name and extra fields of its own.
struct Local {
    extra: Vec<u8>,
    /// Where the contents begin.
    contents: u64,
}

impl Local {
    fn read(archive: &Extract<'_>, offset: u64) -> io::Result<Option<Self>> {
        let header = archive.bytes(offset, LOCAL_HEADER as usize)?;
        let lengths = Little.u16(&header, 26).zip(Little.u16(&header, 28));
        let Some((name, extra)) = lengths.filter(|_| header.starts_with(MAGIC)) else { return Ok(None) };
        let start = offset + LOCAL_HEADER + u64::from(name);
        let contents = start + u64::from(extra);
        Ok(Some(Self { extra: archive.bytes(start, MAX_EXTRA.min(extra.into()))?, contents }))
    }
}
