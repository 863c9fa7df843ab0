//! How wide text is on a terminal.

use unicode_width::UnicodeWidthChar;

const RESET: &str = "\u{1b}[0m";

/// How many columns a line takes that has nothing but text and SGR sequences.
#[must_use]
pub fn width(line: &str) -> usize {
    pieces(line).map(|piece| piece.width).sum()
}

/// The line, cut to at most `columns` columns; what is cut off is shown by `…`. Tabs become single blanks. SGR sequences
/// take no room; if one was cut off, a reset stands in its place.
#[must_use]
pub fn fit(line: &str, columns: usize) -> String {
    let line = line.replace('\t', " ");
    if width(&line) <= columns {
        return line;
    }
    let mut fitted = String::new();
    let (mut room, mut styled) = (columns.saturating_sub(1), false);
    for piece in pieces(&line) {
        if piece.width > room {
            break;
        }
        room -= piece.width;
        styled |= piece.is_sequence;
        fitted.push_str(piece.text);
    }
    if columns > 0 {
        fitted.push('…');
    }
    if styled {
        fitted.push_str(RESET);
    }
    fitted
}

/// A character or an SGR sequence.
struct Piece<'a> {
    text: &'a str,
    width: usize,
    is_sequence: bool,
}

fn pieces(line: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let sequence =
            rest.strip_prefix("\u{1b}[").and_then(|body| body.find('m')).map(|end| end + "\u{1b}[m".len());
        let length = sequence.unwrap_or(first.len_utf8());
        let (text, after) = rest.split_at_checked(length)?;
        rest = after;
        let width = if sequence.is_some() { 0 } else { first.width().unwrap_or(0) };
        Some(Piece { text, width, is_sequence: sequence.is_some() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_cut_to_fit() {
        assert_eq!(fit("hello", 5), "hello");
        assert_eq!(fit("hello", 4), "hel…");
        assert_eq!(fit("a\tb", 5), "a b");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("日本語", 6), "日本語");
        assert_eq!(fit("\u{1b}[31mred\u{1b}[0m text", 5), "\u{1b}[31mred\u{1b}[0m …\u{1b}[0m");
        assert_eq!(fit("x", 0), "");
        assert_eq!(width("\u{1b}[31;1mred\u{1b}[0m"), 3);
    }

    proptest! {
        #[test]
        fn nothing_is_too_wide(line in "([a-z日é\t]|\u{1b}\\[[0-9]m){0,40}", columns in 0usize..40) {
            prop_assert!(width(&fit(&line, columns)) <= columns);
        }
    }
}
