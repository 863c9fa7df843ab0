//! Tarballs are compressed in many ways, and say so in their first bytes.

use crate::fetchurl::XZ_MEMORY;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};

/// The logarithm of the longest window of zstd that is accepted, the one that decoders promise to accept: 128 MiB.
const ZSTD_WINDOW: u32 = 27;

/// A reader of what is in the file, whether that is compressed by gzip, bzip2, xz or zstd, or not at all.
pub(super) fn decompressed(file: File) -> io::Result<Box<dyn Read>> {
    let mut reader = BufReader::with_capacity(64 * 1024, file);
    let start = reader.fill_buf()?;
    Ok(if start.starts_with(b"\x1f\x8b") {
        Box::new(flate2::bufread::MultiGzDecoder::new(reader))
    } else if start.starts_with(b"BZh") {
        Box::new(bzip2::bufread::MultiBzDecoder::new(reader))
    } else if start.starts_with(b"\xfd7zXZ\0") {
        let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)?;
        Box::new(liblzma::bufread::XzDecoder::new_stream(reader, stream))
    } else if start.starts_with(b"\x28\xb5\x2f\xfd") {
        let mut decoder = zstd::Decoder::with_buffer(reader)?;
        decoder.window_log_max(ZSTD_WINDOW)?;
        Box::new(decoder)
    } else {
        Box::new(reader)
    })
}
