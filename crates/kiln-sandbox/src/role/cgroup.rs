//! A build's own cgroup (version 2), where the engine has a directory for it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::child::MOST_PROCESSES;
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
    /// With an owner, others can be made in it, and its processes distributed among them, by that user.
    pub(super) fn create(path: &ByteString, owner: Option<(u32, u32)>) -> Result<Self, SetupError> {
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
        if let Some((uid, gid)) = owner {
            delegate(directory, uid, gid).map_err(|error| failed(errno(error)))?;
        }
        // There is no such file where the controller is not enabled.
        let _ = fs::write(directory.join("pids.max"), MOST_PROCESSES.to_string());
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

    /// The most memory that all in it had at a time, in bytes. Not known where the controller is not enabled, or before Linux
    /// 5.19.
    pub(super) fn memory_peak(&self) -> Option<u64> {
        fs::read_to_string(self.path.join("memory.peak")).ok()?.trim_end().parse().ok()
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

/// Hands a cgroup over, but for what limits it as a whole.
fn delegate(directory: &Path, uid: u32, gid: u32) -> io::Result<()> {
    chown(directory, Some(uid), Some(gid))?;
    for file in ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
        chown(directory.join(file), Some(uid), Some(gid))?;
    }
    Ok(())
}

/// Removes it with all below it, which a builder may have made.
fn remove(path: &Path) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut found = vec![path.to_owned()];
    let mut next = 0;
    while let Some(directory) = found.get(next) {
        let entries = fs::read_dir(directory)?.filter_map(Result::ok);
        let below: Vec<PathBuf> = entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        found.extend(below);
        next += 1;
    }
    found.iter().rev().try_for_each(|directory| remove_one(directory, deadline))
}

fn remove_one(path: &Path, deadline: Instant) -> io::Result<()> {
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
