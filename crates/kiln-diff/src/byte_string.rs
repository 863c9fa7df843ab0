//! Bytes that are mostly text.

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use std::fmt;

/// Names, targets, lines: text by intention, any bytes in fact.
///
/// As JSON it is a string where it is UTF-8, else an object `{"base64": "…"}` with all its bytes. Shown to people, it is
/// one line that is safe for a terminal: control characters, those that change the direction of text, and bytes that
/// aren't UTF-8 are escaped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteString(pub Vec<u8>);

impl ByteString {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<T: AsRef<[u8]> + ?Sized> From<&T> for ByteString {
    fn from(bytes: &T) -> Self {
        Self(bytes.as_ref().to_vec())
    }
}

impl From<String> for ByteString {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl fmt::Display for ByteString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for chunk in self.0.utf8_chunks() {
            for char in chunk.valid().chars() {
                match char {
                    '\t' | '\n' | '\r' => write!(f, "{}", char.escape_default())?,
                    _ if char.is_ascii_control() => write!(f, "\\x{:02x}", u32::from(char))?,
                    _ if is_deceptive(char) => write!(f, "{}", char.escape_unicode())?,
                    _ => f.write_char(char)?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Control characters beyond ASCII, separators of lines, and what turns the direction of text or takes no room.
fn is_deceptive(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
        || matches!(char, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

impl Serialize for ByteString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("base64", &kiln_hash::encoding::base64(&self.0))?;
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_lossless() {
        let json = |bytes: &[u8]| serde_json::to_string(&ByteString::from(bytes)).unwrap();
        assert_eq!(json("größe\n".as_bytes()), r#""größe\n""#);
        assert_eq!(json(b"a\xff"), r#"{"base64":"Yf8="}"#);
    }

    #[test]
    fn terminals_are_safe() {
        let shown = |bytes: &[u8]| ByteString::from(bytes).to_string();
        assert_eq!(shown("a b/größe".as_bytes()), "a b/größe");
        assert_eq!(shown(b"\x1b[2J\x7f\n\t\0"), r"\x1b[2J\x7f\n\t\x00");
        assert_eq!(shown(b"\xff\xc3"), r"\xff\xc3");
        assert_eq!(shown("\u{202e}x\u{9b}".as_bytes()), r"\u{202e}x\u{9b}");
    }
}
