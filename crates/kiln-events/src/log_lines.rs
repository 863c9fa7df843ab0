//! A builder's output, cut into lines.

use memchr::memchr2;

/// How many bytes of one line are kept; the rest of a longer line is dropped.
pub const MAX_LINE_LENGTH: usize = 64 * 1024;

/// What is put at the end of a line of which something was dropped.
pub const CUT_MARK: &[u8] = b" [line cut]";

/// Splits bytes, as they come, into lines.
///
/// A line ends at `\n`. `\r` moves back to the start of the line, and what follows overwrites what is there byte by byte
/// (progress meters): a shorter text leaves the end of the longer one, as on a terminal and as in Nix. A line keeps at
/// most [`MAX_LINE_LENGTH`] bytes, or what else it is told to, so memory is bounded whatever comes.
#[derive(Debug)]
pub struct LogLines {
    line: Vec<u8>,
    column: usize,
    max_length: usize,
    /// Bytes of this line were dropped.
    cut: bool,
}

impl Default for LogLines {
    fn default() -> LogLines {
        LogLines::with_max_length(MAX_LINE_LENGTH)
    }
}

impl LogLines {
    /// A splitter at the start of a line.
    #[must_use]
    pub fn new() -> LogLines {
        LogLines::default()
    }

    /// The same for lines of at most `max_length` bytes.
    #[must_use]
    pub fn with_max_length(max_length: usize) -> LogLines {
        LogLines { line: Vec::new(), column: 0, max_length, cut: false }
    }

    /// Takes the next bytes, and calls `take` for each line that they complete, without its `\n`.
    pub fn push(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8])) {
        let mut rest = bytes;
        while let Some((text, end, after)) = split_at_control(rest) {
            self.write(text);
            if end == b'\n' {
                self.end_line(&mut take);
            } else {
                self.column = 0;
            }
            rest = after;
        }
        self.write(rest);
    }

    /// At the end of the output: the last line counts although nothing ends it.
    pub fn finish(mut self, mut take: impl FnMut(&[u8])) {
        if !self.line.is_empty() {
            self.end_line(&mut take);
        }
    }

    /// Puts text at the current column, over what is there.
    fn write(&mut self, text: &[u8]) {
        let kept = text.len().min(self.max_length.saturating_sub(self.column));
        self.cut |= kept < text.len();
        let overwritten = kept.min(self.line.len().saturating_sub(self.column));
        let (over, beyond) = text.get(..kept).unwrap_or_default().split_at(overwritten);
        if let Some(place) = self.line.get_mut(self.column..self.column + overwritten) {
            place.copy_from_slice(over);
        }
        self.line.extend_from_slice(beyond);
        self.column += kept;
    }

    fn end_line(&mut self, take: &mut impl FnMut(&[u8])) {
        if self.cut {
            self.line.extend_from_slice(CUT_MARK);
        }
        take(&self.line);
        self.line.clear();
        self.column = 0;
        self.cut = false;
    }
}

/// Text up to the first `\n` or `\r`, that byte, and what follows it.
fn split_at_control(bytes: &[u8]) -> Option<(&[u8], u8, &[u8])> {
    let at = memchr2(b'\n', b'\r', bytes)?;
    let (text, rest) = bytes.split_at_checked(at)?;
    let (end, after) = rest.split_first()?;
    Some((text, *end, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let mut splitter = LogLines::new();
        for chunk in chunks {
            splitter.push(chunk, |line| all.push(line.to_vec()));
        }
        splitter.finish(|line| all.push(line.to_vec()));
        all
    }

    /// The same, byte by byte, as simply as it can be said.
    fn simple(bytes: &[u8]) -> Vec<Vec<u8>> {
        let (mut all, mut line, mut column) = (Vec::new(), Vec::new(), 0);
        for &byte in bytes {
            match byte {
                b'\n' => {
                    all.push(std::mem::take(&mut line));
                    column = 0;
                }
                b'\r' => column = 0,
                byte => {
                    if column < line.len() {
                        line[column] = byte;
                    } else {
                        line.push(byte);
                    }
                    column += 1;
                }
            }
        }
        if !line.is_empty() {
            all.push(line);
        }
        all
    }

    #[test]
    fn l2_lines_and_carriage_returns() {
        assert_eq!(lines(&[b"a\nb"]), [b"a", b"b"]);
        assert_eq!(lines(&[b"", b"\n\n"]), [b"", b""]);
        assert_eq!(lines(&[b"100%\r9", b"9\n"]), [b"990%"]);
        assert_eq!(lines(&[b"abc\r\ndef\r"]), [b"abc", b"def"]);
        assert!(lines(&[b"\r\r"]).is_empty());
    }

    #[test]
    fn l2_an_endless_line_is_cut() {
        let long = vec![b'x'; 3 * MAX_LINE_LENGTH];
        let mut splitter = LogLines::new();
        for _ in 0..100 {
            splitter.push(&long, |_| panic!("no line has ended"));
        }
        assert!(splitter.line.capacity() <= 2 * MAX_LINE_LENGTH);
        let mut seen = Vec::new();
        splitter.push(b"\rend\nnext\n", |line| seen.push(line.to_vec()));
        assert_eq!(seen[0].len(), MAX_LINE_LENGTH + CUT_MARK.len());
        assert!(seen[0].starts_with(b"endxxx") && seen[0].ends_with(CUT_MARK));
        assert_eq!(seen[1], b"next");
    }

    #[test]
    fn a_line_may_be_longer_or_shorter() {
        let mut splitter = LogLines::with_max_length(3);
        let mut seen = Vec::new();
        splitter.push(b"abc\nabcd\n", |line| seen.push(line.to_vec()));
        assert_eq!(seen, [&b"abc"[..], &[b"abc", CUT_MARK].concat()]);
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(
            chunks in proptest::collection::vec(proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..20), 0..20)
        ) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(lines(&chunks), simple(&chunks.concat()));
        }
    }
}
