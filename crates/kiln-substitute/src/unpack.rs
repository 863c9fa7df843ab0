//! From the compressed file of a path to its archive, checked on the way.
//!
//! What the decoder reads has been [`checked`]: its size and hash are compared with what the narinfo says. When
//! the decoder has come to an end, the rest of the file is read too, and only then does the reader of the archive see its
//! end: so nothing becomes valid whose file is not the right one. An error of reading can't say much; what there is to say
//! is left in a [`FaultSlot`].

use std::io::{self, BufReader, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use kiln_hash::Hasher;
use kiln_http::{Coding, decoder_on_threads};
use kiln_narinfo::Compression;

use crate::error::FetchFault;
use crate::source::NarFile;

/// Bytes that a decoder is given at once.
const BUFFER: usize = 64 << 10;

/// More than so many bytes beyond those of the archive, and an eighth of them, no compressed file needs.
const SLACK: u64 = 1 << 20;

/// What went wrong, told by the thread that reads to whoever waits for it. The first one counts.
#[derive(Clone, Default)]
pub(crate) struct FaultSlot(Arc<Mutex<Option<FetchFault>>>);

impl FaultSlot {
    /// Leaves a fault, and makes the error that ends the reading.
    pub(crate) fn fail(&self, fault: FetchFault) -> io::Error {
        let error = io::Error::other(fault.to_string());
        self.lock().get_or_insert(fault);
        error
    }

    /// The fault that was left.
    pub(crate) fn take(&self) -> Option<FetchFault> {
        self.lock().take()
    }

    fn is_set(&self) -> bool {
        self.lock().is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Option<FetchFault>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a fetch and the threads that work for it share.
#[derive(Clone, Default)]
pub(crate) struct Progress {
    /// Bytes of the file that have come.
    pub(crate) file: Arc<AtomicU64>,
    /// Bytes of the archive that were made of them.
    pub(crate) nar: Arc<AtomicU64>,
    pub(crate) fault: FaultSlot,
}

/// Makes a reader of a file that compares it with what its narinfo says: it comes to an end only if all of it is right. It fails
/// once nobody holds `wanted` any more.
pub(crate) fn checked(
    file: &NarFile,
    nar_size: u64,
    reader: Box<dyn Read + Send>,
    progress: &Progress,
    wanted: Weak<()>,
) -> Box<dyn Read + Send> {
    Box::new(FileCheck {
        source: reader,
        specified: file.hash,
        hasher: file.hash.map(|hash| Hasher::new(hash.algorithm())),
        size: file.size,
        limit: longest(file, nar_size),
        count: 0,
        ended: false,
        progress: progress.clone(),
        wanted,
    })
}

/// Makes a reader of the archive out of a reader of the file, all of which is read.
pub(crate) fn unpacked(
    compression: &Compression,
    nar_size: u64,
    file: Box<dyn Read + Send>,
    progress: &Progress,
) -> Result<Box<dyn Read + Send>, FetchFault> {
    let file = SharedFile(Arc::new(Mutex::new(file)));
    let decoded: Box<dyn Read + Send> = match coding(compression)? {
        None => Box::new(file.clone()),
        Some(coding) => {
            let source = BufReader::with_capacity(BUFFER, file.clone());
            Box::new(decoder_on_threads(coding, source, nar_size))
        }
    };
    let compression = compression.to_string();
    Ok(Box::new(Unpacked { decoded, file, compression, progress: progress.clone(), ended: false }))
}

/// How many bytes a file has at most: as many as the narinfo says, or as compression makes of its contents at worst.
pub(crate) fn longest(file: &NarFile, nar_size: u64) -> u64 {
    file.size.unwrap_or(nar_size.saturating_add(nar_size / 8).saturating_add(SLACK))
}

/// Counts the bytes of an archive that comes without a file.
pub(crate) fn counted(reader: Box<dyn Read + Send>, progress: &Progress) -> Box<dyn Read + Send> {
    struct Counted(Box<dyn Read + Send>, Arc<AtomicU64>);
    impl Read for Counted {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.0.read(buffer)?;
            self.1.fetch_add(length as u64, Ordering::Relaxed);
            Ok(length)
        }
    }
    Box::new(Counted(reader, Arc::clone(&progress.nar)))
}

fn coding(compression: &Compression) -> Result<Option<Coding>, FetchFault> {
    Ok(Some(match compression {
        Compression::None => return Ok(None),
        Compression::Xz => Coding::Xz,
        Compression::Bzip2 => Coding::Bzip2,
        Compression::Gzip => Coding::Gzip,
        Compression::Zstd => Coding::Zstd,
        Compression::Brotli => Coding::Brotli,
        Compression::Lzip => Coding::Lzip,
        Compression::Other(name) if &**name == "lzma" => Coding::Lzma,
        Compression::Lz4 | Compression::Other(_) => {
            return Err(FetchFault::Compression(kiln_events::quoted(compression.name().as_bytes())));
        }
    }))
}

/// The file on its way to the decoder.
struct FileCheck {
    source: Box<dyn Read + Send>,
    specified: Option<kiln_hash::Hash>,
    hasher: Option<Hasher>,
    size: Option<u64>,
    limit: u64,
    count: u64,
    ended: bool,
    progress: Progress,
    wanted: Weak<()>,
}

impl FileCheck {
    fn read_checked(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        if self.wanted.strong_count() == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let length = self.source.read(buffer)?;
        self.count = self.count.saturating_add(length as u64);
        if self.count > self.limit {
            return Err(self.progress.fault.fail(match self.size {
                Some(specified) => FetchFault::FileSize { specified, got: self.count },
                None => FetchFault::Endless(self.limit),
            }));
        }
        if length == 0 {
            self.ended = true;
            return self.check().map(|()| 0).map_err(|fault| self.progress.fault.fail(fault));
        }
        self.progress.file.fetch_add(length as u64, Ordering::Relaxed);
        if let Some(hasher) = &mut self.hasher {
            hasher.update(buffer.get(..length).unwrap_or_default());
        }
        Ok(length)
    }

    /// Compares the whole file with what the narinfo says.
    fn check(&mut self) -> Result<(), FetchFault> {
        if let Some(specified) = self.size.filter(|size| *size != self.count) {
            return Err(FetchFault::FileSize { specified, got: self.count });
        }
        match (self.specified, self.hasher.take().map(Hasher::finish)) {
            (Some(specified), Some(got)) if specified != got => {
                let (specified, got) = (specified.prefixed_nix32(), got.prefixed_nix32());
                Err(FetchFault::FileHash { specified, got })
            }
            _ => Ok(()),
        }
    }
}

impl Read for FileCheck {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.read_checked(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) if !self.progress.fault.is_set() => {
                let kept = io::Error::new(error.kind(), error.to_string());
                Err(self.progress.fault.fail(FetchFault::Io(kept)))
            }
            result => result,
        }
    }
}

/// The decoder has it, and who reads on when that has ended. Both are on one thread, also if others help the decoder.
#[derive(Clone)]
struct SharedFile(Arc<Mutex<Box<dyn Read + Send>>>);

impl Read for SharedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read(buffer)
    }
}

/// The archive.
struct Unpacked {
    decoded: Box<dyn Read + Send>,
    file: SharedFile,
    compression: String,
    progress: Progress,
    ended: bool,
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        let length = match self.decoded.read(buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                let compression = self.compression.clone();
                let reason = error.to_string();
                return Err(self.progress.fault.fail(FetchFault::Damaged { compression, reason }));
            }
        };
        if length == 0 {
            self.ended = true;
            io::copy(&mut self.file, &mut io::sink())?;
        }
        self.progress.nar.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

#[cfg(test)]
mod tests;
