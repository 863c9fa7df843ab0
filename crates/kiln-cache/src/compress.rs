//! Compressing archives, in the ways that Nix's caches know.

mod frames;

use std::io::{self, Write};
use std::thread::available_parallelism;

use bzip2::write::BzEncoder;
use flate2::write::GzEncoder;
use kiln_narinfo::Compression;
use liblzma::stream::{Check, MtStreamBuilder, Stream};
use liblzma::write::XzEncoder;

use self::frames::FrameEncoder;
use crate::options::WriteOptions;

/// What xz's own program does without a level; Nix's default too.
const XZ_LEVEL: u32 = 6;

/// From this level on, a block of liblzma's own choice is larger than this many bytes. A smaller one would not fill
/// the dictionary of the last level.
const XZ_LARGE_LEVEL: u32 = 8;
const XZ_LARGEST_BLOCK: u64 = 64 << 20;

/// Bytes that the encoder of Brotli gathers, and the logarithm of its window: its format's usual largest one.
const BROTLI_BUFFER: usize = 64 << 10;
const BROTLI_WINDOW: u32 = 22;

/// The level of Brotli that Nix has without one.
const BROTLI_LEVEL: u32 = 11;

/// More threads than this take memory and bring little.
const MOST_THREADS: usize = 8;

/// Writes compressed what is written to it.
pub(crate) enum Encoder<W: Write> {
    None(W),
    Xz(XzEncoder<W>),
    Zstd(zstd::Encoder<'static, W>),
    ZstdFrames(FrameEncoder<W>),
    Bzip2(BzEncoder<W>),
    Gzip(GzEncoder<W>),
    Brotli(Box<brotli::CompressorWriter<W>>),
}

impl<W: Write> Encoder<W> {
    pub(crate) fn new(options: &WriteOptions, out: W) -> io::Result<Self> {
        let level = options.level;
        let threads = available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        Ok(match &options.compression {
            Compression::None => Self::None(out),
            Compression::Xz => {
                let level = level.unwrap_or(XZ_LEVEL);
                let stream = if options.parallel {
                    xz_blocks(level, u32::try_from(threads).unwrap_or(1)).encoder()?
                } else {
                    Stream::new_easy_encoder(level, Check::Crc64)?
                };
                Self::Xz(XzEncoder::new_stream(out, stream))
            }
            Compression::Zstd => {
                // Every level is a small number; 0 is the default.
                let level = level.map_or(0, |level| i32::try_from(level).unwrap_or(0));
                if options.parallel && level <= frames::LAST_LEVEL {
                    return Ok(Self::ZstdFrames(FrameEncoder::new(out, level, threads)));
                }
                let mut encoder = zstd::Encoder::new(out, level)?;
                if options.parallel {
                    encoder.multithread(u32::try_from(threads).unwrap_or(1))?;
                }
                Self::Zstd(encoder)
            }
            Compression::Bzip2 => {
                let level = level.map_or(bzip2::Compression::best(), bzip2::Compression::new);
                Self::Bzip2(BzEncoder::new(out, level))
            }
            Compression::Gzip => {
                let level = level.map_or(flate2::Compression::default(), flate2::Compression::new);
                Self::Gzip(GzEncoder::new(out, level))
            }
            Compression::Brotli => {
                let level = level.unwrap_or(BROTLI_LEVEL);
                let writer = brotli::CompressorWriter::new(out, BROTLI_BUFFER, level, BROTLI_WINDOW);
                Self::Brotli(Box::new(writer))
            }
            other => return Err(io::Error::other(format!("nothing here compresses by '{other}'"))),
        })
    }

    /// Ends the compressed data. A failure of Brotli's to write its end is not told: `out` has to remember its failures.
    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Self::None(out) => Ok(out),
            Self::Xz(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
            Self::ZstdFrames(encoder) => encoder.finish(),
            Self::Bzip2(encoder) => encoder.finish(),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Brotli(encoder) => Ok(encoder.into_inner()),
        }
    }
}

/// xz in blocks that several threads can write, and read again: each tells its sizes in its head.
fn xz_blocks(level: u32, threads: u32) -> MtStreamBuilder {
    let mut builder = MtStreamBuilder::new();
    builder.preset(level).check(Check::Crc64).threads(threads);
    // liblzma makes blocks of three dictionaries, 24 MiB at the usual level. Its highest levels have dictionaries so
    // large that most archives would be one block.
    if level >= XZ_LARGE_LEVEL {
        builder.block_size(XZ_LARGEST_BLOCK);
    }
    builder
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(out) => out.write(bytes),
            Self::Xz(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
            Self::ZstdFrames(encoder) => encoder.write(bytes),
            Self::Bzip2(encoder) => encoder.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Brotli(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::None(out) => out.flush(),
            Self::Xz(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
            Self::ZstdFrames(encoder) => encoder.flush(),
            Self::Bzip2(encoder) => encoder.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Brotli(encoder) => encoder.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_http::{Coding, decoder};
    use proptest::prelude::*;
    use std::io::Read as _;

    const ALL: [(Compression, Coding, u32); 5] = [
        (Compression::Xz, Coding::Xz, 9),
        (Compression::Zstd, Coding::Zstd, 22),
        (Compression::Bzip2, Coding::Bzip2, 9),
        (Compression::Gzip, Coding::Gzip, 9),
        (Compression::Brotli, Coding::Brotli, 5),
    ];

    fn compressed(options: &WriteOptions, bytes: &[u8]) -> Vec<u8> {
        let mut encoder = Encoder::new(options, Vec::new()).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn comes_back(options: &WriteOptions, coding: Coding, bytes: &[u8]) {
        let compressed = compressed(options, bytes);
        let mut found = Vec::new();
        decoder(coding, compressed.as_slice()).read_to_end(&mut found).unwrap();
        assert!(found == bytes, "{options:?}");
    }

    #[test]
    fn what_is_compressed_comes_back() {
        let text: Vec<u8> = (0..60_000_u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        for (compression, coding, level) in ALL {
            for level in [None, Some(1), Some(level)] {
                for parallel in [false, true] {
                    let compression = compression.clone();
                    let options = WriteOptions { compression, level, parallel, ..WriteOptions::default() };
                    comes_back(&options, coding, &text);
                }
            }
        }
    }

    #[test]
    fn blocks_of_xz_tell_their_sizes() {
        // In the first block's head, two numbers of seven bits a byte follow its flags: its length, and that of its contents.
        fn number(bytes: &mut impl Iterator<Item = u8>) -> usize {
            match bytes.next().unwrap() {
                byte @ 0x80.. => usize::from(byte & 0x7F) | number(bytes) << 7,
                byte => byte.into(),
            }
        }
        for (level, first) in [(0, 1 << 20), (9, 3 << 20)] {
            let options = WriteOptions { level: Some(level), parallel: true, ..WriteOptions::default() };
            let found = compressed(&options, &vec![b'x'; 3 << 20]);
            assert_eq!(found[13] & 0xC0, 0xC0, "level {level}");
            let mut sizes = found[14..].iter().copied();
            assert_ne!(number(&mut sizes), 0);
            assert_eq!(number(&mut sizes), first, "level {level}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn any_bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            for (compression, coding, _) in ALL {
                let options = WriteOptions { compression, level: Some(1), ..WriteOptions::default() };
                comes_back(&options, coding, &bytes);
            }
        }
    }
}
