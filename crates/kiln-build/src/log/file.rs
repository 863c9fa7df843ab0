//! The stored log: the builder's raw bytes, compressed beside the build and not in its way.
//!
//! Real Nix clients read these files themselves, so they must be bzip2. That is slow (some 8 MB/s for a core), and a
//! builder must never wait for it: what it writes is cut into blocks of bzip2's own size, which are compressed on worker
//! threads, side by side, and written in order as streams of one file; every reader of bzip2 takes concatenated streams
//! as one. Blocks that the workers cannot keep up with wait on disk, in a file without a name, so that memory stays
//! bounded however loud the builder is.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bzip2::Compression;
use bzip2::write::BzEncoder;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use kiln_store::blocking;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What bzip2 compresses as a unit at its best level.
const BLOCK: usize = 900_000;

/// Blocks held in memory until they are compressed.
const BLOCKS_IN_MEMORY: usize = 16;

/// What bzip2 makes of nothing: its magic, the mark of a stream's end, and a checksum of 0. Most builders of a large graph
/// print nothing, and an encoder costs more than all else that is done for such a log.
const EMPTY_STREAM: [u8; 14] = *b"BZh9\x17\x72\x45\x38\x50\x90\0\0\0\0";

/// A log that is being written.
#[derive(Debug)]
pub(crate) struct LogFile {
    block: Vec<u8>,
    compress: bool,
    path: PathBuf,
    /// Started by the first full block: most logs never fill one.
    writer: Option<Writer>,
}

#[derive(Debug)]
struct Writer {
    blocks: mpsc::UnboundedSender<Vec<u8>>,
    task: JoinHandle<io::Result<()>>,
}

impl LogFile {
    /// A log at `path`, to which `.bz2` is added if it is compressed. Nothing is made on disk yet.
    pub(crate) fn new(mut path: PathBuf, compress: bool) -> Self {
        if compress {
            path.as_mut_os_string().push(".bz2");
        }
        Self { block: Vec::new(), compress, path, writer: None }
    }

    /// Takes in what the builder wrote. Never waits.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == BLOCK {
                self.send_block();
            }
        }
    }

    fn send_block(&mut self) {
        let writer = self.writer.get_or_insert_with(|| {
            let (blocks, received) = mpsc::unbounded_channel();
            let task = tokio::spawn(write_blocks(self.path.clone(), self.compress, received));
            Writer { blocks, task }
        });
        // A writer that has failed tells so in the end.
        let _ = writer.blocks.send(std::mem::take(&mut self.block));
    }

    /// Writes what is left, and waits until all is in the file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) async fn finish(mut self) -> io::Result<()> {
        if self.writer.is_some() && !self.block.is_empty() {
            self.send_block();
        }
        match self.writer {
            None => {
                blocking(move || {
                    let bytes = encode(self.block, self.compress)?;
                    create(&self.path)?.write_all(&bytes)
                })
                .await
            }
            Some(Writer { blocks, task }) => {
                drop(blocks);
                task.await.map_err(io::Error::other)?
            }
        }
    }
}

/// A block that waits to be compressed.
enum Waiting {
    Memory(Vec<u8>),
    Spooled { spool: Arc<File>, offset: u64, length: usize },
}

impl Waiting {
    fn read(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Memory(block) => Ok(block),
            Self::Spooled { spool, offset, length } => {
                let mut block = vec![0; length];
                spool.read_exact_at(&mut block, offset)?;
                Ok(block)
            }
        }
    }
}

