//! A disk that remembers every write and every flush, so that it can be looked at as a loss of power would have left it.
//!
//! The disk is a file that the kernel finds in a file system of this process (FUSE), and that a loop device makes a block
//! device of. The kernel sends what a file system on it writes, and a flush wherever that file system insists that all before is
//! on the disk: what dm-log-writes records, without the device mapper.
//!
//! A disk with a cache that is lost with the power keeps all that was written before the last flush. Of what came later it has
//! any blocks and lacks any others, in whatever order they were written: see [`Recording::cut`].

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Bytes that a disk writes wholly or not at all, as disks do today. ext4 takes its superblock, of 1 KiB, for granted.
const BLOCK: usize = 4096;

/// Most bytes that the kernel writes with one request.
const LARGEST_WRITE: usize = 128 << 10;

/// The kernel's FUSE protocol: lengths of the headers, and the version that is spoken.
const IN_HEADER: usize = 40;
const OUT_HEADER: usize = 16;
const VERSION: (u32, u32) = (7, 31);

/// The disk, for as long as it is used.
#[derive(Debug)]
pub struct RecordedDisk {
    device: File,
    recording: Arc<Mutex<Recording>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// What was on a disk, and what has happened to it since.
#[derive(Clone, Debug)]
pub struct Recording {
    before: Vec<u8>,
    now: Vec<u8>,
    events: Vec<Event>,
}

#[derive(Clone, Debug)]
enum Event {
    Write { offset: usize, data: Vec<u8> },
    Flush,
}

impl RecordedDisk {
    /// A disk that holds `contents`, an image of a file system. Whoever mounts it gets [`device`](Self::device) as standard input
    /// and runs `mount -i -t fuse -o fd=0,rootmode=100000,user_id=0,group_id=0 disk FILE`: then `FILE` is the disk.
    ///
    /// # Errors
    /// There is no `/dev/fuse`, or this process may not open it.
    pub fn new(contents: Vec<u8>) -> io::Result<Self> {
        let device = File::options().read(true).write(true).open("/dev/fuse")?;
        let recording = Recording { now: contents.clone(), before: contents, events: Vec::new() };
        let recording = Arc::new(Mutex::new(recording));
        let (mut served, shared) = (device.try_clone()?, recording.clone());
        let thread = thread::spawn(move || serve(&mut served, &shared));
        Ok(Self { device, recording, thread: Some(thread) })
    }

    /// The end of the connection that the file system is mounted with.
    ///
    /// # Errors
    /// This process has too many files open.
    pub fn device(&self) -> io::Result<OwnedFd> {
        Ok(self.device.try_clone()?.into())
    }

    /// How many writes and flushes there have been.
    pub fn len(&self) -> usize {
        lock(&self.recording).events.len()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends when the disk is mounted no more; what was recorded.
    ///
    /// # Panics
    /// If the kernel has said something that was not understood.
    pub fn finish(mut self) -> Recording {
        let served = self.thread.take().map(JoinHandle::join);
        assert!(matches!(served, Some(Ok(Ok(())))), "the recorded disk: {served:?}");
        lock(&self.recording).clone()
    }
}

fn lock(recording: &Mutex<Recording>) -> MutexGuard<'_, Recording> {
    recording.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recording {
    /// How many writes and flushes there were.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Where writes were waiting to be flushed the longest: the moments right before flushes, with how many writes waited.
    pub fn before_flushes(&self) -> Vec<(usize, usize)> {
        let mut waiting = 0;
        let mut moments = Vec::new();
        for (moment, event) in self.events.iter().enumerate() {
            match event {
                Event::Write { .. } => waiting += 1,
                Event::Flush => {
                    moments.push((moment, waiting));
                    waiting = 0;
                }
            }
        }
        moments
    }

    /// What is on the disk if the power goes after the first `moment` events. Of the blocks written since the last flush,
    /// those stay for which `keeps` is true.
    pub fn cut(&self, moment: usize, mut keeps: impl FnMut() -> bool) -> Vec<u8> {
        let (past, _) = self.events.split_at(moment.min(self.events.len()));
        let flushed = past.iter().rposition(|event| matches!(event, Event::Flush)).unwrap_or(0);
        let mut disk = self.before.clone();
        for (index, event) in past.iter().enumerate() {
            let Event::Write { offset, data } = event else { continue };
            for (number, block) in data.chunks(BLOCK).enumerate() {
                if index < flushed || keeps() {
                    put(&mut disk, offset + number * BLOCK, block);
                }
            }
        }
        disk
    }
}

/// Writes to the disk what fits on it.
fn put(disk: &mut [u8], offset: usize, data: &[u8]) {
    if let Some(place) = disk.get_mut(offset..offset.saturating_add(data.len())) {
        place.copy_from_slice(data);
    }
}

/// Answers the kernel until the file system is unmounted.
fn serve(device: &mut File, recording: &Mutex<Recording>) -> io::Result<()> {
    let mut buffer = vec![0; LARGEST_WRITE + 4096];
    loop {
        let length = match device.read(&mut buffer) {
            Ok(length) => length,
            // Nobody has mounted it yet.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                thread::sleep(Duration::from_millis(2));
                continue;
            }
            Err(error) if is_unmounted(&error) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let request = buffer.get(..length).unwrap_or_default();
        if let Some(answer) = answer(request, &mut lock(recording)) {
            match device.write_all(&answer) {
                // Whoever asked is gone.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if is_unmounted(&error) => return Ok(()),
                written => written?,
            }
        }
    }
}

/// Whether the kernel has no more to say. If it is told so too early, whoever uses the disk meets errors.
fn is_unmounted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::NODEV | Errno::CONNABORTED))
}

