//! A bound on nesting, checked before the text is parsed.
//!
//! The TOML parser bounds how deep brackets are nested and how many parts a dotted key has, but not their product:
//! `{a.a.a = {a.a.a = …` makes a tree some thousands of levels deep from a text of few bytes, and a tree that deep
//! overflows the stack when it is dropped. So the tokens are looked at first.

use toml_parser::Source;
use toml_parser::lexer::TokenKind;

use super::MAX_DEPTH;
use crate::error::{Mistake, Problem};

/// Refuses texts in which brackets and the dots of the keys before them make values more than [`MAX_DEPTH`] levels deep.
///
/// A closing bracket that does not fit the last open one closes nothing here, whatever the parser makes of it, so that
/// broken texts count as deeper than they are, never as less deep.
pub(super) fn check_nesting(text: &str) -> Result<(), Mistake> {
    // What closes each open bracket, and how many levels it and the key before it are.
    let mut open: Vec<(TokenKind, usize)> = Vec::new();
    let (mut levels, mut dots) = (0_usize, 0);
    for token in Source::new(text).lex() {
        let kind = token.kind();
        match kind {
            TokenKind::Dot => dots += 1,
            TokenKind::Comma => dots = 0,
            TokenKind::Newline if open.is_empty() => dots = 0,
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => {
                let closing = match kind {
                    TokenKind::LeftCurlyBracket => TokenKind::RightCurlyBracket,
                    _ => TokenKind::RightSquareBracket,
                };
                open.push((closing, dots + 1));
                levels += dots + 1;
                dots = 0;
            }
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => {
                if let Some((_, closed)) = open.pop_if(|(closing, _)| *closing == kind) {
                    levels = levels.saturating_sub(closed);
                    dots = 0;
                }
            }
            _ => {}
        }
        if levels > MAX_DEPTH {
            let at = token.span();
            return Err(Mistake::new(Problem::TooDeep(MAX_DEPTH), at.start()..at.end()));
        }
    }
    Ok(())
}