async fn write_blocks(
    path: PathBuf,
    compress: bool,
    mut blocks: mpsc::UnboundedReceiver<Vec<u8>>,
) -> io::Result<()> {
    let directory = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let mut file = blocking(move || create(&path)).await?;
    let mut spool: Option<(Arc<File>, u64)> = None;
    let mut encoding = FuturesOrdered::new();
    loop {
        tokio::select! {
            block = blocks.recv() => {
                let Some(block) = block else { break };
                let waiting = if encoding.len() < BLOCKS_IN_MEMORY {
                    Waiting::Memory(block)
                } else {
                    let (file, offset) = match spool.take() {
                        Some(spool) => spool,
                        None => (Arc::new(blocking({
                            let directory = directory.clone();
                            move || nameless_file(&directory)
                        }).await?), 0),
                    };
                    let length = block.len();
                    blocking({
                        let file = Arc::clone(&file);
                        move || file.write_all_at(&block, offset)
                    }).await?;
                    spool = Some((Arc::clone(&file), offset + length as u64));
                    Waiting::Spooled { spool: file, offset, length }
                };
                encoding.push_back(tokio::spawn(blocking(move || encode(waiting.read()?, compress))));
            }
            Some(encoded) = encoding.next() => {
                file = append(file, encoded.map_err(io::Error::other)??).await?;
            }
        }
    }
    while let Some(encoded) = encoding.next().await {
        file = append(file, encoded.map_err(io::Error::other)??).await?;
    }
    Ok(())
}

async fn append(mut file: File, bytes: Vec<u8>) -> io::Result<File> {
    blocking(move || file.write_all(&bytes).map(|()| file)).await
}

/// One whole bzip2 stream of the block, or the block itself.
fn encode(block: Vec<u8>, compress: bool) -> io::Result<Vec<u8>> {
    if !compress {
        return Ok(block);
    }
    if block.is_empty() {
        return Ok(EMPTY_STREAM.to_vec());
    }
    let mut encoder = BzEncoder::new(Vec::with_capacity(block.len() / 4 + 64), level_for(block.len()));
    encoder.write_all(&block)?;
    encoder.finish()
}

/// The level of bzip2 says how large its blocks are, in units of 100 kB, and an encoder of the best one clears some 7 MB of
/// memory first. A short log needs no more than one block that it fits into.
fn level_for(length: usize) -> Compression {
    let hundreds = length.div_ceil(BLOCK / 9).clamp(1, 9);
    u32::try_from(hundreds).map_or(Compression::best(), Compression::new)
}

/// Begins a log anew. The old one is unlinked and not truncated, since somebody may be reading it.
fn create(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let open = || File::options().write(true).create_new(true).open(path);
    match (open(), path.parent()) {
        (Err(error), Some(directory)) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(directory)?;
            open()
        }
        (opened, _) => opened,
    }
}

/// A file without a name in a directory, gone with its last descriptor.
fn nameless_file(directory: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    Ok(rustix::fs::open(directory, flags, rustix::fs::Mode::from_raw_mode(0o600))?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    async fn written(compress: bool, pieces: &[&[u8]]) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ab/cdef-x.drv");
        let mut log = LogFile::new(path.clone(), compress);
        pieces.iter().for_each(|piece| log.write(piece));
        log.finish().await.unwrap();
        let mut bytes = Vec::new();
        if compress {
            let file = File::open(path.with_extension("drv.bz2")).unwrap();
            bzip2::read::MultiBzDecoder::new(file).read_to_end(&mut bytes).unwrap();
        } else {
            File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
        }
        bytes
    }

    #[tokio::test]
    async fn l1_a_log_holds_the_raw_bytes() {
        for compress in [true, false] {
            assert_eq!(written(compress, &[]).await, b"");
            assert_eq!(written(compress, &[b"a\r", b"\xff\n"]).await, b"a\r\xff\n");
        }
    }

    #[tokio::test]
    async fn l1_a_loud_log_goes_through_the_spool_in_order() {
        let line: Vec<u8> = (0..30 * BLOCK).map(|index| (index / 1000 % 251) as u8).collect();
        for compress in [true, false] {
            assert!(written(compress, &[&line, b"end"]).await == [&line[..], b"end"].concat());
        }
    }

    #[tokio::test]
    async fn l1_each_build_begins_its_log_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        for text in ["a longer one", "short"] {
            let mut log = LogFile::new(path.clone(), false);
            log.write(text.as_bytes());
            log.finish().await.unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
