//! The block that comes before each entry.

/// Length of a block; headers are one, contents are filled up to whole ones.
pub(super) const BLOCK: usize = 512;

/// The fields of a header that matter here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) type_flag: u8,
    /// Bytes of contents that follow.
    pub(super) size: u64,
    pub(super) mode: u64,
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
}

/// What a block is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// Zeros: the archive is over.
    End,
    /// An entry begins.
    Header(Header),
}

/// Reads a block where a header should be.
pub(super) fn parse_block(block: &[u8; BLOCK]) -> Result<Block, &'static str> {
    if block.iter().all(|&byte| byte == 0) {
        return Ok(Block::End);
    }
    if number(field(block, 148, 8)) != Some(checksum(block)) {
        return Err("the checksum of a header is wrong");
    }
    let mut path = text(field(block, 0, 100)).to_vec();
    // GNU's own format has other things where POSIX has the start of a long path.
    let prefix = text(field(block, 345, 155));
    if field(block, 257, 6) == b"ustar\0" && !prefix.is_empty() {
        path = [prefix, b"/", &path].concat();
    }
    Ok(Block::Header(Header {
        type_flag: block[156],
        size: number(field(block, 124, 12)).ok_or("the size of an entry is no number")?,
        mode: number(field(block, 100, 8)).ok_or("the mode of an entry is no number")?,
        path,
        link: text(field(block, 157, 100)).to_vec(),
    }))
}

/// The sum of all bytes, with the checksum itself taken for spaces.
fn checksum(block: &[u8; BLOCK]) -> u64 {
    let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>();
    sum(field(block, 0, 148)) + 8 * u64::from(b' ') + sum(field(block, 156, BLOCK - 156))
}

fn field(block: &[u8; BLOCK], start: usize, length: usize) -> &[u8] {
    block.get(start..start + length).unwrap_or_default()
}

/// A text up to its NUL, if it has one.
fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A number: octal digits among spaces and NULs, or, with the highest bit set, binary with the most significant byte
/// first (GNU). Negative ones are none.
fn number(field: &[u8]) -> Option<u64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        return rest.iter().try_fold(u64::from(first & 0x7f), |value, &byte| {
            Some(value.checked_mul(256)? | u64::from(byte))
        });
    }
    let is_filler = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_filler(byte)).unwrap_or(field.len());
    let mut digits = field.get(start..)?.split(is_filler);
    let value = digits.next()?.iter().try_fold(0_u64, |value, byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    });
    if digits.all(<[u8]>::is_empty) { value } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"  644 \0\0", Some(0o644)),
            (b"00000001750 ", Some(1000)),
            (b"\0\0\0\0", Some(0)),
            (b"77777777777\0", Some(0o77_777_777_777)),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\x02", Some(258)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"0000648\0", None),
            (b"12 34\0", None),
            (b"-1", None),
            (b"", None),
        ] {
            assert_eq!(number(field), value, "{field:?}");
        }
    }

    #[test]
    fn zeros_are_the_end() {
        assert_eq!(parse_block(&[0; BLOCK]), Ok(Block::End));
        assert!(parse_block(&[b'x'; BLOCK]).is_err());
    }

    proptest! {
        #[test]
        fn any_block_can_be_read(bytes in prop::collection::vec(any::<u8>(), BLOCK)) {
            let _ = parse_block(&bytes.try_into().unwrap());
        }

        #[test]
        fn any_field_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..16)) {
            let _ = number(&bytes);
        }
    }
}
