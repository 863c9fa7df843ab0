//! Base 16, Nix's base 32 and base 64 (hashes-and-paths specification, "Encodings").
//!
//! Nix's base 32 reads the bytes as one little-endian number and writes its 5-bit digits most significant first, so the
//! text is in a sense reversed: the last characters hold the first bytes. It has no padding and leaves out `e o u t`.

#![expect(
    clippy::indexing_slicing,
    reason = "tables are indexed by bytes, or by digits masked to their size"
)]

/// Digits of Nix's base 32 in the order of their values; they are also in ASCII order, so texts of equal length sort
/// like the numbers they stand for.
pub const NIX32_ALPHABET: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

const NOT_A_DIGIT: u8 = 0xff;

/// Value of each byte as a digit of Nix's base 32; 0xff where it is none.
const NIX32_VALUES: [u8; 256] = {
    let mut values = [NOT_A_DIGIT; 256];
    let mut digit = 0;
    while digit < 32 {
        values[NIX32_ALPHABET[digit] as usize] = digit as u8;
        digit += 1;
    }
    values
};

const BASE64_ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

const BASE64_VALUES: [u8; 256] = {
    let mut values = [NOT_A_DIGIT; 256];
    let mut digit = 0;
    while digit < 64 {
        values[BASE64_ALPHABET[digit] as usize] = digit as u8;
        digit += 1;
    }
    values
};

/// Why a text does not decode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A byte that is no digit of the encoding.
    #[error("byte {byte:#04x} at offset {offset} is not a {encoding} digit")]
    Digit {
        /// Name of the encoding.
        encoding: &'static str,
        /// The offending byte.
        byte: u8,
        /// Where it stands in the text.
        offset: usize,
    },
    /// Base 16 with an odd number of digits.
    #[error("base-16 text has an odd number of digits ({0})")]
    OddLength(usize),
    /// Bits beyond the last whole byte that are not zero, so that two texts would stand for the same bytes.
    #[error("base-32 text has stray bits beyond its last byte")]
    StrayBits,
}

/// Whether `byte` is a digit of Nix's base 32.
pub const fn is_nix32_digit(byte: u8) -> bool {
    NIX32_VALUES[byte as usize] != NOT_A_DIGIT
}

/// Number of base-32 digits for `bytes` bytes.
pub const fn nix32_length(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

/// Number of padded base-64 characters for `bytes` bytes.
pub const fn base64_length(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

/// Lower-case base 16.
pub fn base16(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

/// Decodes base 16 of either case.
///
/// # Errors
/// A byte that is no digit, or an odd number of them.
pub fn decode_base16(text: &[u8]) -> Result<Vec<u8>, DecodeError> {
    if !text.len().is_multiple_of(2) {
        return Err(DecodeError::OddLength(text.len()));
    }
    let digit = |offset: usize, byte: u8| {
        (byte as char).to_digit(16).map(|value| value as u8).ok_or(DecodeError::Digit {
            encoding: "base-16",
            byte,
            offset,
        })
    };
    text.chunks_exact(2)
        .enumerate()
        .map(|(index, pair)| match pair {
            [high, low] => Ok(digit(2 * index, *high)? << 4 | digit(2 * index + 1, *low)?),
            _ => Err(DecodeError::OddLength(text.len())),
        })
        .collect()
}

/// Nix's base 32.
pub fn nix32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(nix32_length(bytes.len()));
    for digit in (0..nix32_length(bytes.len())).rev() {
        let bit = digit * 5;
        let low = bytes.get(bit / 8).copied().unwrap_or(0);
        let high = bytes.get(bit / 8 + 1).copied().unwrap_or(0);
        let value = (u16::from_le_bytes([low, high]) >> (bit % 8)) & 31;
        text.push(NIX32_ALPHABET[usize::from(value)] as char);
    }
    text
}

/// Decodes Nix's base 32; only its lower-case digits are accepted.
///
/// # Errors
/// A byte that is no digit, or bits beyond the last whole byte that are not zero.
pub fn decode_nix32(text: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut bytes = vec![0_u8; text.len() * 5 / 8];
    for (digit, (offset, &byte)) in text.iter().enumerate().rev().enumerate() {
        let value = NIX32_VALUES[usize::from(byte)];
        if value == NOT_A_DIGIT {
            return Err(DecodeError::Digit { encoding: "base-32", byte, offset });
        }
        let bit = digit * 5;
        let [low, high] = (u16::from(value) << (bit % 8)).to_le_bytes();
        for (index, part) in [(bit / 8, low), (bit / 8 + 1, high)] {
            match bytes.get_mut(index) {
                Some(slot) => *slot |= part,
                None if part == 0 => {}
                None => return Err(DecodeError::StrayBits),
            }
        }
    }
    Ok(bytes)
}

/// Base 64 with padding, standard alphabet.
pub fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(base64_length(bytes.len()));
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for position in 0..4 {
            if position <= group.len() {
                text.push(BASE64_ALPHABET[(bits >> (18 - 6 * position) & 63) as usize] as char);
            } else {
                text.push('=');
            }
        }
    }
    text
}

