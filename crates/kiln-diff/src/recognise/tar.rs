//! Archives of `tar`: blocks of 512 bytes, a header before each entry. Names that are too long for it, and exact times,
//! are in entries of their own before the one that they are of.

use super::layout::{Layout, Part};
use crate::byte_string::ByteString;
use crate::calendar;
use crate::contents::{Contents as _, Extract};
use crate::integers::number_of_digits;
use crate::report::content::Format;
use std::io;

pub(super) const BLOCK: usize = 512;

/// The most bytes of an entry that is about the next one.
const MAX_ABOUT_NEXT: usize = 64 << 10;

/// Where the checksum is, which counts as spaces for itself.
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// Whether a block is a header: the checksum is right.
pub(super) fn is_header(block: &[u8]) -> bool {
    let Some(checksum) = block.get(CHECKSUM).and_then(|digits| number_of_digits(digits, 8)) else {
        return false;
    };
    let bytes =
        block.iter().enumerate().map(|(index, byte)| if CHECKSUM.contains(&index) { b' ' } else { *byte });
    block.len() == BLOCK && bytes.map(u64::from).sum::<u64>() == checksum
}

pub(super) fn layout(contents: &Extract<'_>, most: usize) -> io::Result<Layout> {
    let mut layout = Layout::new(Format::Tar);
    let mut next = Part::default();
    let mut offset = 0;
    while offset < contents.length() {
        let Some(block) = contents.array::<BLOCK>(offset)? else { return Ok(layout) };
        if block == [0; BLOCK] {
            layout.complete = true;
            return Ok(layout);
        }
        let Some(header) = Header::read(&block) else { return Ok(layout) };
        offset += BLOCK as u64;
        let body = contents.part(offset, header.size);
        if body.length() < header.size {
            return Ok(layout);
        }
        match header.kind {
            b'L' => next.name = Some(text(&body.bytes(0, MAX_ABOUT_NEXT)?)),
            b'K' => next.field("link-target", Some(text(&body.bytes(0, MAX_ABOUT_NEXT)?))),
            b'x' => read_records(&body.bytes(0, MAX_ABOUT_NEXT)?, &mut next),
            _ => {
                let mut part = std::mem::take(&mut next);
                header.describe(&mut part);
                part.start = offset;
                part.length = header.size;
                if !layout.add(part, most) {
                    return Ok(layout);
                }
            }
        }
        offset = offset.saturating_add(header.size.div_ceil(BLOCK as u64).saturating_mul(BLOCK as u64));
    }
    layout.complete = true;
    Ok(layout)
}

struct Header<'b> {
    block: &'b [u8; BLOCK],
    size: u64,
    kind: u8,
}

impl<'b> Header<'b> {
    fn read(block: &'b [u8; BLOCK]) -> Option<Self> {
        is_header(block).then_some(())?;
        let kind = *block.get(156)?;
        // Links and directories have no contents, whatever size they give.
        let size = if matches!(kind, b'1'..=b'6') { 0 } else { number(block.get(124..136)?)? };
        Some(Self { block, size, kind })
    }

    fn bytes(&self, start: usize, length: usize) -> &'b [u8] {
        self.block.get(start..start + length).unwrap_or_default()
    }

    fn name(&self) -> ByteString {
        let (name, prefix) = (text(self.bytes(0, 100)), text(self.bytes(345, 155)));
        // Only in the format of POSIX is there a prefix; that of GNU has times there.
        if self.bytes(257, 6) != b"ustar\0" || prefix.0.is_empty() {
            return name;
        }
        ByteString([prefix.as_bytes(), name.as_bytes()].join(&b'/'))
    }

    /// Adds what the header says where nothing before it said otherwise.
    fn describe(&self, part: &mut Part) {
        part.name.get_or_insert_with(|| self.name());
        let time = number(self.bytes(136, 12)).map_or_else(|| text(self.bytes(136, 12)), calendar::utc);
        let digits = |start, length| text(self.bytes(start, length).trim_ascii());
        let fields = [
            ("modification-time", time),
            ("mode", digits(100, 8)),
            ("uid", digits(108, 8)),
            ("gid", digits(116, 8)),
            ("type", ByteString(vec![self.kind])),
            ("link-target", text(self.bytes(157, 100))),
            ("owner", text(self.bytes(265, 32))),
            ("group", text(self.bytes(297, 32))),
        ];
        for (name, value) in fields {
            if !part.fields.iter().any(|(known, _)| *known == name) {
                part.field(name, Some(value));
            }
        }
    }
}

/// The records of an extended header: each `LENGTH KEY=VALUE` and the end of a line, all that counted.
fn read_records(mut records: &[u8], part: &mut Part) {
    while let Some(space) = memchr::memchr(b' ', records.get(..records.len().min(20)).unwrap_or_default()) {
        let length = records.get(..space).and_then(|digits| number_of_digits(digits, 10));
        let Some(length) = length.and_then(|length| usize::try_from(length).ok()) else { return };
        let Some(record) = records.get(space + 1..length) else { return };
        let record = record.strip_suffix(b"\n").unwrap_or(record);
        let Some(equals) = memchr::memchr(b'=', record) else { return };
        let (key, value) = (record.get(..equals), record.get(equals + 1..).unwrap_or_default());
        match key.unwrap_or_default() {
            b"path" => part.name = Some(value.into()),
            b"linkpath" => part.field("link-target", Some(value)),
            b"mtime" => part.field("modification-time", Some(exact_time(value))),
            b"atime" => part.field("access-time", Some(exact_time(value))),
            b"ctime" => part.field("change-time", Some(exact_time(value))),
            _ => {}
        }
        records = records.get(length..).unwrap_or_default();
    }
}

/// Seconds since 1970 with a fraction.
fn exact_time(value: &[u8]) -> ByteString {
    let point = memchr::memchr(b'.', value).unwrap_or(value.len());
    let (seconds, fraction) = value.split_at_checked(point).unwrap_or((value, b""));
    match number_of_digits(seconds, 10) {
        Some(seconds) => {
            let time = calendar::utc(seconds).0;
            ByteString([time.strip_suffix(b"Z").unwrap_or(&time), fraction, b"Z"].concat())
        }
        None => value.into(),
    }
}

/// A number: octal digits, or, with the highest bit set, bytes.
fn number(field: &[u8]) -> Option<u64> {
    match field.split_first() {
        Some((0x80, bytes)) => {
            let (high, low) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
            (high.iter().all(|byte| *byte == 0)).then_some(u64::from_be_bytes(low.try_into().ok()?))
        }
        Some(_) => number_of_digits(field, 8),
        None => None,
    }
}

/// What is before the first NUL.
fn text(field: &[u8]) -> ByteString {
    field.get(..memchr::memchr(0, field).unwrap_or(field.len())).unwrap_or_default().into()
}
