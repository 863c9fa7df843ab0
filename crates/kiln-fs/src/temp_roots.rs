//! Temporary roots: what this process is about to use or make, so that no collector deletes it.
//!
//! The roots of a process are in the file `temproots/<pid>` of the state directory, each a full store path and a NUL, and the
//! process holds an exclusive `flock` on it while it lives. While no collector runs, which a shared lock on `gc.lock`
//! proves, they are simply appended. A running collector has read the file already: it is told each path through its
//! socket, and answers when it will leave the path alone.
//!
//! A process that lives long drops roots again. The file must not be replaced or cut while others are in it, as a collector
//! may be reading it or trying its lock at any moment. So the digest in the entry is overwritten with zeros, which leaves a
//! path that nobody has, and the place is used again for a root of the same length.

use crate::collector_lock::{Access, CollectorLock};
use crate::component::Component;
use crate::directory::{Directory, path_of_descriptor};
use crate::error::{During as _, Error, Result};
use crate::fail_point::{FailPoint, fail_point};
use crate::path_locks::lock_file;
use crate::status::Status;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Where the files of all processes are, in the state directory.
pub(crate) const DIRECTORY: &str = "temproots";

/// How long to wait for a collector that holds the lock but doesn't listen yet, or any more.
const RETRY: Duration = Duration::from_millis(100);

/// The temporary roots of this process. There must be one for each state directory at most.
#[derive(Debug)]
pub struct TempRoots {
    state: Directory,
    directory: Directory,
    name: Component,
    file: OwnedFd,
    /// Where each root is in the file.
    places: HashMap<Box<[u8]>, u64>,
    /// Places of roots that were dropped, by their length.
    free: HashMap<usize, Vec<u64>>,
    length: u64,
}

/// What comes after the last slash of a root that was dropped, up to the length of a digest.
const NO_DIGEST: [u8; 32] = [b'0'; 32];

impl TempRoots {
    /// Makes the file of this process in the state directory `state`, in place of one that an earlier process of the same
    /// number left.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn create(state: &Directory) -> Result<Self> {
        let temproots = Component::new(DIRECTORY)?;
        let directory = match state.subdirectory(&temproots) {
            Err(error) if error.is_not_found() => match state.create_directory(&temproots, 0o755) {
                Err(error) if error.already_exists() => state.subdirectory(&temproots)?,
                result => result?,
            },
            result => result?,
        };
        let name = Component::new(std::process::id().to_string())?;
        let path = || directory.path_of(&name);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = loop {
            directory.remove_file(&name)?;
            let file = rustix::fs::openat(&directory, name.as_c_str(), flags, Mode::from_raw_mode(0o600))
                .during("open", path)?;
            lock_file(&file, FlockOperation::LockExclusive).during("lock", path)?;
            // A collector that came between took it for that of a dead process.
            if Status::of(file.as_fd()).during("look at", path)?.size == 0 {
                break file;
            }
        };
        fail_point(FailPoint::TempRootsMade);
        Ok(Self {
            state: state.try_clone()?,
            directory,
            name,
            file,
            places: HashMap::new(),
            free: HashMap::new(),
            length: 0,
        })
    }

    /// Adds full store paths. When it returns, no collector deletes them until they are dropped, or this value is.
    ///
    /// It waits as long as a running collector takes to finish deleting one of the paths.
    ///
    /// # Errors
    /// If the file can't be written, or a collector can't be talked to.
    pub fn add<P: AsRef<[u8]>>(&mut self, paths: &[P]) -> Result<()> {
        loop {
            // Held until the entries are written.
            let no_collector = CollectorLock::try_acquire(&self.state, Access::Shared)?;
            if no_collector.is_some() || self.tell_collector(paths)? {
                return self.write_entries(paths);
            }
        }
    }

    /// Tells a running collector. False if it is gone, or was never there: then all is to be done again.
    fn tell_collector<P: AsRef<[u8]>>(&self, paths: &[P]) -> Result<bool> {
        let mut stream = match self.connect() {
            Ok(stream) => stream,
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    std::thread::sleep(RETRY);
                    return Ok(false);
                }
                _ => return Err(self.talking(error)),
            },
        };
        for path in paths {
            let mut answer = [0];
            let line = [path.as_ref(), b"\n"].concat();
            match stream.write_all(&line).and_then(|()| stream.read_exact(&mut answer)) {
                Ok(()) if answer == *b"1" => {}
                Ok(()) => return Err(self.talking(io::Error::other("unexpected answer"))),
                Err(error) => match error.kind() {
                    io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::ConnectionReset => return Ok(false),
                    _ => return Err(self.talking(error)),
                },
            }
        }
        Ok(true)
    }

    fn connect(&self) -> io::Result<UnixStream> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(&self.state, c"gc-socket", flags, Mode::empty())?;
        // This way the path is short enough for an address, wherever the state directory is.
        UnixStream::connect(path_of_descriptor(directory.as_fd()).join("socket"))
    }

    fn talking(&self, source: io::Error) -> Error {
        let path = self.state.path().join("gc-socket/socket");
        Error::System { action: "talk to the garbage collector through", path, source }
    }

    /// Drops roots that were added, once each however often they were; of others, nothing happens.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn remove<P: AsRef<[u8]>>(&mut self, paths: &[P]) -> Result<()> {
        let mut dropped = Vec::new();
        for path in paths.iter().map(AsRef::as_ref) {
            dropped.extend(self.places.remove(path).map(|place| (path, place)));
        }
        if self.places.is_empty() {
            if self.length > 0 {
                // Nobody misses anything now, whenever they look.
                rustix::fs::ftruncate(&self.file, 0)
                    .during("write to", || self.directory.path_of(&self.name))?;
                self.length = 0;
                self.free.clear();
            }
            return Ok(());
        }
        for (path, place) in dropped {
            let digest = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
            let zeros = NO_DIGEST.get(..path.len().saturating_sub(digest)).unwrap_or(&NO_DIGEST);
            self.write_at(zeros, place + digest as u64)?;
            self.free.entry(path.len()).or_default().push(place);
        }
        Ok(())
    }

    /// Writes entries for roots that have none yet: to free places first, and what is left to the end, at once.
    fn write_entries<P: AsRef<[u8]>>(&mut self, paths: &[P]) -> Result<()> {
        let mut appended = Vec::new();
        let mut places: Vec<(Box<[u8]>, u64)> = Vec::new();
        for path in paths.iter().map(AsRef::as_ref).filter(|path| !self.places.contains_key(*path)) {
            let place = match self.free.get_mut(&path.len()).and_then(Vec::pop) {
                Some(place) => {
                    self.write_at(path, place)?;
                    place
                }
                None => {
                    let place = self.length + appended.len() as u64;
                    appended.extend_from_slice(path);
                    appended.push(0);
                    place
                }
            };
            places.push((path.into(), place));
        }
        self.write_at(&appended, self.length)?;
        self.length += appended.len() as u64;
        self.places.extend(places);
        Ok(())
    }

    fn write_at(&self, mut bytes: &[u8], mut place: u64) -> Result<()> {
        while !bytes.is_empty() {
            match rustix::io::pwrite(&self.file, bytes, place) {
                Ok(length) => {
                    bytes = bytes.get(length..).unwrap_or_default();
                    place += length as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => {
                    return Err(error).during("write to", || self.directory.path_of(&self.name));
                }
            }
        }
        fail_point(FailPoint::TempRootsAdded);
        Ok(())
    }
}

impl Drop for TempRoots {
    fn drop(&mut self) {
        // If it stays, a collector finds that its process is dead.
        let _ = self.directory.remove_file(&self.name);
    }
}