/// Decodes base 64 as laxly as Nix does: the text ends at the first `=`, line feeds are skipped, and leftover bits are
/// dropped unchecked.
///
/// # Errors
/// Any other byte outside the standard alphabet.
pub fn decode_base64(text: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0_u32, 0_u32);
    for (offset, &byte) in text.iter().enumerate() {
        match byte {
            b'=' => break,
            b'\n' => continue,
            _ => {}
        }
        let value = BASE64_VALUES[usize::from(byte)];
        if value == NOT_A_DIGIT {
            return Err(DecodeError::Digit { encoding: "base-64", byte, offset });
        }
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nix32_of_known_bytes() {
        let counting: Vec<u8> = (0..20).collect();
        for (bytes, text) in [
            (&[][..], ""),
            (&[0x00], "00"),
            (&[0xff], "7z"),
            (&[0x00, 0x01], "0080"),
            (&counting, "2c91240g1q6hq2qa1440f1h50h1h4080"),
        ] {
            assert_eq!(nix32(bytes), text);
            assert_eq!(decode_nix32(text.as_bytes()).as_deref(), Ok(bytes));
        }
    }

    #[test]
    fn nix32_rejects_stray_bits_and_foreign_digits() {
        assert_eq!(decode_nix32(b"zz"), Err(DecodeError::StrayBits));
        for text in [&b"0e"[..], b"o0", b"0u", b"t0", b"A0", b"0-"] {
            assert!(matches!(decode_nix32(text), Err(DecodeError::Digit { .. })), "{text:?}");
        }
    }

    #[test]
    fn base64_is_as_lax_as_nix() {
        assert_eq!(decode_base64(b"aGk=?garbage").as_deref(), Ok(&b"hi"[..]));
        assert_eq!(decode_base64(b"aG\nk").as_deref(), Ok(&b"hi"[..]));
        assert_eq!(decode_base64(b"aGl").as_deref(), Ok(&b"hi"[..]), "stray bits are dropped");
        assert!(decode_base64(b"aG-_").is_err(), "the URL-safe alphabet is not Nix's");
    }

    proptest! {
        #[test]
        fn every_encoding_returns_the_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(decode_base16(base16(&bytes).as_bytes()), Ok(bytes.clone()));
            prop_assert_eq!(decode_nix32(nix32(&bytes).as_bytes()), Ok(bytes.clone()));
            prop_assert_eq!(decode_base64(base64(&bytes).as_bytes()), Ok(bytes.clone()));
            prop_assert_eq!(base64(&bytes).len(), base64_length(bytes.len()));
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode_base16(&bytes);
            let _ = decode_nix32(&bytes);
            let _ = decode_base64(&bytes);
        }
    }
}
