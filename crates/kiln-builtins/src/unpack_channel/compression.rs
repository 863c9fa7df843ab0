//! Tarballs are compressed in many ways, and say so in their first bytes.

use kiln_http::{Coding, decoder};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};

/// A reader of what is in the file, whether that is compressed by gzip, bzip2, xz or zstd, or not at all.
pub(super) fn decompressed(file: File) -> io::Result<Box<dyn Read>> {
    let mut reader = BufReader::with_capacity(64 * 1024, file);
    let start = reader.fill_buf()?;
    let codings: [(&[u8], Coding); 4] = [
        (b"\x1f\x8b", Coding::Gzip),
        (b"BZh", Coding::Bzip2),
        (b"\xfd7zXZ\0", Coding::Xz),
        (b"\x28\xb5\x2f\xfd", Coding::Zstd),
    ];
    match codings.into_iter().find(|(mark, _)| start.starts_with(mark)) {
        Some((_, coding)) => Ok(Box::new(decoder(coding, reader))),
        None => Ok(Box::new(reader)),
    }
}
