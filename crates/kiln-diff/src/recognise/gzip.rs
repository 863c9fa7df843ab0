//! What `gzip` compressed: a header, compressed contents, and the CRC-32 and length of what they were.

use super::layout::{Layout, Part};
use crate::byte_string::ByteString;
use crate::calendar;
use crate::contents::{Contents as _, Extract};
use crate::integers::{Endian, hex};
use crate::report::content::Format;
use std::io;

pub(super) const MAGIC: &[u8] = b"\x1f\x8b\x08";

/// The most bytes of a header that are read.
const MAX_HEADER: usize = 8 << 10;
/// CRC-32 and length.
const TRAILER: u64 = 8;

const HAS_CHECKSUM: u8 = 2;
const HAS_EXTRA: u8 = 4;
const HAS_NAME: u8 = 8;
const HAS_COMMENT: u8 = 16;

pub(super) fn layout(contents: &Extract<'_>) -> io::Result<Layout> {
    let mut layout = Layout::new(Format::Gzip);
    let bytes = contents.bytes(0, MAX_HEADER)?;
    let mut file = Part { opaque: true, ..Part::default() };
    let Some(start) = header(&bytes, &mut file) else { return Ok(layout) };
    if contents.length() < start + TRAILER {
        return Ok(layout);
    }
    let end = contents.length() - TRAILER;
    if let Some(trailer) = contents.array::<8>(end)? {
        let (checksum, length) = trailer.split_at(4);
        let checksum: Vec<u8> = checksum.iter().rev().copied().collect();
        file.field("uncompressed-crc-32", Some(hex(&checksum)));
        file.field("uncompressed-size", Endian::Little.u32(length, 0).map(|length| length.to_string()));
    }
    file.start = start;
    file.length = end - start;
    layout.parts.push(file);
    layout.complete = true;
    Ok(layout)
}

/// Reads the header's fields; returns its length.
fn header(bytes: &[u8], file: &mut Part) -> Option<u64> {
    let flags = *bytes.get(3)?;
    let time = Endian::Little.u32(bytes, 4)?;
    file.field("modification-time", (time != 0).then(|| calendar::utc(time.into())));
    file.field("compression-level-hint", bytes.get(8).map(u8::to_string));
    file.field("operating-system", bytes.get(9).map(u8::to_string));
    let mut at = 10;
    if flags & HAS_EXTRA != 0 {
        let length = usize::from(Endian::Little.u16(bytes, at)?);
        file.field("extra-field", Some(hex(bytes.get(at + 2..at + 2 + length)?)));
        at += 2 + length;
    }
    for (flag, name) in [(HAS_NAME, "name"), (HAS_COMMENT, "comment")] {
        if flags & flag != 0 {
            let rest = bytes.get(at..)?;
            let text = rest.get(..memchr::memchr(0, rest)?)?;
            file.field(name, Some(ByteString::from(text)));
            at += text.len() + 1;
        }
    }
    if flags & HAS_CHECKSUM != 0 {
        at += 2;
    }
    Some(at as u64)
}
