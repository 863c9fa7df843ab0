//! Where builds have cgroups of their own (`use-cgroups`): below the cgroup of the engine, as with Nix.
//!
//! Only version 2 of cgroups counts: there a process can be born in a cgroup, and all in it be killed at once. For an engine
//! that is not root, the cgroup must be delegated to its user, as service managers do for services that ask for it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Access, access};

use crate::{ByteString, Credentials, SandboxError};

/// The cgroup of the engine.
#[derive(Debug)]
pub struct Cgroups {
    directory: PathBuf,
    next: AtomicU64,
}

impl Cgroups {
    /// The cgroup that this process is in, where it may make others. Controllers that count memory and limit processes are
    /// enabled for them, if the kernel lets us: not in a cgroup with processes, other than the root of all.
    ///
    /// # Errors
    /// [`SandboxError::Cgroups`]: there is none, or it can't be written to.
    pub fn of_this_process() -> Result<Self, SandboxError> {
        let error = |reason: String| SandboxError::Cgroups(reason);
        let read =
            |path: &str| fs::read(path).map_err(|source| error(format!("cannot read '{path}': {source}")));
        let own = read("/proc/self/cgroup")?;
        let mounts = read("/proc/self/mountinfo")?;
        let own =
            own_cgroup(&own).ok_or_else(|| error("this machine has no cgroups of version 2".to_owned()))?;
        let directory = mounts
            .split(|byte| *byte == b'\n')
            .find_map(|line| directory_in_mount(line, own))
            .ok_or_else(|| error("no file system with cgroups of version 2 is mounted".to_owned()))?;
        access(&directory, Access::WRITE_OK | Access::EXEC_OK).map_err(|errno| {
            let reason = crate::status::describe(errno);
            error(format!("cannot make cgroups in '{}': {reason}", directory.display()))
        })?;
        for controller in ["+memory", "+pids"] {
            // What there is none of is neither counted nor limited.
            let _ = fs::write(directory.join("cgroup.subtree_control"), controller);
        }
        Ok(Self { directory, next: AtomicU64::new(0) })
    }

    /// A cgroup for a build. That of a build user is always the same, so that one which was left behind is found.
    pub fn of_build(&self, credentials: &Credentials) -> ByteString {
        let name = match credentials {
            Credentials::BuildUser { uid, .. } => format!("nix-build-uid-{uid}"),
            Credentials::Caller => {
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                format!("nix-build-pid-{}-{number}", std::process::id())
            }
        };
        self.directory.join(name).into()
    }
}

/// The cgroup of version 2 in the contents of a `/proc/PID/cgroup` file.
fn own_cgroup(text: &[u8]) -> Option<&Path> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let path = lines.find_map(|line| line.strip_prefix(b"0::"))?;
    path.starts_with(b"/").then(|| Path::new(OsStr::from_bytes(path)))
}

/// The directory of a cgroup, if this line of a `mountinfo` file is about a mount that shows it.
fn directory_in_mount(line: &[u8], cgroup: &Path) -> Option<PathBuf> {
    let mut fields = line.split(|byte| *byte == b' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    (fields.skip_while(|field| *field != b"-").nth(1)? == b"cgroup2").then_some(())?;
    let below = cgroup.strip_prefix(OsStr::from_bytes(root)).ok()?;
    let directory = Path::new(OsStr::from_bytes(point)).join(below);
    Some(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_is_found_where_it_is_mounted() {
        let own = own_cgroup(b"9:name=systemd:/x\n0::/system.slice/kiln\n").unwrap();
        assert_eq!(own, Path::new("/system.slice/kiln"));
        let found = |line: &[u8]| directory_in_mount(line, own);
        let whole = b"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
        assert_eq!(found(whole), Some("/sys/fs/cgroup/unified/system.slice/kiln".into()));
        let part = b"41 31 0:38 /system.slice /cg rw,relatime shared:5 - cgroup2 cgroup2 rw";
        assert_eq!(found(part), Some("/cg/kiln".into()));
        assert_eq!(found(b"41 31 0:38 /other /cg rw,relatime - cgroup2 cgroup2 rw"), None);
        assert_eq!(found(b"41 31 0:38 / /cg rw,relatime - cgroup cgroup rw,pids"), None);
        assert_eq!(found(b""), None);
    }

    #[test]
    fn without_version_2_there_is_none() {
        assert_eq!(own_cgroup(b"9:name=systemd:/x\n8:pids:/\n"), None);
        assert_eq!(own_cgroup(b"0::relative\n"), None);
    }
}
