//! The places that machines have for builds: files in the directory `current-load`, which whoever builds there has locked. They
//! are those of Nix's hook, so that both share the machines.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kiln_hash::Sha256;
use kiln_settings::RemoteMachine;
use rustix::fs::OFlags;

use crate::error::{Error, Result};

/// The longest name of a machine in the names of files, in bytes.
const LONGEST_NAME: usize = 200;

/// The directory of the places.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    directory: PathBuf,
}

/// A place that is taken for as long as this value lives.
#[derive(Debug)]
pub(crate) struct Slot(File);

impl Slots {
    /// Those of the store with this state directory.
    pub(crate) fn open(state: &Path) -> Result<Self> {
        let directory = state.join("current-load");
        fs::create_dir_all(&directory).map_err(|source| failed(&directory, source))?;
        Ok(Self { directory })
    }

    /// Waits until nobody else is choosing. Blocks.
    pub(crate) fn lock_choosing(&self) -> Result<File> {
        let path = self.directory.join("main-lock");
        let file = open(&path)?;
        file.lock().map_err(|source| failed(&path, source))?;
        Ok(file)
    }

    /// How many of a machine's places are taken, and one that was free.
    pub(crate) fn take(&self, machine: &RemoteMachine) -> Result<(u64, Option<Slot>)> {
        let name = file_name(&machine.store_url);
        let (mut load, mut free) = (0, None);
        for number in 0..machine.max_jobs {
            let path = self.directory.join(format!("{name}-{number}"));
            let file = open(&path)?;
            match file.try_lock() {
                // The first one is kept, and the others are let go of again.
                Ok(()) => drop(free.get_or_insert(Slot(file))),
                Err(TryLockError::WouldBlock) => load += 1,
                Err(TryLockError::Error(source)) => return Err(failed(&path, source)),
            }
        }
        Ok((load, free))
    }

    /// The file whose lock allows copying to a machine; not locked yet.
    pub(crate) fn upload_lock(&self, machine: &str) -> Result<File> {
        open(&self.directory.join(format!("{}.upload-lock", file_name(machine))))
    }
}

impl Slot {
    /// Makes known that it is used now.
    pub(crate) fn touch(&self) {
        // It tells people something, and nobody else.
        let _ = self.0.set_modified(SystemTime::now());
    }
}

/// A machine's URL as part of a file's name.
fn file_name(url: &str) -> String {
    if url.len() <= LONGEST_NAME { url.replace('/', "_") } else { Sha256::of(url.as_bytes()).nix32() }
}

fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    #[expect(clippy::cast_possible_wrap, reason = "flags are a few bits")]
    let flags = OFlags::NOFOLLOW.bits() as i32;
    options.custom_flags(flags).open(path).map_err(|source| failed(path, source))
}

fn failed(path: &Path, source: std::io::Error) -> Error {
    Error::Slots { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h5_places_are_taken_one_by_one() {
        let state = tempfile::tempdir().unwrap();
        let slots = Slots::open(state.path()).unwrap();
        let machine = |url: &str, jobs: u64| {
            let text = format!("{url} - - {jobs}");
            kiln_settings::parse_machines(&text, "x", &|_: &Path| Ok(None)).unwrap().remove(0)
        };
        let host = machine("ssh://me@host", 2);
        let (load, first) = slots.take(&host).unwrap();
        assert!(load == 0 && first.is_some());
        let names = |slots: &Slots| {
            let mut names: Vec<_> =
                fs::read_dir(&slots.directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort_unstable();
            names
        };
        assert_eq!(names(&slots), ["ssh:__me@host-0", "ssh:__me@host-1"], "as Nix calls them");
        let (load, second) = slots.take(&host).unwrap();
        assert!(load == 1 && second.is_some());
        let (load, third) = slots.take(&host).unwrap();
        assert!(load == 2 && third.is_none());
        drop(first);
        let (load, again) = slots.take(&host).unwrap();
        assert!(load == 1 && again.is_some());
        assert!(slots.take(&machine("ssh://other", 1)).unwrap().1.is_some());
        let long = machine(&format!("ssh://{}", "h".repeat(5000)), 1);
        assert!(slots.take(&long).unwrap().1.is_some());
        let idle = machine("ssh://idle", 0);
        assert!(slots.take(&idle).unwrap().1.is_none());
    }
}
