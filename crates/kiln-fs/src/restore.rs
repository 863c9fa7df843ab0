//! From an archive to a tree on disk.
//!
//! Everything is made anew, beneath the descriptor of the directory that was made before it, and nothing that is there
//! already is ever used: a name that exists is an error. So whatever the archive says, and whatever else goes on in the
//! place, nothing outside of the new tree is written.

use crate::canonical::canonical_times;
use crate::component::Component;
use crate::directory::{Directory, OPEN_DIRECTORY, create_file_at, join};
use crate::error::{During as _, Error, Result};
use crate::pipeline::{CHUNK, Overlapped};
use kiln_nar::{CASE_HACK_SUFFIX, Decoder, Event, NarDigest, NarHasher, Stage};
use rustix::fs::{AtFlags, Mode};
use std::collections::HashMap;
use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// What is done with names that differ only in the case of letters, and with the names that Nix's `use-case-hack` makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CaseHack {
    /// They are names like all others, as in Nix without the setting.
    #[default]
    Ordinary,
    /// They are names like all others, except that those with the hack's suffix are refused.
    Refuse,
    /// Later ones get the hack's suffix, for a file system that ignores case.
    Apply,
}

/// How a tree is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RestoreOptions {
    /// Whether files get their canonical permissions and time right away. They belong to this process.
    pub canonical: bool,
    /// What is done about the case of letters.
    pub case_hack: CaseHack,
}

/// A directory that is being filled.
struct Level {
    fd: OwnedFd,
    /// Length of the path of the directory that this one is in.
    parent_path: usize,
    /// With the case hack: how often each name occurred, in small letters.
    names: HashMap<Vec<u8>, u32>,
}

/// Makes a tree from the events of an archive.
///
/// If it ends early, what there is of the tree stays, for the caller to delete.
pub struct Restorer<'a> {
    directory: BorrowedFd<'a>,
    options: RestoreOptions,
    levels: Vec<Level>,
    file: Option<OwnedFd>,
    /// Name of the node that comes next.
    name: CString,
    /// Of the innermost directory.
    path: Vec<u8>,
    complete: bool,
}

impl<'a> Restorer<'a> {
    /// A restorer that will make `name` in `directory`.
    #[must_use]
    pub fn new(directory: &'a Directory, name: &Component, options: RestoreOptions) -> Self {
        Self {
            directory: directory.as_fd(),
            options,
            levels: Vec::new(),
            file: None,
            name: name.as_c_str().to_owned(),
            path: directory.path().as_os_str().as_bytes().to_vec(),
            complete: false,
        }
    }

    /// Takes the next event.
    ///
    /// # Errors
    /// If there is something of that name already, or the system refuses.
    pub fn event(&mut self, event: Event<'_>) -> Result<()> {
        match event {
            Event::Directory => self.create_directory(),
            Event::Entry(name) => self.entry(name),
            Event::Regular { executable, .. } => self.create_file(executable),
            Event::Contents(contents) => self.write(contents),
            Event::EndRegular => self.end_file(),
            Event::Symlink(target) => self.create_symlink(target),
            Event::EndDirectory => self.end_directory(),
        }
    }

