//! A recipe's text, positions in it, and excerpts that show a place with carets below it.

use std::fmt::{self, Write};
use std::ops::Range;

use unicode_width::UnicodeWidthChar;

/// Bytes of a text, from the first to after the last.
pub(crate) type Span = Range<usize>;

/// How many columns of a line an excerpt shows; of a longer line it shows the part around the carets.
const EXCERPT_WIDTH: usize = 100;
/// How many columns of a clipped line stand before the carets.
const EXCERPT_LEAD: usize = 30;

/// A place in a recipe, counted from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A recipe's text with the name of its file, as messages show it.
#[derive(Clone, Debug)]
pub(crate) struct SourceText {
    pub(crate) file: String,
    pub(crate) text: String,
}

impl SourceText {
    /// The position of a byte.
    pub(crate) fn position(&self, byte: usize) -> Position {
        let before = self.before(byte);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
        }
    }

    /// The line that a span begins in, with carets below the part of the span that is in this line:
    ///
    /// ```text
    ///   |
    /// 3 | args = ["-c", "${gret}"]
    ///   |                ^^^^^^^
    /// ```
    ///
    /// Control characters, and those that turn the direction of writing, are shown as `�`: a message goes to a terminal.
    pub(crate) fn excerpt(&self, span: &Span) -> String {
        let start = self.before(span.start).len();
        let line_start = self.before(start).rfind('\n').map_or(0, |newline| newline + 1);
        let rest = self.text.get(line_start..).unwrap_or_default();
        let line = rest.split('\n').next().unwrap_or_default();
        let line = line.strip_suffix('\r').unwrap_or(line);
        let marked = span.end.saturating_sub(start);

        let mut cells = line.char_indices().map(|(offset, character)| {
            let shown = if character == '\t' {
                ' '
            } else if character.is_control() || turns_direction(character) {
                char::REPLACEMENT_CHARACTER
            } else {
                character
            };
            (line_start + offset, shown, shown.width().unwrap_or(1))
        });
        let lead: usize = cells.clone().take_while(|(at, ..)| *at < start).map(|(.., width)| width).sum();
        let total: usize = cells.clone().map(|(.., width)| width).sum();
        let mut skip = if total > EXCERPT_WIDTH { lead.saturating_sub(EXCERPT_LEAD) } else { 0 };
        let (mut shown, mut indent, mut carets, mut used) = (String::new(), 0, 0, 0);
        if skip > 0 {
            shown.push('…');
            indent += 1;
            while skip > 0 {
                skip = cells.next().map_or(0, |(.., width)| skip.saturating_sub(width));
            }
        }
        for (at, character, width) in cells {
            if used + width > EXCERPT_WIDTH {
                shown.push('…');
                break;
            }
            used += width;
            shown.push(character);
            if at < start {
                indent += width;
            } else if at - start < marked {
                carets += width;
            }
        }

        let number = self.position(start).line.to_string();
        let gutter = " ".repeat(number.len());
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "{gutter} |\n{number} | {}\n{gutter} | {}{}",
            shown.trim_end(),
            " ".repeat(indent),
            "^".repeat(carets.max(1)),
        );
        text
    }

    /// The text before a byte; of a byte inside a character, before the character.
    fn before(&self, byte: usize) -> &str {
        let end = self.text.floor_char_boundary(byte);
        self.text.get(..end).unwrap_or_default()
    }
}

/// A text as far as a message shows it: the first 80 characters, without those that do something to a terminal.
pub(crate) fn shown(text: &str) -> String {
    let safe = |character: char| !character.is_control() && !turns_direction(character);
    let mut shown: String =
        text.chars().take(80).map(|character| if safe(character) { character } else { '�' }).collect();
    if shown.len() < text.len() && text.chars().nth(80).is_some() {
        shown.push('…');
    }
    shown
}

/// Whether a character would make what follows it appear elsewhere in the line.
fn turns_direction(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn source(text: &str) -> SourceText {
        SourceText { file: "kiln.toml".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn positions_count_lines_and_characters() {
        let text = source("ab\ncé☃d\n\nx");
        let at = |needle: &str| text.position(text.text.find(needle).unwrap()).to_string();
        assert_eq!(
            (at("a"), at("c"), at("d"), at("x")),
            ("1:1".into(), "2:1".into(), "2:4".into(), "4:1".into())
        );
        assert_eq!(text.position(1_000).to_string(), "4:2");
    }

    #[test]
    fn carets_stand_below_the_span() {
        let text = source("one\n\tname = \"☃日本\" # x\r\nthree");
        let start = text.text.find('"').unwrap();
        let end = text.text.rfind('"').unwrap() + 1;
        assert_eq!(
            text.excerpt(&(start..end)),
            "  |\n2 |  name = \"☃日本\" # x\n  |         ^^^^^^^",
            "wide characters take two columns"
        );
        assert_eq!(
            text.excerpt(&(start..text.text.len())).lines().count(),
            3,
            "only the first line is shown"
        );
        assert_eq!(source("").excerpt(&(0..0)), "  |\n1 | \n  | ^");
    }

    #[test]
    fn long_lines_are_clipped_around_the_carets() {
        let text = source(&format!("{}HERE{}", "a".repeat(5_000), "b".repeat(5_000)));
        let excerpt = text.excerpt(&(5_000..5_004));
        let lines: Vec<&str> = excerpt.lines().collect();
        assert!(lines[1].starts_with("1 | …aaa") && lines[1].ends_with("bb…"), "{excerpt}");
        let column = lines[1].chars().position(|character| character == 'H').unwrap();
        assert_eq!(lines[2].find('^').unwrap(), column, "{excerpt}");
        assert_eq!(lines[2].matches('^').count(), 4);
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let excerpt = source("a\u{1b}[31m\u{9b}\u{202e}b").excerpt(&(0..1));
        assert_eq!(excerpt.lines().nth(1), Some("1 | a�[31m��b"));
    }

    proptest! {
        #[test]
        fn any_span_of_any_text_has_an_excerpt(text in ".{0,300}|[\\s\\S]{0,300}", start in 0_usize..700, length in 0_usize..700) {
            let text = source(&text);
            let excerpt = text.excerpt(&(start..start + length));
            prop_assert_eq!(excerpt.matches('\n').count(), 2);
            prop_assert!(excerpt.ends_with('^'));
        }
    }
}
