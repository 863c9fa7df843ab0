//! A build's own cgroup (version 2), where the engine has a directory for it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::{ByteString, SetupError, SetupStage};

/// How long the kernel may take to empty a cgroup whose processes have been killed.
const PATIENCE: Duration = Duration::from_secs(2);

/// A cgroup that exists.
pub(super) struct Cgroup {
    path: PathBuf,
    descriptor: OwnedFd,
}

impl Cgroup {
    /// Creates it. One that is left over from an earlier build of that name is removed first.
    pub(super) fn create(path: &ByteString) -> Result<Self, SetupError> {
        let failed =
            |errno| SetupError::new(SetupStage::Cgroup, "cannot create the cgroup", errno).at(path.clone());
        let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let directory = path.as_path();
        match fs::create_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Only an empty one can be removed, so nothing that still runs is lost.
                fs::write(directory.join("cgroup.kill"), "1").map_err(|error| failed(errno(error)))?;
                remove(directory).map_err(|error| failed(errno(error)))?;
                fs::create_dir(directory).map_err(|error| failed(errno(error)))?;
            }
            result => result.map_err(|error| failed(errno(error)))?,
        }
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let descriptor = open(directory, flags, Mode::empty()).map_err(failed)?;
        Ok(Self { path: directory.to_owned(), descriptor })
    }

    /// Kills all that is in it.
    pub(super) fn kill(&self) {
        // A kernel before 5.14 has no such file; the PID namespace does the same.
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
    }

    /// CPU time of all that ever was in it, in user mode and in the kernel.
    pub(super) fn cpu_time(&self) -> Option<(Duration, Duration)> {
        parse_cpu_time(&fs::read_to_string(self.path.join("cpu.stat")).ok()?)
    }

    /// Removes it, when its processes are gone.
    pub(super) fn remove(self) {
        if let Err(error) = remove(&self.path) {
            eprintln!("warning: cannot remove the cgroup '{}': {error}", self.path.display());
        }
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

fn remove(path: &std::path::Path) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                sleep(Duration::from_millis(1));
            }
            result => return result,
        }
    }
}

/// The fields `user_usec` and `system_usec` of a `cpu.stat` file.
fn parse_cpu_time(text: &str) -> Option<(Duration, Duration)> {
    let field = |name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(' ')?;
            (key == name).then(|| value.parse().ok().map(Duration::from_micros))?
        })
    };
    Some((field("user_usec")?, field("system_usec")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_among_other_fields() {
        let text = "usage_usec 30\nuser_usec 10\nsystem_usec 20\ncore_sched.force_idle_usec 0\n";
        assert_eq!(parse_cpu_time(text), Some((Duration::from_micros(10), Duration::from_micros(20))));
        assert_eq!(parse_cpu_time("usage_usec 30\n"), None);
        assert_eq!(parse_cpu_time("user_usec x\nsystem_usec 1\n"), None);
    }
}
