//! Integers at places in bytes.

/// The order of an integer's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endian {
    Little,
    Big,
}

impl Endian {
    /// The two bytes at `at`, if there are so many.
    pub(crate) fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self == Self::Little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    /// The four bytes at `at`, if there are so many.
    pub(crate) fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self == Self::Little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    /// The eight bytes at `at`, if there are so many.
    pub(crate) fn u64(self, bytes: &[u8], at: usize) -> Option<u64> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self == Self::Little { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) })
    }
}

/// A number in digits of base `radix` (8 or 10), among spaces and NULs.
pub(crate) fn number_of_digits(text: &[u8], radix: u32) -> Option<u64> {
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = text.iter().position(|byte| !blank(byte))?;
    let text = text.get(start..)?;
    let end = text.iter().position(blank).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    if !digits.iter().all(u8::is_ascii_digit) || !rest.iter().all(blank) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits() {
        for (text, radix, number) in [
            (&b"42      "[..], 10, Some(42)),
            (b" 100644\0", 8, Some(0o100_644)),
            (b"0", 10, Some(0)),
            (b"", 10, None),
            (b"   ", 10, None),
            (b"4 2", 10, None),
            (b"-4", 10, None),
            (b"+4", 10, None),
            (b"8", 8, None),
            (b"99999999999999999999", 10, None),
        ] {
            assert_eq!(number_of_digits(text, radix), number, "{:?}", text.escape_ascii().to_string());
        }
    }

    #[test]
    fn both_orders_and_no_more_than_there_is() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(Endian::Little.u16(&bytes, 6), Some(0x0807));
        assert_eq!(Endian::Big.u32(&bytes, 4), Some(0x0506_0708));
        assert_eq!(Endian::Big.u64(&bytes, 0), Some(0x0102_0304_0506_0708));
        assert_eq!(Endian::Little.u64(&bytes, 1), None);
        assert_eq!(Endian::Little.u16(&bytes, usize::MAX), None);
    }
}
