//! Where frames of zstd end (RFC 8878, section 3.1), found without decoding them.

use std::io::{self, BufRead, Read as _};

use super::super::ZSTD_WINDOW;

/// Frames whose contents are longer than this are not for threads.
pub(super) const LARGEST: usize = 16 << 20;

/// Frames that are longer than this are not, either. What can't be compressed becomes a little longer.
const LARGEST_FRAME: usize = LARGEST + LARGEST / 256;

const MAGIC: u32 = 0xFD2F_B528;

/// The magic number of frames that decoders skip, but for its last four bits.
const SKIPPABLE: u32 = 0x184D_2A50;

/// No block has more bytes than this, nor has what it makes.
const LARGEST_BLOCK: usize = 128 << 10;

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A whole frame with so many bytes in it, if it is what it says.
    Frame(usize),
    /// The end.
    End,
    /// Something that the ordinary decoder has to deal with, of which the beginning was read: a frame that is too large,
    /// doesn't tell how large it is or needs a dictionary, or nothing that is right at all.
    Other,
}

/// Reads the next frame and appends it to `bytes`; of something else, as much as shows that.
pub(super) fn next(source: &mut impl BufRead, bytes: &mut Vec<u8>) -> io::Result<Next> {
    let start = bytes.len();
    let length = Walk { source, bytes, start }.frame()?;
    Ok(match length {
        Some(length) => Next::Frame(length),
        None if bytes.len() == start => Next::End,
        None => Next::Other,
    })
}

/// The way through one frame. Its steps return nothing if there is no way on.
struct Walk<'a, S> {
    source: &'a mut S,
    bytes: &'a mut Vec<u8>,
    start: usize,
}

impl<S: BufRead> Walk<'_, S> {
    /// Walks to the end of the frame, and returns the length of what is in it.
    fn frame(&mut self) -> io::Result<Option<usize>> {
        let Some(magic) = self.number(4)? else { return Ok(None) };
        if magic & !0xF == u64::from(SKIPPABLE) {
            let Some(length) = self.number(4)? else { return Ok(None) };
            return Ok(self.pass(length)?.then_some(0));
        }
        if magic != u64::from(MAGIC) {
            return Ok(None);
        }
        let Some((contents, has_checksum)) = self.head()? else { return Ok(None) };
        let has_end = self.blocks()? && (!has_checksum || self.pass(4)?);
        Ok(has_end.then_some(contents))
    }

    /// Reads the head after the magic number. Returns the length of what is in the frame, and whether its checksum follows it.
    fn head(&mut self) -> io::Result<Option<(usize, bool)>> {
        let Some(descriptor) = self.number(1)? else { return Ok(None) };
        let is_single_segment = descriptor & 0x20 != 0;
        let (is_reserved, has_dictionary) = (descriptor & 8 != 0, descriptor & 3 != 0);
        let size_length = match descriptor >> 6 {
            0 => u64::from(is_single_segment),
            flag => 1 << flag,
        };
        if is_reserved || has_dictionary || size_length == 0 {
            return Ok(None);
        }
        if !is_single_segment {
            let Some(window) = self.number(1)? else { return Ok(None) };
            let base = 1 << (10 + (window >> 3));
            if base + base / 8 * (window & 7) > 1_u64 << ZSTD_WINDOW {
                return Ok(None);
            }
        }
        let Some(number) = self.number(size_length)? else { return Ok(None) };
        let contents = if size_length == 2 { number + 256 } else { number };
        let contents = usize::try_from(contents).ok().filter(|contents| *contents <= LARGEST);
        Ok(contents.map(|contents| (contents, descriptor & 4 != 0)))
    }

    /// Passes all blocks; whether that was possible.
    fn blocks(&mut self) -> io::Result<bool> {
        loop {
            let Some(head) = self.number(3)? else { return Ok(false) };
            let length = match (head >> 1) & 3 {
                // A byte that is repeated.
                1 => 1,
                3 => return Ok(false),
                _ => head >> 3,
            };
            if length > LARGEST_BLOCK as u64 || !self.pass(length)? {
                return Ok(false);
            }
            if head & 1 != 0 {
                return Ok(true);
            }
        }
    }

    /// Reads a number of a few bytes, the least one first.
    fn number(&mut self, length: u64) -> io::Result<Option<u64>> {
        let at = self.bytes.len();
        let is_there = self.pass(length)?;
        let number = self.bytes.iter().skip(at).rfold(0, |number, byte| number << 8 | u64::from(*byte));
        Ok(is_there.then_some(number))
    }

    /// Reads on; whether there was so much, and the frame not too long.
    fn pass(&mut self, length: u64) -> io::Result<bool> {
        let has = self.bytes.len() - self.start;
        if length > LARGEST_FRAME.saturating_sub(has) as u64 {
            return Ok(false);
        }
        let read = self.source.by_ref().take(length).read_to_end(self.bytes)?;
        Ok(read as u64 == length)
    }
}

#[cfg(test)]
mod tests;
