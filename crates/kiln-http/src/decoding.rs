//! Undoing compression: of archives in binary caches, of tarballs, of what a server sends with a `Content-Encoding`.
//!
//! Decoders read as they are read, and take bounded memory whatever the data says.

mod parallel;

pub use parallel::decoder_on_threads;

use liblzma::stream::{CONCATENATED, Stream};
use std::io::{self, BufRead, Read};
use thiserror::Error;

/// How much memory a decoder of xz and its relatives may take, in bytes. `xz -9` makes files that need 65 MiB.
pub const XZ_MEMORY: u64 = 256 << 20;

/// The logarithm of the longest window of zstd that is accepted, the one that decoders promise to accept: 128 MiB.
const ZSTD_WINDOW: u32 = 27;

/// Bytes that the decoder of Brotli reads at once.
const BROTLI_BUFFER: usize = 64 << 10;

/// A way to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `gzip`: files of RFC 1952, one after the other.
    Gzip,
    /// `deflate`: RFC 1950, as HTTP has it.
    Deflate,
    /// bzip2 streams, one after the other.
    Bzip2,
    /// xz streams, one after the other.
    Xz,
    /// The format before xz, `.lzma`.
    Lzma,
    /// lzip members, one after the other.
    Lzip,
    /// zstd frames, one after the other.
    Zstd,
    /// Brotli, RFC 7932.
    Brotli,
}

/// A name of a coding that isn't known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown Content-Encoding '{0}'")]
pub struct UnknownCoding(pub String);

impl Coding {
    /// The coding that a `Content-Encoding` names; none if it names none.
    ///
    /// # Errors
    /// The name isn't known, or there are several.
    pub fn of_header(value: &str) -> Result<Option<Self>, UnknownCoding> {
        Ok(Some(match value.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => return Ok(None),
            "gzip" | "x-gzip" => Self::Gzip,
            "deflate" => Self::Deflate,
            "bzip2" | "x-bzip2" => Self::Bzip2,
            "xz" => Self::Xz,
            "zstd" => Self::Zstd,
            "br" => Self::Brotli,
            _ => return Err(UnknownCoding(kiln_events::quoted(value.as_bytes()))),
        }))
    }
}

/// Reads what is in `source`, from the first time on that this is read: making a decoder may read already. Data that is
/// damaged or cut off, or needs too much memory, is an error of reading.
pub fn decoder<'a>(coding: Coding, source: impl BufRead + Send + 'a) -> impl Read + Send + 'a {
    Decoder::Idle(Some((source, move |source| make(coding, source))))
}

enum Decoder<'a, S, M> {
    /// Nothing was read. There are a source and what makes a decoder of it, unless that has failed.
    Idle(Option<(S, M)>),
    Reading(Box<dyn Read + Send + 'a>),
}

impl<'a, S, M> Read for Decoder<'a, S, M>
where
    M: FnOnce(S) -> io::Result<Box<dyn Read + Send + 'a>>,
{
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self {
                Self::Reading(decoder) => return decoder.read(buffer),
                Self::Idle(idle) => {
                    let failed = || io::Error::other("there is no decoder");
                    let (source, make) = idle.take().ok_or_else(failed)?;
                    *self = Self::Reading(make(source)?);
                }
            }
        }
    }
}

fn make<'a>(coding: Coding, source: impl BufRead + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let lzma = |stream: Result<Stream, liblzma::stream::Error>| stream.map_err(io::Error::from);
    Ok(match coding {
        Coding::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Coding::Deflate => Box::new(flate2::bufread::ZlibDecoder::new(source)),
        Coding::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        Coding::Xz => {
            let stream = lzma(Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED))?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(source, stream))
        }
        Coding::Lzma => {
            let stream = lzma(Stream::new_lzma_decoder(XZ_MEMORY))?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(source, stream))
        }
        Coding::Lzip => {
            let stream = lzma(Stream::new_lzip_decoder(XZ_MEMORY, CONCATENATED))?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(source, stream))
        }
        Coding::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(decoder)
        }
        Coding::Brotli => Box::new(brotli_decompressor::Decompressor::new(source, BROTLI_BUFFER)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn text() -> Vec<u8> {
        (0..200_000_u32).flat_map(|number| (number / 3).to_le_bytes()).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    fn read(coding: Coding, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut found = Vec::new();
        decoder(coding, bytes).read_to_end(&mut found)?;
        Ok(found)
    }

    type Encode = fn(&[u8]) -> Vec<u8>;

    const WITH_ENCODER: [(Coding, Encode); 5] = [
        (Coding::Gzip, gzip),
        (Coding::Deflate, deflate),
        (Coding::Bzip2, bzip2),
        (Coding::Xz, xz),
        (Coding::Zstd, zstd),
    ];

    #[test]
    fn what_was_compressed_comes_back() {
        let text = text();
        for (coding, encode) in WITH_ENCODER {
            let encoded = encode(&text);
            assert!(read(coding, &encoded).unwrap() == text, "{coding:?}");
            if coding != Coding::Deflate {
                let twice = [encoded.clone(), encoded].concat();
                assert!(read(coding, &twice).unwrap() == [text.clone(), text.clone()].concat(), "{coding:?}");
            }
        }
    }

    #[test]
    fn what_is_cut_off_or_damaged_is_an_error() {
        let text = text();
        for (coding, encode) in WITH_ENCODER {
            let encoded = encode(&text);
            for length in [1, 5, encoded.len() / 2, encoded.len() - 1] {
                assert!(read(coding, &encoded[..length]).is_err(), "{coding:?} cut to {length}");
            }
            assert!(read(coding, b"<html><body>not found</body></html>").is_err(), "{coding:?}");
        }
        let brotli = b"\x1b\x0e\x00\xf8\x25\x00\x02\xa2\x44\x21\x00\x04";
        for length in 1..brotli.len() {
            assert!(read(Coding::Brotli, &brotli[..length]).is_err(), "brotli cut to {length}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        // No encoder has the memory for a window of 4 GiB, so the head of a block is made to tell of one.
        let mut wide = xz(b"x");
        let (start, crc) = (12, 12 + 8);
        assert_eq!(
            wide[start..start + 4],
            [2, 0, 0x21, 1],
            "a head of 12 bytes, of which the next is the window"
        );
        wide[start + 4] = 40;
        let mut sum = flate2::Crc::new();
        sum.update(&wide[start..crc]);
        wide[crc..crc + 4].copy_from_slice(&sum.sum().to_le_bytes());
        assert!(read(Coding::Xz, &wide).is_err());
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(28).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(b"x").unwrap();
        let wide = encoder.finish().unwrap();
        assert!(read(Coding::Zstd, &wide).is_err());
    }

    #[test]
    fn names_in_heads() {
        assert_eq!(Coding::of_header(" GZIP "), Ok(Some(Coding::Gzip)));
        assert_eq!(Coding::of_header("br"), Ok(Some(Coding::Brotli)));
        assert_eq!(Coding::of_header("identity"), Ok(None));
        let two = Coding::of_header("gzip, br").unwrap_err();
        assert_eq!(two.to_string(), "unknown Content-Encoding 'gzip, br'");
    }
}