    /// Whether the root node has ended.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    fn parent(&self) -> BorrowedFd<'_> {
        self.levels.last().map_or(self.directory, |level| level.fd.as_fd())
    }

    fn node_path(&self) -> PathBuf {
        join(&self.path, self.name.as_bytes())
    }

    fn entry(&mut self, name: &[u8]) -> Result<()> {
        let mut component = Component::new(name)?;
        match self.options.case_hack {
            CaseHack::Ordinary => {}
            CaseHack::Refuse => {
                if name.windows(CASE_HACK_SUFFIX.len()).any(|window| window == CASE_HACK_SUFFIX) {
                    return Err(Error::CaseCollision(join(&self.path, name)));
                }
            }
            CaseHack::Apply => {
                if let Some(level) = self.levels.last_mut() {
                    let occurrence = level.names.entry(name.to_ascii_lowercase()).or_default();
                    let number = *occurrence;
                    *occurrence += 1;
                    if number > 0 {
                        let hacked = [name, CASE_HACK_SUFFIX, number.to_string().as_bytes()].concat();
                        if level.names.insert(hacked.to_ascii_lowercase(), 1).is_some() {
                            return Err(Error::CaseCollision(join(&self.path, name)));
                        }
                        component = Component::new(hacked)?;
                    }
                }
            }
        }
        self.name = component.as_c_str().to_owned();
        Ok(())
    }

    fn create_directory(&mut self) -> Result<()> {
        let parent = self.parent();
        let mode = Mode::from_raw_mode(if self.options.canonical { 0o755 } else { 0o777 });
        let fd = rustix::fs::mkdirat(parent, &self.name, mode)
            .and_then(|()| rustix::fs::openat(parent, &self.name, OPEN_DIRECTORY, Mode::empty()))
            .during("create directory", || self.node_path())?;
        let parent_path = self.path.len();
        self.path.push(b'/');
        self.path.extend_from_slice(self.name.as_bytes());
        self.levels.push(Level { fd, parent_path, names: HashMap::new() });
        Ok(())
    }

    fn end_directory(&mut self) -> Result<()> {
        if let Some(level) = self.levels.pop() {
            if self.options.canonical {
                rustix::fs::fchmod(&level.fd, Mode::from_raw_mode(0o555))
                    .and_then(|()| rustix::fs::futimens(&level.fd, &canonical_times()))
                    .during("set the permissions of", || join(&self.path, b""))?;
            }
            self.path.truncate(level.parent_path);
        }
        self.end_node();
        Ok(())
    }

    fn create_file(&mut self, executable: bool) -> Result<()> {
        let mode = match (self.options.canonical, executable) {
            (true, false) => 0o444,
            (true, true) => 0o555,
            (false, false) => 0o666,
            (false, true) => 0o777,
        };
        let file =
            create_file_at(self.parent(), &self.name, mode).during("create file", || self.node_path())?;
        if self.options.canonical {
            // The umask may have taken something off.
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))
                .during("set the permissions of", || self.node_path())?;
        }
        self.file = Some(file);
        Ok(())
    }

    fn write(&mut self, mut contents: &[u8]) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        while !contents.is_empty() {
            match rustix::io::write(file, contents) {
                Ok(length) => contents = contents.get(length..).unwrap_or_default(),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).during("write to", || self.node_path()),
            }
        }
        Ok(())
    }

    /// Has the file that is being made share the contents of another one, in place of events with contents; `false` if the
    /// file system can't do that.
    pub(crate) fn clone_contents(&mut self, source: BorrowedFd<'_>) -> Result<bool> {
        use rustix::io::Errno;
        let Some(file) = &self.file else { return Ok(false) };
        match rustix::fs::ioctl_ficlone(file, source) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS) => Ok(false),
            Err(error) => Err(error).during("clone the contents of", || self.node_path()),
        }
    }

    fn end_file(&mut self) -> Result<()> {
        if let Some(file) = self.file.take()
            && self.options.canonical
        {
            rustix::fs::futimens(&file, &canonical_times()).during("set the time of", || self.node_path())?;
        }
        self.end_node();
        Ok(())
    }

    fn create_symlink(&mut self, target: &[u8]) -> Result<()> {
        let parent = self.parent();
        rustix::fs::symlinkat(target, parent, &self.name).during("create symlink", || self.node_path())?;
        if self.options.canonical {
            rustix::fs::utimensat(parent, &self.name, &canonical_times(), AtFlags::SYMLINK_NOFOLLOW)
                .during("set the time of", || self.node_path())?;
        }
        self.end_node();
        Ok(())
    }

    fn end_node(&mut self) {
        self.complete = self.levels.is_empty();
    }
}

/// Makes the tree `name` in `directory` from the archive that `source` gives, which is read to the archive's last byte and no
/// further than the buffer of the last read; returns hash and size of the archive. `stage` sees the archive's bytes.
///
/// # Errors
/// If the archive is damaged, or ends early; if there is something of that name; or the system refuses. What there is
/// of the tree then stays.
pub fn restore(
    directory: &Directory,
    name: &Component,
    source: &mut dyn Read,
    options: RestoreOptions,
    stage: &mut impl Stage,
) -> Result<NarDigest> {
    let path = || directory.path_of(name);
    let mut decoder = Decoder::new();
    let mut restorer = Restorer::new(directory, name, options);
    let mut stages = Overlapped::new(stage, NarHasher::new());
    let mut chunk = Vec::with_capacity(CHUNK);
    let mut filled = 0;
    let damaged = |source| Error::Decode { path: path(), source };
    while !decoder.is_complete() {
        // A chunk that has gone around is as long as that already.
        chunk.resize(CHUNK, 0);
        let room = chunk.get_mut(filled..).unwrap_or_default();
        let length = read(source, room).map_err(|source| Error::Source { path: path(), source })?;
        let mut input = room.get(..length).unwrap_or_default();
        if input.is_empty() {
            decoder.finish().map_err(damaged)?;
        }
        while let Some(event) = decoder.next(&mut input).map_err(damaged)? {
            restorer.event(event)?;
        }
        filled += length - input.len();
        // To hand over each of many small pieces costs more than to hash it.
        if filled == CHUNK || decoder.is_complete() {
            chunk.truncate(filled);
            filled = 0;
            stages.exchange(&mut chunk).map_err(|source| Error::Source { path: path(), source })?;
        }
    }
    let hasher = stages.finish().map_err(|source| Error::Source { path: path(), source })?;
    Ok(hasher.finish())
}

/// Reads what the source has to give without waiting for more.
fn read(source: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}
