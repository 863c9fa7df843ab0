//! What is seen at the first difference of contents that have no parts: lines of text, or words in the middle of other
//! bytes.

use super::trace::trace;
use super::{Reading, Step, Subject};
use crate::byte_string::ByteString;
use crate::contents::{Contents, Windows};
use crate::pair::Pair;
use crate::report::content::Observation;
use std::hash::{BuildHasher, Hasher as _, RandomState};
use std::io;
use std::ops::Range;

/// What is looked at before and after the first difference.
const AROUND: u64 = 512;

/// What is told of a line before and after the first difference.
const TOLD_BEFORE: usize = 60;
const TOLD_AFTER: usize = 120;

/// Bytes of one side, around the first difference.
struct View<'v> {
    bytes: &'v [u8],
    /// Where the first difference is; it may be the end.
    at: usize,
    /// Whether there are more bytes before and after.
    cut: (bool, bool),
}

pub(super) fn describe<'a>(subject: &Subject<'a>, reading: &mut Reading<'_>) -> io::Result<Vec<Step<'a>>> {
    let start = subject.first.saturating_sub(AROUND);
    let at = (subject.first - start) as usize;
    let bytes = subject.contents.try_map(|contents| contents.bytes(start, at + AROUND as usize))?;
    let views = subject.contents.as_ref().map(|contents| contents.length());
    let view = |bytes, length: u64| {
        let bytes: &[u8] = bytes;
        View { bytes, at, cut: (start > 0, start.saturating_add(bytes.len() as u64) < length) }
    };
    let views = Pair::new(view(&bytes.a, views.a), view(&bytes.b, views.b));
    let is_text = views.a.is_text() && views.b.is_text();
    let mut steps = Vec::new();
    if is_text {
        if reading.take(subject.first) {
            let number = 1 + count_lines(&subject.contents.a, subject.first, reading.windows)?;
            let lines = views.as_ref().map(View::told_line);
            steps.push(subject.tell(Observation::Line { number, lines }));
        } else {
            steps.push(subject.not_examined());
        }
    }
    let words = views.as_ref().map(|view| if is_text { view.line() } else { view.word() });
    let texts = Pair::new(views.a.bytes.get(words.a.clone()), views.b.bytes.get(words.b));
    // What is before the first difference is the same, so the words begin at the same place.
    let found = trace(texts.map(Option::unwrap_or_default), at - words.a.start);
    if let Some((trace, values)) = found {
        steps.push(subject.tell(Observation::Trace { trace, values }));
    }
    if is_text && let Some(lines) = same_lines(subject, reading)? {
        steps.push(subject.tell(Observation::LinesReordered { lines }));
    }
    Ok(steps)
}

impl View<'_> {
    fn is_text(&self) -> bool {
        let bytes = self.bytes.iter();
        !bytes.clone().any(|byte| matches!(byte, 0..=8 | 14..=26 | 28..=31 | 127))
            && is_mostly_utf_8(self.bytes)
    }

    /// The stretch around the first difference without bytes that `parts`.
    fn stretch(&self, parts: impl Fn(u8) -> bool) -> Range<usize> {
        let (before, after) = self.bytes.split_at_checked(self.at).unwrap_or((self.bytes, b""));
        let start = before.iter().rposition(|byte| parts(*byte)).map_or(0, |place| place + 1);
        let end = after.iter().position(|byte| parts(*byte)).unwrap_or(after.len());
        start..before.len() + end
    }

    fn line(&self) -> Range<usize> {
        self.stretch(|byte| byte == b'\n')
    }

    fn word(&self) -> Range<usize> {
        self.stretch(|byte| !(b' '..=b'~').contains(&byte) && byte != b'\t')
    }

    /// The line around the first difference, as far as it is told.
    fn told_line(&self) -> ByteString {
        let line = self.line();
        let start = line.start.max(self.at.saturating_sub(TOLD_BEFORE));
        let end = line.end.min(self.at.saturating_add(TOLD_AFTER));
        // Characters aren't cut in pieces: of one that goes on before or after, nothing is told.
        let inside = |byte: &u8| byte & 0xc0 == 0x80;
        let told = self.bytes.get(start..end).unwrap_or_default();
        let cut_before = start > line.start || (start == 0 && self.cut.0);
        let cut_after = end < line.end || (end == self.bytes.len() && self.cut.1);
        let skipped =
            if cut_before { told.iter().take(3).take_while(|byte| inside(byte)).count() } else { 0 };
        let mut told = told.get(skipped..).unwrap_or_default();
        if cut_after && let Some(whole) = whole_characters(told) {
            told = whole;
        }
        let mark = |cut: bool| if cut { "…".as_bytes() } else { b"" };
        ByteString([mark(cut_before), told, mark(cut_after)].concat())
    }
}

/// What is cut at the ends may have half a character there; other encodings than UTF-8 are few and old.
fn is_mostly_utf_8(bytes: &[u8]) -> bool {
    let invalid: usize = bytes.utf8_chunks().map(|chunk| chunk.invalid().len()).sum();
    invalid <= 6 || invalid * 8 <= bytes.len()
}

/// The bytes without a character at their end that isn't whole.
fn whole_characters(bytes: &[u8]) -> Option<&[u8]> {
    let last = bytes.iter().rposition(|byte| byte & 0xc0 != 0x80)?;
    let (before, character) = bytes.split_at_checked(last)?;
    Some(if std::str::from_utf8(character).is_ok() { bytes } else { before })
}

/// How many lines end before `end`.
fn count_lines(contents: &dyn Contents, end: u64, windows: &mut Windows) -> io::Result<u64> {
    let (mut offset, mut lines) = (0, 0);
    while offset < end {
        let shown = windows.show_one(contents, offset, end - offset)?;
        lines += memchr::memchr_iter(b'\n', shown).count() as u64;
        offset += shown.len() as u64;
    }
    Ok(lines)
}

/// How many lines both sides have, if these are the same in another order.
fn same_lines(subject: &Subject<'_>, reading: &mut Reading<'_>) -> io::Result<Option<u64>> {
    let sizes = subject.contents.map(|contents| contents.length());
    // A file whose last line has no end is as long with that line elsewhere, too.
    if !sizes.are_equal() || !reading.take(sizes.a) {
        return Ok(None);
    }
    let keys = RandomState::new();
    let mut sums = |contents: &dyn Contents| sum_of_lines(contents, &keys, reading.windows);
    let (a, b) = (sums(&subject.contents.a)?, sums(&subject.contents.b)?);
    Ok((a == b).then_some(a.lines))
}

/// What is the same for the same lines in any order, and, as good as surely, for no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct SumOfLines {
    lines: u64,
    sum: u64,
}

impl SumOfLines {
    fn add(&mut self, hash: u64) {
        self.lines += 1;
        self.sum = self.sum.wrapping_add(hash);
    }
}

fn sum_of_lines(
    contents: &dyn Contents,
    keys: &RandomState,
    windows: &mut Windows,
) -> io::Result<SumOfLines> {
    let (length, mut offset) = (contents.length(), 0);
    let mut sum = SumOfLines::default();
    let mut line = keys.build_hasher();
    let mut is_begun = false;
    while offset < length {
        let shown = windows.show_one(contents, offset, length - offset)?;
        offset += shown.len() as u64;
        let mut rest = shown;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            line.write(rest.get(..end).unwrap_or_default());
            sum.add(line.finish());
            (line, is_begun) = (keys.build_hasher(), false);
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        line.write(rest);
        is_begun |= !rest.is_empty();
    }
    if is_begun {
        sum.add(line.finish());
    }
    Ok(sum)
}
