//! The tokens of an ATerm derivation: fixed bytes, strings, ends of lists.

use std::borrow::Cow;

use super::parser::SyntaxError;

/// The text of a derivation and how much of it has been read.
pub(super) struct Lexer<'a> {
    text: &'a [u8],
    offset: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, offset: 0 }
    }

    /// Bytes read so far.
    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    fn rest(&self) -> &'a [u8] {
        self.text.get(self.offset..).unwrap_or_default()
    }

    /// Consumes `token` if it comes next.
    pub(super) fn accept(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token.as_bytes());
        if found {
            self.offset += token.len();
        }
        found
    }

    /// Consumes `token`.
    pub(super) fn expect(&mut self, token: &'static str) -> Result<(), SyntaxError> {
        if self.accept(token) {
            Ok(())
        } else {
            Err(SyntaxError::Expected { expected: token, offset: self.offset })
        }
    }

    /// Consumes the end of a list, or the comma before its next element.
    ///
    /// Like real Nix this takes a comma before the first element and misses none between two of them.
    pub(super) fn end_of_list(&mut self) -> bool {
        if self.accept("]") {
            return true;
        }
        self.accept(",");
        false
    }

    /// Consumes a string and undoes its escapes: `\n`, `\r`, `\t` are control characters, a backslash before any other
    /// byte stands for that byte.
    pub(super) fn string(&mut self) -> Result<Cow<'a, [u8]>, SyntaxError> {
        let start = self.offset;
        self.expect("\"")?;
        let unterminated = SyntaxError::UnterminatedString { offset: start };
        let mut unescaped: Option<Vec<u8>> = None;
        loop {
            let rest = self.rest();
            let Some(length) = memchr::memchr2(b'"', b'\\', rest) else { return Err(unterminated) };
            let (run, special) = rest.split_at(length);
            self.offset += length + 1;
            if special.first() == Some(&b'"') {
                return Ok(match unescaped {
                    None => Cow::Borrowed(run),
                    Some(mut bytes) => {
                        bytes.extend_from_slice(run);
                        Cow::Owned(bytes)
                    }
                });
            }
            let Some(&escaped) = special.get(1) else { return Err(unterminated) };
            self.offset += 1;
            let bytes = unescaped.get_or_insert_default();
            bytes.extend_from_slice(run);
            bytes.push(match escaped {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                other => other,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> Result<Vec<u8>, SyntaxError> {
        let mut lexer = Lexer::new(text.as_bytes());
        let bytes = lexer.string()?.into_owned();
        assert_eq!(lexer.offset(), text.len(), "all of {text:?} is consumed");
        Ok(bytes)
    }

    #[test]
    fn strings() {
        assert_eq!(string(r#""""#), Ok(vec![]));
        assert_eq!(string(r#""plain""#), Ok(b"plain".to_vec()));
        assert_eq!(string(r#""a\n\r\t\\\"\q\x41""#), Ok(b"a\n\r\t\\\"qx41".to_vec()));
        assert_eq!(string("\"raw\nnewline\""), Ok(b"raw\nnewline".to_vec()));
    }

    #[test]
    fn unterminated_strings_name_their_start() {
        for text in ["\"abc", "\"abc\\", "\"abc\\\"", "\""] {
            assert_eq!(string(text), Err(SyntaxError::UnterminatedString { offset: 0 }), "{text:?}");
        }
        assert_eq!(string("abc"), Err(SyntaxError::Expected { expected: "\"", offset: 0 }));
    }

    #[test]
    fn lists_are_as_lax_as_nix() {
        let mut lexer = Lexer::new(b",\"a\"\"b\",\"c\"]rest");
        let mut strings = Vec::new();
        while !lexer.end_of_list() {
            strings.push(lexer.string().unwrap().into_owned());
        }
        assert_eq!(strings, [b"a", b"b", b"c"]);
        assert!(lexer.accept("rest"));
    }
}
