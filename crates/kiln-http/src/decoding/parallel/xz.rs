//! Blocks of an xz stream, several at once. The work is liblzma's.

use std::io::{self, BufRead, Cursor, Read};
use std::mem;
use std::sync::Arc;

use liblzma::bufread::XzDecoder;
use liblzma::stream::{Error, MtStreamBuilder};

use super::super::{Coding, XZ_MEMORY, make};
use super::budget::{Budget, Permits};

/// How much memory there is for each thread. liblzma counts the dictionary of each block that is being decoded, and
/// all that goes in and comes out of it, which it keeps in memory: 40 MiB for a block of 24 MiB, as `xz -6` makes them,
/// that was compressed to a third. If blocks take more, fewer are decoded at once. One that takes more than there is for
/// all threads is decoded as if there was one, and the limit is [`XZ_MEMORY`] then, for its dictionary alone.
const THREAD_MEMORY: u64 = 48 << 20;

/// Bytes of the head of a stream.
const STREAM_HEAD: usize = 12;

/// Bytes that have the sizes in the head of the first block: its length, flags, and two numbers of at most 9 bytes.
const SIZES: usize = 2 + 2 * 9;

/// Reads the xz streams that are in `source`, which make about `length` bytes. Threads are only started if the first block says
/// how large it is, and leaves something for others.
pub(super) fn reader<'a>(
    mut source: impl BufRead + Send + 'a,
    length: u64,
    budget: Arc<Budget>,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut head = Vec::new();
    source.by_ref().take((STREAM_HEAD + SIZES) as u64).read_to_end(&mut head)?;
    let blocks = block_size(&head).map_or(1, |size| length.div_ceil(size.max(1)));
    let source = Cursor::new(head).chain(source);
    let wanted = usize::try_from(blocks).unwrap_or(usize::MAX).min(budget.of_file());
    let Some(permits) = budget.take(2, wanted) else { return make(Coding::Xz, source) };
    let threads = u32::try_from(permits.count()).unwrap_or(1);
    let stream = MtStreamBuilder::new()
        .threads(threads)
        .memlimit_threading(u64::from(threads) * THREAD_MEMORY)
        .memlimit_stop(XZ_MEMORY)
        .decoder()?;
    Ok(Box::new(Streams::First(XzDecoder::new_stream(source, stream), permits)))
}

/// What the head of the first block says of the length of its contents, if it tells that and that of the block.
fn block_size(head: &[u8]) -> Option<u64> {
    let [length, flags, sizes @ ..] = head.get(STREAM_HEAD..)? else { return None };
    // No length is the mark of the index; the flags say that both sizes are there.
    if *length == 0 || flags & 0xC0 != 0xC0 {
        return None;
    }
    let (_, sizes) = number(sizes)?;
    number(sizes).map(|(size, _)| size)
}

/// A number of a varying count of bytes, the least one first, and what follows it.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let last = bytes.iter().take(9).position(|byte| byte & 0x80 == 0)?;
    let (number, rest) = bytes.split_at_checked(last + 1)?;
    Some((number.iter().rfold(0, |value, byte| value << 7 | u64::from(byte & 0x7F)), rest))
}

/// Streams one after the other. liblzma's decoder with threads is only to be had for a single one; whoever writes blocks
/// for threads writes one stream, so the others have the ordinary decoder.
enum Streams<'a, S> {
    First(XzDecoder<S>, Permits),
    Others(Box<dyn Read + Send + 'a>),
    End,
    Failed,
}

impl<'a, S: BufRead + Send + 'a> Read for Streams<'a, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self {
                Self::First(decoder, _) => {
                    let length = decoder.read(buffer)?;
                    if length > 0 {
                        return Ok(length);
                    }
                }
                Self::Others(decoder) => return decoder.read(buffer).map_err(of_other_stream),
                Self::End => return Ok(0),
                Self::Failed => return Err(io::Error::other("decoding has failed")),
            }
            if let Self::First(decoder, permits) = mem::replace(self, Self::Failed) {
                let source = decoder.into_inner();
                // The threads have ended.
                drop(permits);
                *self = others(source)?;
            }
        }
    }
}

/// What follows the first stream: zeros, four at a time, and then perhaps another one.
fn others<'a, S: BufRead + Send + 'a>(mut source: S) -> io::Result<Streams<'a, S>> {
    let mut padding = 0;
    loop {
        let bytes = match source.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let is_end = bytes.is_empty();
        let is_padding = zeros == bytes.len() && !is_end;
        source.consume(zeros);
        padding = (padding + zeros) % 4;
        if is_padding {
            continue;
        }
        return match (padding, is_end) {
            (0, true) => Ok(Streams::End),
            (0, false) => Ok(Streams::Others(make(Coding::Xz, source)?)),
            _ => Err(Error::Data.into()),
        };
    }
}

/// What is no stream is not of another format, after one, but damaged.
fn of_other_stream(error: io::Error) -> io::Error {
    let fault = error.get_ref().and_then(|fault| fault.downcast_ref());
    if let Some(Error::Format) = fault { Error::Data.into() } else { error }
}

#[cfg(test)]
mod tests;
