//! Programs, libraries and objects (ELF), of both sizes and byte orders: their sections, and what some of these tell.

use super::layout::{Layout, Part};
use crate::byte_string::ByteString;
use crate::contents::{Contents as _, Extract};
use crate::integers::{Endian, hex};
use crate::report::content::Format;
use std::io;

pub(super) const MAGIC: &[u8] = b"\x7fELF";

/// The most bytes of the table of sections' names that are read.
const MAX_NAMES: usize = 1 << 20;
/// The most bytes of one name.
const MAX_NAME: usize = 256;
/// The most bytes of a section whose contents are told as a field.
const MAX_TOLD: u64 = 1024;

/// A section without bytes in the file.
const NO_BITS: u32 = 8;
/// Stands for an index that doesn't fit, and is in the first section.
const EXTENDED: u16 = 0xffff;

pub(super) fn layout(contents: &Extract<'_>, most: usize) -> io::Result<Layout> {
    let mut layout = Layout::new(Format::Elf);
    let start = contents.bytes(0, 64)?;
    let Some(header) = Header::read(&start) else { return Ok(layout) };
    layout.complete = header.sections_at == 0 || add_sections(&header, contents, &mut layout, most)?;
    for (name, start, length) in header.tables() {
        let part = Part { start, length, opaque: true, ..Part::named(name) };
        layout.complete &= layout.add(part, most);
    }
    Ok(layout)
}

/// Adds all sections but the first, which is none. Returns whether these are all.
fn add_sections(
    header: &Header,
    contents: &Extract<'_>,
    layout: &mut Layout,
    most: usize,
) -> io::Result<bool> {
    let Some(first) = header.section(contents, 0)? else { return Ok(false) };
    let count = if header.sections == 0 { first.size } else { header.sections.into() };
    let names = if header.names == EXTENDED { first.link } else { header.names.into() };
    let names = match header.section(contents, names.into())? {
        Some(section) => contents.part(section.offset, section.size).bytes(0, MAX_NAMES)?,
        None => Vec::new(),
    };
    for index in 1..count {
        let Some(section) = header.section(contents, index)? else { return Ok(false) };
        let mut part = Part::named(name_of(&names, section.name));
        if section.kind != NO_BITS {
            (part.start, part.length) = (section.offset, section.size);
            tell(&contents.part(section.offset, section.size), header.endian, &mut part)?;
        }
        if !layout.add(part, most) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Where things are, by the file's header.
struct Header {
    endian: Endian,
    is_64: bool,
    length: u64,
    programs_at: u64,
    program_size: u16,
    programs: u16,
    sections_at: u64,
    section_size: u16,
    sections: u16,
    /// Index of the section with the names of sections.
    names: u16,
}

struct Section {
    name: u32,
    kind: u32,
    offset: u64,
    size: u64,
    link: u32,
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Self> {
        let is_64 = match bytes.get(4)? {
            1 => false,
            2 => true,
            _ => return None,
        };
        let endian = match bytes.get(5)? {
            1 => Endian::Little,
            2 => Endian::Big,
            _ => return None,
        };
        // From there on, both sizes have the same.
        let rest = if is_64 { 52 } else { 40 };
        let word = |at_64, at_32| {
            if is_64 { endian.u64(bytes, at_64) } else { endian.u32(bytes, at_32).map(u64::from) }
        };
        Some(Self {
            endian,
            is_64,
            length: endian.u16(bytes, rest)?.into(),
            programs_at: word(32, 28)?,
            program_size: endian.u16(bytes, rest + 2)?,
            programs: endian.u16(bytes, rest + 4)?,
            sections_at: word(40, 32)?,
            section_size: endian.u16(bytes, rest + 6)?,
            sections: endian.u16(bytes, rest + 8)?,
            names: endian.u16(bytes, rest + 10)?,
        })
    }

    /// The parts of the file that aren't sections, except the table of these: what it tells changes wherever a section
    /// moves.
    fn tables(&self) -> [(&'static str, u64, u64); 2] {
        let programs = u64::from(self.program_size) * u64::from(self.programs);
        [("(file header)", 0, self.length), ("(program headers)", self.programs_at, programs)]
    }

    /// The header of the section at `index`; nothing if the file has no such.
    fn section(&self, contents: &Extract<'_>, index: u64) -> io::Result<Option<Section>> {
        let place = index.checked_mul(self.section_size.into());
        let place = place.and_then(|place| self.sections_at.checked_add(place));
        let length = if self.is_64 { 64 } else { 40 };
        let is_wide = usize::from(self.section_size) >= length;
        let Some(place) = place.filter(|_| is_wide) else { return Ok(None) };
        let bytes = contents.bytes(place, length)?;
        let word = |at_64, at_32| {
            if self.is_64 {
                self.endian.u64(&bytes, at_64)
            } else {
                self.endian.u32(&bytes, at_32).map(u64::from)
            }
        };
        let section = || {
            Some(Section {
                name: self.endian.u32(&bytes, 0)?,
                kind: self.endian.u32(&bytes, 4)?,
                offset: word(24, 16)?,
                size: word(32, 20)?,
                link: self.endian.u32(&bytes, if self.is_64 { 40 } else { 24 })?,
            })
        };
        Ok(section())
    }
}

fn name_of(names: &[u8], place: u32) -> ByteString {
    let rest = usize::try_from(place).ok().and_then(|place| names.get(place..)).unwrap_or_default();
    let rest = rest.get(..MAX_NAME).unwrap_or(rest);
    rest.get(..memchr::memchr(0, rest).unwrap_or(rest.len())).unwrap_or_default().into()
}

/// What some sections tell in few bytes.
fn tell(section: &Extract<'_>, endian: Endian, part: &mut Part) -> io::Result<()> {
    let name = part.name.as_ref().map(ByteString::as_bytes).unwrap_or_default();
    let is_told =
        matches!(name, b".note.gnu.build-id" | b".note.go.buildid" | b".comment" | b".gnu_debuglink");
    if !is_told || section.length() > MAX_TOLD {
        return Ok(());
    }
    let bytes = section.bytes(0, MAX_TOLD as usize)?;
    match name {
        b".note.gnu.build-id" => part.field("build-id", note(&bytes, endian).map(hex)),
        b".note.go.buildid" => part.field("build-id", note(&bytes, endian)),
        b".comment" => {
            let lines: Vec<&[u8]> = bytes.split(|byte| *byte == 0).filter(|line| !line.is_empty()).collect();
            part.field("comment", Some(ByteString(lines.join(&b"; "[..]))));
        }
        _ => {
            let end = memchr::memchr(0, &bytes).unwrap_or(bytes.len());
            part.field("debug-file", bytes.get(..end));
            let checksum = endian.u32(&bytes, (end + 1).next_multiple_of(4));
            part.field("debug-file-crc-32", checksum.map(|checksum| format!("{checksum:08x}")));
        }
    }
    Ok(())
}

/// What the first note of a section says.
fn note(bytes: &[u8], endian: Endian) -> Option<&[u8]> {
    let name = usize::try_from(endian.u32(bytes, 0)?).ok()?;
    let length = usize::try_from(endian.u32(bytes, 4)?).ok()?;
    let start = name.checked_next_multiple_of(4)?.checked_add(12)?;
    bytes.get(start..start.checked_add(length)?)
}
