//! Archives of `ar`: a header of 60 bytes of text before each member, whose contents begin at even places.

use super::layout::{Layout, Part};
use crate::byte_string::ByteString;
use crate::calendar;
use crate::contents::{Contents as _, Extract};
use crate::integers::number_of_digits;
use crate::report::content::Format;
use std::io;

pub(super) const MAGIC: &[u8] = b"!<arch>\n";
/// Archives whose members are files elsewhere.
pub(super) const THIN_MAGIC: &[u8] = b"!<thin>\n";

const HEADER: u64 = 60;
/// The most bytes of a long name.
const MAX_NAME: u64 = 1024;

pub(super) fn layout(contents: &Extract<'_>, most: usize) -> io::Result<Layout> {
    let thin = contents.bytes(0, THIN_MAGIC.len())? == THIN_MAGIC;
    let mut layout = Layout::new(Format::Ar);
    let mut long_names = contents.part(0, 0);
    let mut offset = MAGIC.len() as u64;
    while offset < contents.length() {
        let Some(header) = contents.array::<60>(offset)? else { return Ok(layout) };
        let Some(header) = Header::read(&header) else { return Ok(layout) };
        let body = contents.part(offset + HEADER, header.size);
        let elsewhere = thin && !header.is_index();
        if body.length() < header.size && !elsewhere {
            return Ok(layout);
        }
        let (name, skipped) = header.name(&body, &long_names)?;
        if header.raw_name == b"//" {
            long_names = body;
        }
        let mut part = Part::named(name);
        part.start = offset + HEADER + skipped;
        part.length = if elsewhere { 0 } else { header.size.saturating_sub(skipped) };
        header.fields(&mut part);
        if !layout.add(part, most) {
            return Ok(layout);
        }
        let size = if elsewhere { 0 } else { header.size };
        offset = (offset + HEADER).saturating_add(size).saturating_add(size % 2);
    }
    layout.complete = true;
    Ok(layout)
}

struct Header<'h> {
    raw_name: &'h [u8],
    date: &'h [u8],
    uid: &'h [u8],
    gid: &'h [u8],
    mode: &'h [u8],
    size: u64,
}

impl<'h> Header<'h> {
    fn read(header: &'h [u8; 60]) -> Option<Self> {
        if header.get(58..) != Some(b"`\n") {
            return None;
        }
        Some(Self {
            raw_name: header.get(..16)?.trim_ascii_end(),
            date: header.get(16..28)?.trim_ascii_end(),
            uid: header.get(28..34)?.trim_ascii_end(),
            gid: header.get(34..40)?.trim_ascii_end(),
            mode: header.get(40..48)?.trim_ascii_end(),
            size: number_of_digits(header.get(48..58)?, 10)?,
        })
    }

    /// Whether it is a table of symbols or names, which thin archives have, too.
    fn is_index(&self) -> bool {
        matches!(self.raw_name, b"/" | b"//" | b"/SYM64/")
    }

    /// The member's name, and how many bytes of its body that took.
    fn name(&self, body: &Extract<'_>, long_names: &Extract<'_>) -> io::Result<(ByteString, u64)> {
        let digits = |prefix: &[u8]| {
            self.raw_name.strip_prefix(prefix).and_then(|digits| number_of_digits(digits, 10))
        };
        // As BSD does it: in the body. As GNU does it: at a place in a member for all long names.
        if let Some(length) = digits(b"#1/").filter(|length| *length <= MAX_NAME.min(self.size)) {
            let name = body.part(0, length).bytes(0, MAX_NAME as usize)?;
            let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
            return Ok((name.get(..end).unwrap_or_default().into(), length));
        }
        if let Some(place) = digits(b"/") {
            let name = long_names.bytes(place, MAX_NAME as usize)?;
            if let Some(end) = memchr::memmem::find(&name, b"/\n") {
                return Ok((name.get(..end).unwrap_or_default().into(), 0));
            }
        }
        let name: &[u8] = match self.raw_name {
            b"/" | b"/SYM64/" => b"(symbol table)",
            b"//" => b"(long names)",
            name => name.strip_suffix(b"/").unwrap_or(name),
        };
        Ok((name.into(), 0))
    }

    fn fields(&self, part: &mut Part) {
        let date = number_of_digits(self.date, 10).map_or_else(|| self.date.into(), calendar::utc);
        part.field("modification-time", Some(date));
        part.field("uid", Some(self.uid));
        part.field("gid", Some(self.gid));
        part.field("mode", Some(self.mode));
    }
}
