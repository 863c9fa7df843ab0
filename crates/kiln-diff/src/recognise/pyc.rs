//! Python bytecode: the interpreter's magic number, then what the source was.

use super::layout::{Layout, Part};
use crate::calendar;
use crate::contents::{Contents as _, Extract};
use crate::integers::{Endian, hex};
use crate::report::content::Format;
use std::io;

/// Magic numbers from which on there are flags (Python 3.7), and the size of the source (3.3).
const WITH_FLAGS: u16 = 3390;
const WITH_SIZE: u16 = 3190;
/// Those of Python 2 and before are higher.
const PYTHON_2: u16 = 20_000;

/// Set in the flags if it is known by a hash what the source was.
const BY_HASH: u32 = 1;

/// Whether it begins as bytecode does.
pub(super) fn is_header(start: &[u8]) -> bool {
    start.len() >= 8 && start.get(2..4) == Some(b"\r\n")
}

pub(super) fn layout(contents: &Extract<'_>) -> io::Result<Layout> {
    let mut layout = Layout::new(Format::Pyc);
    let bytes = contents.bytes(0, 16)?;
    let mut file = Part::default();
    let Some(start) = header(&bytes, &mut file) else { return Ok(layout) };
    file.start = start;
    file.length = contents.length() - start;
    layout.parts.push(file);
    layout.complete = true;
    Ok(layout)
}

/// Reads the header's fields; returns its length.
fn header(bytes: &[u8], file: &mut Part) -> Option<u64> {
    let little = Endian::Little;
    let magic = little.u16(bytes, 0)?;
    file.field("magic-number", Some(magic.to_string()));
    let is_python_3 = magic < PYTHON_2;
    let mut at = 4;
    if is_python_3 && magic >= WITH_FLAGS {
        let flags = little.u32(bytes, at)?;
        at += 4;
        file.field("flags", Some(flags.to_string()));
        if flags & BY_HASH != 0 {
            file.field("source-hash", Some(hex(bytes.get(at..at + 8)?)));
            return Some(at as u64 + 8);
        }
    }
    let time = little.u32(bytes, at)?;
    at += 4;
    file.field("source-modification-time", Some(calendar::utc(time.into())));
    if is_python_3 && magic >= WITH_SIZE {
        file.field("source-size", Some(little.u32(bytes, at)?.to_string()));
        at += 4;
    }
    Some(at as u64)
}
