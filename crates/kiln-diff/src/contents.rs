//! What is compared: something of a known length that is read at any place.

use crate::pair::Pair;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Bytes of a known length that can be read at any place.
pub trait Contents {
    /// How many bytes there are.
    fn length(&self) -> u64;

    /// Reads from `offset` on into `buffer`; returns how many bytes. None at the end; else it may be fewer than fit.
    ///
    /// # Errors
    /// If reading fails.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

impl Contents for &[u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.get(start..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        if let (Some(buffer), Some(bytes)) = (buffer.get_mut(..length), rest.get(..length)) {
            buffer.copy_from_slice(bytes);
        }
        Ok(length)
    }
}

/// A regular file, of the length that it had when it was opened.
pub(crate) struct OpenFile {
    file: File,
    length: u64,
}

impl OpenFile {
    pub(crate) fn new(file: File, length: u64) -> Self {
        Self { file, length }
    }
}

impl Contents for OpenFile {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
}

/// A part of something, as far as that goes.
#[derive(Clone, Copy)]
pub(crate) struct Extract<'a> {
    whole: &'a dyn Contents,
    start: u64,
    length: u64,
}

impl<'a> Extract<'a> {
    /// All of `whole`.
    pub(crate) fn all(whole: &'a dyn Contents) -> Self {
        Self { whole, start: 0, length: whole.length() }
    }

    /// The `length` bytes from `start` on, or fewer where there are fewer.
    pub(crate) fn part(&self, start: u64, length: u64) -> Self {
        let start = start.min(self.length);
        Self { whole: self.whole, start: self.start + start, length: length.min(self.length - start) }
    }

    /// Up to `most` bytes at `offset`: fewer only at the end.
    pub(crate) fn bytes(&self, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        let left = self.length.saturating_sub(offset);
        let mut bytes = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(most)];
        let length = fill(self, offset, &mut bytes)?;
        bytes.truncate(length);
        Ok(bytes)
    }

    /// The `N` bytes at `offset`, if there are so many.
    pub(crate) fn array<const N: usize>(&self, offset: u64) -> io::Result<Option<[u8; N]>> {
        let mut bytes = [0; N];
        Ok((fill(self, offset, &mut bytes)? == N).then_some(bytes))
    }
}

impl Contents for Extract<'_> {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let most = left.min(buffer.len());
        match buffer.get_mut(..most) {
            Some(buffer) if most > 0 => self.whole.read_at(self.start.saturating_add(offset), buffer),
            _ => Ok(0),
        }
    }
}

/// Reads until the buffer is full or the end comes; returns how many bytes.
pub(crate) fn fill(contents: &dyn Contents, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match contents.read_at(offset.saturating_add(filled as u64), rest) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Two windows, through which contents of any size are read. They become as large as they have to be, once.
pub(crate) struct Windows(Pair<Vec<u8>>);

const WINDOW: usize = 64 << 10;

impl Windows {
    pub(crate) fn new() -> Self {
        Self(Pair::default())
    }

    /// Moves both windows to `offset`; they show up to `most` bytes.
    pub(crate) fn show(
        &mut self,
        of: Pair<&dyn Contents>,
        offset: u64,
        most: u64,
    ) -> io::Result<Pair<&[u8]>> {
        let most = usize::try_from(most).unwrap_or(WINDOW).min(WINDOW);
        let show = |of: &dyn Contents, window| show(of, offset, most, window);
        Ok(Pair::new(show(of.a, &mut self.0.a)?, show(of.b, &mut self.0.b)?))
    }

    /// Moves one window to `offset`; it shows up to `most` bytes.
    pub(crate) fn show_one(&mut self, of: &dyn Contents, offset: u64, most: u64) -> io::Result<&[u8]> {
        let most = usize::try_from(most).unwrap_or(WINDOW).min(WINDOW);
        show(of, offset, most, &mut self.0.a)
    }
}

/// Anything less than `most` bytes means that a file isn't as long any more as it was.
fn show<'a>(of: &dyn Contents, offset: u64, most: usize, window: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
    if window.len() < most {
        window.resize(most, 0);
    }
    let window = window.get_mut(..most).unwrap_or_default();
    if fill(of, offset, window)? == most { Ok(window) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extracts_stay_in_what_they_are_of() {
        let bytes: &[u8] = b"0123456789";
        let all = Extract::all(&bytes);
        let part = all.part(2, 5);
        assert_eq!(part.bytes(0, 100).unwrap(), b"23456");
        assert_eq!(part.part(3, u64::MAX).bytes(0, 100).unwrap(), b"56");
        assert_eq!(part.part(3, u64::MAX).bytes(1, 100).unwrap(), b"6");
        assert_eq!(part.part(u64::MAX, u64::MAX).length(), 0);
        assert_eq!(part.bytes(u64::MAX, 100).unwrap(), b"");
        assert_eq!(part.array::<5>(0).unwrap(), Some(*b"23456"));
        assert_eq!(part.array::<5>(1).unwrap(), None);
    }

    #[test]
    fn a_file_that_shrinks_is_an_error() {
        let bytes: &[u8] = b"0123456789";
        let both = Pair::new(&bytes as &dyn Contents, &bytes as &dyn Contents);
        assert_eq!(Windows::new().show(both, 4, 2).unwrap(), Pair::new(&b"45"[..], &b"45"[..]));
        assert!(Windows::new().show(both, 4, 7).is_err());
    }
}
