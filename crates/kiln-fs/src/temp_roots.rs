//! Temporary roots: what this process is about to use or make, so that no collector deletes it.
//!
//! The roots of a process are in the file `temproots/<pid>` of the state directory, each a full store path and a NUL, and the
//! process holds an exclusive `flock` on it while it lives. While no collector runs, which a shared lock on `gc.lock`
//! proves, they are simply appended. A running collector has read the file already: it is told each path through its
//! socket, and answers when it will leave the path alone.

use crate::component::Component;
use crate::directory::{Directory, path_of_descriptor};
use crate::error::{During as _, Error, Result};
use crate::path_locks::lock_file;
use crate::status::Status;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long to wait for a collector that holds the lock but doesn't listen yet, or any more.
const RETRY: Duration = Duration::from_millis(100);

/// The temporary roots of this process. There must be one for each state directory at most.
#[derive(Debug)]
pub struct TempRoots {
    state: Directory,
    directory: Directory,
    name: Component,
    file: OwnedFd,
}

impl TempRoots {
    /// Makes the file of this process in the state directory `state`, in place of one that an earlier process of the same
    /// number left.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn create(state: &Directory) -> Result<Self> {
        let temproots = Component::new("temproots")?;
        let directory = match state.subdirectory(&temproots) {
            Err(error) if error.is_not_found() => match state.create_directory(&temproots, 0o755) {
                Err(error) if error.already_exists() => state.subdirectory(&temproots)?,
                result => result?,
            },
            result => result?,
        };
        let name = Component::new(std::process::id().to_string())?;
        let path = || directory.path_of(&name);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
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
        Ok(Self { state: state.try_clone()?, directory, name, file })
    }

    /// Adds full store paths. When it returns, no collector deletes them while this value lives.
    ///
    /// It waits as long as a running collector takes to finish deleting one of the paths.
    ///
    /// # Errors
    /// If the file can't be written, or a collector can't be talked to.
    pub fn add<P: AsRef<[u8]>>(&mut self, paths: &[P]) -> Result<()> {
        let mut entries = Vec::new();
        for path in paths {
            entries.extend_from_slice(path.as_ref());
            entries.push(0);
        }
        loop {
            // Held until the entries are written.
            let no_collector = self.lock_out_collector()?;
            if no_collector.is_some() || self.tell_collector(paths)? {
                return self.append(&entries);
            }
        }
    }

    /// A shared lock on `gc.lock`, unless a collector runs.
    fn lock_out_collector(&self) -> Result<Option<OwnedFd>> {
        let path = || self.state.path().join("gc.lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = rustix::fs::openat(&self.state, c"gc.lock", flags, Mode::from_raw_mode(0o600))
            .during("open", path)?;
        match lock_file(&lock, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Some(lock)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).during("lock", path),
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

    fn append(&self, mut entries: &[u8]) -> Result<()> {
        while !entries.is_empty() {
            match rustix::io::write(&self.file, entries) {
                Ok(length) => entries = entries.get(length..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(error) => {
                    return Err(error).during("write to", || self.directory.path_of(&self.name));
                }
            }
        }
        Ok(())
    }
}

impl Drop for TempRoots {
    fn drop(&mut self) {
        // If it stays, a collector finds that its process is dead.
        let _ = self.directory.remove_file(&self.name);
    }
}
