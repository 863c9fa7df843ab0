//! The last lines of a log, for the message of a failed build.

use std::collections::VecDeque;

use crate::text::Text;

/// Keeps the last lines that it is given, bounded in number and in bytes.
#[derive(Clone, Debug)]
pub struct LogTail {
    lines: VecDeque<Text>,
    bytes: usize,
    max_lines: usize,
    max_bytes: usize,
}

impl LogTail {
    /// A tail of at most `max_lines` lines that have at most `max_bytes` bytes together.
    #[must_use]
    pub fn new(max_lines: usize, max_bytes: usize) -> LogTail {
        LogTail { lines: VecDeque::new(), bytes: 0, max_lines, max_bytes }
    }

    /// Adds a line, and forgets the oldest ones as the bounds demand. Of a line that is too long alone, the start is
    /// kept.
    pub fn push(&mut self, line: &[u8]) {
        if self.max_lines == 0 {
            return;
        }
        let line = line.get(..self.max_bytes).unwrap_or(line);
        while self.lines.len() >= self.max_lines || self.bytes + line.len() > self.max_bytes {
            match self.lines.pop_front() {
                Some(oldest) => self.bytes -= oldest.as_bytes().len(),
                None => break,
            }
        }
        self.bytes += line.len();
        self.lines.push_back(line.into());
    }

    /// The lines, oldest first.
    pub fn lines(&self) -> impl ExactSizeIterator<Item = &Text> {
        self.lines.iter()
    }

    /// Forgets everything (a new round begins its log anew).
    pub fn clear(&mut self) {
        self.lines.clear();
        self.bytes = 0;
    }
}

impl From<LogTail> for Vec<Text> {
    fn from(tail: LogTail) -> Vec<Text> {
        tail.lines.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tail(max_lines: usize, max_bytes: usize, lines: &[&str]) -> Vec<String> {
        let mut tail = LogTail::new(max_lines, max_bytes);
        lines.iter().for_each(|line| tail.push(line.as_bytes()));
        tail.lines().map(ToString::to_string).collect()
    }

    #[test]
    fn the_last_lines_stay() {
        assert_eq!(tail(2, 100, &["a", "b", "c"]), ["b", "c"]);
        assert_eq!(tail(9, 4, &["aa", "bb", "c"]), ["bb", "c"]);
        assert_eq!(tail(9, 4, &["aa", "bbbbbb"]), ["bbbb"]);
        assert!(tail(0, 100, &["a"]).is_empty());
        assert_eq!(tail(2, 0, &["a", "b", "c"]), ["", ""]);
    }

    proptest! {
        #[test]
        fn bounds_hold(max_lines in 0usize..5, max_bytes in 0usize..20, lines in proptest::collection::vec(".{0,9}", 0..20)) {
            let mut tail = LogTail::new(max_lines, max_bytes);
            for line in &lines {
                tail.push(line.as_bytes());
                prop_assert!(tail.lines().len() <= max_lines);
                let bytes: usize = tail.lines().map(|line| line.as_bytes().len()).sum();
                prop_assert!(bytes <= max_bytes && bytes == tail.bytes);
            }
        }
    }
}
