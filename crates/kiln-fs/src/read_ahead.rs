//! A second thread that prepares small files while the first one is at others.
//!
//! A tree of many small files costs system calls, not bytes: each file is opened, looked at, made canonical, read and
//! closed. So the entries of a large directory are cut into blocks, of which every other one is given to a helper some
//! blocks before its turn. The archive's order is kept: a block's results are taken when the walk gets there.
//!
//! The helper does only what concerns one file. Files with several links it leaves alone, and the contents of larger
//! files too: memory is bounded by the blocks that are under way.

use crate::canonical::Rules;
use crate::entries::Entries;
use crate::error::{During as _, Error, Result};
use crate::status::Status;
use crate::walk::Place;
use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::fs::FileType;
use std::collections::VecDeque;
use std::ops::Range;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

/// Entries of a block.
const BLOCK: usize = 16;

/// Blocks that are under way at most, of all directories together.
const BLOCKS_UNDER_WAY: usize = 4;

/// Entries that are met before the helper is started.
const WORTH_A_THREAD: usize = 128;

/// Longest file that is read ahead, in bytes.
const SMALL: u64 = 16 << 10;

/// A regular file that has been made canonical, if it was to be.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// Small, and read.
    Read(Status, Vec<u8>),
    /// To be read.
    Open(OwnedFd, Status),
}

/// A block's results: for each entry, nothing if it is no regular file, or one for the walk itself to see to.
type Results = Vec<Option<Result<Prepared>>>;

/// Entries of a directory for the helper to prepare.
struct Job {
    directory: Arc<OwnedFd>,
    entries: Arc<Entries>,
    path: Arc<[u8]>,
    range: Range<usize>,
    reply: Sender<Results>,
}

/// A directory that the walk is in.
struct Frame {
    directory: Arc<OwnedFd>,
    entries: Arc<Entries>,
    path: Arc<[u8]>,
    /// The first block that hasn't been considered for the helper.
    next: usize,
    under_way: VecDeque<(usize, Receiver<Results>)>,
    /// Results of the block that the walk is in, if the helper had it.
    current: (usize, Results),
}

struct Helper {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// Prepares files for a walk.
pub(crate) struct ReadAhead {
    rules: Option<Rules>,
    frames: Vec<Frame>,
    met: usize,
    under_way: usize,
    helper: Option<Helper>,
}

impl ReadAhead {
    /// Files are made canonical if there are rules for that.
    pub(crate) fn new(rules: Option<Rules>) -> Self {
        Self { rules, frames: Vec::new(), met: 0, under_way: 0, helper: None }
    }

    /// The walk has entered a directory.
    pub(crate) fn enter(&mut self, directory: &Arc<OwnedFd>, entries: &Arc<Entries>, path: &[u8]) {
        self.met = self.met.saturating_add(entries.len());
        self.frames.push(Frame {
            directory: Arc::clone(directory),
            entries: Arc::clone(entries),
            path: path.into(),
            // The first block is the walk's own.
            next: 1,
            under_way: VecDeque::new(),
            current: (0, Vec::new()),
        });
        self.hand_out();
    }

    /// The walk leaves the innermost directory.
    pub(crate) fn leave(&mut self) {
        if let Some(frame) = self.frames.pop() {
            self.under_way -= frame.under_way.len();
        }
    }

    /// The regular file that is the entry `index` of the innermost directory, if it has been prepared.
    pub(crate) fn take(&mut self, index: usize) -> Result<Option<Prepared>> {
        let block = index / BLOCK;
        let Some(frame) = self.frames.last_mut() else { return Ok(None) };
        if frame.current.0 != block {
            frame.current = (block, Vec::new());
            // Blocks without regular files have been passed over.
            while let Some((number, results)) = frame.under_way.pop_front_if(|(number, _)| *number <= block) {
                self.under_way -= 1;
                if number == block {
                    frame.current.1 = results.recv().unwrap_or_default();
                }
            }
            frame.next = frame.next.max(block + 1);
            self.hand_out();
        }
        let Some(frame) = self.frames.last_mut() else { return Ok(None) };
        frame.current.1.get_mut(index % BLOCK).and_then(Option::take).transpose()
    }

    /// Gives the helper every other block of the innermost directory that comes, as many as may be under way.
    fn hand_out(&mut self) {
        let Some(frame) = self.frames.last_mut() else { return };
        while self.under_way < BLOCKS_UNDER_WAY && frame.next * BLOCK < frame.entries.len() {
            if self.met < WORTH_A_THREAD {
                return;
            }
            let helper = match &self.helper {
                Some(helper) => helper,
                None => self.helper.insert(Helper::start(self.rules.clone())),
            };
            let start = frame.next * BLOCK;
            let (reply, results) = bounded(1);
            let job = Job {
                directory: Arc::clone(&frame.directory),
                entries: Arc::clone(&frame.entries),
                path: Arc::clone(&frame.path),
                range: start..(start + BLOCK).min(frame.entries.len()),
                reply,
            };
            // Without a helper the walk does everything itself.
            let Some(Ok(())) = helper.jobs.as_ref().map(|jobs| jobs.send(job)) else { return };
            frame.under_way.push_back((frame.next, results));
            frame.next += 2;
            self.under_way += 1;
        }
    }
}

impl Helper {
    fn start(rules: Option<Rules>) -> Self {
        let (jobs, incoming) = bounded::<Job>(BLOCKS_UNDER_WAY);
        let thread = std::thread::Builder::new().name("read-ahead".into()).spawn(move || {
            for job in incoming {
                let results = job.range.clone().map(|index| prepare(&job, index, rules.as_ref())).collect();
                // The walk has ended if nobody takes it.
                let _ = job.reply.send(results);
            }
        });
        match thread {
            Ok(thread) => Self { jobs: Some(jobs), thread: Some(thread) },
            Err(_) => Self { jobs: None, thread: None },
        }
    }
}

impl Drop for Helper {
    /// Nothing touches the tree any more when the walk has ended.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn prepare(job: &Job, index: usize, rules: Option<&Rules>) -> Option<Result<Prepared>> {
    let (name, kind) = job.entries.get(index)?;
    if kind != FileType::RegularFile {
        return None;
    }
    let place = Place::new(job.directory.as_fd(), name, &job.path);
    let opened = match rules {
        Some(rules) => rules.single_file(&place),
        None => place.open_file().map(Some),
    };
    match opened.transpose()? {
        Ok((file, status)) if status.size <= SMALL => Some(read(&place, &file, &status)),
        Ok((file, status)) => Some(Ok(Prepared::Open(file, status))),
        Err(error) => Some(Err(error)),
    }
}

/// Reads a small file, and one byte more than it should have.
fn read(place: &Place<'_>, file: &OwnedFd, status: &Status) -> Result<Prepared> {
    let size = usize::try_from(status.size).unwrap_or_default();
    let mut contents = Vec::with_capacity(size + 1);
    loop {
        let room = contents.capacity() - contents.len();
        let length = rustix::io::read(file, rustix::buffer::spare_capacity(&mut contents))
            .during("read", || place.path())?;
        // What takes all the room is too much already; a read that got less than it could came to the end.
        if length == 0 || length < room && contents.len() >= size {
            break;
        }
        if length == room {
            return Err(Error::Changed(place.path()));
        }
    }
    if contents.len() == size {
        Ok(Prepared::Read(*status, contents))
    } else {
        Err(Error::Changed(place.path()))
    }
}