fn u32_at(request: &[u8], at: usize) -> u32 {
    request.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn u64_at(request: &[u8], at: usize) -> u64 {
    request.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

/// The answer to a request, if it wants any. The names are those of the kernel's `fuse.h`.
fn answer(request: &[u8], recording: &mut Recording) -> Option<Vec<u8>> {
    let result = match u32_at(request, 4) {
        2 | 36 | 42 => return None,                   // FORGET, INTERRUPT, BATCH_FORGET
        3 | 4 => Ok(attributes(recording.now.len())), // GETATTR, SETATTR
        14 => Ok(words(&[0, 0, 1, 0])),               // OPEN: FOPEN_DIRECT_IO
        15 => Ok(read(request, recording)),           // READ
        16 => write(request, recording),              // WRITE
        18 | 25 | 34 | 38 => Ok(Vec::new()),          // RELEASE, FLUSH, ACCESS, DESTROY
        20 => {
            // FSYNC
            recording.events.push(Event::Flush);
            Ok(Vec::new())
        }
        26 => Ok(initialised()), // INIT
        _ => Err(rustix::io::Errno::NOSYS),
    };
    let (error, body) = match result {
        Ok(body) => (0, body),
        Err(error) => (-error.raw_os_error(), Vec::new()),
    };
    let length = u32::try_from(OUT_HEADER + body.len()).unwrap_or(u32::MAX);
    let mut answer = words(&[length]);
    answer.extend(error.to_ne_bytes());
    answer.extend(u64_at(request, 8).to_ne_bytes());
    answer.extend(body);
    Some(answer)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// `fuse_init_out`.
fn initialised() -> Vec<u8> {
    const BIG_WRITES: u32 = 1 << 5;
    let largest = u32::try_from(LARGEST_WRITE).unwrap_or(u32::MAX);
    let mut answer = words(&[VERSION.0, VERSION.1, 0, BIG_WRITES, 0, largest, 1]);
    answer.resize(64, 0);
    answer
}

/// `fuse_attr_out` of the one file there is.
fn attributes(size: usize) -> Vec<u8> {
    const REGULAR_FILE: u32 = 0o100_600;
    let size = size as u64;
    let mut answer = vec![0; 16];
    for number in [1, size, size.div_ceil(512), 0, 0, 0] {
        answer.extend(number.to_ne_bytes());
    }
    answer.extend(words(&[0, 0, 0, REGULAR_FILE, 1, 0, 0, 0, 4096, 0]));
    answer
}

fn place(request: &[u8]) -> (usize, usize) {
    let offset = usize::try_from(u64_at(request, IN_HEADER + 8)).unwrap_or(usize::MAX);
    (offset, u32_at(request, IN_HEADER + 16) as usize)
}

fn read(request: &[u8], recording: &Recording) -> Vec<u8> {
    let (offset, size) = place(request);
    let end = offset.saturating_add(size).min(recording.now.len());
    recording.now.get(offset..end).unwrap_or_default().to_vec()
}

fn write(request: &[u8], recording: &mut Recording) -> Result<Vec<u8>, rustix::io::Errno> {
    const WRITE_IN: usize = 40;
    let (offset, size) = place(request);
    let start = IN_HEADER + WRITE_IN;
    let data = request.get(start..start + size).ok_or(rustix::io::Errno::INVAL)?;
    if offset.saturating_add(size) > recording.now.len() {
        return Err(rustix::io::Errno::FBIG);
    }
    put(&mut recording.now, offset, data);
    recording.events.push(Event::Write { offset, data: data.to_vec() });
    Ok(words(&[u32::try_from(size).unwrap_or(u32::MAX), 0]))
}
