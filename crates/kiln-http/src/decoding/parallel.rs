//! Decoding one large file on several threads, where its format has parts that stand for themselves: blocks of xz whose
//! heads tell their sizes, frames of zstd whose heads tell the size of their contents.
//!
//! What has no such parts, and what is unusual or damaged, is left to the ordinary decoder, from the place on where that
//! shows: so errors are told in its words. All of a process share a [`Budget`] of threads, so that many files at once do
//! not start many times as many threads; a file that gets none of them is decoded on the thread that reads it.

mod budget;
mod frames;
mod xz;
mod zstd;

use std::io::{self, BufRead, Read};

use super::{Coding, Decoder, make};
use budget::Budget;

/// Contents that are not longer than this are not worth a thread, in bytes.
const WORTHWHILE: u64 = 8 << 20;

/// Reads what is in `source` like [`decoder`](super::decoder), with the help of a few threads if that is possible and pays.
/// `length` is how many bytes will be read, as far as that is known; nothing depends on it but the number of threads.
///
/// The threads begin with the first read, and end at the latest when the reader is dropped, which waits for them. They take
/// some 48 MiB of memory each at most.
pub fn decoder_on_threads<'a>(
    coding: Coding,
    source: impl BufRead + Send + 'a,
    length: u64,
) -> impl Read + Send + 'a {
    Decoder::Idle(Some((source, move |source| make_parallel(coding, source, length))))
}

fn make_parallel<'a>(
    coding: Coding,
    source: impl BufRead + Send + 'a,
    length: u64,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let budget = Budget::of_process();
    match coding {
        Coding::Xz if length > WORTHWHILE => xz::reader(source, length, budget),
        Coding::Zstd if length > WORTHWHILE => Ok(Box::new(zstd::Frames::new(source, budget))),
        _ => make(coding, source),
    }
}

/// What the tests of both formats have in common.
#[cfg(test)]
mod samples {
    use std::io::Read;

    /// Four times so many bytes, which can be compressed somewhat.
    pub(super) fn text(count: u32) -> Vec<u8> {
        (0..count).flat_map(|number| (number / 3).to_le_bytes()).collect()
    }

    /// All that a reader gives, or its error.
    pub(super) fn all(mut reader: impl Read) -> Result<Vec<u8>, String> {
        let mut found = Vec::new();
        let result = reader.read_to_end(&mut found);
        result.map(|_| found).map_err(|error| error.to_string())
    }
}
