//! Where the parts of a file are.

use super::{ar, elf, gzip, pyc, tar, zip};
use crate::byte_string::ByteString;
use crate::contents::Extract;
use crate::pair::Pair;
use crate::report::content::Format;
use std::io;

/// The parts of a file of a known format.
pub(super) struct Layout {
    pub(super) format: Format,
    pub(super) parts: Vec<Part>,
    /// Whether these are all: the file isn't damaged and has no more than the limit allows.
    pub(super) complete: bool,
    /// How much their names and fields take.
    bytes: usize,
}

/// The most that names and fields of the parts of a file may take.
const MAX_BYTES: usize = 16 << 20;

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Part {
    /// Nothing for the file as such, whose fields are those of its header.
    pub(super) name: Option<ByteString>,
    /// What is known of it.
    pub(super) fields: Vec<(&'static str, ByteString)>,
    /// Where its contents start, and how long they are.
    pub(super) start: u64,
    pub(super) length: u64,
    /// Whether the contents are compressed or the like, so that looking into them tells nothing.
    pub(super) opaque: bool,
}

impl Part {
    pub(super) fn named(name: impl Into<ByteString>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    /// Adds a field, if there is one.
    pub(super) fn field(&mut self, name: &'static str, value: Option<impl Into<ByteString>>) {
        self.fields.extend(value.map(|value| (name, value.into())));
    }
}

impl Layout {
    pub(super) fn new(format: Format) -> Self {
        Self { format, parts: Vec::new(), complete: false, bytes: 0 }
    }

    /// Adds a part, unless there are `most` already, or what is known of them takes too much. Returns whether it was added.
    #[must_use]
    pub(super) fn add(&mut self, part: Part, most: usize) -> bool {
        let fields = part.fields.iter().map(|(_, value)| value.0.len()).sum::<usize>();
        self.bytes += part.name.as_ref().map_or(0, |name| name.0.len()) + fields;
        let fits = self.parts.len() < most && self.bytes <= MAX_BYTES;
        if fits {
            self.parts.push(part);
        }
        fits
    }
}

/// Reads where the parts of both sides are, if they are of the same known format.
pub(super) fn read(
    name: &[u8],
    contents: Pair<Extract<'_>>,
    most: usize,
) -> io::Result<Option<Pair<Layout>>> {
    let formats = contents.try_map(|contents| format_of(name, &contents))?;
    let (Some(format), true) = (formats.a, formats.are_equal()) else { return Ok(None) };
    contents
        .try_map(|contents| match format {
            Format::Ar => ar::layout(&contents, most),
            Format::Elf => elf::layout(&contents, most),
            Format::Gzip => gzip::layout(&contents),
            Format::Pyc => pyc::layout(&contents),
            Format::Tar => tar::layout(&contents, most),
            Format::Zip => zip::layout(&contents, most),
        })
        .map(Some)
}

fn format_of(name: &[u8], contents: &Extract<'_>) -> io::Result<Option<Format>> {
    let start = contents.bytes(0, tar::BLOCK)?;
    Ok(if start.starts_with(ar::MAGIC) || start.starts_with(ar::THIN_MAGIC) {
        Some(Format::Ar)
    } else if start.starts_with(elf::MAGIC) {
        Some(Format::Elf)
    } else if start.starts_with(gzip::MAGIC) {
        Some(Format::Gzip)
    } else if start.starts_with(zip::MAGIC) || start.starts_with(zip::END_MAGIC) {
        Some(Format::Zip)
    } else if tar::is_header(&start) {
        Some(Format::Tar)
    } else if name.ends_with(b".pyc") && pyc::is_header(&start) {
        Some(Format::Pyc)
    } else {
        None
    })
}
