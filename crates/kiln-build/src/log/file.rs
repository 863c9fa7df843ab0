//! The stored log: the builder's raw bytes, compressed beside the build and not in its way.
//!
//! Real Nix clients read these files themselves, so they must be bzip2. That is slow (some 8 MB/s for a core), and a
//! builder must never wait for it: what it writes is cut into blocks of bzip2's own size, which are compressed on worker
//! threads, side by side, and written in order as streams of one file; every reader of bzip2 takes concatenated streams
//! as one. Blocks that the workers cannot keep up with wait on disk, in a file without a name. A block that is being
//! compressed takes ten times its size: so only as many are as there are processors, in the whole process, and memory
//! stays bounded however many builders are loud, and however loud. Only a disk that is slower than the builder makes it
//! wait.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use bzip2::Compression;
use bzip2::write::BzEncoder;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use kiln_fs::{FailPoint, fail_point};
use kiln_store::blocking;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

/// What bzip2 compresses as a unit at its best level.
const BLOCK: usize = 900_000;

/// Blocks of one log that are held in memory until their turn to be compressed comes; further ones are on disk.
const BLOCKS_IN_MEMORY: usize = 4;

/// Blocks of one log that nobody has taken from the builder's reader yet: then it reads no more for a while.
const BLOCKS_ON_THE_WAY: usize = 4;

/// Blocks of one log that are being compressed, or wait until those before them are written.
const BLOCKS_IN_WORK: usize = 4;

/// Blocks of all logs that are being compressed.
static COMPRESSING: LazyLock<Semaphore> = LazyLock::new(|| {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    Semaphore::new(processors.min(MOST_COMPRESSING))
});

/// The most of those, however many processors there are.
const MOST_COMPRESSING: usize = 16;

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
    /// How many blocks have been sent and not been taken.
    on_the_way: watch::Sender<usize>,
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

    /// Waits until as much as fits into a pipe may be written.
    pub(crate) fn room(&self) -> impl Future<Output = ()> + use<> {
        let on_the_way = self.writer.as_ref().map(|writer| writer.on_the_way.subscribe());
        async move {
            if let Some(mut on_the_way) = on_the_way {
                // A writer that is gone takes everything, and tells why in the end.
                let _ = on_the_way.wait_for(|count| *count < BLOCKS_ON_THE_WAY).await;
            }
        }
    }

    /// Takes in what the builder wrote. Never waits: see [`room`](Self::room).
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
            let on_the_way = watch::Sender::new(0);
            let received = Received { blocks: received, on_the_way: on_the_way.clone() };
            let task = tokio::spawn(write_blocks(self.path.clone(), self.compress, received));
            Writer { blocks, on_the_way, task }
        });
        // Before it is there: who takes it counts down.
        writer.on_the_way.send_modify(|count| *count += 1);
        if writer.blocks.send(std::mem::take(&mut self.block)).is_err() {
            // A writer that has failed tells so in the end, and nobody waits for it.
            writer.on_the_way.send_replace(0);
        }
    }

    /// Writes what is left, and waits until all is in the file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) async fn finish(mut self) -> io::Result<()> {
        if self.writer.is_some() && !self.block.is_empty() {
            self.send_block();
        }
        let stored = match self.writer {
            None => {
                blocking(move || {
                    let bytes = encode(self.block, self.compress)?;
                    create(&self.path)?.write_all(&bytes)
                })
                .await
            }
            Some(Writer { blocks, task, .. }) => {
                drop(blocks);
                task.await.map_err(io::Error::other)?
            }
        };
        fail_point(FailPoint::LogStored);
        stored
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

/// What comes from the builder's reader.
struct Received {
    blocks: mpsc::UnboundedReceiver<Vec<u8>>,
    on_the_way: watch::Sender<usize>,
}

impl Drop for Received {
    fn drop(&mut self) {
        // Nothing is on the way to nobody.
        self.on_the_way.send_replace(0);
    }
}

async fn write_blocks(path: PathBuf, compress: bool, mut received: Received) -> io::Result<()> {
    let directory = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let mut file = blocking(move || create(&path)).await?;
    let mut spool = Spool { directory, file: None, length: 0 };
    let mut waiting: VecDeque<Waiting> = VecDeque::new();
    let mut encoding = FuturesOrdered::new();
    let mut is_open = true;
    loop {
        while encoding.len() < BLOCKS_IN_WORK
            && let Some(block) = waiting.pop_front()
        {
            encoding.push_back(tokio::spawn(encode_in_turn(block, compress)));
        }
        tokio::select! {
            block = received.blocks.recv(), if is_open => match block {
                Some(block) => {
                    let is_near = waiting.len() < BLOCKS_IN_MEMORY;
                    waiting.push_back(if is_near { Waiting::Memory(block) } else { spool.put(block).await? });
                    received.on_the_way.send_modify(|count| *count = count.saturating_sub(1));
                }
                None => is_open = false,
            },
            Some(encoded) = encoding.next() => file = append(file, encoded.map_err(io::Error::other)??).await?,
            else => return Ok(()),
        }
    }
}

/// Blocks on disk.
struct Spool {
    directory: PathBuf,
    file: Option<Arc<File>>,
    length: u64,
}

impl Spool {
    async fn put(&mut self, block: Vec<u8>) -> io::Result<Waiting> {
        let (directory, file, offset) = (self.directory.clone(), self.file.clone(), self.length);
        let length = block.len();
        let file = blocking(move || {
            let file = file.map_or_else(|| nameless_file(&directory).map(Arc::new), Ok)?;
            file.write_all_at(&block, offset)?;
            io::Result::Ok(file)
        })
        .await?;
        self.file = Some(Arc::clone(&file));
        self.length += length as u64;
        Ok(Waiting::Spooled { spool: file, offset, length })
    }
}

/// Compresses a block when a processor may be had for that.
async fn encode_in_turn(block: Waiting, compress: bool) -> io::Result<Vec<u8>> {
    // The semaphore is never closed.
    let _turn = COMPRESSING.acquire().await.ok();
    blocking(move || encode(block.read()?, compress)).await
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
    let opened = match (open(), path.parent()) {
        (Err(error), Some(directory)) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(directory)?;
            open()
        }
        (opened, _) => opened,
    };
    fail_point(FailPoint::LogMade);
    opened
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

    /// Nobody waits for a writer that has failed; its error is told in the end.
    #[tokio::test]
    async fn who_writes_waits_for_a_slow_disk_and_not_for_a_failed_one() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("file"), "").unwrap();
        for (path, is_good) in [("ab/good.drv", true), ("file/bad.drv", false)] {
            let path = directory.path().join(path);
            let mut log = LogFile::new(path.clone(), false);
            for number in 0..60_u8 {
                log.room().await;
                let waiting = log.writer.as_ref().map_or(0, |writer| *writer.on_the_way.borrow());
                assert!(waiting < BLOCKS_ON_THE_WAY, "{waiting}");
                log.write(&vec![number; BLOCK]);
            }
            assert_eq!(log.finish().await.is_ok(), is_good);
            if is_good {
                let stored = std::fs::read(&path).unwrap();
                assert_eq!(stored.len(), 60 * BLOCK);
                assert!(stored.chunks(BLOCK).zip(0..).all(|(block, number)| block == vec![number; BLOCK]));
            }
        }
    }
}
